//! The judge on campaigns of a few calls.

use super::*;
use crate::catalog::{BUDGETED, SERVICES, Service};

const USER: &str = "ada";

/// One that has no budget.
const GATEWAY: usize = 1;

fn nanos(text: &str) -> Nanos {
    text.parse().unwrap()
}

fn call(id: u64, service: Service, outcome: Outcome) -> Entry {
    let (status, told) = match outcome {
        Outcome::Ok => (200, Some(nanos("0.001"))),
        Outcome::Refused => (402, None),
        Outcome::Unknown => (0, None),
    };
    let (begun_ms, ended_ms) = (1_000 * id, 1_000 * id + 10);
    let (user, gateway, units) = (USER.to_owned(), Some(GATEWAY), 1);
    Entry { id, user, service, gateway, units, begun_ms, ended_ms, outcome, told, status }
}

/// Calls that all arrived unless they were refused, and books that have so many units of them at 0.001.
fn facts(service: Service, entries: Vec<Entry>, units: u64) -> Facts {
    let amount = nanos("0.001").checked_mul(units).unwrap();
    let balance = nanos("1").checked_sub(amount).unwrap();
    let arrived = entries.iter().filter(|entry| entry.outcome == Outcome::Ok);
    Facts {
        arrivals: arrived.map(|entry| (entry.id, entry.ended_ms)).collect(),
        entries,
        passes: BTreeMap::new(),
        charged: [(owner(service), Charged { units, amount, ..Charged::default() })].into(),
        accounts: [(USER.to_owned(), Account { balance, receivable: Nanos::ZERO })].into(),
        money_in: [(USER.to_owned(), nanos("1"))].into(),
        deaths: Vec::new(),
        troubles: vec![Vec::new(); 3],
        reclaim_ms: 10_000,
        ..Facts::default()
    }
}

fn owner(service: Service) -> Owner {
    let gateway = service.is_leased().then_some(GATEWAY);
    Owner { user: USER.to_owned(), service: service.name().to_owned(), gateway }
}

fn kinds(facts: &Facts) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = judge(facts).breaches.iter().map(|breach| breach.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn what_is_known_is_compared_exactly() {
    let calls = |service| vec![call(1, service, Outcome::Ok), call(2, service, Outcome::Refused)];
    for service in SERVICES {
        assert_eq!(kinds(&facts(service, calls(service), 1)), []);
        assert_eq!(kinds(&facts(service, calls(service), 2)), [Kind::DoubleCharge]);
        assert_eq!(kinds(&facts(service, calls(service), 0)), [Kind::Lost]);
    }
    let verdict = judge(&facts(Service::Coin, calls(Service::Coin), 1));
    assert_eq!((verdict.sums, verdict.exact_sums, verdict.exact_steady_sums), (1, 1, 1));
}

/// A gateway's end long after the calls, with which their log is gone.
const LATER: Death = Death { gateway: GATEWAY, begun_ms: 1_000_000, gone_ms: 1_000_000 };

fn death(gateway: usize, at: u64) -> Death {
    Death { gateway, begun_ms: at, gone_ms: at }
}

fn pass(is_admitted: bool, ended_well: bool) -> Pass {
    Pass { is_admitted, ended_well, told: None }
}

#[test]
fn an_unknown_call_counts_at_most_once() {
    for service in SERVICES {
        let calls = || vec![call(1, service, Outcome::Unknown)];
        for units in [0, 1] {
            let facts = Facts { deaths: vec![LATER], ..facts(service, calls(), units) };
            assert_eq!(kinds(&facts), [], "{service:?} {units}");
            assert_eq!(judge(&facts).exact_sums, 0);
        }
        let facts = Facts { deaths: vec![LATER], ..facts(service, calls(), 2) };
        assert_eq!(kinds(&facts), [Kind::DoubleCharge]);
    }
}

#[test]
fn a_gateway_that_lived_on_knows_what_became_of_an_unknown_call() {
    let through_gateways = || SERVICES.into_iter().filter(|service| *service != Service::Ask);
    for service in through_gateways() {
        for (pass, units) in [(None, 0), (Some(pass(false, false)), 0), (Some(pass(true, true)), 1)]
        {
            let calls = || vec![call(1, service, Outcome::Unknown)];
            for (on_record, expected) in [
                (units, vec![]),
                (1 - units, vec![[Kind::DoubleCharge, Kind::Lost][units as usize]]),
            ] {
                let mut facts = facts(service, calls(), on_record);
                facts.passes.extend(pass.map(|pass| (1, pass)));
                // What Duo costs, for instance.
                let (price, _) = service.prices();
                let amount = price.checked_mul(on_record).unwrap();
                facts.charged.get_mut(&owner(service)).unwrap().amount = amount;
                let balance = nanos("1").checked_sub(amount).unwrap();
                facts
                    .accounts
                    .insert(USER.to_owned(), Account { balance, receivable: Nanos::ZERO });
                assert_eq!(kinds(&facts), expected, "{service:?} {pass:?} {on_record}");
            }
        }
    }
}

#[test]
fn a_failed_call_for_success_costs_nothing() {
    for service in [Service::Win, Service::Sure] {
        let mut facts = facts(service, vec![call(1, service, Outcome::Unknown)], 1);
        facts.passes.insert(1, pass(true, false));
        assert_eq!(kinds(&facts), [Kind::DoubleCharge], "{service:?}");
    }
}

#[test]
fn what_nobody_was_told_costs_what_its_service_can() {
    let calls = || vec![call(1, Service::Coin, Outcome::Unknown)];
    for (amount, expected) in [
        ("0.0009", vec![Kind::Lost]),
        ("0.001", vec![]),
        ("0.003", vec![]),
        ("0.0031", vec![Kind::DoubleCharge]),
    ] {
        let mut facts = facts(Service::Coin, calls(), 1);
        facts.passes.insert(1, pass(true, true));
        facts.charged.values_mut().next().unwrap().amount = nanos(amount);
        let balance = nanos("1").checked_sub(nanos(amount)).unwrap();
        facts.accounts.insert(USER.to_owned(), Account { balance, receivable: Nanos::ZERO });
        assert_eq!(kinds(&facts), expected, "{amount}");
        assert_eq!(judge(&facts).exact_sums, 0, "its price is not known");
    }
}

#[test]
fn sums_are_of_one_gateway() {
    let mut facts = facts(Service::Coin, vec![call(1, Service::Coin, Outcome::Ok)], 1);
    let charged = facts.charged.remove(&owner(Service::Coin)).unwrap();
    let other = Owner { gateway: Some(2), ..owner(Service::Coin) };
    facts.charged.insert(other, charged);
    assert_eq!(kinds(&facts), [Kind::DoubleCharge, Kind::Lost]);
}

#[test]
fn a_call_that_arrived_is_charged_though_nobody_told_the_client() {
    let mut facts = facts(Service::Strict, vec![call(1, Service::Strict, Outcome::Unknown)], 0);
    facts.arrivals.insert(1, 1_005);
    facts.passes.insert(1, pass(true, true));
    assert_eq!(kinds(&facts), [Kind::Lost]);
}

#[test]
fn only_what_a_gateway_served_just_before_it_was_killed_may_be_lost() {
    let calls = |service| vec![call(1, service, Outcome::Ok)];
    for (service, at, expected) in [
        (Service::Coin, 1_500, vec![]),
        (Service::Coin, 9_000, vec![Kind::Lost]),
        // The sidecar has charged it before it was forwarded.
        (Service::Strict, 1_500, vec![Kind::Lost]),
    ] {
        let mut facts = facts(service, calls(service), 0);
        facts.deaths = vec![death(GATEWAY, at)];
        assert_eq!(kinds(&facts), expected, "{service:?} {at}");
        // Another gateway's end explains nothing.
        facts.deaths = vec![death(2, at)];
        assert_eq!(kinds(&facts), [Kind::Lost]);
    }
}

#[test]
fn a_gateway_that_was_cut_off_is_exposed_since_then() {
    let quiet = 2 * (SYNC_INTERVAL_MS + SIDECAR_TIMEOUT_MS);
    assert_eq!(exposed_since(&[], 20_000), 20_000 - quiet);
    assert_eq!(exposed_since(&[(2_000, 5_000)], 20_000), 20_000 - quiet, "long over");
    assert_eq!(exposed_since(&[(15_000, 19_500)], 20_000), 15_000 - quiet);
    assert_eq!(exposed_since(&[(15_000, 19_500), (10_000, 14_900)], 20_000), 10_000 - quiet);
    assert_eq!(exposed_since(&[(21_000, 22_000)], 20_000), 20_000 - quiet, "too late to matter");
}

#[test]
fn debts_are_overspending_unless_a_lease_was_taken_back_meanwhile() {
    let mut facts = facts(Service::Coin, vec![call(1, Service::Coin, Outcome::Ok)], 1);
    let debt = nanos("0.001");
    let charged = facts.charged.values_mut().next().unwrap();
    (charged.owed, charged.owed_late) = (debt, debt);
    assert_eq!(kinds(&facts), [Kind::Overspend], "nothing kept the gateway from reporting");
    facts.troubles = vec![vec![(0, 12_000)], vec![], vec![(0, 12_000)]];
    assert_eq!(kinds(&facts), [Kind::Overspend], "others could not report");
    facts.troubles = vec![vec![], vec![(0, 12_000)], vec![]];
    assert_eq!(kinds(&facts), []);
    facts.charged.values_mut().next().unwrap().owed_late = Nanos::ZERO;
    assert_eq!(kinds(&facts), [Kind::Overspend], "it came in time");
}

#[test]
fn money_comes_from_somewhere() {
    let mut facts = facts(Service::Coin, vec![call(1, Service::Coin, Outcome::Ok)], 1);
    facts.money_in.insert(USER.to_owned(), nanos("0.9"));
    assert_eq!(kinds(&facts), [Kind::DoubleCredit]);
    facts.money_in.insert(USER.to_owned(), nanos("1.1"));
    assert_eq!(kinds(&facts), [Kind::LostCredit]);
}

#[test]
fn answers_and_the_upstream_agree() {
    let mut facts = facts(Service::Coin, vec![call(1, Service::Coin, Outcome::Refused)], 1);
    facts.arrivals.insert(1, 1_005);
    assert!(kinds(&facts).contains(&Kind::Contradiction));
    facts.arrivals.clear();
    facts.passes.insert(1, pass(true, true));
    assert!(kinds(&facts).contains(&Kind::Contradiction));
}

/// A call just before its gateway was killed, on record as that its lease was taken back with more units.
fn taken(on_lost: OnLost, units: u64) -> Facts {
    let mut facts = facts(Service::Coin, vec![call(1, Service::Coin, Outcome::Ok)], units);
    facts.on_lost = on_lost;
    facts.deaths = vec![death(GATEWAY, 1_500)];
    let charged = facts.charged.values_mut().next().unwrap();
    (charged.lost_units, charged.lost_amount) = (units, charged.amount);
    facts
}

#[test]
fn what_a_killed_gateway_had_drawn_is_charged_to_the_account_if_that_bears_it() {
    use OnLost::{Granted, Reported};
    assert_eq!(kinds(&taken(Granted, 1)), []);
    assert_eq!(kinds(&taken(Granted, 5)), [], "what its lease held besides");
    assert_eq!(kinds(&taken(Granted, 0)), [Kind::Lost], "nothing may be lost");
    assert_eq!(kinds(&taken(Reported, 0)), []);
    assert_eq!(kinds(&taken(Reported, 1)), [Kind::DoubleCharge], "the operator bears it");
    let facts = Facts { deaths: vec![], ..taken(Granted, 1) };
    assert!(kinds(&facts).contains(&Kind::DoubleCharge), "nobody fell silent");
    let facts = Facts { deaths: vec![death(GATEWAY, 9_000)], ..taken(Granted, 1) };
    assert_eq!(kinds(&facts), [Kind::Lost], "there was time to report it");
}

#[test]
fn a_gateway_that_was_slow_to_end_served_until_it_was_gone() {
    let calls = vec![call(1, Service::Coin, Outcome::Unknown)];
    for (begun_ms, gone_ms, expected) in
        [(900, 950, vec![Kind::DoubleCharge]), (900, 1_050, vec![])]
    {
        let mut facts = facts(Service::Coin, calls.clone(), 1);
        facts.deaths = vec![Death { gateway: GATEWAY, begun_ms, gone_ms }];
        assert_eq!(kinds(&facts), expected, "{gone_ms}");
    }
}

#[test]
fn leases_are_taken_back_from_those_alone_who_could_not_speak() {
    let silence = |deaths, troubles: Vec<Stretch>| {
        let owner = owner(Service::Coin);
        let taken_back = vec![TakenBack { lease: 7, owner, silent: (20_000, 30_000) }];
        let troubles = vec![vec![], troubles, vec![(20_000, 30_000)]];
        kinds(&Facts { taken_back, deaths, troubles, reclaim_ms: 10_000, ..Facts::default() })
    };
    assert_eq!(silence(vec![], vec![]), [Kind::Liveness]);
    assert_eq!(silence(vec![death(GATEWAY, 22_000)], vec![]), []);
    assert_eq!(silence(vec![death(GATEWAY, 31_000)], vec![]), [Kind::Liveness], "it ended later");
    assert_eq!(silence(vec![death(2, 22_000)], vec![]), [Kind::Liveness], "another one ended");
    assert_eq!(silence(vec![], vec![(23_000, 28_000)]), []);
    assert_eq!(silence(vec![], vec![(16_000, 22_000)]), [Kind::Liveness], "there was time left");
}

#[test]
fn what_was_allowed_without_a_lease_may_be_lost_and_may_be_owed() {
    let mut open = facts(Service::Open, vec![call(1, Service::Open, Outcome::Ok)], 0);
    open.deaths = vec![death(GATEWAY, 1_500)];
    open.on_lost = OnLost::Granted;
    assert_eq!(kinds(&open), []);
    let mut owed = facts(Service::Open, vec![call(1, Service::Open, Outcome::Ok)], 1);
    let charged = owed.charged.values_mut().next().unwrap();
    (charged.owed, charged.owed_allowed, charged.allowed_units) =
        (charged.amount, charged.amount, 1);
    assert_eq!(kinds(&owed), []);
    for (allowed, expected) in [(0, Kind::DoubleCharge), (2, Kind::Lost)] {
        owed.allowed = [(GATEWAY, allowed)].into();
        assert_eq!(kinds(&owed), [expected]);
    }
    let mut denied = facts(Service::Coin, vec![call(1, Service::Coin, Outcome::Ok)], 1);
    denied.charged.values_mut().next().unwrap().allowed_units = 1;
    assert_eq!(kinds(&denied), [Kind::DoubleCharge]);
}

#[test]
fn a_budget_bounds_what_is_lent_and_what_is_lost() {
    let lent = |at, amount| vec![(at, nanos(amount))];
    for (above_budget, expected) in [
        (lent(1_000, "0.16"), vec![]),
        (lent(1_000, "0.161"), vec![Kind::AtRisk]),
        (lent(60_000, "0.36"), vec![]),
        (lent(60_000, "0.361"), vec![Kind::AtRisk]),
    ] {
        let price_changes = vec![(55_000, 58_000)];
        let facts = Facts { above_budget, price_changes, ..Facts::default() };
        assert_eq!(kinds(&facts), expected);
    }
    let calls = |count| {
        (1..=count).map(|id| Entry {
            begun_ms: 1_000,
            ended_ms: 1_000,
            gateway: Some(BUDGETED),
            ..call(id, Service::Coin, Outcome::Ok)
        })
    };
    for (count, expected) in [(160, vec![]), (161, vec![Kind::AtRisk])] {
        let mut facts = facts(Service::Coin, calls(count).collect(), 0);
        facts.arrivals.values_mut().for_each(|at| *at = 1_000);
        facts.charged.clear();
        facts.deaths = vec![death(BUDGETED, 1_500)];
        assert_eq!(kinds(&facts), expected, "{count} calls of 0.001");
    }
}
