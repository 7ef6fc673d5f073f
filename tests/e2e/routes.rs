//! The reference configuration as it is shipped: three ways to give a route its rule, and both modes.

use farebox_tests::{Plan, Stack, run};

use crate::settled;

#[test]
fn rules_come_by_prefix_by_route_name_and_by_route_metadata() {
    run(async {
        let plan = Plan::reference().free_quotas(&[("passport", 1)]);
        let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
        stack.credit("ada", "1.00");
        let call = |path| stack.client().get(path).user("ada").send();

        // By prefix, at the price book's price after the free unit.
        let charge = async |path| {
            let answer = call(path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let source = answer.header("x-farebox-source").to_owned();
            (source, answer.header("x-farebox-charge").to_owned())
        };
        let paid = |source: &str, charge: &str| (source.to_owned(), charge.to_owned());
        assert_eq!(charge("/v1/passport/x").await, paid("free", "0"));
        assert_eq!(charge("/v1/passport/x").await, paid("balance", "0.001"));
        // By route name, with a price of its own.
        assert_eq!(charge("/v1/payment/x").await, paid("balance", "0.002"));
        // By prefix, changed by the route's metadata: five units.
        assert_eq!(charge("/v1/asset/report").await, paid("balance", "0.005"));
        // By the longest prefix, decided by the sidecar.
        assert_eq!(charge("/v1/asset/export/x").await, paid("balance", "0.001"));
        assert_eq!(stack.envoy.stat("wasmcustom.farebox_deduct_ok").await, 1);
        // A failed payment costs nothing.
        assert_eq!(call("/v1/payment/status/503").await.status, 503);

        settled(&stack, "ada", 9).await;
        assert_eq!(stack.account("ada").ledger_charges, "0.009");
        let counted = stack.envoy.stat("vhost.farebox.route.passport.upstream_rq_200").await;
        assert_eq!(counted, 2);
    });
}
