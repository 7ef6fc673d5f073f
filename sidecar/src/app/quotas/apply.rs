//! A changed configuration for the month that has begun: totals of rows that are in use already. Rows that come into use later
//! take what is in force then by themselves.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::{AccountId, ServiceName};

use super::given;
use crate::app::App;
use crate::app::books::{Books, Create, NewTotal, new_total};
use crate::app::texts::{self, LengthError};
use crate::calendar::Month;
use crate::store::audit_log::{self, AuditLine};
use crate::store::column::OnCorrupt;
use crate::store::free_quota::QuotaKey;
use crate::store::free_quota::total::{self, Given};
use crate::store::retry::{MayBeStore, retry};
use crate::store::user_balance::list;
use crate::store::{self, StoreError};

/// The most accounts that one transaction locks.
const ACCOUNTS_PER_ROUND: usize = 200;

/// Which rows are to follow the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaFilter {
    /// Of this service only.
    pub service: Option<ServiceName>,
    /// Of this account only.
    pub account: Option<AccountId>,
}

/// What follows, or would follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct QuotaChanges {
    /// `YYYY-MM`: the current month.
    pub month: String,
    /// By service, in order of their names; those of which nothing changes are there as well.
    pub services: Vec<ServiceQuotaChanges>,
}

/// What changes of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ServiceQuotaChanges {
    /// What is metered.
    pub service: ServiceName,
    /// Units per account and month, as configured.
    pub total: u64,
    /// Accounts that get more.
    pub raised: u64,
    /// Accounts that get less.
    pub lowered: u64,
    /// Of these, accounts that have used or hold more than that already: they keep so much.
    pub above: u64,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum QuotasError {
    /// A service that calls are refused for.
    #[error(
        "service is {service}: farebox.yaml names no such service; correct the name, or add it to billing.free_quotas first"
    )]
    Unknown {
        /// As it was named.
        service: ServiceName,
    },
    /// An account that has no row.
    #[error("there is no account {account}; it begins with its first call or credit")]
    NoAccount {
        /// As it was named.
        account: AccountId,
    },
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for QuotasError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

/// What the changes come to.
struct Count<'a> {
    month: String,
    given: Vec<Given<'a>>,
    services: BTreeMap<ServiceName, ServiceQuotaChanges>,
}

impl<'a> Count<'a> {
    async fn new(app: &'a App, filter: &QuotaFilter) -> Result<Self, QuotasError> {
        let wanted = |service: &ServiceName| filter.service.as_ref().is_none_or(|it| it == service);
        let given: Vec<Given<'a>> = given(&app.settings)
            .into_iter()
            .filter(|(service, _)| wanted(service))
            .map(|(service, total)| Given { service, total })
            .collect();
        if let (Some(service), true) = (&filter.service, given.is_empty()) {
            return Err(QuotasError::Unknown { service: service.clone() });
        }
        let none = |given: &Given<'_>| ServiceQuotaChanges {
            service: given.service.clone(),
            total: given.total,
            raised: 0,
            lowered: 0,
            above: 0,
        };
        let services = given.iter().map(|given| (given.service.clone(), none(given))).collect();
        let now = store::now(&mut *app.store.acquire().await?).await?;
        Ok(Self { month: Month::at(now, app.settings.time_zone).text, given, services })
    }

    fn add(&mut self, changes: &[Changed]) {
        for Changed { key, new } in changes {
            let Some(service) = self.services.get_mut(&key.service) else { continue };
            service.raised += u64::from(new.before < new.after);
            service.lowered += u64::from(new.after < new.before);
            service.above += u64::from(new.is_cut_short);
        }
    }

    fn told(self) -> QuotaChanges {
        QuotaChanges { month: self.month, services: self.services.into_values().collect() }
    }
}

/// A row whose total changes.
struct Changed {
    key: QuotaKey,
    new: NewTotal,
}

/// What a change would come to.
pub(in crate::app) async fn plan(
    app: &App,
    filter: &QuotaFilter,
) -> Result<QuotaChanges, QuotasError> {
    let mut count = Count::new(app, filter).await?;
    let mut pages = Pages::new(filter);
    let mut connection = app.store.acquire().await?;
    while let Some(accounts) = pages.next(&mut connection).await? {
        let rows = total::differing(&mut connection, &accounts, &count.given, &count.month).await?;
        let changes = rows.into_iter().filter_map(|row| {
            let given = count.given.iter().find(|given| *given.service == row.key.service)?;
            Some(Changed { new: new_total(&row, given.total)?, key: row.key })
        });
        let changes: Vec<Changed> = changes.collect();
        count.add(&changes);
    }
    Ok(count.told())
}

/// Makes the change; what changed. Made again, it changes nothing but rows that have used and hold less by now.
pub(in crate::app) async fn apply(
    app: &App,
    filter: &QuotaFilter,
    reason: &str,
    actor: &str,
) -> Result<QuotaChanges, QuotasError> {
    texts::check("quotas", reason, actor)?;
    let mut count = Count::new(app, filter).await?;
    let mut pages = Pages::new(filter);
    loop {
        let page = pages.next(&mut *app.store.acquire().await?).await?;
        let Some(accounts) = page else { return Ok(count.told()) };
        let changes = retry("apply quotas", || async {
            let mut tx = app.store.begin().await?;
            let outcome = round(app, &mut tx, &accounts, &count, reason, actor).await;
            store::finish(tx, outcome).await
        })
        .await?;
        count.add(&changes);
    }
}

/// Accounts in the order of their names, some at a time.
struct Pages<'f> {
    account: Option<&'f AccountId>,
    after: Option<String>,
}

impl<'f> Pages<'f> {
    fn new(filter: &'f QuotaFilter) -> Self {
        Self { account: filter.account.as_ref(), after: Some(String::new()) }
    }

    async fn next(
        &mut self,
        connection: &mut MySqlConnection,
    ) -> Result<Option<Vec<String>>, QuotasError> {
        let Some(after) = self.after.take() else { return Ok(None) };
        if let Some(account) = self.account {
            let exists = store::user_balance::find(connection, account).await?.is_some();
            return match exists {
                true => Ok(Some(vec![account.to_string()])),
                false => Err(QuotasError::NoAccount { account: account.clone() }),
            };
        }
        let names = list::names(connection, &after, ACCOUNTS_PER_ROUND).await?;
        self.after = names.last().filter(|_| names.len() == ACCOUNTS_PER_ROUND).cloned();
        Ok(Some(names))
    }
}

/// Decides on rows that are locked, and writes them with a line of the audit log for each account.
async fn round(
    app: &App,
    tx: &mut MySqlConnection,
    accounts: &[String],
    count: &Count<'_>,
    reason: &str,
    actor: &str,
) -> Result<Vec<Changed>, StoreError> {
    let rows = total::differing(tx, accounts, &count.given, &count.month).await?;
    let keys: BTreeSet<QuotaKey> = rows.into_iter().map(|row| row.key).collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let owners = keys.iter().map(|key| key.account.clone()).collect();
    let mut books = Books::lock(tx, &owners, &app.settings, Create::No, OnCorrupt::Skip).await?;
    books.load_quotas(tx, &keys).await?;
    let mut changes = Vec::new();
    for key in keys {
        let given = count.given.iter().find(|given| *given.service == key.service);
        let Some(given) = given.filter(|_| books.has(&key.account)) else { continue };
        if let Some(new) = books.set_total(&key, given.total)? {
            changes.push(Changed { key, new });
        }
    }
    note(tx, &changes, &count.month, reason, actor).await?;
    books.store(tx).await?;
    Ok(changes)
}

async fn note(
    tx: &mut MySqlConnection,
    changes: &[Changed],
    month: &str,
    reason: &str,
    actor: &str,
) -> Result<(), StoreError> {
    // In the order of the keys, so those of an account stand together.
    for of_account in changes.chunk_by(|one, next| one.key.account == next.key.account) {
        let Some(first) = of_account.first() else { continue };
        let totals = |pick: fn(&NewTotal) -> u64| {
            let totals: BTreeMap<&ServiceName, u64> =
                of_account.iter().map(|change| (&change.key.service, pick(&change.new))).collect();
            serde_json::json!({ "month": month, "free_quotas": totals }).to_string()
        };
        let line = AuditLine {
            actor,
            action: "quotas.apply",
            subject: first.key.account.as_str(),
            reason,
            before_json: totals(|new| new.before),
            after_json: totals(|new| new.after),
        };
        audit_log::insert(tx, line).await?;
    }
    Ok(())
}
