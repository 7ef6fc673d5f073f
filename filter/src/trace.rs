//! The W3C trace context of a call that waits: the message that is sent for it carries it on, so that what the sidecar does
//! hangs under the call. A call that is drawn for without a message never comes here.
//!
//! A header is anybody's word, and is written into a message of this filter's: what is not exactly of the standard's form
//! is left out.

use crate::pairs::Pair;

/// The header that names the caller's span.
pub const PARENT: &str = "traceparent";
/// The header with what tracing systems add to it.
pub const STATE: &str = "tracestate";

/// Version 00, and how later ones begin.
const PARENT_BYTES: usize = 55;
/// What the standard asks everybody to hand on; longer ones are dropped.
const STATE_BYTES_MAX: usize = 512;
/// The standard's bound.
const STATE_MEMBERS_MAX: usize = 32;

/// Where a call stands in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    parent: String,
    state: Option<String>,
}

impl Trace {
    /// The context that a request brings; `None` when it brings none, two, or a malformed one.
    pub fn of(headers: &[Pair<'_>]) -> Option<Self> {
        let mut parents = values(headers, PARENT);
        match (parents.next(), parents.next()) {
            (Some(parent), None) => {
                Some(Self { parent: parent_of(parent)?, state: state_of(headers) })
            }
            _ => None,
        }
    }

    /// The headers to send.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let state = self.state.as_deref().map(|state| (STATE, state));
        std::iter::once((PARENT, self.parent.as_str())).chain(state)
    }
}

fn values<'a>(headers: &[Pair<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let named =
        headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| *value)
}

/// The same context in the form of version 00. Of a later version only what version 00 knows is understood.
fn parent_of(value: &[u8]) -> Option<String> {
    let (known, rest) = std::str::from_utf8(value).ok()?.split_at_checked(PARENT_BYTES)?;
    let mut fields = known.split('-');
    let mut hex = |digits: usize| {
        let field = fields.next()?;
        let is_hex = field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hex && field.len() == digits).then_some(field)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    if version == "ff" || is_zero(trace) || is_zero(span) {
        return None;
    }
    let flags = match version {
        "00" if rest.is_empty() => flags,
        "00" => return None,
        _ if !rest.is_empty() && !rest.starts_with('-') => return None,
        _ if u8::from_str_radix(flags, 16).ok()? & 1 == 1 => "01",
        _ => "00",
    };
    Some(format!("00-{trace}-{span}-{flags}"))
}

/// All that tracing systems added, in order; nothing when it is too much, or no text of a header.
fn state_of(headers: &[Pair<'_>]) -> Option<String> {
    let mut state = String::new();
    for value in values(headers, STATE).filter(|value| !value.is_empty()) {
        if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return None;
        }
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(std::str::from_utf8(value).ok()?);
        if STATE_BYTES_MAX < state.len() || STATE_MEMBERS_MAX < state.split(',').count() {
            return None;
        }
    }
    (!state.is_empty()).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const PLAIN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sent(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs: Vec<Pair<'_>> =
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let trace = Trace::of(&pairs);
        let sent = trace.iter().flat_map(Trace::headers);
        sent.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn parent(value: &str) -> Option<String> {
        sent(&[(PARENT, value)]).pop().map(|(_, value)| value)
    }

    #[test]
    fn a_context_is_handed_on_as_it_came() {
        let state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
        let given = [("traceparent", PLAIN), ("tracestate", state)];
        let expected = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(sent(&given), expected);
        assert_eq!(sent(&[("x-user-id", "u1")]), []);
        assert_eq!(sent(&[("tracestate", state)]), [], "a state without a span means nothing");
        for flags in ["00", "02", "03"] {
            let value = format!("{}{flags}", &PLAIN[..53]);
            assert_eq!(parent(&value).as_deref(), Some(value.as_str()));
        }
    }

    #[test]
    fn what_is_not_of_the_standards_form_is_not_handed_on() {
        for bad in [
            "",
            "00",
            &PLAIN.to_ascii_uppercase(),
            &PLAIN[..54],
            &format!("{PLAIN}-00"),
            &format!("{PLAIN}\r\nx-user-id: rich"),
            &PLAIN.replacen("00", "ff", 1),
            &PLAIN.replacen('-', "_", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-\u{e9}",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
        ] {
            assert_eq!(parent(bad), None, "{bad:?}");
        }
        assert_eq!(sent(&[(PARENT, PLAIN), (PARENT, PLAIN)]), [], "whose is it?");
    }

    #[test]
    fn of_a_later_version_only_what_this_one_knows_is_handed_on() {
        let later = |rest: &str| PLAIN.replacen("00", "cc", 1).replace("-01", rest);
        let not_sampled = PLAIN.replace("-01", "-00");
        assert_eq!(parent(&later("-01")).as_deref(), Some(PLAIN));
        assert_eq!(parent(&later("-09-what\r\nthe")).as_deref(), Some(PLAIN));
        assert_eq!(parent(&later("-08")), Some(not_sampled));
    }

    #[test]
    fn states_are_joined_within_their_bounds() {
        let with = |states: &[&str]| {
            let states = states.iter().map(|state| (STATE, *state));
            let headers: Vec<_> = std::iter::once((PARENT, PLAIN)).chain(states).collect();
            sent(&headers).into_iter().nth(1).map(|(_, state)| state)
        };
        assert_eq!(with(&["a=1", "", "b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(with(&["a=1\r\nx-user-id: rich"]), None);
        let long = format!("a={}", "1".repeat(STATE_BYTES_MAX - 2));
        assert_eq!(with(&[&long]).as_deref(), Some(long.as_str()));
        assert_eq!(with(&[&long, "b=2"]), None);
        let many = |count: usize| vec!["a=1"; count].join(",");
        assert!(with(&[&many(STATE_MEMBERS_MAX)]).is_some());
        assert_eq!(with(&[&many(STATE_MEMBERS_MAX + 1)]), None);
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        #[test]
        fn whatever_comes_what_is_sent_is_a_context(value: Vec<u8>, state: Vec<u8>) {
            let headers = [(PARENT.as_bytes(), value.as_slice()), (STATE.as_bytes(), state.as_slice())];
            for (_, value) in Trace::of(&headers).iter().flat_map(Trace::headers) {
                proptest::prop_assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                proptest::prop_assert!(value.len() <= STATE_BYTES_MAX);
            }
        }
    }
}
