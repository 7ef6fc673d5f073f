//! Exactly what is paid for is served, whatever happens at once.

use std::collections::BTreeSet;

use farebox_core::money::Nanos;
use farebox_tests::{Client, run};

use crate::{settled, shared};

/// A path that costs 0.001 per call and nothing is free of.
const COIN: &str = "/coin/x";

#[test]
fn sixty_four_clients_of_one_user_are_served_exactly_what_was_paid() {
    run(async {
        let stack = shared().await;
        stack.credit("many", "0.500");
        let tally = stack.client().storm(700, 64, |client, _| client.get(COIN).user("many")).await;
        assert_eq!((tally.of(200), tally.of(402)), (500, 200), "{tally}");
        assert_eq!(stack.upstream.served("many"), 500);
        settled(stack, "many", 500).await;
        let account = stack.account("many");
        assert_eq!((account.balance.as_str(), account.ledger_charges.as_str()), ("0", "0.5"));
    });
}

#[test]
fn free_units_and_money_together_serve_exactly_their_sum() {
    run(async {
        let stack = shared().await;
        // 100 free units of the month, and 0.200 for 100 more at 0.002.
        stack.credit("both", "0.200");
        let call = |client: &Client, _| client.get("/mixed/x").user("both");
        let tally = stack.client().storm(300, 64, call).await;
        assert_eq!((tally.of(200), tally.of(402)), (200, 100), "{tally}");
        settled(stack, "both", 200).await;
        let account = stack.account("both");
        assert_eq!((account.free_used, account.recorded_paid_units), (100, 100));
        assert_eq!(account.balance, "0");
    });
}

#[test]
fn two_services_of_one_user_share_the_balance_to_its_last_coin() {
    run(async {
        let stack = shared().await;
        stack.credit("two", "0.300");
        let client = stack.client();
        let (coins, duos) = tokio::join!(
            client.storm(200, 32, |client, _| client.get(COIN).user("two")),
            client.storm(200, 32, |client, _| client.get("/duo/x").user("two")),
        );
        // Whatever the other service left is still good for coins.
        let rest = client.storm(300, 1, |client, _| client.get(COIN).user("two")).await;
        let (coins, duos) = (coins.of(200) + rest.of(200), duos.of(200));
        assert_eq!(coins + 2 * duos, 300, "{coins} coins, {duos} duos");
        settled(stack, "two", u64::try_from(coins + duos).unwrap()).await;
        assert_eq!(stack.account("two").balance, "0");
    });
}

#[test]
fn ten_thousand_calls_end_at_exactly_zero_and_the_next_is_refused() {
    run(async {
        let stack = shared().await;
        stack.credit("patient", "10.00");
        let call = |client: &Client, _| client.get(COIN).user("patient");
        let tally = stack.client().storm(10_000, 32, call).await;
        assert_eq!(tally.of(200), 10_000, "{tally}");
        settled(stack, "patient", 10_000).await;
        assert_eq!(stack.account("patient").balance, "0");
        let next = stack.client().get(COIN).user("patient").send().await;
        assert_eq!((next.status.as_u16(), next.code()), (402, 190_102), "{}", next.body);
    });
}

#[test]
fn three_tenths_pay_for_three_calls_of_a_tenth() {
    run(async {
        let stack = shared().await;
        stack.credit("tenth", "0.30");
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(stack.client().get("/dime/x").user("tenth").send().await.status.as_u16());
        }
        assert_eq!(statuses, [200, 200, 200, 402]);
        settled(stack, "tenth", 3).await;
        assert_eq!(stack.account("tenth").balance, "0");
    });
}

#[test]
fn five_hundred_new_users_at_once_are_each_created_once_and_served() {
    run(async {
        let stack = shared().await;
        let call = |client: &Client, number| client.get("/start/x").user(&format!("new-{number}"));
        let tally = stack.client().storm(500, 500, call).await;
        assert_eq!(tally.of(200), 500, "{tally}");
        let count = |table: &str, column: &str| {
            stack
                .sql_one(&format!("SELECT COUNT({column}) FROM {table} WHERE user_id LIKE 'new-%'"))
        };
        assert_eq!(count("user_balance", "DISTINCT user_id"), "500");
        assert_eq!(count("user_balance", "*"), "500");
        assert_eq!(count("free_quota", "*"), "500");
        settled(stack, "new-499", 1).await;
    });
}

#[test]
fn two_gateways_together_serve_exactly_what_was_paid() {
    run(async {
        let stack = shared().await;
        let second = stack.another_gateway("edge-second", 2).await.unwrap();
        stack.credit("roaming", "0.400");
        let (here, there) = (stack.client(), second.client());
        let (first, second) = tokio::join!(
            here.storm(400, 16, |client, _| client.get(COIN).user("roaming")),
            there.storm(400, 16, |client, _| client.get(COIN).user("roaming")),
        );
        let statuses = BTreeSet::from([first.total(), second.total()]);
        assert_eq!(statuses, BTreeSet::from([400]));
        assert_eq!(first.of(200) + second.of(200), 400, "{first} and {second}");
        settled(stack, "roaming", 400).await;
        assert_eq!(stack.account("roaming").balance, "0");
    });
}

#[test]
fn what_envoy_counts_times_the_price_is_what_the_ledger_says() {
    run(async {
        let stack = shared().await;
        let gateway = stack.another_gateway("edge-counted", 2).await.unwrap();
        stack.credit("counted", "1.00");
        let call = |client: &Client, _| client.get(COIN).user("counted");
        gateway.client().storm(345, 16, call).await;
        settled(stack, "counted", 345).await;

        let served = gateway.envoy.stat("http.ingress.downstream_rq_2xx").await;
        let admitted = gateway.envoy.stat("wasmcustom.farebox_admitted").await;
        assert_eq!((served, admitted), (345, 345));
        let due = "0.001".parse::<Nanos>().unwrap().checked_mul(served).unwrap();
        assert_eq!(stack.account("counted").ledger_charges, due.to_string());
    });
}
