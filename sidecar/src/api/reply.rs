//! How replies are made: problems, and the one place where an internal failure is logged and its text withheld.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::problem::{self, Problem};
use serde::Serialize;

use crate::app::{PageError, SyncError};
use crate::store::StoreError;
use crate::trace::request::ProblemCode;

/// When a refused caller may come again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The language that the caller ranks first.
pub(super) fn language(headers: &HeaderMap) -> Language {
    let header = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Language::from_accept_language(header.unwrap_or_default())
}

/// A successful reply with a JSON body.
pub(super) fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A successful reply with a value's JSON.
pub(super) fn value<T: Serialize>(status: StatusCode, value: &T, language: Language) -> Response {
    match serde_json::to_string(value) {
        Ok(body) => json(status, body),
        Err(err) => {
            tracing::error!(error = %err, "a reply was not written");
            internal(language)
        }
    }
}

/// A problem as its own body says it.
pub(super) fn problem(language: Language, problem: Problem) -> Response {
    let code = ProblemCode(problem.code);
    let mut response = problem_json(language, problem.status, problem.to_json());
    response.extensions_mut().insert(code);
    response
}

/// A problem with further members.
pub(super) fn document<T: Serialize>(status: u16, document: &T, language: Language) -> Response {
    match serde_json::to_string(document) {
        Ok(body) => problem_json(language, status, body),
        Err(err) => {
            tracing::error!(error = %err, "a problem was not written");
            internal(language)
        }
    }
}

fn problem_json(language: Language, status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    response
}

/// A refusal that ends by itself.
pub(super) fn come_again(language: Language, code: Code, detail: &str) -> Response {
    let mut response = problem(language, Problem::new(code, language, detail));
    response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    response
}

/// What was asked for took longer than it may.
pub(super) fn late(language: Language) -> Response {
    come_again(language, Code::Unavailable, "not done in time; ask again")
}

/// A refusal of whoever shows no token, or a wrong one.
pub(super) fn unauthorized(language: Language, remedy: &str) -> Response {
    let mut response = problem(language, Problem::new(Code::TokenInvalid, language, remedy));
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Every way a gateway's message can fail, by name: a new one must not compile until it has a status.
pub(super) fn sync_failed(language: Language, err: &SyncError) -> Response {
    match err {
        SyncError::Conflict { .. } => {
            problem(language, Problem::new(Code::Conflict, language, err.to_string()))
        }
        SyncError::Invalid(invalid) => problem(
            language,
            Problem::new(Code::InvalidArgument, language, invalid.to_string())
                .with_field(invalid.field.as_str()),
        ),
        SyncError::Abandoned => late(language),
        SyncError::Store(store) => store_failed(language, store),
    }
}

/// A page that there is not.
pub(super) fn no_such_page(language: Language, err: PageError) -> Response {
    let plain = Problem::new(Code::InvalidArgument, language, err.to_string());
    problem(language, plain.with_field(err.field()))
}

/// A failure of the database's side.
pub(super) fn store_failed(language: Language, err: &StoreError) -> Response {
    if err.is_outage() {
        tracing::error!(error = %err, "the database kept a request from being answered");
        let detail = "the database does not answer; send the same message again";
        return come_again(language, Code::Unavailable, detail);
    }
    tracing::error!(error = %err, "a request failed");
    internal(language)
}

/// A failure whose text is in the log and nowhere else.
pub(super) fn internal(language: Language) -> Response {
    problem(language, internal_problem(language))
}

/// The problem of such a failure.
pub(super) fn internal_problem(language: Language) -> Problem {
    let status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
    let unavailable =
        Problem::new(Code::Unavailable, language, "internal error; the log says more");
    Problem { status, ..unavailable }
}
