//! `/admin/v1/accounts` and `/admin/v1/adjustments`: every account's money, and changes of it by hand.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use farebox_core::problem::Problem;
use serde::{Deserialize, Serialize};
use utoipa_axum::routes;

use crate::api::accounts;
use crate::api::accounts::Results;
use crate::api::amount::Amount;
use crate::api::body::{self, Limit};
use crate::api::document::{Key, PageOf, Routes};
use crate::api::key;
use crate::api::query::Parameters;
use crate::api::reply::{self, language, problem};
use crate::app::{
    AccountFilter, AccountPage, AccountStanding, AccountView, AccountsError, App, Caller, Credit,
    CreditError, CreditOutcome,
};
use crate::trace;

/// The largest body.
const LIMIT: Limit = Limit { bytes: 16 * 1_024, remedy: "send the adjustment alone" };

/// How long looking may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Routes<App> {
    Routes::new()
        .add(routes!(list), &[Code::InvalidArgument])
        .add(routes!(show), &[Code::InvalidArgument, Code::NotFound])
        .add(routes!(find), &[Code::InvalidArgument])
        .add(routes!(adjust), &[Code::InvalidArgument, Code::Conflict])
}

/// Lists accounts in the order of their names
#[utoipa::path(get, path = "/admin/v1/accounts", operation_id = "listAccounts", tag = "accounts",
    params(("prefix" = Option<AccountId>, Query, description = "Those whose names begin so."), PageOf),
    responses((status = 200, description = "A page of accounts", body = AccountPage)))]
async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let filter = match filter(&uri, language) {
        Ok(filter) => filter,
        Err(refusal) => return *refusal,
    };
    match tokio::time::timeout(TIMEOUT, app.accounts(&filter)).await {
        Ok(Ok(page)) => reply::value(StatusCode::OK, &page, language),
        Ok(Err(AccountsError::Store(err))) => reply::store_failed(language, &err),
        Ok(Err(AccountsError::Page(err))) => reply::no_such_page(language, err),
        Err(_) => reply::late(language),
    }
}

fn filter(uri: &Uri, language: Language) -> Result<AccountFilter, Box<Response>> {
    let mut parameters = Parameters::read(uri, &["prefix", "limit", "cursor"], language)?;
    Ok(AccountFilter {
        prefix: parameters.value("prefix")?,
        limit: parameters.limit()?,
        cursor: parameters.text("cursor"),
    })
}

/// Shows an account
///
/// Balance, what gateways hold, free quotas, newest records.
#[utoipa::path(get, path = "/admin/v1/accounts/{account}", operation_id = "showAccount", tag = "accounts",
    params(("account" = AccountId, Path, description = "Whose account.")),
    responses((status = 200, description = "The account", body = AccountView)))]
async fn show(State(app): State<App>, Path(account): Path<String>, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let account = match named(&account, language) {
        Ok(account) => account,
        Err(refusal) => return *refusal,
    };
    match tokio::time::timeout(TIMEOUT, app.account(&account)).await {
        Ok(Ok(Some(view))) => reply::value(StatusCode::OK, &view, language),
        Ok(Ok(None)) => {
            let detail = accounts::no_account(&account);
            problem(language, Problem::new(Code::NotFound, language, detail))
        }
        Ok(Err(err)) => reply::store_failed(language, &err),
        Err(_) => reply::late(language),
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AccountNames)]
struct Names {
    /// Whose accounts.
    #[schema(min_items = 1, max_items = 1000)]
    accounts: Vec<String>,
}

/// Shows many accounts
///
/// Each name stands for itself: one that is wrong or unknown hides no other.
#[utoipa::path(post, path = "/admin/v1/accounts:batch", operation_id = "findAccounts", tag = "accounts",
    request_body = Names,
    responses((status = 200, description = "What was found, in the order of the names", body = Results<AccountStanding>)))]
async fn find(State(app): State<App>, request: Request) -> Response {
    let language = language(request.headers());
    let (head, body) = request.into_parts();
    let body = match body::read(&head.headers, body, accounts::BODY, language).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let names = match body::parse::<Names>(&body) {
        Ok(Names { accounts }) => accounts,
        Err(malformed) => return malformed.into_response(language),
    };
    let answer = accounts::answer(&app, names, "accounts", language, |standing| standing);
    match tokio::time::timeout(TIMEOUT, answer).await {
        Ok(response) => response,
        Err(_) => reply::late(language),
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Adjustment)]
struct Body {
    /// Whose account; one that does not exist yet begins.
    account: AccountId,
    /// What to add, or with a minus to take.
    amount: Amount,
    /// Why, for the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// What an adjustment led to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Adjusted<'a> {
    account: &'a AccountId,
    amount: Nanos,
    /// Whether the key was used before, so that nothing changed this time.
    replayed: bool,
    /// Whether the account began with it.
    new_account: bool,
    #[serde(flatten)]
    outcome: &'a CreditOutcome,
}

/// Adds money to an account, or takes some
///
/// No more is taken than no lease holds. With the same key only once.
#[utoipa::path(post, path = "/admin/v1/adjustments", operation_id = "adjustAccount", tag = "accounts", params(Key),
    request_body = Body, responses((status = 200, description = "What it led to", body = Adjusted)))]
async fn adjust(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let language = language(request.headers());
    let credit = match read(request, caller, language).await {
        Ok(credit) => credit,
        Err(refusal) => return *refusal,
    };
    // What has begun is finished, whether or not the operator still waits.
    let task = trace::spawn(async move { (app.credit(&credit).await, credit) });
    match task.await {
        Ok((Ok(outcome), Credit { account, amount, .. })) => {
            let CreditOutcome { replayed, new_account, .. } = outcome;
            let (account, outcome) = (&account, &outcome);
            let adjusted = Adjusted { account, amount, replayed, new_account, outcome };
            reply::value(StatusCode::OK, &adjusted, language)
        }
        Ok((Err(err), _)) => failed(language, &err),
        Err(err) => {
            tracing::error!(error = %err, "an adjustment was not finished");
            reply::internal(language)
        }
    }
}

async fn read(
    request: Request,
    caller: Caller,
    language: Language,
) -> Result<Credit, Box<Response>> {
    let (head, body) = request.into_parts();
    let key = key::idempotency_key(&head.headers, language)?;
    let body = body::read(&head.headers, body, LIMIT, language).await?;
    let Body { account, amount, reason } =
        body::parse(&body).map_err(|malformed| Box::new(malformed.into_response(language)))?;
    Ok(Credit { account, amount: amount.0, reason, key, actor: caller.actor })
}

fn failed(language: Language, err: &CreditError) -> Response {
    let with = |code| Problem::new(code, language, err.to_string());
    let plain = match err {
        CreditError::Store(store) => return reply::store_failed(language, store),
        CreditError::Zero | CreditError::OutOfRange { .. } => {
            with(Code::InvalidArgument).with_field("amount")
        }
        CreditError::Length(text) => with(Code::InvalidArgument).with_field(text.field),
        CreditError::Conflict { .. } => with(Code::Conflict).with_field(key::IDEMPOTENCY_KEY),
        CreditError::Insufficient { .. } => with(Code::Conflict).with_field("amount"),
    };
    problem(language, plain)
}

/// The account that a path names.
pub(super) fn named(text: &str, language: Language) -> Result<AccountId, Box<Response>> {
    text.parse().map_err(|err| Box::new(invalid(language, "account", &format!("{err}"))))
}

pub(super) fn invalid(language: Language, field: &str, detail: &str) -> Response {
    let plain = Problem::new(Code::InvalidArgument, language, detail.to_owned());
    problem(language, plain.with_field(field))
}
