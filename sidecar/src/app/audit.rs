//! What operators did: the audit log as they read it.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike as _, Utc};
use farebox_core::id::AccountId;
use serde::Serialize;
use serde_json::Value;

use crate::app::page::{self, PageError, Place as _};
use crate::app::{App, rfc3339};
use crate::store::StoreError;
use crate::store::audit_log::{self, Line, Selection};

/// Which actions a page has.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// About this account or one of its orders only.
    pub account: Option<AccountId>,
    /// Done by this operator only.
    pub by: Option<String>,
    /// Done at this moment or later.
    pub since: Option<DateTime<Utc>>,
    /// How many at most, 1 to 200; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One action of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AuditView {
    /// Its number; later actions have larger ones.
    pub id: i64,
    /// When.
    pub at: String,
    /// Who.
    pub by: String,
    /// What: `account.credit`, `order.refund`.
    pub action: String,
    /// The account, order or other thing it was done to.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// What stood there before.
    pub before: Value,
    /// What stands there since.
    pub after: Value,
}

/// Actions, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AuditPage {
    /// The actions.
    pub actions: Vec<AuditView>,
    /// What to ask for to see older ones; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why actions cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No such page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A moment that the database has no date for.
    #[error("since is in the year {year}; write a year from 1970 to 9999")]
    Since {
        /// The year.
        year: i32,
    },
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The years that the database has dates for, as far as an action can be in them.
const YEARS: RangeInclusive<i32> = 1970..=9999;

pub(super) async fn page(app: &App, filter: &AuditFilter) -> Result<AuditPage, AuditError> {
    let limit = page::limit(filter.limit)?;
    if let Some(year) = filter.since.map(|since| since.year()).filter(|year| !YEARS.contains(year))
    {
        return Err(AuditError::Since { year });
    }
    let before = page::after(filter.cursor.as_deref())?;
    let AuditFilter { account, by, since, .. } = filter;
    let selection =
        Selection { account: account.as_ref(), actor: by.as_deref(), since: *since, before };
    let mut connection = app.store.acquire().await?;
    let listed = audit_log::list(&mut connection, &selection, limit).await?;
    let actions = listed.rows.into_iter().map(view).collect();
    Ok(AuditPage { actions, next_cursor: listed.end.map(|id| id.to_text()) })
}

fn view(line: Line) -> AuditView {
    AuditView {
        id: line.id,
        at: rfc3339(line.created_at),
        by: line.actor,
        action: line.action,
        subject: line.subject,
        reason: line.reason,
        before: value(line.before_json),
        after: value(line.after_json),
    }
}

/// What a column holds; text that is no JSON is shown as it is.
fn value(json: String) -> Value {
    serde_json::from_str(&json).unwrap_or(Value::String(json))
}
