//! What is sold, at which prices, to whom, and by which routes.

use std::ops::Range;

use farebox_core::money::Nanos;
use serde::Serialize;
use serde_json::{Value, json};

use crate::plan::{GATEWAYS, STEADY};

/// One kind of call. Each has a service of its own, so that the books tell the kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Service {
    /// From a lease, at the price book's price, which changes.
    Coin,
    /// From a lease, at the route's own price.
    Duo,
    /// From a lease, free units first.
    Mixed,
    /// From a lease, charged only when the upstream succeeds.
    Win,
    /// From a lease; without one, while the sidecar is away, allowed and charged later.
    Open,
    /// The same, for a few units per account.
    Grace,
    /// Decided by the sidecar, call by call.
    Strict,
    /// The same, charged only when the upstream succeeds.
    Sure,
    /// Deducted, reserved and committed by request, behind no gateway.
    Ask,
}

/// All of them.
pub(crate) const SERVICES: [Service; 9] = [
    Service::Coin,
    Service::Duo,
    Service::Mixed,
    Service::Win,
    Service::Open,
    Service::Grace,
    Service::Strict,
    Service::Sure,
    Service::Ask,
];

/// The price books; the second one holds after the first price change, then the first again.
pub(crate) const BOOKS: [[(&str, &str); 9]; 2] = [
    [
        ("coin", "0.001"),
        ("duo", "0.001"),
        ("mixed", "0.002"),
        ("win", "0.001"),
        ("open", OPEN_PRICE),
        ("grace", OPEN_PRICE),
        ("strict", "0.002"),
        ("sure", "0.001"),
        ("ask", "0.003"),
    ],
    [
        ("coin", "0.003"),
        ("duo", "0.001"),
        ("mixed", "0.002"),
        ("win", "0.002"),
        ("open", OPEN_PRICE),
        ("grace", OPEN_PRICE),
        ("strict", "0.001"),
        ("sure", "0.001"),
        ("ask", "0.003"),
    ],
];

/// Free units per account.
pub(crate) const FREE_QUOTAS: [(&str, u64); 1] = [("mixed", 200)];

/// What a unit costs on the route that has a price of its own.
const DUO_PRICE: &str = "0.004";

/// What a unit costs that may be allowed without a lease. The route names it: a gateway that has no lease yet knows it too.
const OPEN_PRICE: &str = "0.002";

/// How many units an account may use without a lease, on the route that has a limit.
const GRACE: &str = "grace(5)";

/// The gateway that is not lent more money than this. What it allows beyond is decided one by one, so that the books do not
/// tell these calls from its others: sums of what it sells from leases are of both.
pub(crate) const BUDGETED: usize = 0;
const BUDGET: &str = "0.100";

/// How many times as much a unit costs at most after a price change.
pub(crate) const RISE: u64 = 3;

/// Clients of each user: enough that they meet themselves.
pub(crate) const CLIENTS: u64 = 2;

/// A lease stands so long without a renewal.
pub(crate) const LEASE_TTL: &str = "5s";
pub(crate) const LEASE_TTL_MS: u64 = 5_000;

/// What the filter is told, and the bound of loss is counted from.
pub(crate) const SYNC_INTERVAL_MS: u64 = 200;
pub(crate) const SIDECAR_TIMEOUT_MS: u64 = 1_000;

impl Service {
    /// As the books name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coin => "coin",
            Self::Duo => "duo",
            Self::Mixed => "mixed",
            Self::Win => "win",
            Self::Open => "open",
            Self::Grace => "grace",
            Self::Strict => "strict",
            Self::Sure => "sure",
            Self::Ask => "ask",
        }
    }

    /// Where its calls go, on a gateway.
    pub(crate) fn path(self) -> String {
        format!("/{}/x", self.name())
    }

    /// Whether gateways draw it from leases.
    pub(crate) fn is_leased(self) -> bool {
        matches!(self, Self::Coin | Self::Duo | Self::Mixed | Self::Win) || self.may_be_allowed()
    }

    /// Whether gateways let its calls pass without a lease while their sidecar is away.
    pub(crate) fn may_be_allowed(self) -> bool {
        matches!(self, Self::Open | Self::Grace)
    }

    /// The least and the most that a unit of it can cost: free ones nothing, others what any of the books says.
    pub(crate) fn prices(self) -> (Nanos, Nanos) {
        let is_mine = |row: &&(&str, &str)| row.0 == self.name();
        let listed = || BOOKS.iter().filter_map(|book| book.iter().find(is_mine));
        let own = (self == Self::Duo).then_some(DUO_PRICE);
        let texts = || own.into_iter().chain(listed().map(|row| row.1).filter(|_| own.is_none()));
        let prices = || texts().filter_map(|text| text.parse::<Nanos>().ok());
        let has_free = FREE_QUOTAS.iter().any(|(name, _)| *name == self.name());
        let least = prices().min().filter(|_| !has_free);
        (least.unwrap_or(Nanos::ZERO), prices().max().unwrap_or(Nanos::MAX))
    }

    /// Whether a call costs nothing unless the upstream succeeds.
    pub(crate) fn is_for_success(self) -> bool {
        matches!(self, Self::Win | Self::Sure)
    }
}

/// What the gateway with a budget is lent at most.
pub(crate) fn budget() -> Nanos {
    BUDGET.parse().unwrap_or(Nanos::ZERO)
}

/// The filter's configuration, of one gateway.
pub(crate) fn plugin(gateway: usize) -> Value {
    let mut plugin = rules();
    if gateway == BUDGETED {
        plugin["max_at_risk"] = json!(BUDGET);
    }
    plugin
}

fn rules() -> Value {
    json!({
        "sidecar": {
            "cluster": "farebox_sidecar",
            "timeout": format!("{SIDECAR_TIMEOUT_MS}ms"),
            "token_env": "FAREBOX_GATEWAY_TOKEN",
        },
        "sync_interval": format!("{SYNC_INTERVAL_MS}ms"),
        "idle_return": "1s",
        "identity": [{ "header": "x-user-id" }],
        "rules": [
            { "prefix": "/coin/", "service": "coin" },
            { "prefix": "/duo/", "service": "duo", "price": DUO_PRICE },
            { "prefix": "/mixed/", "service": "mixed" },
            { "prefix": "/win/", "service": "win", "charge_on": "success" },
            { "prefix": "/open/", "service": "open", "price": OPEN_PRICE, "on_unreachable": "allow" },
            { "prefix": "/grace/", "service": "grace", "price": OPEN_PRICE, "on_unreachable": GRACE },
            { "prefix": "/strict/", "service": "strict", "mode": "strict" },
            { "prefix": "/sure/", "service": "sure", "mode": "strict", "charge_on": "success" },
            { "prefix": "/api/v1/billing/", "service": "none", "assert_identity": true },
        ],
    })
}

/// Who calls: some who can pay for everything, some of these through the steady gateway alone, and some who run out again
/// and again.
pub(crate) fn users() -> Vec<(String, &'static str)> {
    let rich = (0..4).map(|number| (format!("rich-{number}"), "100"));
    let steady = (0..2).map(|number| (format!("steady-{number}"), "100"));
    let tight = (0..4).map(|number| (format!("tight-{number}"), "0.05"));
    rich.chain(steady).chain(tight).collect()
}

/// The gateways that this user calls through.
pub(crate) fn gateways_of(user: &str) -> Range<usize> {
    if user.starts_with("steady") { STEADY..STEADY + 1 } else { 0..GATEWAYS }
}

/// Whether this user runs out.
pub(crate) fn is_tight(user: &str) -> bool {
    user.starts_with("tight")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_costs_what_a_book_or_its_route_says() {
        let prices = |least: &str, most: &str| (least.parse().unwrap(), most.parse().unwrap());
        assert_eq!(Service::Coin.prices(), prices("0.001", "0.003"));
        assert_eq!(Service::Duo.prices(), prices("0.004", "0.004"));
        assert_eq!(Service::Mixed.prices(), prices("0", "0.002"));
    }

    #[test]
    fn every_service_stands_in_both_books() {
        for book in BOOKS {
            assert!(SERVICES.iter().all(|service| book.iter().any(|row| row.0 == service.name())));
        }
    }
}
