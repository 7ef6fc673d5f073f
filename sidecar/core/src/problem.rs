//! The body of every refusal: `application/problem+json` (RFC 9457).

use serde::{Deserialize, Serialize};

use crate::code::{Code, Language};

/// The media type of the body.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A problem as it is sent. Members beyond RFC 9457 are `code` and, where one request field is at fault, `field`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Stable name of the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short text, the same for every occurrence, in the caller's language.
    pub title: String,
    /// The HTTP status, repeated for readers that lost it.
    pub status: u16,
    /// What happened this time and how to go on.
    pub detail: String,
    /// The six-digit error number; `docs/errors.md` has a page for each.
    pub code: u32,
    /// The request field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// A problem with a title in the caller's language.
    pub fn new(code: Code, language: Language, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:farebox:error:{}", code.number()),
            title: code.title(language).to_owned(),
            status: code.http_status(),
            detail: detail.into(),
            code: code.number(),
            field: None,
        }
    }

    /// Names the request field at fault.
    #[must_use]
    pub fn with_field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The body's text.
    pub fn to_json(&self) -> String {
        // Serializing strings and numbers cannot fail; an empty object keeps even that case well-formed.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_problem_reads_as_rfc_9457_says() {
        let problem =
            Problem::new(Code::InsufficientBalance, Language::English, "the balance is 0.00 CNY");
        let expected = r#"{"type":"urn:farebox:error:190102","title":"Insufficient balance","status":402,"detail":"the balance is 0.00 CNY","code":190102}"#;
        assert_eq!(problem.to_json(), expected);
    }
}
