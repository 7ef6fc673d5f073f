//! `/admin/v1/tokens`: operators' tokens are made, listed and revoked.

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{delete, get};
use axum::{Extension, Router};
use chrono::{DateTime, Utc};
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::api::body::{self, Limit};
use crate::api::query::Parameters;
use crate::api::reply::{self, language, problem};
use crate::app::{App, Caller, MadeToken, NewToken, Role, TokenFilter, TokenView, TokensError};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send one token's description alone" };

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes(app: App) -> Router {
    Router::new()
        .route("/admin/v1/tokens", get(list).post(create))
        .route("/admin/v1/tokens/{token}", delete(revoke))
        .with_state(app)
}

async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let filter = match filter(&uri, language) {
        Ok(filter) => filter,
        Err(refusal) => return *refusal,
    };
    match tokio::time::timeout(TIMEOUT, app.tokens(&filter)).await {
        Ok(Ok(page)) => reply::value(StatusCode::OK, &page, language),
        Ok(Err(err)) => failed(language, &err),
        Err(_) => reply::come_again(language, Code::Unavailable, "not done in time; ask again"),
    }
}

fn filter(uri: &Uri, language: Language) -> Result<TokenFilter, Box<Response>> {
    let mut parameters = Parameters::read(uri, &["revoked", "limit", "cursor"], language)?;
    Ok(TokenFilter {
        revoked: parameters.value_or("revoked", "write true or false")?.unwrap_or(false),
        limit: parameters.limit()?,
        cursor: parameters.text("cursor"),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
    role: Role,
    #[serde(default, deserialize_with = "moment")]
    expires: Option<DateTime<Utc>>,
    reason: String,
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let wrong = |_| {
        let remedy = "write for instance 2027-01-31T00:00:00Z";
        de::Error::custom(format!("{text:?} is no moment; {remedy}"))
    };
    text.parse().map(Some).map_err(wrong)
}

/// A token that was made: the only time that it is told.
#[derive(Debug, Serialize)]
struct Made<'m> {
    token: &'m str,
    #[serde(flatten)]
    view: &'m TokenView,
}

async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let Body { name, role, expires, reason } = match read(request, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let new = NewToken { name, role, expires, reason, actor: caller.actor };
    // What has begun is finished, whether or not the operator still waits.
    let task = trace::spawn(async move { app.create_token(&new).await });
    match task.await {
        Ok(Ok(MadeToken { token, view })) => {
            let made = Made { token: token.expose(), view: &view };
            reply::value(StatusCode::CREATED, &made, language)
        }
        Ok(Err(err)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a token was not made to the end");
            reply::internal(language)
        }
    }
}

async fn read(request: Request, language: Language) -> Result<Body, Box<Response>> {
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))
}

/// The reason is a parameter: a DELETE has no body that everybody lets through.
async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(token): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let language = language(&headers);
    let reason = match Parameters::read(&uri, &["reason"], language) {
        Ok(mut parameters) => parameters.text("reason").unwrap_or_default(),
        Err(refusal) => return *refusal,
    };
    let task = trace::spawn(async move { app.revoke_token(&token, &reason, &caller.actor).await });
    match task.await {
        Ok(Ok(view)) => reply::value(StatusCode::OK, &view, language),
        Ok(Err(err)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "a token was not revoked to the end");
            reply::internal(language)
        }
    }
}

fn failed(language: Language, err: &TokensError) -> Response {
    let with = |code| Problem::new(code, language, err.to_string());
    let plain = match err {
        TokensError::Store(store) => return reply::store_failed(language, store),
        TokensError::Page(page) => return reply::no_such_page(language, *page),
        TokensError::Name { .. } => with(Code::InvalidArgument).with_field("name"),
        TokensError::Expires { .. } => with(Code::InvalidArgument).with_field("expires"),
        TokensError::Length(text) => with(Code::InvalidArgument).with_field(text.field),
        TokensError::Taken { .. } => with(Code::Conflict).with_field("name"),
        TokensError::Full => with(Code::Conflict),
        TokensError::Unknown { .. } => with(Code::NotFound),
    };
    problem(language, plain)
}
