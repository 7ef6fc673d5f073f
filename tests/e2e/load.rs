//! Calls that keep coming while gateways are drained, restarted and configured anew, and what became of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farebox_core::money::Nanos;
use farebox_tests::{Client, Stack, eventually};
use futures_util::future::join_all;

/// Callers of each user; each has one call at a time.
pub(crate) const CALLERS: usize = 6;

/// What a caller does between two calls: some hundred calls per second in all, so that two seconds of traffic are a lease
/// and not the whole balance.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a caller waits for an answer: longer than a call may wait for units.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an account begins with: more than any test spends, at this price per call.
const FUNDS: &str = "1000";
const PRICE: &str = "0.001";

/// One kind of calls, made by a user of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) path: &'static str,
    pub(crate) user: &'static str,
    /// A call that was not served costs nothing.
    pub(crate) charged_on_success: bool,
}

/// What the callers of one user heard.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) by_status: BTreeMap<u16, u64>,
    /// Calls whose connection broke, or that got no answer: nobody knows whether they were served.
    pub(crate) broken: u64,
}

impl Heard {
    /// Every call was answered, and with success.
    pub(crate) fn is_flawless(&self) -> bool {
        self.broken == 0 && self.by_status.keys().all(|status| *status == 200)
    }
}

/// Callers that keep calling until they are told to stop, through gateways that may change meanwhile.
#[derive(Debug)]
pub(crate) struct Load {
    gateways: Mutex<Vec<Client>>,
    stops: AtomicBool,
}

impl Load {
    pub(crate) fn on(gateways: Vec<Client>) -> Self {
        Self { gateways: Mutex::new(gateways), stops: AtomicBool::new(false) }
    }

    /// Sends new calls through these gateways alone, as a load balancer does.
    pub(crate) fn move_to(&self, gateways: Vec<Client>) {
        *self.gateways.lock().unwrap() = gateways;
    }

    pub(crate) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
    }

    /// Calls until it is stopped; what each user heard, in their order.
    pub(crate) async fn run(&self, kinds: &[Calls]) -> Vec<Heard> {
        join_all(kinds.iter().map(|calls| self.run_one(*calls))).await
    }

    async fn run_one(&self, calls: Calls) -> Heard {
        let callers = join_all((0..CALLERS).map(|number| self.caller(calls, number))).await;
        let mut all = Heard::default();
        for heard in callers {
            all.broken += heard.broken;
            for (status, count) in heard.by_status {
                *all.by_status.entry(status).or_default() += count;
            }
        }
        all
    }

    async fn caller(&self, Calls { path, user, .. }: Calls, number: usize) -> Heard {
        let mut heard = Heard::default();
        let mut turn = number;
        while !self.stops.load(Ordering::Relaxed) {
            let client = {
                let gateways = self.gateways.lock().unwrap();
                gateways[turn % gateways.len()].clone()
            };
            turn += 1;
            let call = client.get(path).user(user).try_send();
            match tokio::time::timeout(PATIENCE, call).await {
                Ok(Ok(answer)) => *heard.by_status.entry(answer.status.as_u16()).or_default() += 1,
                Ok(Err(_)) | Err(_) => heard.broken += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
        heard
    }
}

/// Gives each user the money for the test.
pub(crate) fn fund(stack: &Stack, kinds: &[Calls]) {
    for calls in kinds {
        stack.credit(calls.user, FUNDS);
    }
}

/// Waits until so many calls of this user have been served from now on.
pub(crate) async fn flows(stack: &Stack, user: &str) {
    let before = stack.upstream.served(user);
    eventually!(before + 50 < stack.upstream.served(user), "calls of {user} are served");
}

/// How many calls the account has paid for.
pub(crate) fn charged(stack: &Stack, user: &str) -> u64 {
    let nanos = |text: &str| text.parse::<Nanos>().unwrap();
    let spent = nanos(FUNDS).checked_sub(nanos(&stack.account(user).balance)).unwrap();
    u64::try_from(spent.get() / nanos(PRICE).get()).unwrap()
}

/// Waits until nothing is set aside for anybody, and every call that was served is charged exactly once.
pub(crate) async fn even(stack: &Stack, calls: Calls, heard: &Heard) {
    let user = calls.user;
    let served = stack.upstream.served(user);
    eventually!(
        charged(stack, user) == served && stack.account(user).held == "0",
        "{user}: {served} were served, {} charged; the callers heard {heard:?}; {:?}",
        charged(stack, user),
        stack.account(user)
    );
    assert_eq!(stack.account(user).receivable, "0");
    stack.invariants();
}

/// Waits until nothing is set aside for anybody, and what is charged is what the callers were served, with nothing more than
/// calls that broke; of these, where success is charged, none that did not reach the service.
pub(crate) async fn at_rest(stack: &Stack, calls: Calls, heard: &Heard) {
    let user = calls.user;
    let known = heard.by_status.get(&200).copied().unwrap_or(0);
    let served = stack.upstream.served(user);
    let most = known + heard.broken;
    let possible = known..=if calls.charged_on_success { most.min(served) } else { most };
    eventually!(
        possible.contains(&charged(stack, user)) && stack.account(user).held == "0",
        "{user}: {possible:?} may be charged, {} are; {served} were served; {:?}",
        charged(stack, user),
        stack.account(user)
    );
    stack.invariants();
}
