//! The OpenAPI documents say what stands at the listeners, all of it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use axum::http::Method;
use serde_json::Value;

use super::*;
use crate::api::document::Listener;

/// What to do when a test of this file fails.
const RECIPE: &str = "see CONTRIBUTING.md, Adding things: an endpoint";

const LISTENERS: [(Listener, &str); 3] =
    [(Listener::Gateway, "gateway"), (Listener::Public, "public"), (Listener::Admin, "admin")];

fn router(listener: Listener) -> Router {
    match listener {
        Listener::Gateway => gateways(),
        Listener::Public => users(),
        Listener::Admin => operators(&["good-token"]),
    }
}

fn document_of(listener: Listener) -> Value {
    serde_json::from_str(&document(listener).unwrap()).unwrap()
}

/// The operations of a document, by address and method.
fn operations(document: &Value) -> BTreeMap<(String, String), Value> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| {
                ((path.clone(), method.to_ascii_uppercase()), operation.clone())
            })
        })
        .collect()
}

/// The addresses that a router serves, as it tells when it is looked at.
fn addresses(router: &Router) -> BTreeSet<String> {
    let told = format!("{router:?}");
    let starts = told.match_indices("RouteId(").map(|(at, _)| &told[at..]);
    let named = starts.filter_map(|text| text.split_once("): \"")?.1.split('"').next());
    named.filter(|path| path.starts_with('/') && !path.contains('*')).map(str::to_owned).collect()
}

/// The methods that an address takes, as a request with another one is told.
async fn methods(router: Router, path: &str) -> BTreeSet<String> {
    let strange = Method::from_bytes(b"STRANGE").unwrap();
    let request = Request::builder().method(strange).uri(filled(path));
    let request = request.header("authorization", "Bearer good-token").body(Body::empty()).unwrap();
    let reply = send(router, request).await;
    let allowed = reply.headers.get("allow").map(|allowed| allowed.to_str().unwrap().to_owned());
    let allowed = allowed.unwrap_or_default();
    // HEAD comes with every GET.
    let methods = allowed.split(',').map(str::trim);
    let methods = methods.filter(|method| !matches!(*method, "" | "HEAD"));
    methods.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_route_is_documented_and_every_documented_one_is_served() {
    for (listener, name) in LISTENERS {
        let mut served = BTreeSet::new();
        for path in addresses(&router(listener)) {
            for method in methods(router(listener), &path).await {
                served.insert((path.clone(), method));
            }
        }
        let documented: BTreeSet<_> = operations(&document_of(listener)).into_keys().collect();
        assert!(3 < served.len(), "the router of {name} does not tell its routes any more");
        let missing: Vec<_> = served.difference(&documented).collect();
        assert!(missing.is_empty(), "{name} serves {missing:?} without a document; {RECIPE}");
        let stray: Vec<_> = documented.difference(&served).collect();
        assert!(stray.is_empty(), "{name} documents {stray:?}, which nobody serves; {RECIPE}");
    }
}

#[test]
fn the_documents_that_are_checked_in_are_those_that_are_served() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi");
    for (listener, name) in LISTENERS {
        let kept = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap_or_default();
        assert!(
            kept == document(listener).unwrap(),
            "docs/openapi/{name}.json is not what the code says: farebox openapi {name} > docs/openapi/{name}.json"
        );
    }
}

#[tokio::test]
async fn each_listener_tells_its_document_to_everybody() {
    for (listener, _) in LISTENERS {
        let reply = send(router(listener), get("/openapi.json")).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.headers["content-type"], "application/json");
        assert_eq!(reply.body, document(listener).unwrap());
    }
}

#[test]
fn operations_have_names_of_their_own_and_groups_that_are_explained() {
    for (listener, name) in LISTENERS {
        let document = document_of(listener);
        let groups: Vec<_> = list(&document["tags"]).map(|tag| &tag["name"]).collect();
        let mut names = BTreeSet::new();
        for ((path, _), operation) in operations(&document) {
            assert!(
                names.insert(operation["operationId"].to_string()),
                "{name} {path}: a name twice"
            );
            assert!(!operation["summary"].is_null(), "{name} {path}: no summary");
            for tag in list(&operation["tags"]) {
                assert!(
                    groups.contains(&tag),
                    "{name} {path}: the group {tag} is not in finish.rs"
                );
            }
        }
    }
}

/// Every reference in a document, and the examples' file names only operations.
#[test]
fn what_documents_refer_to_is_there() {
    let examples = include_str!("../document/examples.json");
    let examples: BTreeMap<String, Value> = serde_json::from_str(examples).unwrap();
    let mut strangers: BTreeSet<_> = examples.keys().map(String::as_str).collect();
    for (listener, name) in LISTENERS {
        let text = document(listener).unwrap();
        let document = document_of(listener);
        for referred in text.split("\"$ref\": \"#").skip(1) {
            let pointer = referred.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{name}: nothing stands at {pointer}");
        }
        for operation in operations(&document).values() {
            strangers.remove(operation["operationId"].as_str().unwrap());
        }
    }
    assert!(strangers.is_empty(), "examples.json has {strangers:?}, which no operation is called");
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The example of what is sent or got as JSON.
fn example(content: &Value) -> Option<&Value> {
    content.get("content")?.get("application/json")?.get("example")
}

#[tokio::test]
async fn each_operation_has_examples_and_those_of_requests_can_be_read() {
    for (listener, name) in LISTENERS {
        for ((path, method), operation) in operations(&document_of(listener)) {
            let what = format!("{name} {method} {path}: {RECIPE}");
            let replies = &operation["responses"];
            let reply = if replies["200"].is_null() { &replies["201"] } else { &replies["200"] };
            let is_json = !reply["content"]["application/json"].is_null();
            let is_told = path != "/openapi.json";
            assert!(
                !is_json || !is_told || example(reply).is_some(),
                "no example of a reply: {what}"
            );
            let Some(body) = operation.get("requestBody") else { continue };
            let Some(request) = example(body) else { panic!("no example of a request: {what}") };
            let reply = send(router(listener), asking(&path, request)).await;
            // The database is away, and the price book of this test names no service: whatever was read gets as far as that.
            let is_read = reply.status == StatusCode::SERVICE_UNAVAILABLE
                || reply.body.contains("names no such service");
            assert!(is_read, "{request}: {}; {what}", reply.body);
        }
    }
}

/// The address with something in the place of each parameter.
fn filled(path: &str) -> String {
    path.replace("{id}", "1").replace(['{', '}'], "x")
}

/// A request with this body, by somebody who may send it.
fn asking(path: &str, body: &Value) -> Request<Body> {
    let body = body.to_string();
    let mut request = callback::signed(SECRET, &body, 0);
    *request.uri_mut() = filled(path).parse().unwrap();
    if !body.contains("idempotency_key") {
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    }
    calling(showing(request, "Bearer good-token"), "good-token", "alice")
}

/// What operators may do says one table, what stands there the documents: they speak of the same routes.
#[test]
fn every_route_of_operators_has_a_role_and_a_document() {
    let document = document_of(Listener::Admin);
    let documented: BTreeSet<_> = operations(&document)
        .into_keys()
        .filter(|(path, _)| path.starts_with("/admin/v1/"))
        .map(|(path, method)| format!("{method} {path}"))
        .collect();
    let in_table: BTreeSet<_> =
        operator_routes().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(documented, in_table, "roles.rs and the documents differ; {RECIPE}");
}

/// Whoever gets in to operators' routes, or does not, is refused in the same ways everywhere.
#[tokio::test]
async fn every_route_of_operators_turns_strangers_away_and_says_so() {
    let operations = operations(&document_of(Listener::Admin));
    for (number, ((path, method), operation)) in operations.into_iter().enumerate() {
        let is_guarded = path.starts_with("/admin/v1/");
        for status in ["401", "403", "429"] {
            let is_told = !operation["responses"][status].is_null();
            assert_eq!(is_told, is_guarded, "{method} {path}: {status}");
        }
        assert_eq!(!operation["security"].is_null(), is_guarded, "{method} {path}");
        let request = Request::builder().method(method.as_str()).uri(filled(&path));
        let request = request.body(Body::empty()).unwrap();
        // Each from elsewhere: whoever shows too many wrong tokens is not listened to.
        let request = access::from(request, &format!("10.0.0.{number}"));
        let status = send(router(Listener::Admin), request).await.status;
        assert_eq!(status == StatusCode::UNAUTHORIZED, is_guarded, "{method} {path}: {status}");
    }
}
