//! Calls that are charged one by one: check, deduct, reserve, commit, release, refund.
//!
//! | file | what it does |
//! |---|---|
//! | `request.rs` | what a request's key is, and what it stands for |
//! | `queue.rs` | requests wait in a line per account (pure) |
//! | `ticket.rs` | whether a request can still be given up |
//! | `turns.rs` | takes many accounts from the queue at once, and answers |
//! | `alone.rs` | an account that others lock too has turns of its own |
//! | `transaction.rs` | one round, one transaction |
//! | `round.rs`, `round/` | decides requests in memory: the rules (pure but for loading and storing) |
//! | `check.rs`, `hint.rs` | tells what a deduct would come to; says yes from what it told a moment ago |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use farebox_core::call::{
    CommitReply, CommitRequest, DeductReply, DeductRequest, RefundReply, RefundRequest,
    ReleaseReply, ReleaseRequest, ReserveReply, ReserveRequest, Shortfall,
};
use farebox_core::code::Code;
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::wire::FieldError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

pub(super) use self::request::SCOPES;
pub(super) use self::turns::Turns;

use self::request::Owner;
use self::ticket::Ticket;
use self::turns::{Answer, Item};
use crate::app::App;
use crate::store::{StoreError, billing_record, reservation};
use crate::trace::Origin;

mod alone;
pub(super) mod check;
mod hint;
mod queue;
mod request;
mod round;
mod ticket;
mod transaction;
mod turns;

/// A request that its key makes safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Charge a call.
    Deduct(DeductRequest),
    /// Set units or money aside.
    Reserve(ReserveRequest),
    /// Charge what was set aside.
    Commit(CommitRequest),
    /// Give it back.
    Release(ReleaseRequest),
    /// Give a charge back.
    Refund(RefundRequest),
}

/// What was decided, kept under the request's key and answered to every repetition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Charged.
    Deducted(DeductReply),
    /// Set aside.
    Reserved(ReserveReply),
    /// Charged from what was set aside.
    Committed(CommitReply),
    /// Given back.
    Released(ReleaseReply),
    /// Given back after it was charged.
    Refunded(RefundReply),
    /// Not covered, or not metered; nothing was charged.
    Refused(Refusal),
    /// Undone before it arrived: nothing was charged, and never will be under this key.
    Cancelled,
}

/// A refusal, as it is kept: the text is written in the language of whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// 190102, 190104, 190202 or 190205.
    pub code: u32,
    /// What there is and what it takes.
    pub shortfall: Shortfall,
}

impl Refusal {
    /// The code as the catalogue has it.
    pub fn code(&self) -> Code {
        Code::from_number(self.code).unwrap_or(Code::InsufficientBalance)
    }
}

/// Why a request was not decided. Nothing was charged and nothing is kept under its key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// A bound is broken.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// Neither priced nor free (check only: a deduct's refusal is kept).
    #[error(
        "{service} has neither a price nor a free quota; name a service of billing.prices or billing.free_quotas"
    )]
    UnknownService {
        /// Which.
        service: ServiceName,
    },
    /// The key was used for another content.
    #[error("key {key:?} was used for another request; give this one a key of its own")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// Nothing has this id.
    #[error("no {what} has the id {id:?}")]
    NotFound {
        /// `reservation` or `billing record`.
        what: &'static str,
        /// What was named.
        id: String,
    },
    /// What the request is about has ended in another way; the text says how.
    #[error("{problem}")]
    Ended {
        /// How.
        problem: String,
    },
    /// The account's lock, or units that gateways hold unused, did not come in time.
    #[error("the account is busy: other requests or gateways hold it; send the same request again")]
    Busy,
    /// Too many requests wait, for this account or in all.
    #[error("{count} requests wait already; send the same request again")]
    Overloaded {
        /// The bound that is reached.
        count: usize,
    },
    /// Its turn broke off; the same request tells what became of it.
    #[error("the request was not finished; send the same request again")]
    Unfinished,
    /// The database's fault; requests that were decided together share it.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

/// Decides requests; one answer each, in order. Those of one account are decided in their order.
pub(super) async fn run(app: &App, requests: Vec<Request>, deadline: Instant) -> Vec<Answer> {
    let owners = match Owners::find(app, &requests).await {
        Ok(owners) => owners,
        Err(err) => {
            let err = CallError::Store(Arc::new(err));
            return requests.iter().map(|_| Err(err.clone())).collect();
        }
    };
    let (mut items, mut answers) = (Vec::new(), Vec::new());
    for request in requests {
        answers.push(match owners.of(&request) {
            Ok(account) => {
                let (answer, answered) = oneshot::channel();
                let ticket = Arc::new(Ticket::default());
                let arrived = Instant::now();
                let patience = request.wait_ms().map(Duration::from_millis);
                let patient_until = patience.map_or(deadline, |patience| arrived + patience);
                let kept = ticket.clone();
                items.push(Item {
                    request,
                    account,
                    arrived,
                    deadline,
                    patient_until,
                    ticket,
                    answer,
                    origin: Origin::here(),
                });
                Ok((kept, answered))
            }
            Err(err) => Err(err),
        });
    }
    turns::submit(app, items);
    let mut told = Vec::with_capacity(answers.len());
    for answer in answers {
        told.push(match answer {
            Ok((ticket, answered)) => in_time(&ticket, answered, deadline).await,
            Err(err) => Err(err),
        });
    }
    told
}

/// The answer, if it comes in time. What a transaction is deciding by then is waited for.
async fn in_time(
    ticket: &Ticket,
    mut answered: oneshot::Receiver<Answer>,
    deadline: Instant,
) -> Answer {
    let answer = match timeout_at(deadline, &mut answered).await {
        Ok(answer) => answer,
        Err(_) if ticket.give_up() => return Err(CallError::Busy),
        Err(_) => answered.await,
    };
    answer.unwrap_or(Err(CallError::Unfinished))
}

/// Whose reservations and records requests are about.
struct Owners {
    of_reservations: BTreeMap<String, AccountId>,
    of_records: BTreeMap<String, AccountId>,
}

impl Owners {
    async fn find(app: &App, requests: &[Request]) -> Result<Self, StoreError> {
        let (mut reservations, mut records) = (Vec::new(), Vec::new());
        for request in requests {
            match request.owner() {
                Owner::Named(_) => {}
                Owner::OfReservation(id) => reservations.push(id),
                Owner::OfRecord(id) => records.push(id),
            }
        }
        let (mut of_reservations, mut of_records) = (BTreeMap::new(), BTreeMap::new());
        if !reservations.is_empty() || !records.is_empty() {
            let mut connection = app.store.acquire().await?;
            of_reservations.extend(reservation::accounts(&mut connection, &reservations).await?);
            of_records.extend(billing_record::accounts(&mut connection, &records).await?);
        }
        Ok(Self { of_reservations, of_records })
    }

    fn of(&self, request: &Request) -> Result<AccountId, CallError> {
        let (what, id, found) = match request.owner() {
            Owner::Named(account) => return Ok(account.clone()),
            Owner::OfReservation(id) => ("reservation", id, self.of_reservations.get(id)),
            Owner::OfRecord(id) => ("billing record", id, self.of_records.get(id)),
        };
        found.cloned().ok_or_else(|| CallError::NotFound { what, id: id.to_owned() })
    }
}
