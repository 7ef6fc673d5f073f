//! Which role each route of operators needs: the one table. A route that does not stand here is refused.

use axum::http::Method;

use crate::app::Role;

/// Reads many accounts.
const BATCH: &str = "/admin/v1/accounts:batch";

/// Every route and the least role that it needs.
static ROUTES: [(Method, &str, Role); 24] = [
    (Method::GET, "/admin/v1/accounts", Role::Viewer),
    (Method::GET, "/admin/v1/accounts/{account}", Role::Viewer),
    // A look at many, whose names may be too long for an address.
    (Method::POST, BATCH, Role::Viewer),
    (Method::GET, "/admin/v1/anomalies", Role::Viewer),
    (Method::GET, "/admin/v1/anomalies/{id}", Role::Viewer),
    (Method::GET, "/admin/v1/audit", Role::Viewer),
    (Method::GET, "/admin/v1/gateways", Role::Viewer),
    (Method::GET, "/admin/v1/invariants", Role::Viewer),
    (Method::GET, "/admin/v1/leases", Role::Viewer),
    (Method::GET, "/admin/v1/orders", Role::Viewer),
    (Method::GET, "/admin/v1/orders/{order_id}", Role::Viewer),
    (Method::GET, "/admin/v1/prices", Role::Viewer),
    (Method::POST, "/admin/v1/accounts/{account}/freeze", Role::Operator),
    (Method::POST, "/admin/v1/accounts/{account}/thaw", Role::Operator),
    (Method::POST, "/admin/v1/anomalies/{id}/resolve", Role::Operator),
    (Method::POST, "/admin/v1/leases/{id}/recall", Role::Operator),
    (Method::POST, "/admin/v1/orders/{order_id}/refund", Role::Operator),
    (Method::POST, "/admin/v1/accounts/{account}/credit-limit", Role::Admin),
    (Method::POST, "/admin/v1/adjustments", Role::Admin),
    (Method::POST, "/admin/v1/prices", Role::Admin),
    (Method::POST, "/admin/v1/quotas", Role::Admin),
    // Names and roles of tokens help whoever looks for one to steal.
    (Method::GET, "/admin/v1/tokens", Role::Admin),
    (Method::POST, "/admin/v1/tokens", Role::Admin),
    (Method::DELETE, "/admin/v1/tokens/{token}", Role::Admin),
];

/// Every route of operators and the role that it needs.
pub fn operator_routes() -> impl Iterator<Item = (&'static Method, &'static str, Role)> {
    ROUTES.iter().map(|(method, path, role)| (method, *path, *role))
}

/// What a request needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// This role, or more.
    Role(Role),
    /// Another method: one of these.
    Method(Vec<&'static str>),
    /// Nobody said.
    Unclassified,
}

/// What a request to the route with this pattern needs.
pub(super) fn needed(method: &Method, pattern: &str) -> Need {
    // Whoever may read something may ask how long it is.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let here = || ROUTES.iter().filter(|(_, path, _)| *path == pattern);
    if let Some((_, _, role)) = here().find(|(known, _, _)| known == method) {
        return Need::Role(*role);
    }
    let methods: Vec<&str> = here().map(|(known, _, _)| known.as_str()).collect();
    if methods.is_empty() { Need::Unclassified } else { Need::Method(methods) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_needs_the_least_but_for_tokens_and_no_route_is_said_twice() {
        for (method, path, role) in operator_routes() {
            let is_look = path == BATCH || method == Method::GET && path != "/admin/v1/tokens";
            assert_eq!(role == Role::Viewer, is_look, "{method} {path}");
            let same = operator_routes().filter(|route| (route.0, route.1) == (method, path));
            assert_eq!(same.count(), 1, "{method} {path}");
        }
    }

    #[test]
    fn what_nobody_said_is_no_role() {
        let tokens = "/admin/v1/tokens";
        assert_eq!(needed(&Method::HEAD, "/admin/v1/audit"), Need::Role(Role::Viewer));
        assert_eq!(needed(&Method::POST, tokens), Need::Role(Role::Admin));
        assert_eq!(needed(&Method::PUT, tokens), Need::Method(vec!["GET", "POST"]));
        assert_eq!(needed(&Method::GET, "/admin/v1/tokens/x"), Need::Unclassified);
    }
}
