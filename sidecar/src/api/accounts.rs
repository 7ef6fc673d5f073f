//! Many accounts in one request, for operators and for services. Each name stands for itself: one that is wrong or unknown
//! hides no other.

use axum::http::StatusCode;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::id::AccountId;
use farebox_core::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Limit, Malformed};
use super::reply;
use crate::app::{AccountStanding, App, Found};

/// The most accounts of one request.
const ACCOUNTS_MAX: usize = 1_000;

/// The largest body: names of 128 bytes, and as much for how they may be written.
pub(super) const BODY: Limit =
    Limit { bytes: 256 * 1_024, remedy: "ask for fewer accounts at a time" };

/// What is said of one name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Item<T: ToSchema> {
    /// What the HTTP status would be, were it alone.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    result: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<Problem>,
}

/// What is said of each name, in the order of the names.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Results<T: ToSchema> {
    results: Vec<Item<T>>,
}

/// Looks names up, which stand in this field of the request, and says of each what was found, in order. `view` is what
/// these callers see of an account.
pub(super) async fn answer<T: Serialize + ToSchema>(
    app: &App,
    names: Vec<String>,
    field: &str,
    language: Language,
    view: impl Fn(AccountStanding) -> T,
) -> Response {
    if !(1..=ACCOUNTS_MAX).contains(&names.len()) {
        let detail = format!("{field} has {} names; write 1 to {ACCOUNTS_MAX}", names.len());
        return Malformed::new(field, detail).into_response(language);
    }
    let parsed: Vec<Result<AccountId, Problem>> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            name.parse().map_err(|err| {
                let field = format!("{field}[{index}]");
                Malformed::new(&field, format!("{field}: {err}")).into_problem(language)
            })
        })
        .collect();
    let accounts: Vec<AccountId> = parsed.iter().flatten().cloned().collect();
    let found = match accounts.is_empty() {
        true => Vec::new(),
        false => match app.find_accounts(&accounts).await {
            Ok(found) => found,
            Err(err) => return reply::store_failed(language, &err),
        },
    };
    let mut found = found.into_iter();
    let results = parsed.into_iter().map(|name| match name {
        Ok(account) => told(&account, found.next().unwrap_or(Found::Nothing), language, &view),
        Err(problem) => unmet(problem),
    });
    reply::value(StatusCode::OK, &Results { results: results.collect() }, language)
}

fn told<T: ToSchema>(
    account: &AccountId,
    found: Found,
    language: Language,
    view: impl Fn(AccountStanding) -> T,
) -> Item<T> {
    match found {
        Found::Account(standing) => {
            let status = StatusCode::OK.as_u16();
            Item { status, result: Some(view(*standing)), problem: None }
        }
        Found::Nothing => unmet(Problem::new(Code::NotFound, language, no_account(account))),
        Found::Unreadable => unmet(reply::internal_problem(language)),
    }
}

fn unmet<T: ToSchema>(problem: Problem) -> Item<T> {
    Item { status: problem.status, result: None, problem: Some(problem) }
}

/// What is said of a name that no account has.
pub(super) fn no_account(account: &AccountId) -> String {
    format!("there is no account {account}; it begins with its first call or credit")
}
