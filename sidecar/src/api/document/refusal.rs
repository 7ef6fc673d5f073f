//! How requests are refused: a response per status, with the error numbers that it can have.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use farebox_core::code::{Code, Language};
use farebox_core::problem::{self, Problem};
use utoipa::ToSchema as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, ContentBuilder, HeaderBuilder, Ref, RefOr, Response};

/// Statuses and error numbers, by operation.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<String, BTreeSet<(u16, u32)>>);

impl Refusals {
    /// The operation refuses in these ways too.
    pub(super) fn add(&mut self, operation: &Operation, codes: &[Code]) {
        let known = self.0.entry(name(operation)).or_default();
        known.extend(codes.iter().map(|code| (code.http_status(), code.number())));
    }

    /// The same with a status that is not the code's own.
    pub(super) fn add_as(&mut self, operation: &Operation, status: StatusCode, code: Code) {
        self.0.entry(name(operation)).or_default().insert((status.as_u16(), code.number()));
    }

    pub(super) fn append(&mut self, others: &mut Self) {
        self.0.append(&mut others.0);
    }

    /// Writes them into the operation. A status that the handler describes itself keeps its schema.
    pub(super) fn tell(&self, operation: &mut Operation) {
        let refusals = self.0.get(&name(operation)).into_iter().flatten();
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for (status, number) in refusals {
            by_status.entry(*status).or_default().extend(Code::from_number(*number));
        }
        for (status, codes) in by_status {
            let said = operation.responses.responses.remove(&status.to_string());
            let mut response = said.unwrap_or_else(|| RefOr::T(plain(status, &codes)));
            if let RefOr::T(response) = &mut response {
                response.description = listed(&codes);
            }
            operation.responses.responses.insert(status.to_string(), response);
        }
    }
}

fn name(operation: &Operation) -> String {
    operation.operation_id.clone().unwrap_or_default()
}

/// What the codes are called.
fn listed(codes: &[Code]) -> String {
    let one = |code: &Code| {
        let (number, english) = (code.number(), code.title(Language::English));
        format!("`{number}` {english} ({})", code.title(Language::Chinese))
    };
    codes.iter().map(one).collect::<Vec<_>>().join(" · ")
}

fn plain(status: u16, codes: &[Code]) -> Response {
    let mut response = Response::new("");
    response.content.insert(problem::CONTENT_TYPE.to_owned(), RefOr::T(content(status, codes)));
    let is_passing = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS]
        .iter()
        .any(|passing| passing.as_u16() == status);
    if is_passing {
        response.headers.insert("Retry-After".to_owned(), RefOr::T(retry_after()));
    }
    response
}

fn content(status: u16, codes: &[Code]) -> Content {
    let schema = Ref::from_schema_name(Problem::name());
    let example = codes.first().map(|code| {
        let plain =
            Problem::new(*code, Language::English, "what happened this time, and how to go on");
        serde_json::json!(Problem { status, ..plain })
    });
    ContentBuilder::new().schema(Some(schema)).example(example).build()
}

/// Not every refusal of such a status ends by itself: one that does has the header.
pub(super) fn retry_after() -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1))))
        .description(Some("Seconds after which the same request is worth sending again."))
        .build()
}
