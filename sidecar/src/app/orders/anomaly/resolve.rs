//! What people decide about news that did not fit, once.
//!
//! A payment that is credited by hand is marked before anybody looks whether an order has it, and news names an order's payment
//! before it looks for the mark (`settle.rs`): whichever comes second sees the other one, so no payment is credited by both ways.

use farebox_core::id::AccountId;
use farebox_core::order::State;
use serde_json::json;
use sqlx::mysql::MySqlConnection;

use super::action::{self, Action, Paid};
use super::view::{AnomalyView, view};
use crate::app::App;
use crate::app::credit::{self, Credit, CreditError};
use crate::app::texts::{self, LengthError};
use crate::metrics::{self, BalanceUpdate};
use crate::store::audit_log::{self, AuditLine};
use crate::store::column::OnCorrupt;
use crate::store::payment_anomaly::{self, Anomaly, NewResolution, Resolved};
use crate::store::recharge_order::{self, Order};
use crate::store::retry::{MayBeStore, retry};
use crate::store::{self, StoreError, user_balance};

/// A decision about news that did not fit.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// Which news.
    pub anomaly: i64,
    /// What is done.
    pub action: Action,
    /// Whom to credit, where there is no order that says it.
    pub account: Option<AccountId>,
    /// Why, for the audit log.
    pub reason: String,
    /// Who decides, for the audit log.
    pub actor: String,
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No such anomaly.
    #[error("there is no anomaly {anomaly}; farebox anomalies list tells numbers")]
    Unknown {
        /// What was named.
        anomaly: i64,
    },
    /// Somebody has decided otherwise.
    #[error("anomaly {anomaly} was resolved by {by} already: {action}")]
    Resolved {
        /// Which.
        anomaly: i64,
        /// Who decided.
        by: String,
        /// What.
        action: String,
    },
    /// Not for this news.
    #[error("{action} does not fit anomaly {anomaly} ({kind}, {status}); write one of {possible}")]
    Action {
        /// Which.
        anomaly: i64,
        /// What was asked for.
        action: Action,
        /// What did not fit.
        kind: String,
        /// What the news said.
        status: String,
        /// What may be done.
        possible: String,
    },
    /// The order says whom to credit, or nobody does.
    #[error("account {remedy}")]
    Account {
        /// What to write.
        remedy: String,
    },
    /// The account has another currency.
    #[error(
        "the payment is in {paid}, and {account} is kept in {kept}; credit by hand what it is worth, then dismiss it"
    )]
    Currency {
        /// Of the payment.
        paid: String,
        /// Whose account.
        account: AccountId,
        /// Of the account.
        kept: String,
    },
    /// The money has come to an account already, or will.
    #[error("payment {payment} {by}; nothing more is owed for it")]
    Counted {
        /// The payment.
        payment: String,
        /// What counts it.
        by: String,
    },
    /// The credit is not possible.
    #[error(transparent)]
    Credit(CreditError),
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for ResolveError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) | Self::Credit(CreditError::Store(err)) => Ok(err),
            other => Err(other),
        }
    }
}

/// What the audit log calls it.
const RESOLVE: &str = "anomaly.resolve";

pub(in crate::app) async fn run(
    app: &App,
    resolution: &Resolution,
) -> Result<AnomalyView, ResolveError> {
    texts::check(RESOLVE, &resolution.reason, &resolution.actor)?;
    let (view, credited) = retry("resolve an anomaly", || async {
        let mut tx = app.store.begin().await?;
        let outcome = once(&mut tx, app, resolution).await;
        store::finish(tx, outcome).await
    })
    .await?;
    metrics::balance_updated(BalanceUpdate::Adjustment, u64::from(credited));
    Ok(view)
}

/// The anomaly as it is now, and whether an account was credited.
async fn once(
    tx: &mut MySqlConnection,
    app: &App,
    resolution: &Resolution,
) -> Result<(AnomalyView, bool), ResolveError> {
    let id = resolution.anomaly;
    let unknown = || ResolveError::Unknown { anomaly: id };
    // News locks an order, then what did not fit it: so does this.
    let named = payment_anomaly::find(tx, id).await?.ok_or_else(unknown)?;
    let order = recharge_order::lock(tx, &named.order_id).await?;
    let anomaly = payment_anomaly::lock(tx, id).await?.ok_or_else(unknown)?;
    let account = whom(resolution, order.as_ref())?;
    if let Some(resolved) = &anomaly.resolved {
        same_decision(resolution, resolved, account.as_ref())?;
        return Ok((view(anomaly), false));
    }
    let before = view(anomaly.clone());
    if !before.actions.contains(&resolution.action) {
        return Err(not_possible(&before, resolution.action));
    }
    decide(tx, resolution, &anomaly, account.as_ref()).await?;
    if let Some(account) = &account {
        pay(tx, app, resolution, &anomaly, account).await?;
    }
    let after = view(payment_anomaly::find(tx, id).await?.ok_or_else(unknown)?);
    note(tx, resolution, &before, &after).await?;
    Ok((after, account.is_some()))
}

/// Whether this is what was decided before.
fn same_decision(
    resolution: &Resolution,
    resolved: &Resolved,
    account: Option<&AccountId>,
) -> Result<(), ResolveError> {
    let Resolved { action, by, .. } = resolved;
    let is_same = action == resolution.action.as_str()
        && resolved.account.as_deref() == account.map(AccountId::as_str);
    if is_same {
        return Ok(());
    }
    let (anomaly, by, action) = (resolution.anomaly, by.clone(), action.clone());
    Err(ResolveError::Resolved { anomaly, by, action })
}

/// Writes the decision; the payment of one to credit is marked.
async fn decide(
    tx: &mut MySqlConnection,
    resolution: &Resolution,
    anomaly: &Anomaly,
    account: Option<&AccountId>,
) -> Result<(), ResolveError> {
    let Resolution { action, reason, actor, .. } = resolution;
    let new = NewResolution {
        action: action.as_str(),
        reason,
        actor,
        account,
        credited_payment: account.map(|_| anomaly.payment_id.as_str()),
    };
    if payment_anomaly::resolve(tx, anomaly.id, &new).await? {
        return Ok(());
    }
    let by = "was credited by hand for another anomaly".to_owned();
    Err(ResolveError::Counted { payment: anomaly.payment_id.clone(), by })
}

async fn note(
    tx: &mut MySqlConnection,
    resolution: &Resolution,
    before: &AnomalyView,
    after: &AnomalyView,
) -> Result<(), StoreError> {
    let told = |view: &AnomalyView| {
        let AnomalyView { id, state, resolution, .. } = view;
        json!({ "anomaly": id, "state": state, "resolution": resolution }).to_string()
    };
    let line = AuditLine {
        actor: &resolution.actor,
        action: RESOLVE,
        subject: &after.order_id,
        reason: &resolution.reason,
        before_json: told(before),
        after_json: told(after),
    };
    audit_log::insert(tx, line).await
}

/// Whose account is credited; nobody's unless the action is to credit.
fn whom(resolution: &Resolution, order: Option<&Order>) -> Result<Option<AccountId>, ResolveError> {
    let refuse = |remedy: String| Err(ResolveError::Account { remedy });
    match (resolution.action, order, &resolution.account) {
        (Action::Credit, Some(order), Some(other)) if order.account != *other => {
            let theirs = &order.account;
            refuse(format!("is {other}, and the order is {theirs}'s; leave it out"))
        }
        (Action::Credit, Some(order), _) => Ok(Some(order.account.clone())),
        (Action::Credit, None, Some(account)) => Ok(Some(account.clone())),
        (Action::Credit, None, None) => {
            refuse("is missing, and no order says whom to credit; name the account".to_owned())
        }
        (action, _, Some(_)) => {
            refuse(format!("is named, and {action} credits nobody; leave it out"))
        }
        (_, _, None) => Ok(None),
    }
}

fn not_possible(anomaly: &AnomalyView, action: Action) -> ResolveError {
    let possible: Vec<&str> = anomaly.actions.iter().map(|action| action.as_str()).collect();
    ResolveError::Action {
        anomaly: anomaly.id,
        action,
        kind: anomaly.kind.clone(),
        status: anomaly.found["status"].as_str().unwrap_or_default().to_owned(),
        possible: possible.join(", "),
    }
}

/// Credits what was paid, unless an order counts it.
async fn pay(
    tx: &mut MySqlConnection,
    app: &App,
    resolution: &Resolution,
    anomaly: &Anomaly,
    account: &AccountId,
) -> Result<(), ResolveError> {
    let found = serde_json::from_str(&anomaly.found_json).unwrap_or_default();
    let paid = action::paid(&found).ok_or(StoreError::Corrupt {
        table: "payment_anomaly",
        column: "found_json",
        key: anomaly.id.to_string(),
    })?;
    let payment = &anomaly.payment_id;
    if let Some(order) = recharge_order::lock_by_payment(tx, payment).await? {
        let is_counted = match order.state {
            State::Paid | State::PartlyRefunded | State::Refunded => true,
            // News of it finds that the payment was credited by hand.
            State::Pending | State::Failed | State::Closed => order.order_id != anomaly.order_id,
        };
        if is_counted {
            let by = format!("is that of order {} ({})", order.order_id, order.state);
            return Err(ResolveError::Counted { payment: payment.clone(), by });
        }
    }
    same_currency(tx, app, account, paid).await?;
    let credit = Credit {
        account: account.clone(),
        amount: paid.amount,
        reason: resolution.reason.clone(),
        key: format!("anomaly:{}", anomaly.id),
        actor: resolution.actor.clone(),
    };
    credit::once(tx, app, &credit).await.map_err(ResolveError::Credit)?;
    Ok(())
}

async fn same_currency(
    tx: &mut MySqlConnection,
    app: &App,
    account: &AccountId,
    paid: Paid<'_>,
) -> Result<(), ResolveError> {
    let rows = user_balance::find_all(tx, &[account], OnCorrupt::Fail).await?;
    let kept = rows.first().map_or(app.settings.currency.as_str(), |row| row.currency.as_str());
    if kept.eq_ignore_ascii_case(paid.currency) {
        return Ok(());
    }
    let (paid, account, kept) = (paid.currency.to_owned(), account.clone(), kept.to_owned());
    Err(ResolveError::Currency { paid, account, kept })
}
