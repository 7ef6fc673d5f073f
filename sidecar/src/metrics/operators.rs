//! Operators who were turned away.

use metrics::counter;

use super::{Counter, counters};

const REFUSED: &str = "billing_operator_refused_total";

pub(super) const COUNTERS: &[Counter] = &[(
    REFUSED,
    "Requests to /admin/v1/ that were turned away: no good token, a role that is not enough, too many requests with a token, too many wrong tokens from an address.",
)];

label! {
    /// Why an operator was turned away.
    OperatorRefusal {
        /// No token, or one that lets nobody in.
        Token = "token",
        /// The token's role is not enough.
        Role = "role",
        /// Too many requests with this token.
        TokenRate = "token_rate",
        /// Too many wrong tokens from this address.
        AddressRate = "address_rate",
    }
}

/// An operator was turned away.
pub fn operator_refused(why: OperatorRefusal) {
    counter!(REFUSED, "why" => why.as_str()).increment(1);
}

pub(super) fn register() {
    counters(REFUSED, "why", OperatorRefusal::ALL.iter().map(|why| why.as_str()));
}
