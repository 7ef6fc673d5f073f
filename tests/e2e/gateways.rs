//! Several gateways draw on one account: what is paid for is served to the last unit, wherever its calls arrive, and
//! nobody is refused while units lie unused at another gateway.
//!
//! Leases stand for 40 s here, five times as long as a call may wait: units come home by recall or return, never because
//! a lease has run out. Calls may wait for 8 s, so that a busy machine is no reason to be refused: these tests are about who
//! is served, not about how soon.

use farebox_tests::{Client, Gateway, Plan, Stack, Tally, run};
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{plugin_with_rules, settled};

/// Callers per gateway.
const CALLERS: usize = 16;

/// Three gateways with two workers each, on one sidecar.
struct Edge {
    stack: Stack,
    others: [Gateway; 2],
}

impl Edge {
    async fn start() -> Self {
        let rules = [
            json!({ "prefix": "/coin/", "service": "coin" }),
            json!({ "prefix": "/duo/", "service": "duo" }),
            json!({ "prefix": "/mixed/", "service": "mixed" }),
            json!({ "prefix": "/gift/", "service": "gift" }),
            json!({ "prefix": "/five/", "service": "coin", "units": 5 }),
        ];
        let mut plugin = plugin_with_rules(&rules);
        plugin["max_wait"] = "8s".into();
        plugin["sidecar"]["timeout"] = "4s".into();
        let plan = Plan::reference()
            .plugin(plugin)
            .lease_ttl("40s")
            .prices(&[("coin", "0.001"), ("duo", "0.002"), ("mixed", "0.002")])
            .free_quotas(&[("mixed", 100), ("gift", 240)])
            .workers(2);
        let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
        let (second, third) =
            tokio::join!(stack.another_gateway("edge-2", 2), stack.another_gateway("edge-3", 2));
        let others = [second, third].map(|gateway| gateway.unwrap_or_else(|err| panic!("{err}")));
        Self { stack, others }
    }

    /// A caller of each gateway.
    fn clients(&self) -> [Client; 3] {
        let [second, third] = &self.others;
        [self.stack.client(), second.client(), third.client()]
    }

    /// So many calls of a user to each gateway, at once.
    async fn everywhere(&self, path: &str, user: &str, count: usize) -> Tally {
        let clients = self.clients();
        let storms = clients.iter().map(|client| storm(client, path, user, count));
        join_all(storms).await.into_iter().fold(Tally::default(), Tally::plus)
    }

    /// Everything is spent: so many calls were served and charged, and nothing is left.
    async fn spent(&self, user: &str, calls: u64) {
        assert_eq!(self.stack.upstream.served(user), calls);
        settled(&self.stack, user, calls).await;
        let account = self.stack.account(user);
        assert_eq!((account.balance.as_str(), account.receivable.as_str()), ("0", "0"));
    }
}

async fn edge() -> &'static Edge {
    static EDGE: OnceCell<Edge> = OnceCell::const_new();
    EDGE.get_or_init(Edge::start).await
}

async fn storm(client: &Client, path: &str, user: &str, count: usize) -> Tally {
    client.storm(count, CALLERS, |client, _| client.get(path).user(user)).await
}

/// Every call was served: none was refused for want of money, and none waited longer than a call may.
fn all_served(tally: &Tally, calls: usize) {
    assert_eq!((tally.of(200), tally.total()), (calls, calls), "{tally}");
}

#[test]
fn the_last_units_follow_the_calls_to_one_gateway() {
    run(async {
        let (edge, user) = (edge().await, "tail");
        edge.stack.credit(user, "1.000");
        all_served(&edge.everywhere("/coin/x", user, 200).await, 600);
        let [_, second, _] = edge.clients();
        all_served(&storm(&second, "/coin/x", user, 400).await, 400);
        edge.spent(user, 1_000).await;
        for client in edge.clients() {
            assert_eq!(client.get("/coin/x").user(user).send().await.status, 402);
        }
    });
}

#[test]
fn gateways_that_want_more_than_there_is_serve_exactly_that() {
    run(async {
        let (edge, user) = (edge().await, "greedy");
        edge.stack.credit(user, "1.000");
        let tally = edge.everywhere("/coin/x", user, 400).await;
        assert_eq!((tally.of(200), tally.of(402)), (1_000, 200), "{tally}");
        edge.spent(user, 1_000).await;
    });
}

#[test]
fn what_the_first_gateway_left_is_served_by_the_second() {
    run(async {
        let (edge, user) = (edge().await, "moves");
        edge.stack.credit(user, "1.000");
        let [first, second, _] = edge.clients();
        all_served(&storm(&first, "/coin/x", user, 500).await, 500);
        all_served(&storm(&second, "/coin/x", user, 500).await, 500);
        edge.spent(user, 1_000).await;
    });
}

/// One caller at a time, each time at another gateway: the one that asks never has what is left.
#[test]
fn calls_that_go_round_are_all_served() {
    run(async {
        let (edge, user) = (edge().await, "round");
        edge.stack.credit(user, "0.060");
        let clients = edge.clients();
        for number in 0..60 {
            let answer = clients[number % 3].get("/coin/x").user(user).send().await;
            assert_eq!(answer.status, 200, "call {number}: {}", answer.body);
        }
        edge.spent(user, 60).await;
    });
}

/// Each gateway may hold some of the five units that its next call takes, and ask for the rest: none must take them from
/// another without end.
#[test]
fn gateways_that_starve_do_not_take_units_from_each_other_without_end() {
    run(async {
        let (edge, user) = (edge().await, "starves");
        edge.stack.credit(user, "0.150");
        all_served(&edge.everywhere("/five/x", user, 10).await, 30);
        assert_eq!(edge.stack.upstream.served(user), 30);
        settled(&edge.stack, user, 150).await;
        assert_eq!(edge.stack.account(user).balance, "0");
    });
}

#[test]
fn twenty_users_at_once_are_each_served_exactly_what_they_paid() {
    run(async {
        let edge = edge().await;
        let users: Vec<String> = (0..20).map(|number| format!("of-twenty-{number}")).collect();
        for user in &users {
            edge.stack.credit(user, "0.090");
        }
        // 20 calls of each user through each gateway, and the last 30 through one of them.
        let call = |client: &Client, number: usize| client.get("/coin/x").user(&users[number % 20]);
        let clients = edge.clients();
        let storms = clients.iter().map(|client| client.storm(400, CALLERS, call));
        let tally = join_all(storms).await.into_iter().fold(Tally::default(), Tally::plus);
        all_served(&tally, 1_200);
        all_served(&clients[2].storm(600, CALLERS, call).await, 600);
        for user in &users {
            edge.spent(user, 90).await;
        }
    });
}

#[test]
fn two_services_share_a_balance_to_its_last_coin() {
    run(async {
        let (edge, user) = (edge().await, "shares");
        edge.stack.credit(user, "0.600");
        let (coins, duos) = tokio::join!(
            edge.everywhere("/coin/x", user, 100),
            edge.everywhere("/duo/x", user, 40),
        );
        all_served(&coins, 300);
        all_served(&duos, 120);
        // 0.060 is left, wherever it is.
        let [first, _, third] = edge.clients();
        let (coins, duos) =
            tokio::join!(storm(&first, "/coin/x", user, 20), storm(&third, "/duo/x", user, 20));
        all_served(&coins, 20);
        all_served(&duos, 20);
        edge.spent(user, 460).await;
    });
}

#[test]
fn free_units_are_served_wherever_they_are_held() {
    run(async {
        let (edge, user) = (edge().await, "gifted");
        all_served(&edge.everywhere("/gift/x", user, 70).await, 210);
        let [_, _, third] = edge.clients();
        all_served(&storm(&third, "/gift/x", user, 30).await, 30);
        settled(&edge.stack, user, 240).await;
        let refused = third.get("/gift/x").user(user).send().await;
        assert_eq!(refused.status, 429, "{}", refused.body);
    });
}

/// `mixed` has 100 free units, then it costs 0.002; `coin` costs 0.001 from the same balance.
#[test]
fn a_service_with_free_units_and_one_without_spend_everything() {
    run(async {
        let (edge, user) = (edge().await, "mixes");
        edge.stack.credit(user, "0.400");
        let (mixed, coins) = tokio::join!(
            edge.everywhere("/mixed/x", user, 50),
            edge.everywhere("/coin/x", user, 50),
        );
        all_served(&mixed, 150);
        all_served(&coins, 150);
        // How much was paid of the mixed calls so far is for the gateways to say; the rest is spent on coins.
        let [first, second, third] = edge.clients();
        let mixed = storm(&third, "/mixed/x", user, 50).await;
        all_served(&mixed, 50);
        settled(&edge.stack, user, 350).await;
        let left = edge.stack.account(user).balance;
        let coins =
            usize::try_from(left.parse::<farebox_core::money::Nanos>().unwrap().get() / 1_000_000)
                .unwrap();
        all_served(&storm(&first, "/coin/x", user, coins).await, coins);
        assert_eq!(second.get("/coin/x").user(user).send().await.status, 402);
        edge.spent(user, 350 + u64::try_from(coins).unwrap()).await;
    });
}
