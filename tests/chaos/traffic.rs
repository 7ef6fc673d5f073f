//! The clients: what they do is drawn from seeded dice, what they are told goes into the journal.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farebox_core::money::Nanos;
use farebox_tests::client::Call;
use farebox_tests::{Answer, Client};

use crate::catalog::{BUDGETED, Service, gateways_of};
use crate::journal::{Entry, Journal, Outcome};
use crate::plan::{Dice, STEADY};
use crate::site::Site;

mod asking;
mod money;

pub(crate) use asking::Asked;
pub(crate) use money::credit;

/// How long a client waits for an answer before it leaves.
const PATIENCE: Duration = Duration::from_secs(6);

/// How often a client sends the same again at once; then it goes on, and asks after the faults.
const REPEATS: usize = 3;

/// Between two operations of a client.
const THINK_MS: (u64, u64) = (5, 60);

/// One client of one user.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) site: Arc<Site>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) user: String,
    pub(crate) gateways: Vec<Client>,
    pub(crate) sidecars: Vec<Client>,
    /// What is not known yet, to be asked again.
    pub(crate) open: Vec<Asked>,
    orders: Vec<money::Order>,
    credits: Vec<(String, &'static str)>,
    dice: Dice,
}

impl Actor {
    /// A client with dice of its own.
    pub(crate) fn new(site: &Arc<Site>, journal: &Arc<Journal>, user: &str, dice: Dice) -> Self {
        Self {
            site: Arc::clone(site),
            journal: Arc::clone(journal),
            user: user.to_owned(),
            gateways: site.gateways.iter().map(|gateway| Client::http1(gateway.addr())).collect(),
            sidecars: site.sidecars.iter().map(|sidecar| sidecar.internal()).collect(),
            open: Vec::new(),
            orders: Vec::new(),
            credits: Vec::new(),
            dice,
        }
    }

    /// Does one thing after the other until told to stop.
    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Relaxed) {
            self.act().await;
            tokio::time::sleep(Duration::from_millis(self.dice.between(THINK_MS))).await;
        }
        self
    }

    async fn act(&mut self) {
        let gateways = gateways_of(&self.user);
        let gateway = gateways.start + self.dice.index(gateways.len());
        match self.dice.below(100) {
            0..=27 => self.call(Service::Coin, gateway, true).await,
            28..=33 => self.call(Service::Open, without_budget(gateway), true).await,
            34..=37 => self.call(Service::Grace, without_budget(gateway), true).await,
            38..=45 => self.call(Service::Duo, gateway, true).await,
            46..=55 => self.call(Service::Mixed, gateway, true).await,
            56..=61 => self.call(Service::Win, gateway, false).await,
            62..=63 => self.call(Service::Win, gateway, true).await,
            64..=72 => self.call(Service::Strict, gateway, true).await,
            73..=75 => self.call(Service::Sure, gateway, true).await,
            76..=77 => self.call(Service::Sure, gateway, false).await,
            78..=86 => self.deduct().await,
            87..=89 => self.deduct_and_refund().await,
            90..=92 => self.reserve().await,
            93..=96 => self.recharge(gateway).await,
            97..=98 => self.refund_order().await,
            _ => self.credit().await,
        }
    }

    /// A call through a gateway, whose upstream succeeds or fails.
    pub(crate) async fn call(&self, service: Service, gateway: usize, succeeds: bool) {
        let path =
            if succeeds { service.path() } else { format!("/{}/status/503", service.name()) };
        self.call_path(service, gateway, &path).await;
    }

    /// A call through a gateway; whether it was served.
    pub(crate) async fn call_path(&self, service: Service, gateway: usize, path: &str) -> bool {
        let (id, begun_ms) = (self.journal.number(), self.journal.now_ms());
        let call = self.gateways[gateway].get(path).user(&self.user);
        let answer = answered(call.header("x-call-id", &id.to_string())).await;
        let (outcome, told) = judge(service, answer.as_ref());
        self.journal.add(Entry {
            id,
            user: self.user.clone(),
            service,
            gateway: Some(gateway),
            units: 1,
            begun_ms,
            ended_ms: self.journal.now_ms(),
            outcome,
            told,
            status: answer.map_or(0, |answer| answer.status.as_u16()),
        });
        outcome == Outcome::Ok
    }
}

/// What may be allowed without a lease is called at gateways without a budget: beyond that both ways would meet in one call.
fn without_budget(gateway: usize) -> usize {
    if gateway == BUDGETED { STEADY } else { gateway }
}

/// The answer, unless it takes too long or breaks.
pub(super) async fn answered(call: Call) -> Option<Answer> {
    within(call.try_send()).await.and_then(Result::ok)
}

/// What comes in time.
pub(super) async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, work).await.ok()
}

/// What a gateway's answer says. Refusals of Farebox carry a number. Other errors come from Envoy or the upstream: whether
/// the call was charged by then is not known, unless it is of a route that charges for success.
fn judge(service: Service, answer: Option<&Answer>) -> (Outcome, Option<Nanos>) {
    let Some(answer) = answer else { return (Outcome::Unknown, None) };
    if answer.status.is_success() {
        return (Outcome::Ok, answer.header("x-farebox-charge").parse().ok());
    }
    let is_known = answer.code() != 0 || service.is_for_success();
    (if is_known { Outcome::Refused } else { Outcome::Unknown }, None)
}
