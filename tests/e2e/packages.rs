//! Prices by the package through a real Envoy: calls are served as far as packages are funded, and none is bought in excess.

use farebox_tests::run;

use crate::{settled, shared};

#[test]
fn calls_over_two_gateways_use_every_unit_of_the_packages_that_are_funded() {
    run(async {
        let stack = shared().await;
        // Three packages of 40 at 0.1 each, and not quite a fourth one.
        stack.credit("parcel", "0.399");
        let call = |client: &farebox_tests::Client, _| client.get("/packed/x").user("parcel");
        let tally = stack.client().storm(170, 32, call).await;
        assert_eq!((tally.of(200), tally.of(402)), (120, 50), "{tally}");
        assert_eq!(stack.upstream.served("parcel"), 120);
        settled(stack, "parcel", 120).await;
        assert_eq!(stack.account("parcel").balance, "0.099");
        let bought = "SELECT SUM(paid_units - paid_refunded) FROM billing_record
            WHERE user_id = 'parcel' AND source = 'package'";
        assert_eq!(stack.sql(bought), [["3"]]);
    });
}
