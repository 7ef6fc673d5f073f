//! Random requests of every kind at once, on three sidecars: nothing fails but what contradicts itself, and the books
//! hold.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farebox_core::call::ReserveRequest;
use farebox_sidecar::app::{App, CallError, Outcome, Request};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{commit, deduct, refund, release, reserve_units, undo};
use crate::fixture::{Fixture, credit};

const TASKS: usize = 9;
const STEPS: u32 = 40;

/// What the tasks know of each other's requests.
#[derive(Clone, Default)]
struct Known {
    reservations: Arc<Mutex<Vec<String>>>,
    records: Arc<Mutex<Vec<String>>>,
}

fn any(of: &Mutex<Vec<String>>, random: &mut StdRng) -> Option<String> {
    of.lock().unwrap().choose(random).cloned()
}

/// A deduct whose content its number says: several tasks send the same ones.
fn numbered(number: u32) -> Request {
    let user = format!("u{}", number % 3);
    deduct(&format!("k{number}"), &user, "asset", 1 + u64::from(number % 4))
}

/// A reservation that runs out while the others go on.
fn soon_over(request: Request, random: &mut StdRng) -> Request {
    let Request::Reserve(request) = request else { unreachable!() };
    Request::Reserve(ReserveRequest { ttl_ms: Some(random.random_range(1..200)), ..request })
}

fn next(known: &Known, random: &mut StdRng) -> Option<Request> {
    let number = random.random_range(0..120);
    let user = format!("u{}", number % 3);
    let key = format!("{:032x}", random.random::<u128>());
    Some(match random.random_range(0..10) {
        0..4 => numbered(number),
        4 | 5 => soon_over(reserve_units(&key, &user, "asset", random.random_range(1..5)), random),
        6 => commit(&any(&known.reservations, random)?, Some(1)),
        7 => release(&any(&known.reservations, random)?),
        8 => refund(&key, &any(&known.records, random)?, Some(1)),
        _ => undo(&format!("k{number}"), &user),
    })
}

async fn send(app: &App, known: &Known, request: Request) {
    let deadline = Instant::now() + Duration::from_secs(20);
    match app.call(vec![request.clone()], deadline).await.pop().unwrap() {
        Ok(Outcome::Deducted(reply)) => known.records.lock().unwrap().push(reply.record_id),
        Ok(Outcome::Committed(reply)) => {
            known.records.lock().unwrap().extend(reply.record_id);
        }
        Ok(Outcome::Reserved(reply)) => {
            known.reservations.lock().unwrap().push(reply.reservation_id);
        }
        Ok(_) => {}
        // Committed and released, or given back twice.
        Err(CallError::Ended { .. }) => {}
        Err(err) => panic!("{request:?}: {err:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_every_kind_at_once_leave_the_books_sound() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let (quotas, prices) = ([("asset", 20)], [("asset", "0.1")]);
    let farebox = Fixture::new(&quotas, &prices).await;
    let apps = farebox.three(&quotas, &prices).await;
    let known = Known::default();
    let mut tasks = JoinSet::new();
    for (task, app) in apps.iter().cycle().take(TASKS).cloned().enumerate() {
        let known = known.clone();
        let mut random = StdRng::seed_from_u64(seed ^ task as u64);
        tasks.spawn(async move {
            for step in 0..STEPS {
                if let Some(request) = next(&known, &mut random) {
                    send(&app, &known, request).await;
                }
                if step % 10 == 0 {
                    let key = format!("credit-{task}-{step}");
                    app.credit(&credit(&format!("u{}", task % 3), "0.5", &key)).await.unwrap();
                    app.reclaim().await.unwrap();
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    farebox.assert_sound().await;
    require_sums(&farebox, &apps).await;
}

/// What was paid in is what is left and what was charged and did not go back.
async fn require_sums(farebox: &Fixture, apps: &[App]) {
    farebox.database.run("UPDATE reservation SET expires_at = created_at").await;
    // One of them has the job.
    for app in apps {
        app.reclaim().await.unwrap();
    }
    let sums =
        "SELECT (SELECT SUM(held) FROM user_balance), (SELECT SUM(held_quota) FROM free_quota),
          (SELECT SUM(balance) FROM user_balance) + (SELECT SUM(amount) FROM billing_record)
            - (SELECT COALESCE(SUM(amount), 0) FROM charge_refund),
          (SELECT SUM(used_quota) FROM free_quota)
            - (SELECT SUM(free_units - free_refunded) FROM billing_record)";
    // Nine tasks paid 0.5 in four times each.
    assert_eq!(farebox.database.rows(sums).await, ["0.000000000 0 18.000000000 0"]);
    farebox.assert_sound().await;
}
