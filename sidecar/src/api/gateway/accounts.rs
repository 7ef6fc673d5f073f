//! `POST /internal/v1/billing/accounts`: what many users have, for services.

use axum::extract::{Request, State};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Gateways;
use crate::api::accounts::{self, BODY, Results};
use crate::api::body;
use crate::api::reply::{self, language};
use crate::app::OwnAccountView;
use crate::metrics::{self, Shed};

/// What a request takes of the slots for calls: one for each 16 KiB of its largest body.
const SLOTS: u32 = 16;

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = UserIds)]
pub(super) struct Body {
    /// Whose accounts.
    #[schema(min_items = 1, max_items = 1000)]
    #[serde(alias = "userIds")]
    user_ids: Vec<String>,
}

/// Tells what many users have
///
/// Each name stands for itself: one that is wrong or unknown hides no other.
#[utoipa::path(post, path = "/internal/v1/billing/accounts", operation_id = "accounts", tag = "accounts", request_body = Body,
    responses((status = 200, description = "What was found, in the order of the names", body = Results<OwnAccountView>)))]
pub(super) async fn find(State(gateways): State<Gateways>, request: Request) -> Response {
    let language = language(request.headers());
    if !gateways.tokens.admit(request.headers()) {
        return reply::unauthorized(language, "show a gateway token: Authorization: Bearer …");
    }
    let Ok(slots) = gateways.call_slots.clone().try_acquire_many_owned(SLOTS) else {
        metrics::shed(Shed::Calls);
        let detail = "too many requests at once; send the same request again";
        return reply::come_again(language, Code::Overloaded, detail);
    };
    let timeout = gateways.timeout;
    match tokio::time::timeout(timeout, answer(gateways, request, slots, language)).await {
        Ok(response) => response,
        Err(_) => reply::late(language),
    }
}

/// Keeps the slots until it is done or given up: reading leaves nothing half done.
async fn answer(
    gateways: Gateways,
    request: Request,
    _slots: OwnedSemaphorePermit,
    language: Language,
) -> Response {
    let (head, body) = request.into_parts();
    let body = match body::read(&head.headers, body, BODY, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    match body::parse::<Body>(&body) {
        Ok(Body { user_ids }) => {
            accounts::answer(&gateways.app, user_ids, "user_ids", language, OwnAccountView::from)
                .await
        }
        Err(malformed) => malformed.into_response(language),
    }
}
