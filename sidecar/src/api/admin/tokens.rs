//! `/admin/v1/tokens`: operators' tokens are made, listed and revoked.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use utoipa_axum::routes;

use crate::api::body::{self, Limit};
use crate::api::document::{PageOf, Routes};
use crate::api::query::Parameters;
use crate::api::reply::{self, language, problem};
use crate::app::{
    App, Caller, MadeToken, NewToken, Role, TokenFilter, TokenPage, TokenView, TokensError,
};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send one token's description alone" };

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    Routes::new()
        .add(routes!(list), &[Code::InvalidArgument])
        .add(routes!(create), &[Code::InvalidArgument, Code::Conflict])
        .add(routes!(revoke), &[Code::InvalidArgument, Code::NotFound])
}

/// Lists operators' tokens, newest first
///
/// Everything but the tokens themselves.
#[utoipa::path(get, path = "/admin/v1/tokens", operation_id = "listTokens", tag = "tokens",
    params(("revoked" = Option<bool>, Query, description = "Revoked ones too."), PageOf),
    responses((status = 200, description = "A page of tokens", body = TokenPage)))]
async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let filter = match filter(&uri, language) {
        Ok(filter) => filter,
        Err(refusal) => return *refusal,
    };
    match tokio::time::timeout(TIMEOUT, app.tokens(&filter)).await {
        Ok(Ok(page)) => reply::value(StatusCode::OK, &page, language),
        Ok(Err(err)) => failed(language, &err),
        Err(_) => reply::late(language),
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

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
struct Body {
    /// Whose it is; unique among those that are not revoked. Not twelve hexadecimal digits, which is how ids look.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    name: String,
    /// What it lets its owner do.
    role: Role,
    /// From when on it lets nobody in; never, when it is not said.
    #[serde(default, deserialize_with = "moment")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2027-12-31T00:00:00Z")]
    expires: Option<DateTime<Utc>>,
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
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
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = MadeToken)]
struct Made<'m> {
    /// What its owner shows: `Authorization: Bearer …`.
    token: &'m str,
    #[serde(flatten)]
    view: &'m TokenView,
}

/// Makes a token
///
/// The token itself is told once, in the reply; the database has its hash alone.
#[utoipa::path(post, path = "/admin/v1/tokens", operation_id = "createToken", tag = "tokens", request_body = Body,
    responses((status = 201, description = "The token", body = Made)))]
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

/// Takes a token away
///
/// It lets nobody in after a second, at any sidecar. Done again, it changes nothing.
// The reason is a parameter: a DELETE has no body that everybody lets through.
#[utoipa::path(delete, path = "/admin/v1/tokens/{token}", operation_id = "revokeToken", tag = "tokens",
    params(("token" = String, Path, description = "The token's name or id."),
        ("reason" = String, Query, description = "Why, for the audit log.", min_length = 1, max_length = 1000)),
    responses((status = 200, description = "The token as it stands now", body = TokenView)))]
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
