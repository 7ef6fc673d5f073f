//! Routes and what is said about them, together: what is served is documented.

use axum::Router;
use axum::http::StatusCode;
use farebox_core::code::Code;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Deprecated, OpenApi};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::refusal::Refusals;

/// Routes with their documents.
pub(in crate::api) struct Routes<S> {
    served: OpenApiRouter<S>,
    refusals: Refusals,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub(in crate::api) fn new() -> Self {
        Self { served: OpenApiRouter::default(), refusals: Refusals::default() }
    }

    /// Handlers that stand at one address (`routes!(list, add)`), and how they refuse requests.
    pub(in crate::api) fn add(mut self, routes: UtoipaMethodRouter<S>, codes: &[Code]) -> Self {
        for operation in routes.1.paths.values().flat_map(operations) {
            self.refusals.add(operation, codes);
        }
        Self { served: self.served.routes(routes), ..self }
    }

    /// The same, which billing-service had at `alias`.
    pub(in crate::api) fn add_with_alias(
        self,
        routes: UtoipaMethodRouter<S>,
        alias: &str,
        codes: &[Code],
    ) -> Self {
        let (schemas, mut paths, methods) = routes.clone();
        let renamed = std::mem::take(&mut paths.paths).into_iter();
        paths.paths =
            renamed.map(|(path, item)| (alias.to_owned(), aliased(item, &path))).collect();
        self.add(routes, codes).add((schemas, paths, methods), codes)
    }

    /// These routes and those.
    pub(in crate::api) fn and(self, mut others: Self) -> Self {
        let Self { served, mut refusals } = self;
        refusals.append(&mut others.refusals);
        Self { served: served.merge(others.served), refusals }
    }

    /// All of them refuse requests in these ways too.
    pub(in crate::api) fn all_refuse(mut self, codes: &[Code]) -> Self {
        let paths = &self.served.get_openapi().paths.paths;
        for operation in paths.values().flat_map(operations) {
            self.refusals.add(operation, codes);
        }
        self
    }

    /// All of them refuse requests with this code, under a status that is not its own.
    pub(in crate::api) fn all_refuse_as(mut self, status: StatusCode, code: Code) -> Self {
        let paths = &self.served.get_openapi().paths.paths;
        for operation in paths.values().flat_map(operations) {
            self.refusals.add_as(operation, status, code);
        }
        self
    }

    /// All of them want what these security schemes ask for, together.
    pub(in crate::api) fn secured_by(mut self, schemes: &[&str]) -> Self {
        let requirement = schemes.iter().fold(SecurityRequirement::default(), |all, scheme| {
            all.add::<_, [&str; 0], &str>(*scheme, [])
        });
        let paths = &mut self.served.get_openapi_mut().paths.paths;
        for operation in paths.values_mut().flat_map(operations_mut) {
            operation.security = Some(vec![requirement.clone()]);
        }
        self
    }

    /// What is served.
    pub(in crate::api) fn into_router(self, state: S) -> Router {
        self.served.with_state(state).into()
    }

    /// What is said about it.
    pub(in crate::api) fn into_document(self) -> OpenApi {
        let mut openapi = self.served.into_openapi();
        for operation in openapi.paths.paths.values_mut().flat_map(operations_mut) {
            self.refusals.tell(operation);
        }
        openapi
    }
}

/// The operations of an address.
fn operations(item: &PathItem) -> impl Iterator<Item = &Operation> {
    [&item.get, &item.post, &item.put, &item.patch, &item.delete].into_iter().flatten()
}

pub(super) fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, post, put, patch, delete, .. } = item;
    [get, post, put, patch, delete].into_iter().flatten()
}

fn aliased(mut item: PathItem, of: &str) -> PathItem {
    for operation in operations_mut(&mut item) {
        operation.deprecated = Some(Deprecated::True);
        operation.operation_id = operation.operation_id.take().map(|id| id + "Alias");
        operation.description = Some(format!("The address that billing-service had for `{of}`."));
    }
    item
}
