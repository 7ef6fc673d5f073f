//! Five times what the sidecar takes: it turns away what is too much, stays small, serves gateways meanwhile, and is well again
//! when it is over; what was answered with a charge is charged once, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::time::{Duration, Instant};

use farebox_core::call::DEDUCT_PATH;
use farebox_tests::{Answer, Client, Plan, Stack, run};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::load::{Calls, Load, at_rest, fund};
use crate::plugin_with_rules;

/// How long too much is asked, in seconds, unless `FAREBOX_TEST_OVERLOAD_S` says so.
const OVERLOAD_S: u64 = 5;

/// How many times as much is asked as was taken.
const TIMES: usize = 5;

/// Requests in one message. So asking costs little beside answering.
const BATCH: usize = 100;

/// Whose calls are asked about, and by how many connections.
const USERS: usize = 20;
const CONNECTIONS: usize = 16;

const PERIOD: Duration = Duration::from_millis(20);

/// What the sidecar and the gateway may grow by, and by how much in the second half.
const GROWTH_MAX: u64 = 200 << 20;
const LATE_GROWTH_MAX: u64 = 50 << 20;

/// When a normal call must be served again.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// Callers at the gateway meanwhile: one user whose calls are decided in Envoy, one whose calls the sidecar decides.
const LEASE: Calls = Calls { path: "/coin/x", user: "steady", charged_on_success: false };
const STRICT: Calls = Calls { path: "/strict/x", user: "careful", charged_on_success: true };

fn plan() -> Plan {
    let plugin = plugin_with_rules(&[
        json!({ "prefix": "/coin/", "service": "coin" }),
        json!({ "prefix": "/strict/", "service": "coin", "mode": "strict" }),
    ]);
    Plan::reference().plugin(plugin).prices(&[("coin", "0.001")]).free_quotas(&[]).workers(2)
}

fn user(number: usize) -> String {
    format!("asked-{}", number % USERS)
}

/// What became of requests, by their keys.
#[derive(Debug, Default)]
struct Outcomes {
    /// Their billing records.
    charged: BTreeMap<usize, String>,
    /// Nothing was done, and the sender was told so.
    refused: BTreeSet<usize>,
    /// Nobody said.
    unknown: BTreeSet<usize>,
}

impl Outcomes {
    fn add(&mut self, other: Self) {
        self.charged.extend(other.charged);
        self.refused.extend(other.refused);
        self.unknown.extend(other.unknown);
    }

    /// A refusal is one that the documentation knows: overloaded, or the account is busy. Unavailable may be anything.
    fn note_problem(&mut self, key: usize, problem: &Value) {
        match problem["code"].as_u64() {
            Some(100_303 | 190_402) => self.refused.insert(key),
            Some(100_202) => self.unknown.insert(key),
            _ => panic!("{key}: {problem}"),
        };
    }
}

/// Asks for the charges of these keys in one message.
async fn ask(client: Client, keys: Vec<usize>) -> Outcomes {
    let item = |key: &usize| {
        json!({
            "idempotency_key": format!("over-{key}"), "user_id": user(*key), "service": "coin", "count": 1,
        })
    };
    let items: Vec<Value> = keys.iter().map(item).collect();
    let answer = client.ask(DEDUCT_PATH, &json!({ "items": items })).try_send().await;
    let mut outcomes = Outcomes::default();
    let Ok(answer) = answer else {
        outcomes.unknown.extend(keys);
        return outcomes;
    };
    if answer.status != 200 {
        assert_turned_away(&answer);
        keys.iter().for_each(|key| outcomes.note_problem(*key, &answer.json()));
        return outcomes;
    }
    let results = answer.json();
    for (key, result) in keys.iter().zip(results["results"].as_array().unwrap()) {
        match result["result"]["record_id"].as_str() {
            Some(record) => drop(outcomes.charged.insert(*key, record.to_owned())),
            None => outcomes.note_problem(*key, &result["problem"]),
        }
    }
    outcomes
}

/// The documented refusal: 503, a problem document, and when to come again.
fn assert_turned_away(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(answer.header("retry-after").parse::<u64>().is_ok(), "{:?}", answer.headers);
}

/// Numbers of requests that nobody has asked for yet.
fn next_keys(next: &mut usize) -> Vec<usize> {
    let first = *next;
    *next += BATCH;
    (first..*next).collect()
}

/// Asks with modest concurrency for a second; how many charges that came to.
async fn capacity(clients: &[Client], next: &mut usize, outcomes: &mut Outcomes) -> usize {
    let started = Instant::now();
    let mut asked = JoinSet::new();
    for client in &clients[..4] {
        asked.spawn(ask(client.clone(), next_keys(next)));
    }
    while let Some(answered) = asked.join_next().await {
        outcomes.add(answered.unwrap());
        if started.elapsed() < Duration::from_secs(1) {
            asked.spawn(ask(clients[0].clone(), next_keys(next)));
        }
    }
    let took = started.elapsed().as_millis().max(1);
    outcomes.charged.len() * 1_000 / usize::try_from(took).unwrap()
}

/// Asks for some times of what is taken per second, which may turn out to be more than was measured, whatever is answered;
/// calls `halfway` in the middle. The messages whose answers are still to come.
async fn offer(
    clients: &[Client],
    takes: usize,
    lasting: Duration,
    (next, outcomes): (&mut usize, &mut Outcomes),
    halfway: impl FnOnce(),
) -> JoinSet<Outcomes> {
    let mut asked = JoinSet::new();
    let (started, mut halfway) = (Instant::now(), Some(halfway));
    let before = outcomes.charged.len();
    let mut period = interval(PERIOD);
    let mut sent = 0;
    while started.elapsed() < lasting {
        period.tick().await;
        let millis = usize::try_from(started.elapsed().as_millis()).unwrap();
        while let Some(answered) = asked.try_join_next() {
            outcomes.add(answered.unwrap());
        }
        let charged = outcomes.charged.len() - before;
        while sent < TIMES * charged.max(takes * millis / 1_000) {
            let client = &clients[(*next / BATCH) % clients.len()];
            asked.spawn(ask(client.clone(), next_keys(next)));
            sent += BATCH;
        }
        if lasting / 2 < started.elapsed()
            && let Some(halfway) = halfway.take()
        {
            halfway();
        }
    }
    asked
}

/// Every key without an answer is asked for again, until it has one.
async fn ask_again(client: &Client, outcomes: &mut Outcomes) {
    while let unknown = std::mem::take(&mut outcomes.unknown)
        && !unknown.is_empty()
    {
        let unknown: Vec<usize> = unknown.into_iter().collect();
        for keys in unknown.chunks(BATCH) {
            outcomes.add(ask(client.clone(), keys.to_vec()).await);
        }
    }
}

/// The records are those of the keys that were answered with a charge, and nothing else was paid.
fn assert_exact(stack: &Stack, outcomes: &Outcomes) {
    let rows =
        stack.sql("SELECT billing_record_id FROM billing_record WHERE user_id LIKE 'asked-%'");
    let recorded: BTreeSet<String> = rows.into_iter().flatten().collect();
    let told: BTreeSet<String> = outcomes.charged.values().cloned().collect();
    assert_eq!(told.len(), outcomes.charged.len(), "a record belongs to one key");
    assert!(recorded == told, "{} records, {} were told", recorded.len(), told.len());
    for number in 0..USERS {
        let keys = outcomes.charged.keys().filter(|key| user(**key) == user(number));
        let account = stack.account(&user(number));
        assert_eq!(account.recorded_units, u64::try_from(keys.count()).unwrap(), "{account:?}");
        assert_eq!(account.recorded_amount, account.ledger_charges);
    }
    stack.invariants();
}

#[test]
fn five_times_what_it_takes_is_shed_and_leaves_nothing_behind() {
    run(async {
        let seconds = env::var("FAREBOX_TEST_OVERLOAD_S").ok();
        let seconds = seconds.map_or(OVERLOAD_S, |text| text.parse().expect("whole seconds"));
        let stack = Stack::start(plan()).await.unwrap_or_else(|err| panic!("{err}"));
        (0..USERS).for_each(|number| stack.credit(&user(number), "100000"));
        fund(&stack, &[LEASE, STRICT]);
        stack.credit("next", "1");
        let internal = stack.sidecar.addresses().internal;
        let clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::http2(internal)).collect();
        let memory =
            || [stack.sidecar.process(), stack.envoy.process()].map(|process| process.resident());
        let (mut next, mut outcomes) = (0, Outcomes::default());
        let takes = capacity(&clients, &mut next, &mut outcomes).await;
        let (measured, before) = (next, memory());

        let load = Load::on(vec![stack.client()]);
        let (mut middle, mut late) = (before, 0);
        let overload = async {
            let halfway = || {
                middle = memory();
                late = stack.upstream.served(LEASE.user);
            };
            let lasting = Duration::from_secs(seconds);
            let asked = offer(&clients, takes, lasting, (&mut next, &mut outcomes), halfway).await;
            load.stop();
            (asked, memory(), Instant::now())
        };
        let kinds = [LEASE, STRICT];
        let (heard, (mut asked, after, ended)) = tokio::join!(load.run(&kinds), overload);
        let served = async || stack.client().get(STRICT.path).user("next").send().await;
        while served().await.status != 200 {
            assert!(ended.elapsed() < RECOVERY_MAX, "a normal call is served again");
        }
        let recovery = ended.elapsed();
        while let Some(answered) = asked.join_next().await {
            outcomes.add(answered.unwrap());
        }
        let (charged, refused, unknown) =
            (outcomes.charged.len(), outcomes.refused.len(), outcomes.unknown.len());
        let mib = |memory: [u64; 2]| memory.map(|bytes| bytes >> 20);
        println!(
            "takes {takes}/s, was asked for {}/s: {charged} charged, {refused} refused, {unknown} unknown; gateway {heard:?}; \
             sidecar and Envoy had {:?}, {:?}, {:?} MiB; recovered in {recovery:?}",
            (next - measured) / usize::try_from(seconds).unwrap(),
            mib(before),
            mib(middle),
            mib(after),
        );
        assert!(0 < refused, "what is too much is turned away");
        assert!(0 < stack.sidecar.metric("billing_shed_total{what=\"calls\"}").await);
        assert!(late < stack.upstream.served(LEASE.user), "gateways are served to the end");
        for ((before, middle), after) in before.into_iter().zip(middle).zip(after) {
            assert!(after < before + GROWTH_MAX && after < middle + LATE_GROWTH_MAX);
        }
        ask_again(&clients[0], &mut outcomes).await;
        assert_exact(&stack, &outcomes);
        for (calls, heard) in kinds.into_iter().zip(&heard) {
            at_rest(&stack, calls, heard).await;
        }
    });
}
