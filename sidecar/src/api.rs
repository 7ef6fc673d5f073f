//! The three listeners' routes. Every error is `application/problem+json` in the caller's language.

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::Code;
use farebox_core::problem::Problem;

pub use self::admin::{Operators, Remote, operator_routes};
pub use self::document::{Listener, text as document};
pub use self::gateway::Gateways;
pub use self::identity::{Identities, IdentityError};
pub use self::public::Public;
use self::reply::{language, problem};
pub use self::token::Tokens;
use crate::metrics::ListenerName;
use crate::trace::request::traced;

mod accounts;
mod admin;
mod amount;
mod body;
mod document;
mod gateway;
mod identity;
mod key;
mod orders;
mod public;
mod query;
mod reply;
mod shed;
mod token;

#[cfg(test)]
mod tests;

/// What gateways reach.
pub fn internal(gateways: Gateways) -> Router {
    traced(with_fallbacks(gateway::routes(gateways)), ListenerName::Internal)
}

/// What operators and orchestrators reach.
pub fn admin(operators: Operators) -> Router {
    traced(with_fallbacks(admin::routes(operators)), ListenerName::Admin)
}

/// What users and payment callbacks reach.
pub fn public(users: Public) -> Router {
    traced(with_fallbacks(public::routes(users)), ListenerName::Public)
}

fn with_fallbacks(router: Router) -> Router {
    router.fallback(not_found).method_not_allowed_fallback(method_not_allowed)
}

async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let detail = format!("nothing stands at {}", uri.path());
    problem(language, Problem::new(Code::NotFound, language, detail))
}

async fn method_not_allowed(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let detail = format!("{} does not take {method}; see the Allow header", uri.path());
    let status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
    problem(language, Problem { status, ..Problem::new(Code::InvalidArgument, language, detail) })
}
