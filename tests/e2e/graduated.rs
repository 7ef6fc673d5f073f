//! Graduated prices through a real Envoy: the filter is lent units tier by tier, and serves what is paid for.

use farebox_tests::run;

use crate::{settled, shared};

#[test]
fn calls_across_the_edges_of_tiers_are_served_exactly_as_far_as_the_money_goes() {
    run(async {
        let stack = shared().await;
        // 40 at 0.003, 60 at 0.002 and 50 at 0.001. A unit that comes back unused after calls went on at the next price leaves
        // room for one more there; nothing is served unpaid.
        stack.credit("climber", "0.290");
        let call = |client: &farebox_tests::Client, _| client.get("/graded/x").user("climber");
        let tally = stack.client().storm(200, 32, call).await;
        let served = tally.of(200) as u64;
        assert!((150..=160).contains(&served) && tally.total() == 200, "{tally}");
        assert_eq!(
            (tally.of(402) as u64, stack.upstream.served("climber")),
            (200 - served, served)
        );
        settled(stack, "climber", served).await;
        let account = stack.account("climber");
        assert_eq!((account.balance.as_str(), account.ledger_charges.as_str()), ("0", "0.29"));
    });
}
