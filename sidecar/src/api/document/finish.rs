//! What all operations of a document have in common: its title, who may call, groups, examples.

use std::collections::BTreeMap;

use farebox_core::problem::Problem;
use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{InfoBuilder, License, OpenApi, RefOr, ServerBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::routes::operations_mut;
use super::{Listener, schemas};

/// What a listener's document says about itself.
struct Facts {
    title: &'static str,
    description: &'static str,
    /// Where it listens by default, or where else its requests go.
    servers: &'static [(&'static str, &'static str)],
    /// Groups of operations.
    tags: &'static [(&'static str, &'static str)],
}

const SERVICE: (&str, &str) = ("service", "the process itself");

/// For all three.
const COMMON: &str = "Money is a decimal string in currency units, exact to 0.000000001; times are RFC 3339. Errors are \
    `application/problem+json` with a six-digit `code` (docs/errors.md), in Chinese or English by `Accept-Language`. After 503 the \
    same request is worth sending again.";

fn facts(listener: Listener) -> Facts {
    match listener {
        Listener::Gateway => Facts {
            title: "Farebox: gateways and services",
            description: "What gateways report and are granted, and what services behind no Envoy ask about each call. The listener \
                is `server.internal`.",
            servers: &[("http://127.0.0.1:8108", "the sidecar's default")],
            tags: &[
                (
                    "calls",
                    "check, deduct, reserve, commit, release, refund: one call or up to 1000 in a request",
                ),
                ("accounts", "what many users have"),
                ("gateways", "the protocol between the filter in Envoy and the sidecar"),
                SERVICE,
            ],
        },
        Listener::Public => Facts {
            title: "Farebox: users and payment callbacks",
            description: "What users see and do through the gateway, on a route with `assert_identity`, and what the payment service \
                sends. The listener is `server.http`.",
            servers: &[
                (
                    "http://127.0.0.1:10000",
                    "users: through the gateway, which adds `x-farebox-identity`",
                ),
                ("http://127.0.0.1:8107", "callbacks: the sidecar's default"),
            ],
            tags: &[
                ("account", "what users have, what was charged, what a call would cost"),
                ("recharge", "users add money"),
                ("callbacks", "the payment service tells what became of a payment"),
                SERVICE,
            ],
        },
        Listener::Admin => Facts {
            title: "Farebox: operators",
            description: "What operators do and look at, and what orchestrators and Prometheus ask. The listener is `server.admin`.",
            servers: &[("http://127.0.0.1:8109", "the sidecar's default")],
            tags: &[
                ("accounts", "every account's money, and changes of it by hand"),
                ("orders", "recharge orders and their refunds"),
                (
                    "anomalies",
                    "payments that did not fit their orders, and what is decided about them",
                ),
                ("prices", "what units cost, now and later"),
                ("quotas", "what is free each month"),
                ("gateways", "who is alive, what each holds, and asking for it back"),
                ("tokens", "who may work with these addresses"),
                ("audit", "what operators did"),
                ("invariants", "whether the books are right"),
                SERVICE,
            ],
        },
    }
}

/// An operation's examples.
#[derive(Debug, Deserialize)]
struct Examples {
    request: Option<Value>,
    reply: Option<Value>,
}

/// Completes a document.
pub(super) fn finish(listener: Listener, mut openapi: OpenApi) -> OpenApi {
    let Facts { title, description, servers, tags } = facts(listener);
    openapi.info = InfoBuilder::new()
        .title(title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(format!("{description}\n\n{COMMON}")))
        .license(Some(License::new("Apache-2.0")))
        .build();
    let server = |(url, description): &(&str, &str)| {
        ServerBuilder::new().url(*url).description(Some(*description)).build()
    };
    openapi.servers = Some(servers.iter().map(server).collect());
    let tag = |(name, description): &(&str, &str)| {
        TagBuilder::new().name(*name).description(Some(*description)).build()
    };
    openapi.tags = Some(tags.iter().map(tag).collect());
    let components = openapi.components.get_or_insert_default();
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    schemas::refer(&mut components.schemas);
    schemas::overlap(&mut components.schemas);
    for (name, scheme) in schemes(listener) {
        components.add_security_scheme(name, scheme);
    }
    let examples = examples();
    for operation in openapi.paths.paths.values_mut().flat_map(operations_mut) {
        let name = operation.operation_id.as_deref().unwrap_or_default();
        let name = name.strip_suffix("Alias").unwrap_or(name);
        if let Some(examples) = examples.get(name) {
            show(operation, examples);
        }
    }
    openapi
}

/// The examples, by operation. A test reads the file before anybody else does.
fn examples() -> BTreeMap<String, Examples> {
    serde_json::from_str(include_str!("examples.json")).unwrap_or_default()
}

fn show(operation: &mut Operation, examples: &Examples) {
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content {
                content.example = examples.request.clone();
            }
        }
    }
    let responses = &mut operation.responses.responses;
    let done = ["200", "201"].into_iter().find(|status| responses.contains_key(*status));
    if let Some(RefOr::T(response)) = done.and_then(|status| responses.get_mut(status))
        && let Some(RefOr::T(content)) = response.content.get_mut("application/json")
    {
        content.example = examples.reply.clone();
    }
}

/// Who may call.
fn schemes(listener: Listener) -> Vec<(&'static str, SecurityScheme)> {
    let bearer = |description: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        SecurityScheme::Http(scheme.description(Some(description)).build())
    };
    let header = |name: &str, description: &str| {
        let value = ApiKeyValue::with_description(name, description);
        SecurityScheme::ApiKey(ApiKey::Header(value))
    };
    match listener {
        Listener::Gateway => {
            vec![("gatewayToken", bearer("One of the gateway tokens: `FAREBOX_GATEWAY_TOKEN`."))]
        }
        Listener::Admin => {
            vec![(
                "adminToken",
                bearer(
                    "An operator's token, whose role is enough (`farebox token create`), or `FAREBOX_ADMIN_TOKEN`.",
                ),
            )]
        }
        Listener::Public => {
            let identity = "Who calls, signed by a gateway: callers do not make it, the filter does on a route with \
                `assert_identity`. Calls that come through the gateway need nothing else.";
            let signed = "Of Standard Webhooks (standardwebhooks.com), over the raw body, by `FAREBOX_CALLBACK_SECRET`.";
            vec![
                ("identity", header("x-farebox-identity", identity)),
                ("webhookId", header("webhook-id", signed)),
                ("webhookTimestamp", header("webhook-timestamp", signed)),
                ("webhookSignature", header("webhook-signature", signed)),
            ]
        }
    }
}
