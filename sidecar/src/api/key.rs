//! The header `Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header).

use axum::http::HeaderMap;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::limits::CALL_KEY_BYTES_MAX;
use farebox_core::problem::Problem;

use super::reply::problem;

/// The header's name, as errors spell it.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The key of a request, which must have one. The draft's quotation marks may be left out.
pub(super) fn idempotency_key(
    headers: &HeaderMap,
    language: Language,
) -> Result<String, Box<Response>> {
    let missing = "the header Idempotency-Key is missing; send a random name of this request, and the same one when you repeat it";
    optional(headers).and_then(|key| key.ok_or(missing)).map_err(|detail| {
        let plain = Problem::new(Code::InvalidArgument, language, detail);
        Box::new(problem(language, plain.with_field(IDEMPOTENCY_KEY)))
    })
}

/// The key of a request that may have one, or what is wrong with it.
pub(super) fn optional(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("the header Idempotency-Key occurs more than once; send it once");
    }
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let is_key = (1..=CALL_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if is_key {
        Ok(Some(key.to_owned()))
    } else {
        Err(
            "the header Idempotency-Key is not 1 to 255 visible ASCII characters; send for instance a UUID",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_short_visible_text() {
        let key = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
            }
            optional(&headers)
        };
        let good = Ok(Some("8e03978e-40d5".to_owned()));
        assert_eq!(key(&["8e03978e-40d5"]), good);
        assert_eq!(key(&["\"8e03978e-40d5\""]), good);
        assert_eq!(key(&[]), Ok(None));
        assert!(idempotency_key(&HeaderMap::new(), Language::English).is_err());
        for refused in [&["a", "a"][..], &[""], &["\"\""], &["a b"], &["\"a"], &[&"x".repeat(256)]]
        {
            assert!(key(refused).is_err(), "{refused:?}");
        }
    }
}
