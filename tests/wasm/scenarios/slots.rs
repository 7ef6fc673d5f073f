//! The slot table bounds shared data: when a set is full, its longest unused lease goes home.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use crate::gateway::{Gateway, asset, configuration, settings, sidecar};

const SETS: u64 = 8_192;
const WAYS: usize = 8;

/// The set of an account's record for `asset`, as the filter computes it: with 32-bit discriminants, because it runs on
/// a 32-bit machine.
fn set_of(gateway: &Gateway, account: &str) -> u64 {
    let (control, _) =
        gateway.host.shared_value("farebox/control/2").expect("the first call made it");
    let seed = u64::from_le_bytes(control[..8].try_into().unwrap());
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    account.hash(&mut hasher);
    "asset".hash(&mut hasher);
    0_i32.hash(&mut hasher);
    hasher.finish() % SETS
}

/// A gateway whose leases do not go home by themselves.
fn patient(workers: usize) -> Gateway {
    let mut configuration = configuration();
    configuration["idle_return"] = "10m".into();
    let mut sidecar = sidecar();
    sidecar.credit("rich", "1");
    sidecar.ttl_ms = 600_000;
    Gateway::with(workers, &settings(&configuration, 1), Rc::new(RefCell::new(sidecar)))
}

/// Accounts with 1.00 each whose records share one set.
fn colliding(gateway: &Gateway, count: usize) -> Vec<String> {
    gateway.serve(0, asset("rich"));
    let wanted = set_of(gateway, "rich");
    assert!(
        gateway.host.shared_value(&format!("farebox/set/2/{wanted}")).is_some(),
        "the test computes another set than the filter: {:?}",
        gateway.host.shared_keys()
    );
    let names = (0_u32..).map(|number| format!("user-{number}"));
    let accounts: Vec<String> =
        names.filter(|name| set_of(gateway, name) == wanted).take(count).collect();
    for account in &accounts {
        gateway.credit(account, "1");
    }
    accounts
}

#[test]
fn a_full_set_gives_its_longest_unused_lease_back() {
    let gateway = patient(2);
    let accounts = colliding(&gateway, WAYS);
    // A lease stays while an answer for it may be on its way, for three times the timeout.
    for (index, account) in accounts.iter().enumerate() {
        gateway.pass(500);
        assert!(gateway.serve(index % 2, asset(account)).is_forwarded(), "{account}");
    }
    gateway.pass(1_000);
    let sidecar = gateway.sidecar.borrow();
    assert!(sidecar.open_leases("rich").is_empty(), "the oldest of nine is back");
    assert_eq!(sidecar.charged("rich"), 1);
    for account in &accounts {
        assert_eq!(
            (sidecar.open_leases(account).len(), sidecar.charged(account)),
            (1, 1),
            "{account}"
        );
    }
    gateway.host.assert_no_faults();
}

#[test]
fn accounts_that_fight_for_one_set_are_all_served_and_charged() {
    let gateway = patient(2);
    let accounts = colliding(&gateway, 40);
    for round in 0..3 {
        for (index, account) in accounts.iter().enumerate() {
            let stream = gateway.serve((index + round) % 2, asset(account));
            assert!(stream.is_forwarded(), "{account}: {:?}", stream.state());
            gateway.pass(400);
        }
    }
    gateway.pass(1_000);
    gateway.host.assert_no_faults();
    let sidecar = gateway.sidecar.borrow();
    for account in &accounts {
        assert_eq!(sidecar.charged(account), 3, "{account}");
    }
    let open = accounts.iter().filter(|account| !sidecar.open_leases(account).is_empty()).count();
    assert!(open <= 2 * WAYS, "{open} leases in one set");
}

#[test]
fn a_set_full_of_leases_that_cannot_go_home_sheds_instead_of_growing() {
    let gateway = Gateway::new(1);
    let accounts = colliding(&gateway, 40);
    // Questions are asked, and nobody answers: each needs a place for its answer.
    let streams: Vec<_> =
        accounts.iter().map(|account| gateway.vms[0].request(asset(account))).collect();
    let key = format!("farebox/set/2/{}", set_of(&gateway, "rich"));
    let bytes = gateway.host.shared_value(&key).unwrap().0.len();
    assert!(bytes <= 16 * 512, "{bytes} bytes in one set");
    gateway.answer_all();
    gateway.pass(2_500);
    assert!(streams.iter().all(farebox_wasm_host::Stream::is_settled));
    let served = streams.iter().filter(|stream| stream.is_forwarded()).count();
    let shed = streams.iter().filter(|stream| stream.status() == Some(503)).count();
    assert_eq!(served + shed, 40);
    assert!(WAYS <= served, "{served} served, {shed} shed");
    gateway.pass(12_000);
    gateway.host.assert_no_faults();
    for (account, stream) in accounts.iter().zip(&streams) {
        assert_eq!(gateway.charged(account), u64::from(stream.is_forwarded()), "{account}");
    }
}

#[test]
fn shared_data_stays_within_the_table_whatever_the_number_of_accounts() {
    let gateway = Gateway::new(1);
    gateway.sidecar.borrow_mut().grant_max = 1;
    for number in 0..1_200 {
        let account = format!("guest-{number}");
        gateway.credit(&account, "0.001");
        assert!(gateway.serve(0, asset(&account)).is_forwarded());
    }
    let keys = gateway.host.shared_keys();
    assert!(keys.len() <= 8_192 + 64, "{} keys", keys.len());
    gateway.pass(15_000);
    assert_eq!(gateway.host.metric("farebox_admitted"), 1_200);
    let charged: u64 = gateway.sidecar.borrow().charges().iter().map(|charge| charge.units).sum();
    assert_eq!(charged, 1_200);
    gateway.host.assert_no_faults();
}
