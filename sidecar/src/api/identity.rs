//! Who calls the public listener: the account that a gateway has signed, and nobody's own word.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::response::Response;
use farebox_core::assertion::{self, AssertionError, HEADER, Key};
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::problem::Problem;

use super::reply::problem;
use crate::config::Secret;

/// The keys of the gateway tokens: whoever may speak as a gateway may say who calls.
#[derive(Debug, Clone)]
pub struct Identities(Vec<Key>);

/// Why nobody is known to call. All of them are 401: the way through the gateway helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No gateway has said anything.
    #[error(
        "the request has no {}; call through the gateway, on a route with assert_identity",
        HEADER
    )]
    Missing,
    /// Two values: which one is the gateway's?
    #[error("the request has {} more than once; call through the gateway, which sends one", HEADER)]
    Doubled,
    /// One that nobody can read as a token.
    #[error("the identity is not visible ASCII; call through the gateway, which makes it")]
    NotText,
    /// One that says nothing.
    #[error("the identity {0}")]
    Refused(#[from] AssertionError),
}

impl Identities {
    /// Those that gateways with one of `tokens` have signed; with none, nobody's.
    pub fn new(tokens: &[Secret]) -> Self {
        Self(tokens.iter().map(|token| Key::derive(token.expose())).collect())
    }

    /// The account that calls.
    pub fn account(&self, headers: &HeaderMap) -> Result<AccountId, IdentityError> {
        // A clock before 1970 is as wrong as any: every token is from the future then.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.account_at(headers, now)
    }

    fn account_at(&self, headers: &HeaderMap, now: u64) -> Result<AccountId, IdentityError> {
        let mut values = headers.get_all(HEADER).iter();
        let value = values.next().ok_or(IdentityError::Missing)?;
        if values.next().is_some() {
            return Err(IdentityError::Doubled);
        }
        let token = value.to_str().map_err(|_| IdentityError::NotText)?;
        Ok(assertion::verify(&self.0, token, now)?.sub)
    }
}

impl IdentityError {
    fn code(&self) -> Code {
        match self {
            Self::Missing => Code::Unauthorized,
            Self::Refused(AssertionError::Expired { .. }) => Code::TokenExpired,
            Self::Doubled | Self::NotText | Self::Refused(_) => Code::TokenInvalid,
        }
    }

    /// The reply to such a request.
    pub fn answer(&self, language: Language) -> Response {
        problem(language, Problem::new(self.code(), language, self.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, StatusCode};
    use farebox_core::assertion::{Claims, LEEWAY_S, LIFETIME_S, sign};

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn identities() -> Identities {
        Identities::new(&[Secret::new("old"), Secret::new("new")])
    }

    fn token(key: &str, made_at: u64) -> String {
        sign(&Key::derive(key), &Claims::new("edge-1", "用户1".parse().unwrap(), made_at))
    }

    fn headers(tokens: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for token in tokens {
            headers.append(HEADER, token.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_account_is_the_one_that_a_gateway_with_any_of_the_tokens_has_signed() {
        for key in ["old", "new"] {
            let account = identities().account_at(&headers(&[token(key, NOW)]), NOW);
            assert_eq!(account.unwrap().as_str(), "用户1");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(identities().account(&headers(&[token("new", now)])).is_ok());
        let ago = now - LIFETIME_S - LEEWAY_S;
        let late = identities().account(&headers(&[token("new", ago)])).unwrap_err();
        assert_eq!(late.code(), Code::TokenExpired, "{late}");
    }

    #[test]
    fn everybody_else_is_401_with_a_number_a_reason_and_a_remedy() {
        let good = || token("new", NOW);
        let ago = |seconds| token("new", NOW - seconds);
        for (tokens, code, detail) in [
            (
                vec![],
                100_101,
                "the request has no x-farebox-identity; call through the gateway, on a route with assert_identity",
            ),
            (
                vec![good(), good()],
                100_104,
                "the request has x-farebox-identity more than once; call through the gateway, which sends one",
            ),
            (
                vec![format!("{}, {}", good(), good())],
                100_104,
                "the identity is not three parts with dots between them; call through the gateway, which makes it",
            ),
            (
                vec!["用户1".to_owned()],
                100_104,
                "the identity is not visible ASCII; call through the gateway, which makes it",
            ),
            (
                vec![token("other", NOW)],
                100_104,
                "the identity is signed with none of this sidecar's gateway tokens; call through the gateway, and give both the same FAREBOX_GATEWAY_TOKEN",
            ),
            (
                vec![ago(LIFETIME_S + LEEWAY_S)],
                100_103,
                "the identity ended 60 s ago; send the call again through the gateway, and if that does not help, set the clocks of gateway and sidecar",
            ),
            (
                vec![token("new", NOW + LEEWAY_S + 1)],
                100_104,
                "the identity begins in 61 s; set the clocks of gateway and sidecar",
            ),
        ] {
            let error = identities().account_at(&headers(&tokens), NOW).unwrap_err();
            assert_eq!((error.code().number(), error.to_string().as_str()), (code, detail));
            assert_eq!(error.code().http_status(), 401);
        }
        let nobody = Identities::new(&[]).account_at(&headers(&[good()]), NOW);
        assert_eq!(nobody, Err(IdentityError::Refused(AssertionError::Signature)));
        assert_eq!(format!("{:?}", identities()), "Identities([Key(…), Key(…)])");
    }

    #[tokio::test]
    async fn the_answer_is_a_problem_in_the_callers_language() {
        let expired = IdentityError::Refused(AssertionError::Expired { ago_s: 60 });
        for (language, title) in
            [(Language::Chinese, "令牌已过期"), (Language::English, "Token expired")]
        {
            let (head, body) = expired.answer(language).into_parts();
            assert_eq!(head.status, StatusCode::UNAUTHORIZED);
            let kind = HeaderValue::from_static("application/problem+json");
            assert_eq!(head.headers["content-type"], kind);
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert_eq!((problem.code, problem.title.as_str()), (100_103, title));
            assert!(problem.detail.contains("ended 60 s ago; "), "{}", problem.detail);
        }
    }
}
