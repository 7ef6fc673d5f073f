//! Who pays for a request: the first source that names somebody decides.

use farebox_core::id::AccountId;

use crate::pairs::Pair;

/// A place where a payer's name can stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A request header, lower-case; an authentication filter before this one must set it, and remove it from clients.
    Header(String),
    /// A claim that `envoy.filters.http.jwt_authn` verified and put into its dynamic metadata.
    JwtClaim {
        /// The filter's `payload_in_metadata`.
        payload: String,
        /// The claim, usually `sub`.
        claim: String,
    },
}

/// Why nobody can be charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityError {
    /// No source names anybody.
    Missing,
    /// A header occurs more than once: which one was verified?
    Doubled(String),
    /// A name that cannot be an account.
    Invalid(String),
}

/// Finds the payer. `claim` reads verified claims.
pub fn find(
    sources: &[Source],
    headers: &[Pair<'_>],
    claim: impl Fn(&str, &str) -> Option<Vec<u8>>,
) -> Result<AccountId, IdentityError> {
    for source in sources {
        let found = match source {
            Source::Header(name) => single_header(headers, name)?.map(<[u8]>::to_vec),
            Source::JwtClaim { payload, claim: name } => claim(payload, name),
        };
        if let Some(bytes) = found {
            return account(bytes);
        }
    }
    Err(IdentityError::Missing)
}

fn account(bytes: Vec<u8>) -> Result<AccountId, IdentityError> {
    let text = String::from_utf8(bytes)
        .map_err(|_| IdentityError::Invalid("account id is not UTF-8".to_owned()))?;
    AccountId::try_from(text).map_err(|err| IdentityError::Invalid(err.to_string()))
}

fn single_header<'a>(headers: &[Pair<'a>], name: &str) -> Result<Option<&'a [u8]>, IdentityError> {
    let mut values = headers
        .iter()
        .filter(|(header, _)| header.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| *value);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(IdentityError::Doubled(name.to_owned())),
        (value, None) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn header(name: &str) -> Source {
        Source::Header(name.to_owned())
    }

    fn found(sources: &[Source], headers: &[(&str, &str)]) -> Result<String, IdentityError> {
        let headers: Vec<Pair<'_>> =
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let claim = |payload: &str, claim: &str| {
            (payload == "jwt" && claim == "sub").then(|| b"from-claim".to_vec())
        };
        find(sources, &headers, claim).map(|account| account.to_string())
    }

    #[test]
    fn the_first_source_that_names_somebody_decides() {
        let jwt = Source::JwtClaim { payload: "jwt".into(), claim: "sub".into() };
        let other = Source::JwtClaim { payload: "other".into(), claim: "sub".into() };
        let headers = [("x-user-id", "from-header")];
        assert_eq!(found(&[jwt.clone(), header("x-user-id")], &headers), Ok("from-claim".into()));
        assert_eq!(found(&[other, header("x-user-id")], &headers), Ok("from-header".into()));
        assert_eq!(found(&[header("x-none"), jwt], &headers), Ok("from-claim".into()));
    }

    #[test]
    fn nobody_two_and_nonsense_are_told_apart() {
        let sources = [header("x-user-id")];
        assert_eq!(found(&sources, &[]), Err(IdentityError::Missing));
        assert_eq!(
            found(&sources, &[("x-user-id", "a"), ("X-User-Id", "a")]),
            Err(IdentityError::Doubled("x-user-id".into()))
        );
        for bad in ["", "a b", "a\u{1}", &"x".repeat(129)] {
            assert!(
                matches!(found(&sources, &[("x-user-id", bad)]), Err(IdentityError::Invalid(_))),
                "{bad:?}"
            );
        }
    }
}
