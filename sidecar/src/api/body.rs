//! Request bodies: read within a limit, then parsed so that a mistake is named by its field.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;
use farebox_core::wire::FieldError;
use http_body_util::LengthLimitError;
use serde::Deserialize;

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

/// Where a value stands that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the whole body.
    Body,
    /// It is an item of the body's list `items`.
    Item(usize),
}

impl Place {
    fn subject(self) -> String {
        match self {
            Self::Body => "the body".to_owned(),
            Self::Item(index) => format!("items[{index}]"),
        }
    }

    /// A field's path from the body's top.
    fn path(self, field: &str) -> String {
        match self {
            Self::Body => field.to_owned(),
            Self::Item(_) => format!("{}.{field}", self.subject()),
        }
    }
}

/// A body, or a part of one, that is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    field: Option<String>,
    detail: String,
}

impl Malformed {
    /// A mistake in this field, or in this header.
    pub(super) fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), detail: detail.into() }
    }

    /// A bound that a field breaks.
    pub(super) fn from_field(err: FieldError, place: Place) -> Self {
        let err = FieldError { field: place.path(&err.field), ..err };
        Self { detail: err.to_string(), field: Some(err.field) }
    }

    /// The problem that names the field.
    pub(super) fn into_problem(self, language: Language) -> Problem {
        let plain = Problem::new(Code::InvalidArgument, language, self.detail);
        Problem { field: self.field, ..plain }
    }

    /// The response that names the field.
    pub(super) fn into_response(self, language: Language) -> Response {
        problem(language, self.into_problem(language))
    }
}

/// The field that serde misses; it is in the text alone.
fn missing_field(complaint: &str) -> Option<&str> {
    complaint.strip_prefix("missing field `")?.split('`').next()
}

/// The value that the whole body is the JSON of.
pub(super) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Malformed> {
    parse_at(body, Place::Body)
}

/// The value that this text, which stands there, is the JSON of.
pub(super) fn parse_at<'b, T: Deserialize<'b>>(
    text: &'b [u8],
    place: Place,
) -> Result<T, Malformed> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let unreadable = |complaint: &str| format!("{} cannot be read: {complaint}", place.subject());
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let (path, complaint) = (err.path().to_string(), err.inner().to_string());
        let inside = (path != ".").then_some(path);
        let field = match (inside, missing_field(&complaint)) {
            (Some(path), Some(name)) => Some(format!("{path}.{name}")),
            (None, Some(name)) => Some(name.to_owned()),
            (inside, None) => inside,
        };
        let field = match (field, place) {
            (Some(field), place) => Some(place.path(&field)),
            (None, Place::Item(_)) => Some(place.subject()),
            (None, Place::Body) => None,
        };
        Malformed { field, detail: unreadable(&complaint) }
    })?;
    json.end().map_err(|err| Malformed { field: None, detail: unreadable(&err.to_string()) })?;
    Ok(parsed)
}
