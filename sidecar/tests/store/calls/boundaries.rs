//! Counts, quotas, prices and amounts at their edges. What a check says, a deduct does, each time.

use std::time::Duration;

use farebox_core::call::{CheckReply, CheckRequest, DeductRequest, Reason};
use farebox_core::money::Nanos;
use farebox_sidecar::app::{Outcome, Request};
use tokio::time::Instant;

use super::{call, deduct, say};
use crate::fixture::{Fixture, nanos};

/// A deduct at a price that its route names.
fn deduct_at(key: &str, account: &str, service: &str, count: u64, price: &str) -> Request {
    let Request::Deduct(request) = deduct(key, account, service, count) else { unreachable!() };
    Request::Deduct(DeductRequest { price: Some(nanos(price)), ..request })
}

impl Fixture {
    /// Checks, deducts, and requires that the two agree in every member; what the deduct was answered.
    async fn agreed(&self, request: Request) -> String {
        let Request::Deduct(DeductRequest { user_id, service, count, price, .. }) = request.clone()
        else {
            unreachable!()
        };
        let check = CheckRequest { user_id, service, count, price };
        let before = self.books().await;
        let said = self.app.check(std::slice::from_ref(&check)).await.pop().unwrap().unwrap();
        let again = self.app.check(&[check]).await.pop().unwrap().unwrap();
        assert_eq!(said, again, "a check changes nothing");
        let books = self.books().await;
        assert!(before.iter().all(|row| books.contains(row)), "a check changes no row");
        let done = call(&self.app, request).await;
        require_agreement(&said, done.as_ref().unwrap());
        say(done)
    }
}

fn require_agreement(said: &CheckReply, done: &Outcome) {
    match done {
        Outcome::Deducted(reply) => {
            let reason = match (reply.free_units, reply.paid_units) {
                (_, 0) => Reason::Free,
                (0, _) => Reason::Balance,
                _ => Reason::Mixed,
            };
            assert_eq!((said.allowed, said.reason), (true, reason), "{said:?}, {reply:?}");
            assert_eq!((said.cost, said.price), (reply.amount, reply.price));
            assert_eq!(said.available.checked_sub(reply.amount), Some(reply.available));
            let remaining = said.remaining_free - reply.free_units;
            assert_eq!(reply.free_quota.remaining, remaining);
        }
        Outcome::Refused(refusal) => {
            let reason = match refusal.code {
                190_102 => Reason::InsufficientBalance,
                _ => Reason::InsufficientQuota,
            };
            let short = &refusal.shortfall;
            assert_eq!((said.allowed, said.reason), (false, reason), "{said:?}, {short:?}");
            assert_eq!((said.cost, said.price), (short.cost, short.price));
            assert_eq!(said.available, short.available);
            assert_eq!(said.remaining_free, short.remaining_free);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_around_what_remains_is_served_whole_or_not_at_all() {
    let farebox = Fixture::new(&[("asset", 6)], &[("asset", "0.1")]).await;
    // T55: a call of 5 units, with 0, 1, 4, 5 and 6 free units left.
    for (balance, expected) in [
        (
            "0",
            [
                "190102: 0 free and 0 do not cover 0.5",
                "190102: 1 free and 0 do not cover 0.4",
                "190102: 4 free and 0 do not cover 0.1",
                "5 free, 0 paid for 0, leaves 0",
                "5 free, 0 paid for 0, leaves 0",
            ],
        ),
        (
            "0.1",
            [
                "190102: 0 free and 0.1 do not cover 0.5",
                "190102: 1 free and 0.1 do not cover 0.4",
                "4 free, 1 paid for 0.1, leaves 0",
                "5 free, 0 paid for 0, leaves 0.1",
                "5 free, 0 paid for 0, leaves 0.1",
            ],
        ),
        (
            "0.5",
            [
                "0 free, 5 paid for 0.5, leaves 0",
                "1 free, 4 paid for 0.4, leaves 0.1",
                "4 free, 1 paid for 0.1, leaves 0.4",
                "5 free, 0 paid for 0, leaves 0.5",
                "5 free, 0 paid for 0, leaves 0.5",
            ],
        ),
    ] {
        for (remaining, expected) in [0, 1, 4, 5, 6].into_iter().zip(expected) {
            let user = format!("u-{balance}-{remaining}");
            if remaining < 6 {
                farebox
                    .record(deduct(&format!("{user}-before"), &user, "asset", 6 - remaining))
                    .await;
            }
            if balance != "0" {
                farebox.credit(&user, balance).await;
            }
            let told = farebox.agreed(deduct(&user, &user, "asset", 5)).await;
            assert_eq!(told, expected, "{remaining} left, balance {balance}");
        }
    }
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_paid_by_what_it_has_and_by_nothing_else() {
    let quotas = [("nothing", 0), ("sold", 0), ("given", 2), ("both", 2)];
    let farebox = Fixture::new(&quotas, &[("sold", "0.1"), ("priced", "0.1"), ("both", "0")]).await;
    farebox.credit("u", "1").await;
    for (service, count, expected) in [
        // T45: a quota of 0 is a quota; without a price, money does not help.
        ("nothing", 1, "190202: 0 free and 1 do not cover 0"),
        ("given", 2, "2 free, 0 paid for 0, leaves 1"),
        ("given", 1, "190202: 0 free and 1 do not cover 0"),
        ("sold", 3, "0 free, 3 paid for 0.3, leaves 0.7"),
        // T44: a price without a quota.
        ("priced", 7, "0 free, 7 paid for 0.7, leaves 0"),
        ("priced", 1, "190102: 0 free and 0 do not cover 0.1"),
        // A price of 0 is a price: paid units that cost nothing.
        ("both", 3, "2 free, 1 paid for 0, leaves 0"),
        ("both", 2_147_483_647, "0 free, 2147483647 paid for 0, leaves 0"),
    ] {
        let key = format!("{service}-{count}");
        assert_eq!(farebox.agreed(deduct(&key, "u", service, count)).await, expected, "{key}");
    }
    let zero = "SELECT unit_price, paid_units FROM billing_record WHERE service_name = 'both' AND count = 3";
    assert_eq!(farebox.database.rows(zero).await, ["0.000000000 1"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_the_route_names_stands_in_the_record() {
    let farebox = Fixture::new(&[("asset", 1)], &[("asset", "0.1")]).await;
    farebox.credit("u", "1").await;
    for (key, count, price, expected) in [
        ("dear", 2, "0.5", "1 free, 1 paid for 0.5, leaves 0.5"),
        ("cheap", 3, "0.000000001", "0 free, 3 paid for 0.000000003, leaves 0.499999997"),
        ("gift", 3, "0", "0 free, 3 paid for 0, leaves 0.499999997"),
        ("more", 1, "0.5", "190102: 0 free and 0.499999997 do not cover 0.5"),
    ] {
        let request = deduct_at(key, "u", "asset", count, price);
        assert_eq!(farebox.agreed(request).await, expected, "{key}");
    }
    let records =
        "SELECT record.unit_price, version.source, version.price FROM billing_record AS record
         JOIN price_version AS version USING (price_version_id) ORDER BY record.unit_price";
    assert_eq!(
        farebox.database.rows(records).await,
        [
            "0.000000000 route 0.000000000",
            "0.000000001 route 0.000000001",
            "0.500000000 route 0.500000000"
        ]
    );
    // A reservation at the route's price is committed at it.
    let Request::Reserve(request) = super::reserve_units("r", "u", "asset", 2) else {
        unreachable!()
    };
    let request = Request::Reserve(farebox_core::call::ReserveRequest {
        price: Some(nanos("0.2")),
        ..request
    });
    let id = farebox.reservation(request).await;
    let committed = farebox.told(super::commit(&id, None)).await;
    assert_eq!(committed, "0 free, 2 paid for 0.4, leaves 0.099999997");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_price_is_for_later_calls_and_old_records_keep_theirs() {
    let farebox = Fixture::new(&[], &[("asset", "0.1")]).await;
    farebox.credit("u", "10").await;
    farebox.record(deduct("old", "u", "asset", 2)).await;
    let id = farebox.reservation(super::reserve_units("held", "u", "asset", 5)).await;
    let dearer = farebox.sidecar(&[], &[("asset", "0.3")]).await;
    // The sidecar that does not know of the change yet charges what the book says as well (T54).
    let told = [
        farebox.agreed(deduct("new", "u", "asset", 1)).await,
        super::told(&dearer, deduct("newer", "u", "asset", 1)).await,
        // What was reserved at the old price is committed at it.
        farebox.told(super::commit(&id, None)).await,
    ];
    assert_eq!(
        told,
        [
            "0 free, 1 paid for 0.3, leaves 9.5",
            "0 free, 1 paid for 0.3, leaves 9.2",
            "0 free, 5 paid for 0.5, leaves 8.7"
        ]
    );
    let records =
        "SELECT record.count, record.unit_price, version.price, version.effective_to IS NULL
         FROM billing_record AS record JOIN price_version AS version USING (price_version_id)
         ORDER BY record.created_at, record.billing_record_id";
    assert_eq!(
        farebox.database.rows(records).await,
        [
            "2 0.100000000 0.100000000 0",
            "1 0.300000000 0.300000000 1",
            "1 0.300000000 0.300000000 1",
            "5 0.100000000 0.100000000 0"
        ]
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_below_a_cent_cost_exactly_their_sum() {
    // T01: at 0.001, in binary fractions, this would not come out.
    let farebox = Fixture::new(&[], &[("asset", "0.001")]).await;
    farebox.credit("u", "1.0005").await;
    let requests = (0..1_001).map(|call| deduct(&format!("k{call}"), "u", "asset", 1)).collect();
    let answers = farebox.app.call(requests, Instant::now() + Duration::from_secs(20)).await;
    for (index, answer) in answers.into_iter().enumerate() {
        let Ok(Outcome::Deducted(reply)) = answer else {
            assert_eq!(
                (index, say(answer)),
                (1_000, "190102: 0 free and 0.0005 do not cover 0.001".to_owned())
            );
            continue;
        };
        // One after the other, in their order.
        let spent = i64::try_from(index + 1).unwrap() * 1_000_000;
        assert_eq!(reply.balance, Nanos::new(1_000_500_000 - spent));
    }
    assert_eq!(farebox.money("u").await, "0.0005 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_counts_and_amounts_are_charged_or_refused_but_no_error() {
    let prices = [("tiny", "0.000000001"), ("one", "1"), ("dear", "9000000000")];
    let farebox = Fixture::new(&[], &prices).await;
    farebox.credit("u", "9223372036").await;
    const MAX: u64 = 2_147_483_647;
    for (service, count, expected) in [
        ("tiny", MAX, "0 free, 2147483647 paid for 2.147483647, leaves 9223372033.852516353"),
        ("one", MAX, "0 free, 2147483647 paid for 2147483647, leaves 7075888386.852516353"),
        // The cost is beyond what money can say: refused, and told as the largest amount.
        ("dear", 2, "190102: 0 free and 7075888386.852516353 do not cover 9223372036.854775807"),
        ("dear", MAX, "190102: 0 free and 7075888386.852516353 do not cover 9223372036.854775807"),
        ("dear", 1, "190102: 0 free and 7075888386.852516353 do not cover 9000000000"),
    ] {
        let key = format!("{service}-{count}");
        assert_eq!(farebox.agreed(deduct(&key, "u", service, count)).await, expected, "{key}");
    }
    // A refund that the balance has no room for is an error of its own, and moves nothing.
    let record = farebox
        .database
        .rows("SELECT billing_record_id FROM billing_record WHERE service_name = 'one'")
        .await;
    farebox.credit("u", "2147483647").await;
    let before = farebox.books().await;
    let refused = call(&farebox.app, super::refund("f", &record[0], None)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(farebox.books().await, before);
    farebox.assert_sound().await;
}
