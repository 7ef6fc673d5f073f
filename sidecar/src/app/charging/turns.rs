//! Runs the queue: many accounts share a transaction, an account has one transaction at a time.
//!
//! A request that finds nothing running goes at once. While transactions run, further ones are gathered, for at most a
//! millisecond or until a turn is full. An account that somebody else has locked holds nobody up: it leaves its turn and
//! goes alone from then on, for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use farebox_core::id::AccountId;

use super::queue::{Queue, Taken};
use super::round::{Decided, Locking};
use super::ticket::Ticket;
use super::transaction::{self, Concluded, Fences};
use super::{CallError, Outcome, Request, alone};
use crate::app::App;
use crate::app::contention::Contention;
use crate::metrics::{self, Shed};
use crate::trace::{self, Origin};

/// The most requests that one transaction decides.
const TURN_MAX: usize = 256;

/// How long requests are gathered while transactions run.
const GATHER: Duration = Duration::from_millis(1);

/// The part of the database's connections that turns of many accounts may have at once, and turns of one account likewise.
const CONNECTIONS_PART: u32 = 4;

/// The part of the database's connections that checks may have at once. Beside it, and beside that of callbacks, some are
/// left for what gateways report, whatever others ask.
const CHECKS_PART: u32 = 8;

/// How long an account that was found locked by somebody else has turns of its own.
const CONTENDED_FOR: Duration = Duration::from_secs(5);

/// The most accounts that may be in turns of their own at once; most of them wait for their lock.
const ALONE_MAX: usize = 32;

/// When a request that waits for units of gateways is decided again: about the time that they need to give them back.
const RECALLED: Duration = Duration::from_millis(50);

/// What a request is answered.
pub(super) type Answer = Result<Outcome, CallError>;

/// A request in line.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) request: Request,
    pub(super) account: AccountId,
    pub(super) arrived: Instant,
    /// When nobody waits for the answer any more.
    pub(super) deadline: Instant,
    /// Until when it waits for units that gateways hold unused.
    pub(super) patient_until: Instant,
    pub(super) ticket: Arc<Ticket>,
    pub(super) answer: oneshot::Sender<Answer>,
    /// Whose trace it belongs to.
    pub(super) origin: Origin,
}

impl Item {
    fn reply(self, answer: Answer) {
        // The sender may have stopped waiting; what was decided stands under its key.
        let _ = self.answer.send(answer);
    }
}

/// The queue and what runs of it.
#[derive(Debug)]
pub(in crate::app) struct Turns {
    state: Mutex<State>,
    /// Turns of many accounts that may run at once.
    shared_max: usize,
    /// Transactions of turns of one account.
    pub(super) alone: Semaphore,
    /// Checks that read the database.
    pub(in crate::app) checks: Semaphore,
}

#[derive(Debug)]
struct State {
    queue: Queue<Item>,
    shared: usize,
    alone: usize,
    /// Whether somebody will start a turn within [`GATHER`].
    gathering: bool,
    contention: Contention,
}

/// A turn that runs. However it ends, its accounts may have their next one afterwards.
struct Turn<'a> {
    app: &'a App,
    accounts: Vec<AccountId>,
    is_shared: bool,
}

impl Turns {
    /// Turns on a pool of this many connections.
    pub(in crate::app) fn new(connections: u32) -> Self {
        let part = usize::try_from((connections / CONNECTIONS_PART).max(1)).unwrap_or(1);
        let checks = usize::try_from((connections / CHECKS_PART).max(1)).unwrap_or(1);
        let (alone, checks) = (Semaphore::new(part), Semaphore::new(checks));
        let contention = Contention::new(CONTENDED_FOR);
        let state =
            State { queue: Queue::default(), shared: 0, alone: 0, gathering: false, contention };
        Self { state: Mutex::new(state), shared_max: part, alone, checks }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next turn of many accounts that may run now.
    fn next_shared(&self) -> Option<Taken<Item>> {
        let (now, state) = (Instant::now(), &mut *self.state());
        if self.shared_max <= state.shared {
            return None;
        }
        let fits = |account: &AccountId| !state.contention.is_contended(account, now);
        let taken = state.queue.take(TURN_MAX, fits);
        state.shared += usize::from(!taken.is_empty());
        (!taken.is_empty()).then_some(taken)
    }

    /// The next turn of one account that may run now.
    fn next_alone(&self) -> Option<(AccountId, Vec<Item>)> {
        let (now, state) = (Instant::now(), &mut *self.state());
        if ALONE_MAX <= state.alone {
            return None;
        }
        let fits = |account: &AccountId| state.contention.is_contended(account, now);
        let taken = state.queue.take_one(TURN_MAX, fits)?;
        state.alone += 1;
        Some(taken)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        {
            let state = &mut *self.app.turns.state();
            let running = if self.is_shared { &mut state.shared } else { &mut state.alone };
            *running -= 1;
            for account in &self.accounts {
                state.queue.finish(account);
            }
        }
        start(self.app);
    }
}

impl Turn<'_> {
    /// Lets the next turn of these accounts begin when gateways may have given units back; until then their requests wait in
    /// their order.
    fn pause(&mut self, accounts: BTreeSet<AccountId>) {
        if accounts.is_empty() {
            return;
        }
        self.accounts.retain(|account| !accounts.contains(account));
        let app = self.app.clone();
        tokio::spawn(async move {
            sleep(RECALLED).await;
            {
                let state = &mut *app.turns.state();
                accounts.iter().for_each(|account| state.queue.finish(account));
            }
            start(&app);
        });
    }
}

/// Puts requests in line, in their order. Each is answered through its channel, or turned away at once.
pub(super) fn submit(app: &App, items: Vec<Item>) {
    let is_first = {
        let state = &mut *app.turns.state();
        for item in items {
            let account = item.account.clone();
            match state.queue.room_for(&account) {
                Ok(()) => state.queue.push(&account, item),
                Err(full) => {
                    metrics::shed(Shed::Calls);
                    item.reply(Err(CallError::Overloaded { count: full.count }));
                }
            }
        }
        let is_busy = 0 < state.shared && state.queue.len() < TURN_MAX;
        if is_busy { Some(!std::mem::replace(&mut state.gathering, true)) } else { None }
    };
    match is_first {
        None => start(app),
        // The first one that waits starts the turn of all that wait by then.
        Some(true) => start_soon(app.clone()),
        Some(false) => {}
    }
}

fn start_soon(app: App) {
    tokio::spawn(async move {
        sleep(GATHER).await;
        app.turns.state().gathering = false;
        start(&app);
    });
}

/// Starts every turn that may run.
fn start(app: &App) {
    while let Some(taken) = app.turns.next_shared() {
        let items = taken.iter().flat_map(|(_, items)| items);
        let span = trace::turn(items.map(|item| &item.origin));
        tokio::spawn(run_shared(app.clone(), taken).instrument(span));
    }
    while let Some((account, items)) = app.turns.next_alone() {
        let span = trace::turn(items.iter().map(|item| &item.origin));
        tokio::spawn(run_alone(app.clone(), account, items).instrument(span));
    }
    metrics::deduct_queue(app.turns.state().queue.len());
}

async fn run_shared(app: App, taken: Taken<Item>) {
    let (accounts, items): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
    let mut turn = Turn { app: &app, accounts, is_shared: true };
    let items = in_time(items.into_iter().flatten().collect());
    let concluded = transaction::conclude(&app, items, Locking::Free, &Fences::new()).await;
    turn.pause(answer(&app, concluded));
}

async fn run_alone(app: App, account: AccountId, items: Vec<Item>) {
    let mut turn = Turn { app: &app, accounts: vec![account.clone()], is_shared: false };
    let concluded = alone::run(&app, &account, items).await;
    turn.pause(answer(&app, concluded));
}

/// The requests whose senders still wait; the others were not had in time.
pub(super) fn in_time(items: Vec<Item>) -> Vec<Item> {
    let now = Instant::now();
    let is_late = |item: &Item| item.deadline <= now && item.ticket.give_up();
    let (late, waiting): (Vec<_>, Vec<_>) = items.into_iter().partition(is_late);
    late.into_iter().for_each(|item| item.reply(Err(CallError::Busy)));
    waiting
}

/// Answers what was decided; the rest goes back to its place. The accounts that wait for units of gateways.
fn answer(app: &App, concluded: Concluded) -> BTreeSet<AccountId> {
    let now = Instant::now();
    let mut recalled = BTreeSet::new();
    let mut again: BTreeMap<AccountId, Vec<Item>> = BTreeMap::new();
    let mut changed = BTreeSet::new();
    for (item, decided) in concluded {
        observe(app, &item, &decided);
        match decided {
            // Its sender has been told.
            Ok(Decided::GivenUp) => {}
            Ok(Decided::Answer(outcome)) => {
                changed.insert(item.account.clone());
                item.reply(Ok(outcome));
            }
            Ok(Decided::Known(outcome)) => item.reply(Ok(outcome)),
            Ok(Decided::Failed(err)) | Err(err) => item.reply(Err(err)),
            Ok(Decided::Recalled)
                if item.patient_until.min(item.deadline) <= now + RECALLED
                    && item.ticket.give_up() =>
            {
                item.reply(Err(CallError::Busy));
            }
            Ok(Decided::Recalled) => {
                recalled.insert(item.account.clone());
                again.entry(item.account.clone()).or_default().push(item);
            }
            Ok(Decided::Locked) => {
                app.turns.state().contention.note(&item.account, now);
                again.entry(item.account.clone()).or_default().push(item);
            }
            Ok(Decided::Outrun { .. } | Decided::NextRound) => {
                again.entry(item.account.clone()).or_default().push(item)
            }
        }
    }
    forget_hints(app, changed);
    let state = &mut *app.turns.state();
    for (account, items) in again {
        state.queue.put_back(&account, items);
    }
    recalled
}

/// Measures a deduct whose turn is over, however it ended. What it charged is counted with its transaction.
fn observe(app: &App, item: &Item, decided: &Result<Decided, CallError>) {
    let Request::Deduct(request) = &item.request else { return };
    if decided.as_ref().is_ok_and(|decided| !decided.is_final()) {
        return;
    }
    let service = app.services.label(&request.service);
    if let Ok(Decided::Answer(Outcome::Refused(refusal))) = decided {
        metrics::refused(refusal.code);
    }
    metrics::deduct_duration(&service, item.arrived.elapsed());
}

/// What checks were told is over. Nobody waits for it: a hint ends by itself within a second.
fn forget_hints(app: &App, accounts: BTreeSet<AccountId>) {
    if app.cache.is_off() || accounts.is_empty() {
        return;
    }
    let (cache, accounts): (_, Vec<_>) = (app.cache.clone(), accounts.into_iter().collect());
    tokio::spawn(async move { cache.drop_hints(&accounts).await });
}
