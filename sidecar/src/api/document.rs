//! OpenAPI documents: what stands at each listener, made from its routes.
//!
//! | file | what it does |
//! |---|---|
//! | `routes.rs` | routes that cannot be served without being documented |
//! | `refusal.rs` | how requests are refused, by error number |
//! | `shared.rs` | parameters and forms of bodies that several operations have |
//! | `schemas.rs` | schemas of generic types, made readable and true |
//! | `finish.rs` | what all operations of a document have in common: title, who may call, examples |
//! | `examples.json` | an example of each request and reply, by operation |
//!
//! What one operation takes and gives stands at its handler: `#[utoipa::path(…)]`.

use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Router};
use clap::ValueEnum;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::UtoipaMethodRouterExt as _;
use utoipa_axum::routes;

pub(super) use self::routes::Routes;
pub(super) use self::shared::{Key, KeyOrNone, PageOf};
use super::{admin, gateway, public, reply};

mod finish;
mod refusal;
mod routes;
mod schemas;
mod shared;

/// A document: what stands at one of the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listener {
    /// Gateways, and services that ask about each call.
    Gateway,
    /// Users and payment callbacks.
    Public,
    /// Operators and orchestrators.
    Admin,
}

/// The listener's document.
pub(super) fn of(listener: Listener) -> OpenApi {
    let routes = match listener {
        Listener::Gateway => gateway::document(),
        Listener::Public => public::document(),
        Listener::Admin => admin::document(),
    };
    finish::finish(listener, routes.merge_from(own("").into_document()))
}

/// The same as text, as it is served and checked in.
pub fn text(listener: Listener) -> serde_json::Result<String> {
    of(listener).to_pretty_json().map(|text| registered(&unwrapped(&text)) + "\n")
}

/// Descriptions come from comments: without the ends of their lines, and without links that only rustdoc follows.
fn unwrapped(json: &str) -> String {
    let paragraphs: Vec<_> = json.split("\\n\\n").map(|text| text.replace("\\n", " ")).collect();
    paragraphs.join("\\n\\n").replace("[`", "`").replace("`]", "`")
}

/// With formats by the names that OpenAPI's registry has for them: `uint64`, where derives write `u-int64`.
fn registered(json: &str) -> String {
    json.replace(r#""format": "u-int"#, r#""format": "uint"#)
}

/// The route where the listener's document stands.
pub(super) fn route(listener: Listener) -> Router {
    let text = text(listener).unwrap_or_else(|err| {
        tracing::error!(error = %err, "an OpenAPI document was not written");
        "{}".to_owned()
    });
    own(&text).into_router(())
}

fn own(text: &str) -> Routes<()> {
    let layer = Extension(text.to_owned());
    Routes::new().add(routes!(openapi).layer(layer), &[])
}

/// Tells this document
///
/// What stands at this listener.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "service",
    responses((status = 200, description = "This document", body = serde_json::Value)))]
async fn openapi(Extension(text): Extension<String>) -> Response {
    reply::json(StatusCode::OK, text)
}
