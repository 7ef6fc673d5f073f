//! Carries a plan out. Killed at any moment, it goes on where it was when it is run again.
//!
//! The predecessor's tables are set aside first, whole, and only read from then on. Ours are made anew beside them, so
//! whatever breaks off can be thrown away and made again; what is done is noted in the transaction that does it.

use serde::Serialize;
use sqlx::mysql::MySqlConnection;

use super::{Standing, Takeover, TakeoverError, look, read, survey};
use crate::app::{App, rfc3339};
use crate::store::audit_log::{self, AuditLine};
use crate::store::predecessor::shape::{self, Column};
use crate::store::predecessor::survey::{self as sums, Sum, Totals};
use crate::store::predecessor::takeover::{self, Step, Takeover as Row};
use crate::store::predecessor::{Place, copy, tables};
use crate::store::retry::retry;
use crate::store::{self, Store, StoreError, Tx, column};

pub(in crate::app) async fn run(
    app: &App,
    plan: &str,
    actor: &str,
) -> Result<Takeover, TakeoverError> {
    let mut desk = app.store.schema_connection().await?;
    if !takeover::lock(&mut desk).await? {
        return Err(TakeoverError::Busy);
    }
    match look(&mut desk).await? {
        Standing::Done(row) if row.plan == plan => return Ok(read(&row)?),
        Standing::Done(row) => return Err(TakeoverError::DoneOtherwise { done: row.plan }),
        Standing::Begun(row, _) if row.plan != plan => {
            return Err(TakeoverError::OtherPlan { begun: row.plan });
        }
        Standing::Begun(..) => {}
        Standing::Theirs(place) => begin(app, &mut desk, place, plan).await?,
    }
    let Standing::Begun(row, columns) = look(&mut desk).await? else {
        return Err(TakeoverError::Busy);
    };
    let shape = shape::recognise(&shape::theirs(&columns))?;
    let place = Place { shape, is_aside: true };
    if row.step < Step::SetAside {
        set_aside(app, &mut desk, place, &row, &columns).await?;
    }
    if row.step < Step::Made {
        make(app, &mut desk).await?;
    }
    copy_rows(app, place, &row).await?;
    end(app, &mut desk, &row, actor).await
}

/// Writes the plan down, if it is still what would be planned.
async fn begin(
    app: &App,
    desk: &mut MySqlConnection,
    place: Place,
    given: &str,
) -> Result<(), TakeoverError> {
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let plan = survey(app, &mut tx, place).await;
    tx.rollback().await.map_err(StoreError::from)?;
    let plan = plan?;
    if plan.plan != given {
        return Err(TakeoverError::Stale { given: given.to_owned(), found: plan.plan });
    }
    if let Some(first) = plan.first.first() {
        let rows = plan.first.iter().map(|note| note.rows).sum();
        let example = first.examples.first().map_or("", String::as_str);
        return Err(TakeoverError::Blocked { rows, first: format!("{} ({example})", first.id) });
    }
    takeover::create(desk).await?;
    takeover::begin(desk, &plan.plan, &column::json(&plan)).await?;
    Ok(())
}

/// Sets the predecessor's tables aside, and requires that they are what the plan says: from now on nobody writes them.
async fn set_aside(
    app: &App,
    desk: &mut MySqlConnection,
    place: Place,
    row: &Row,
    columns: &[Column],
) -> Result<(), TakeoverError> {
    tables::set_aside(desk, columns).await?;
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let now = survey(app, &mut tx, place).await;
    tx.rollback().await.map_err(StoreError::from)?;
    let (planned, now) = (read(row)?, now?);
    if now.plan != planned.plan {
        let difference = planned
            .expected
            .difference(&now.expected)
            .unwrap_or_else(|| "rows that change no sum".to_owned());
        let columns = shape::columns(desk).await?;
        tables::put_back(desk, &columns).await?;
        takeover::forget(desk).await?;
        return Err(TakeoverError::Moved { difference });
    }
    in_transaction(app, Step::SetAside, async |_| Ok(())).await
}

/// Makes our tables. They hold nothing until this step is done, so those of an earlier attempt go first.
async fn make(app: &App, desk: &mut MySqlConnection) -> Result<(), TakeoverError> {
    tables::remove_ours(desk, &Store::own_tables()).await?;
    app.store.apply_migrations().await?;
    tables::make_names(desk).await?;
    in_transaction(app, Step::Made, async |_| Ok(())).await
}

async fn copy_rows(app: &App, place: Place, row: &Row) -> Result<(), TakeoverError> {
    let currency = app.settings.currency.as_str();
    if row.step < Step::Accounts {
        in_transaction(app, Step::Accounts, async |tx| copy::accounts(tx, place, currency).await)
            .await?;
    }
    if row.step < Step::Quotas {
        in_transaction(app, Step::Quotas, async |tx| copy::quotas(tx, place).await).await?;
    }
    if row.step < Step::Orders {
        in_transaction(app, Step::Orders, async |tx| copy::orders(tx, place, currency).await)
            .await?;
    }
    if row.step < Step::Records {
        let mut copied_to = row.copied_to.clone();
        while let Some(last) = some_records(app, place, copied_to.as_deref()).await? {
            copied_to = Some(last);
        }
        in_transaction(app, Step::Records, async |_| Ok(())).await?;
    }
    Ok(())
}

async fn some_records(
    app: &App,
    place: Place,
    after: Option<&str>,
) -> Result<Option<String>, StoreError> {
    retry("copy records", || async {
        let mut tx = app.store.begin().await?;
        let outcome = async {
            let last = copy::records(&mut tx, place, after).await?;
            if let Some(last) = &last {
                takeover::copied(&mut tx, after, last).await?;
            }
            Ok(last)
        }
        .await;
        store::finish(tx, outcome).await
    })
    .await
}

/// Does a step and notes that it is done, both or neither.
async fn in_transaction(
    app: &App,
    step: Step,
    work: impl AsyncFn(&mut Tx) -> Result<(), StoreError>,
) -> Result<(), TakeoverError> {
    let done = retry("take over", || async {
        let mut tx = app.store.begin().await?;
        let outcome = async {
            work(&mut tx).await?;
            takeover::advance(&mut tx, step).await
        }
        .await;
        store::finish(tx, outcome).await
    })
    .await;
    Ok(done?)
}

/// Statistics, then the proof, then the last word.
async fn end(
    app: &App,
    desk: &mut MySqlConnection,
    row: &Row,
    actor: &str,
) -> Result<Takeover, TakeoverError> {
    app.begin_statistics().await?;
    let planned = read(row)?;
    let result = sums::ours(desk).await?;
    if let Some(difference) = planned.expected.difference(&result) {
        return Err(TakeoverError::Differs { difference });
    }
    let violations = app.invariants().await?.into_iter().flat_map(|invariant| invariant.violations);
    if let Some(first) = violations.into_iter().next() {
        return Err(TakeoverError::Unsound { first });
    }
    tables::remove_names(desk).await?;
    Ok(retry("finish a takeover", || finish(app, &planned, &result, actor)).await?)
}

/// What the books began with.
#[derive(Debug, Serialize)]
struct Opened {
    accounts: u64,
    balance: Sum,
    receivable: Sum,
}

async fn finish(
    app: &App,
    planned: &Takeover,
    result: &Totals,
    actor: &str,
) -> Result<Takeover, StoreError> {
    let mut tx = app.store.begin().await?;
    let outcome = async {
        let done = Takeover {
            state: "done".to_owned(),
            result: Some(result.clone()),
            by: Some(actor.to_owned()),
            finished_at: Some(rfc3339(store::now(&mut tx).await?)),
            ..planned.clone()
        };
        takeover::finish(&mut tx, &column::json(&done)).await?;
        let line = AuditLine {
            actor,
            action: "migrate.from_predecessor",
            subject: &done.plan,
            reason: "the tables of billing-service were taken over",
            // The whole report stands in predecessor_takeover.
            before_json: column::json(&done.found.accounts),
            after_json: column::json(&Opened {
                accounts: result.accounts,
                balance: result.balance,
                receivable: result.receivable,
            }),
        };
        audit_log::insert(&mut tx, line).await?;
        Ok(done)
    }
    .await;
    store::finish(tx, outcome).await
}
