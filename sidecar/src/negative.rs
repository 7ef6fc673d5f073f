//! Negative controls: guards that can be switched off, to see that the tests around Farebox notice.
//!
//! Only the program `farebox-broken` has them: it exists with the feature `negative-controls` alone, which nothing turns on
//! by itself. Without the feature every question here is answered "no" at compile time.

/// A guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Reports are totals, so that a repeated one changes nothing.
    Totals,
    /// Lines of usage without a lease are totals too.
    Lines,
    /// A request whose key is known gets its first answer.
    Keys,
    /// What a gateway is lent is set aside.
    Holds,
    /// What a report says is charged before it is acknowledged.
    Charges,
    /// An order is credited once, however often its payment is heard of.
    Orders,
    /// An order that counts as paid has been credited.
    Credits,
}

/// Whether the guard is switched off.
pub(crate) fn is_off(guard: Guard) -> bool {
    cfg!(feature = "negative-controls") && chosen() == Some(guard)
}

#[cfg(feature = "negative-controls")]
fn chosen() -> Option<Guard> {
    static CHOSEN: std::sync::LazyLock<Option<Guard>> =
        std::sync::LazyLock::new(|| match std::env::var("NEGATIVE_CONTROL").as_deref() {
            Ok("totals") => Some(Guard::Totals),
            Ok("lines") => Some(Guard::Lines),
            Ok("keys") => Some(Guard::Keys),
            Ok("holds") => Some(Guard::Holds),
            Ok("charges") => Some(Guard::Charges),
            Ok("orders") => Some(Guard::Orders),
            Ok("credits") => Some(Guard::Credits),
            Ok(_) | Err(_) => None,
        });
    *CHOSEN
}

#[cfg(not(feature = "negative-controls"))]
fn chosen() -> Option<Guard> {
    None
}
