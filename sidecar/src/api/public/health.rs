//! `GET /health`, in the envelope that the predecessor's callers parse.

use axum::http::StatusCode;
use axum::response::Response;
use chrono::Utc;
use serde::Serialize;

use super::super::reply;

/// The predecessor's envelope of every reply. All members are always there.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Envelope<T> {
    success: bool,
    #[serde(rename = "data")]
    payload: T,
    error_code: &'static str,
    error_message: &'static str,
    /// 0: nothing is shown to the user.
    show_type: u8,
    trace_id: &'static str,
    host: &'static str,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Health {
    status: &'static str,
    service: &'static str,
    /// Seconds since 1970.
    timestamp: i64,
}

/// Says that the process answers
///
/// In the envelope that callers of billing-service parse.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "service",
    responses((status = 200, description = "It answers", body = Envelope<Health>)))]
pub(super) async fn health() -> Response {
    let payload =
        Health { status: "UP", service: "billing-service", timestamp: Utc::now().timestamp() };
    let envelope = Envelope {
        success: true,
        payload,
        error_code: "",
        error_message: "",
        show_type: 0,
        trace_id: "",
        host: "",
    };
    match serde_json::to_string(&envelope) {
        Ok(body) => reply::json(StatusCode::OK, body),
        Err(err) => {
            tracing::error!(error = %err, "a health report was not written");
            reply::internal(farebox_core::code::Language::Chinese)
        }
    }
}
