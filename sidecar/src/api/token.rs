//! Who may speak as a gateway or as an operator: whoever shows one of the configured tokens.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::config::Secret;

/// The tokens' digests: of one length, so that comparing them tells nothing about a token's length either.
#[derive(Debug, Clone)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// The tokens that are accepted; with none, nobody is.
    pub fn new(tokens: &[Secret]) -> Self {
        Self(tokens.iter().map(|token| digest(token.expose().as_bytes())).collect())
    }

    /// Whether the request carries one of them, and carries it once.
    pub(super) fn admit(&self, headers: &HeaderMap) -> bool {
        shown(headers).is_some_and(|token| self.has(token))
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, token: &[u8]) -> bool {
        let shown = digest(token);
        // Every token is compared, whichever fits.
        let fits = |any: Choice, known: &[u8; 32]| any | shown.ct_eq(known);
        self.0.iter().fold(Choice::from(0), fits).into()
    }
}

/// The token that a request carries, if it carries one and carries it once.
pub(super) fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    bearer(value.as_bytes())
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_tokens_admits_and_nothing_else_does() {
        let tokens = Tokens::new(&[Secret::new("old"), Secret::new("new")]);
        let admitted = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            tokens.admit(&headers)
        };
        assert!(admitted(&["Bearer old"]) && admitted(&["bearer new"]));
        for refused in [
            &[][..],
            &["Bearer older"],
            &["Bearer ol"],
            &["Bearer "],
            &["Bearer old,new"],
            &["old"],
            &["Basic old"],
            &["Bearer old", "Bearer old"],
        ] {
            assert!(!admitted(refused), "{refused:?}");
        }
        assert!(!Tokens::new(&[]).admit(&HeaderMap::new()));
    }
}
