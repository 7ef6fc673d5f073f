//! Taking over the tables of billing-service: what is there, what would become of it, and, in `carry`, doing it.
//!
//! A plan is named by what was found and what must come of it. Only a plan that was shown can be carried out, and only as
//! long as the database is still what it says.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::mysql::MySqlConnection;

use crate::app::App;
use crate::store::predecessor::doubts::{self, Doubted, UnusableName};
use crate::store::predecessor::shape::{self, Column, Shape, UnknownShape};
use crate::store::predecessor::survey::{self, Found, Totals};
use crate::store::predecessor::takeover::{self, Takeover as Row};
use crate::store::predecessor::{ASIDE, Place, TABLES, tables};
use crate::store::retry::MayBeStore;
use crate::store::{self, Store, StoreError, column};

pub(in crate::app) mod carry;

/// What taking over would do, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// Its name.
    pub plan: String,
    /// `planned`, `begun` or `done`.
    pub state: String,
    /// Which version of billing-service the tables are of.
    pub generation: String,
    /// By what it was recognised.
    pub recognised_by: String,
    /// The currency that everything is taken to be in.
    pub currency: String,
    /// What stands in billing-service's tables.
    pub found: Found,
    /// What must be mended before anything is done.
    pub first: Vec<Note>,
    /// What will be done, in order.
    pub steps: Vec<TakeoverStep>,
    /// What means something else from then on.
    pub changes: Vec<Note>,
    /// What else to know.
    pub remarks: Vec<String>,
    /// What must stand in the tables afterwards.
    pub expected: Totals,
    /// What stands there, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Totals>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was done, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The statements that give billing-service its tables back as they were.
    pub way_back: Vec<String>,
}

/// A thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverStep {
    /// In words.
    pub what: String,
    /// How many rows it writes.
    pub rows: u64,
}

/// Rows of a kind, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The kind, for programs.
    pub id: String,
    /// How many rows.
    pub rows: u64,
    /// What to know about them.
    pub meaning: String,
    /// Some of them.
    pub examples: Vec<String>,
}

/// Why nothing can be taken over, or why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// There is nothing of the predecessor.
    #[error(
        "this database has no table {table} of billing-service; name its database in data.database.source, or begin an empty one with `farebox migrate`"
    )]
    NothingThere {
        /// The table.
        table: &'static str,
    },
    /// Farebox works on it already.
    #[error("this database is Farebox's already: nothing of billing-service is left to take over")]
    Ours,
    /// Columns that no generation has, or that are of several.
    #[error(
        "{0}; nothing was changed; correct the table, or name another database in data.database.source"
    )]
    Unknown(#[from] UnknownShape),
    /// A table stands in the way.
    #[error(
        "the table {table} stands beside those of billing-service, where a table of Farebox is to be made; nothing was changed; rename or drop it"
    )]
    InTheWay {
        /// The table.
        table: String,
    },
    /// The database is not what the plan says.
    #[error(
        "what was found is plan {found} now, not {given}; nothing was changed; is billing-service still running? Stop it, look at the plan again, and apply that one"
    )]
    Stale {
        /// The plan that was to be applied.
        given: String,
        /// The plan that could be.
        found: String,
    },
    /// Rows must be mended first.
    #[error(
        "{rows} rows must be mended first, see the plan; the first is {first}; nothing was changed"
    )]
    Blocked {
        /// How many.
        rows: u64,
        /// What and which.
        first: String,
    },
    /// Somebody wrote while the tables were set aside.
    #[error(
        "billing-service's tables changed while they were set aside ({difference}); they have their names again and nothing else was changed; stop billing-service, and plan again"
    )]
    Moved {
        /// What changed.
        difference: String,
    },
    /// Another plan is half carried out.
    #[error("plan {begun} is half carried out: finish it with --apply {begun}")]
    OtherPlan {
        /// That plan.
        begun: String,
    },
    /// It was done under another plan.
    #[error("this database was taken over under plan {done}")]
    DoneOtherwise {
        /// That plan.
        done: String,
    },
    /// Somebody else does it at this moment.
    #[error("another process takes this database over at this moment; wait for it")]
    Busy,
    /// What came of it is not what was planned.
    #[error(
        "the totals are not what was planned ({difference}); nothing may run on this database; billing-service's tables are untouched beside it, under names that begin with predecessor_; take the way back that the plan tells"
    )]
    Differs {
        /// The first difference.
        difference: String,
    },
    /// A rule of the books is broken.
    #[error(
        "a rule of the books does not hold: {first}; nothing may run on this database; take the way back that the plan tells"
    )]
    Unsound {
        /// The first violation.
        first: String,
    },
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for TakeoverError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

/// What is there.
enum Standing {
    /// The predecessor's tables, untouched.
    Theirs(Place),
    /// A takeover that broke off, with what the predecessor's columns are.
    Begun(Row, Vec<Column>),
    /// One that is done.
    Done(Row),
}

pub(in crate::app) async fn plan(app: &App) -> Result<Takeover, TakeoverError> {
    let mut connection = app.store.acquire().await?;
    match look(&mut connection).await? {
        Standing::Theirs(place) => {
            let mut tx = store::begin_snapshot(&mut connection).await?;
            let plan = survey(app, &mut tx, place).await;
            tx.rollback().await.map_err(StoreError::from)?;
            Ok(plan?)
        }
        Standing::Begun(row, _) => Ok(Takeover { state: "begun".to_owned(), ..read(&row)? }),
        Standing::Done(row) => Ok(read(&row)?),
    }
}

fn read(row: &Row) -> Result<Takeover, StoreError> {
    serde_json::from_str(&row.report_json).map_err(|_| StoreError::Corrupt {
        table: "predecessor_takeover",
        column: "report_json",
        key: row.plan.clone(),
    })
}

/// Tells what is there. The order of questions matters: a takeover that has begun explains everything else.
async fn look(connection: &mut MySqlConnection) -> Result<Standing, TakeoverError> {
    let columns = shape::columns(connection).await?;
    let has = |name: &str| columns.iter().any(|column| column.table == name);
    if has("predecessor_takeover")
        && let Some(row) = takeover::find(connection).await?
    {
        return Ok(match row.is_finished {
            true => Standing::Done(row),
            false => Standing::Begun(row, columns),
        });
    }
    if has("_sqlx_migrations") {
        return Err(TakeoverError::Ours);
    }
    for table in ["user_balance", "free_quota", "billing_record"] {
        if !has(table) {
            return Err(TakeoverError::NothingThere { table });
        }
    }
    let theirs: Vec<String> = TABLES.into_iter().map(|table| format!("{ASIDE}{table}")).collect();
    let ours = Store::own_tables().into_iter().filter(|table| !TABLES.contains(&table.as_str()));
    let mut reserved = ours.chain(theirs).chain([tables::NAMES.to_owned()]);
    if let Some(table) = reserved.find(|table| has(table)) {
        return Err(TakeoverError::InTheWay { table });
    }
    let shape = shape::recognise(&shape::theirs(&columns))?;
    Ok(Standing::Theirs(Place { shape, is_aside: false }))
}

/// The plan for the tables of a place, as a transaction sees them.
async fn survey(
    app: &App,
    connection: &mut MySqlConnection,
    place: Place,
) -> Result<Takeover, StoreError> {
    let shape = place.shape;
    let found = survey::found(connection, place).await?;
    let expected = survey::expected(connection, place).await?;
    let changes = doubts::find(connection, place, doubts::CHANGES).await?;
    let mut first = notes(doubts::find(connection, place, doubts::BLOCKERS).await?);
    first.extend(unusable(doubts::unusable_names(connection, place).await?));
    let currency = app.settings.currency.clone();
    Ok(Takeover {
        plan: name(&currency, shape, &found, &expected),
        state: "planned".to_owned(),
        generation: shape.generation.as_str().to_owned(),
        recognised_by: shape.generation.why().to_owned(),
        steps: steps(&found, &expected, shape),
        remarks: remarks(app, shape, &expected),
        currency,
        found,
        first,
        changes: notes(changes),
        expected,
        result: None,
        by: None,
        finished_at: None,
        way_back: tables::way_back(&Store::own_tables(), shape.has_orders),
    })
}

/// Twelve digits that no other database has.
fn name(currency: &str, shape: Shape, found: &Found, expected: &Totals) -> String {
    let text = column::json(&(currency, shape.generation.as_str(), found, expected));
    let digest = column::bytes_text(&Sha256::digest(text));
    digest.chars().take(12).collect()
}

fn notes(doubted: Vec<Doubted>) -> Vec<Note> {
    let note = |Doubted { doubt, rows, examples }: Doubted| Note {
        id: doubt.id.to_owned(),
        rows,
        meaning: doubt.meaning.to_owned(),
        examples,
    };
    doubted.into_iter().map(note).collect()
}

fn unusable(names: Vec<UnusableName>) -> Option<Note> {
    let example =
        |name: &UnusableName| format!("{}: {:?}: {}", name.table, name.name, name.problem);
    let rows = names.len() as u64;
    (rows != 0).then(|| Note {
        id: "name".to_owned(),
        rows,
        meaning: "names of users or services that nobody can have here: rename them in billing-service's tables, or remove their rows".to_owned(),
        examples: names.iter().take(20).map(example).collect(),
    })
}

fn steps(found: &Found, expected: &Totals, shape: Shape) -> Vec<TakeoverStep> {
    let step = |rows: u64, what: String| TakeoverStep { what, rows };
    let sum = |rows: &mut dyn Iterator<Item = u64>| rows.sum::<u64>();
    let quotas = sum(&mut found.quotas.iter().map(|quota| quota.rows)) + found.unlimited.rows;
    let merged = sum(&mut expected.quotas.iter().map(|quota| quota.rows));
    let records = sum(&mut expected.records.iter().map(|record| record.rows));
    let orders = sum(&mut expected.orders.iter().map(|order| order.rows));
    let tables = TABLES.into_iter().filter(|table| shape.has_orders || *table != "recharge_order");
    let aside: Vec<String> =
        tables.map(|table| format!("{table} becomes {ASIDE}{table}")).collect();
    vec![
        step(0, format!("set billing-service's tables aside, as they are: {}", aside.join(", "))),
        step(0, "compare their sums with those above, and stop when they moved".to_owned()),
        step(0, "make Farebox's tables".to_owned()),
        step(expected.accounts, format!(
            "make the accounts: balances {}, receivables {}, each with its opening entry in the ledger",
            expected.balance, expected.receivable
        )),
        step(merged, format!("make the free quotas, one per user, service and month, from {quotas} rows")),
        step(orders, "make the recharge orders".to_owned()),
        step(records, "copy the billing records".to_owned()),
        step(0, "sum up the records of this month and the last one, for statistics".to_owned()),
        step(0, "compare the sums in Farebox's tables with those that are planned, and check every rule of the books".to_owned()),
        step(1, "note it in the audit log".to_owned()),
    ]
}

fn remarks(app: &App, shape: Shape, expected: &Totals) -> Vec<String> {
    let currency = &app.settings.currency;
    let mut remarks = vec![format!(
        "billing-service stored no currency: all money is taken to be {currency}, as billing.currency says"
    )];
    if shape.generation.has_queue() {
        remarks.push("this version charged in Redis and told MySQL through RocketMQ; what is still on its way is in no table. Stop the gateway's calls, wait until the consumer group billing_deduct_group has no lag, stop billing-service, and only then apply".to_owned());
    }
    if !shape.has_orders {
        remarks.push("there is no table recharge_order: orders that Redis still has are imported by `farebox orders import-legacy`".to_owned());
    }
    let mut services: Vec<&str> =
        expected.quotas.iter().map(|quota| quota.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    let is_known =
        |service: &str| service.parse().is_ok_and(|service| app.settings.is_metered(&service));
    services.retain(|service| !is_known(service));
    if !services.is_empty() {
        remarks.push(format!(
            "there are free quotas of services that neither billing.prices nor billing.free_quotas names: {}; nobody can call them. If a service was renamed, its users begin this month's free quota anew",
            services.join(", ")
        ));
    }
    remarks
}
