//! Request bodies: read within a limit, then parsed so that a mistake is named by its field.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use super::reply::problem;

/// How much an endpoint reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The largest body.
    pub(super) bytes: usize,
    /// What a sender of more should do.
    pub(super) remedy: &'static str,
}

/// The whole body, unless it is larger than the limit, announced or not. The refusal is boxed: it is large, and rare.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: Limit,
    language: Language,
) -> Result<Bytes, Box<Response>> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| limit.bytes < bytes) {
        return Err(Box::new(too_large(limit, language)));
    }
    axum::body::to_bytes(body, limit.bytes).await.map_err(|err| {
        let is_limit =
            std::error::Error::source(&err).is_some_and(|cause| cause.is::<LengthLimitError>());
        Box::new(if is_limit {
            too_large(limit, language)
        } else {
            problem(language, Problem::new(Code::InvalidArgument, language, "the body broke off"))
        })
    })
}

fn too_large(limit: Limit, language: Language) -> Response {
    let Limit { bytes, remedy } = limit;
    let detail = format!("the body has more than {bytes} bytes; {remedy}");
    problem(language, Problem::new(Code::InvalidArgument, language, detail).with_field("body"))
}

/// A body that is not the JSON it should be.
#[derive(Debug)]
pub(super) struct Malformed {
    field: Option<String>,
    detail: String,
}

impl Malformed {
    /// The problem that names the field.
    pub(super) fn into_response(self, language: Language) -> Response {
        let plain = Problem::new(Code::InvalidArgument, language, self.detail);
        problem(language, Problem { field: self.field, ..plain })
    }
}

/// The field that serde misses; it is in the text alone.
fn missing_field(complaint: &str) -> Option<&str> {
    complaint.strip_prefix("missing field `")?.split('`').next()
}

/// The value that the whole body is the JSON of.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let (path, complaint) = (err.path().to_string(), err.inner().to_string());
        let inside = (path != ".").then_some(path);
        let field = match (inside, missing_field(&complaint)) {
            (Some(path), Some(name)) => Some(format!("{path}.{name}")),
            (None, Some(name)) => Some(name.to_owned()),
            (inside, None) => inside,
        };
        Malformed { field, detail: format!("the body cannot be read: {complaint}") }
    })?;
    json.end().map_err(|err| Malformed {
        field: None,
        detail: format!("the body cannot be read: {err}"),
    })?;
    Ok(parsed)
}
