//! Many at once, on three sidecars that share a database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farebox_sidecar::app::{App, CallError, Outcome, Request};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{deduct, reserve_units, say, undo};
use crate::fixture::{Fixture, credit, used, want};

type Answer = Result<Outcome, CallError>;

/// Decides one request, with patience: a crowd on a slow machine is no failure.
async fn call(app: &App, request: Request) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(20);
    app.call(vec![request], deadline).await.pop().unwrap()
}

impl Fixture {
    /// Three sidecars, each with connections of its own.
    pub(crate) async fn three(
        &self,
        free_quotas: &[(&str, u64)],
        prices: &[(&str, &str)],
    ) -> [App; 3] {
        let second = self.sidecar(free_quotas, prices).await;
        let third = self.sidecar(free_quotas, prices).await;
        [self.app.clone(), second, third]
    }
}

/// Sends every request at once, one task each, in turn over the sidecars; the answers in the order of the requests.
async fn at_once(apps: &[App; 3], requests: Vec<Request>) -> Vec<Answer> {
    let tasks: Vec<_> = requests
        .into_iter()
        .enumerate()
        .map(|(index, request)| {
            let app = apps[index % apps.len()].clone();
            tokio::spawn(async move { call(&app, request).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

fn count(answers: &[Answer], wanted: impl Fn(&Outcome) -> bool) -> usize {
    answers.iter().filter(|answer| answer.as_ref().is_ok_and(&wanted)).count()
}

fn is_charged(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Deducted(_))
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_deducts_of_one_user_spend_it_to_the_last_unit() {
    let (quotas, prices) = ([("asset", 50)], [("asset", "0.1")]);
    let farebox = Fixture::new(&quotas, &prices).await;
    farebox.credit("u", "10").await;
    let apps = farebox.three(&quotas, &prices).await;
    let requests = (0..200).map(|call| deduct(&format!("k{call}"), "u", "asset", 1)).collect();
    let answers = at_once(&apps, requests).await;
    // Nobody is told that the account is busy.
    assert_eq!(
        (count(&answers, is_charged), count(&answers, is_refused)),
        (150, 50),
        "{answers:?}"
    );
    assert_eq!(farebox.money("u").await, "0 0 0");
    assert_eq!(farebox.quotas("u").await, "asset 50+0/50");
    let records = farebox.database.rows("SELECT COUNT(*), SUM(count) FROM billing_record").await;
    assert_eq!(records, ["150 150"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_a_hundred_times_is_charged_once_and_answered_alike() {
    let (quotas, prices) = ([("asset", 50)], [("asset", "0.1")]);
    let farebox = Fixture::new(&quotas, &prices).await;
    let apps = farebox.three(&quotas, &prices).await;
    // A user that nobody knows yet, and one that has an account.
    farebox.credit("old", "10").await;
    for user in ["new", "old"] {
        let answers = at_once(&apps, vec![deduct(user, user, "asset", 2); 100]).await;
        let first = answers[0].as_ref().unwrap();
        assert!(is_charged(first), "{first:?}");
        for answer in &answers {
            assert_eq!(answer.as_ref().unwrap(), first);
        }
        assert_eq!(farebox.quotas(user).await, "asset 2+0/50");
    }
    assert_eq!(farebox.database.rows("SELECT COUNT(*) FROM billing_record").await, ["2"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reservations_of_the_last_unit_have_one_winner() {
    let quotas = [("asset", 1)];
    let farebox = Fixture::new(&quotas, &[]).await;
    let apps = farebox.three(&quotas, &[]).await;
    let requests =
        (0..100).map(|call| reserve_units(&format!("r{call}"), "u", "asset", 1)).collect();
    let answers = at_once(&apps, requests).await;
    let won = count(&answers, |outcome| matches!(outcome, Outcome::Reserved(_)));
    assert_eq!((won, count(&answers, is_refused)), (1, 99), "{answers:?}");
    assert_eq!(farebox.quotas("u").await, "asset 0+1/1");
    farebox.assert_sound().await;
}

/// What a request with this key of the crowd stands for: user, count.
type Content = (usize, u64);

/// Keys, each sent once to three times, some of them once more for another user or count; in random order.
fn crowd(random: &mut StdRng) -> Vec<(String, Content)> {
    let mut requests = Vec::new();
    for key in 0..150 {
        let content = (random.random_range(0..12), random.random_range(1..4));
        let times = random.random_range(1..4);
        requests.extend((0..times).map(|_| (format!("k{key}"), content)));
        match random.random_range(0..4) {
            0 => requests.push((format!("k{key}"), (content.0, content.1 + 1))),
            1 => requests.push((format!("k{key}"), ((content.0 + 1) % 12, content.1))),
            _ => {}
        }
    }
    requests.shuffle(random);
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_crowd_each_key_stands_for_one_content_and_one_answer() {
    let seed = rand::random();
    println!("seed {seed}");
    let (quotas, prices) = ([("asset", 20)], [("asset", "0.1")]);
    let farebox = Fixture::new(&quotas, &prices).await;
    let apps = farebox.three(&quotas, &prices).await;
    // Some users have money, some do not, and some have no account yet.
    for user in 0..4 {
        farebox.credit(&format!("u{user}"), "100").await;
    }
    let sent = crowd(&mut StdRng::seed_from_u64(seed));
    let request = |(key, (user, count)): &(String, Content)| {
        deduct(key, &format!("u{user}"), "asset", *count)
    };
    let answers = at_once(&apps, sent.iter().map(request).collect()).await;
    let mut decided: BTreeMap<&str, (Content, &Outcome)> = BTreeMap::new();
    for ((key, content), answer) in sent.iter().zip(&answers) {
        if let Ok(outcome) = answer {
            let first = decided.entry(key).or_insert((*content, outcome));
            assert_eq!(*first, (*content, outcome), "{key}");
        }
    }
    for ((key, content), answer) in sent.iter().zip(&answers) {
        match answer {
            Ok(_) => {}
            Err(CallError::KeyReused { .. }) => assert_ne!(decided[key.as_str()].0, *content),
            Err(err) => panic!("{key}: {err:?}"),
        }
    }
    assert_eq!(decided.len(), 150, "every key was decided");
    let charged = decided.values().filter(|(_, outcome)| is_charged(outcome));
    let (records, units) = charged.fold((0, 0), |sum, ((_, count), _)| (sum.0 + 1, sum.1 + count));
    let counted = farebox.database.rows("SELECT COUNT(*), SUM(count) FROM billing_record").await;
    assert_eq!(counted, [format!("{records} {units}")]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deducts_gateways_and_credits_of_one_user_serve_what_is_funded_and_no_more() {
    let (quotas, prices) = ([("asset", 60)], [("asset", "0.1")]);
    let farebox = Fixture::new(&quotas, &prices).await;
    let apps = farebox.three(&quotas, &prices).await;
    let paid_in = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for (number, app) in apps.iter().enumerate() {
        let (app, paid_in, mut edge) =
            (app.clone(), paid_in.clone(), farebox.gateway(&format!("edge-{number}")));
        let gateway_is_done = paid_in.clone();
        crowd.spawn(async move {
            for call in 0.. {
                let is_last = paid_in.load(Ordering::SeqCst);
                match call_of(&app, number, call).await {
                    Ok(Outcome::Refused(_)) if is_last => return,
                    Ok(_) => {}
                    Err(err) => panic!("{err:?}"),
                }
            }
        });
        crowd.spawn(async move {
            loop {
                let is_last = gateway_is_done.load(Ordering::SeqCst);
                match edge.want(want("u", "asset", 7, 1)).await {
                    Ok(grant) => {
                        let total = grant.free_units + grant.paid_units;
                        edge.report(used(grant.lease, total)).await;
                    }
                    Err(refusal) if is_last && !refusal.soon => return,
                    Err(_) => {}
                }
            }
        });
    }
    for number in 0..10 {
        farebox.app.credit(&credit("u", "1", &format!("credit-{number}"))).await.unwrap();
    }
    paid_in.store(true, Ordering::SeqCst);
    while let Some(ended) = crowd.join_next().await {
        ended.unwrap();
    }
    // 60 free units, and 10 at 0.1.
    assert_eq!(
        (farebox.money("u").await, farebox.quotas("u").await),
        ("0 0 0".into(), "asset 60+0/60".into())
    );
    let served = farebox.database.rows("SELECT SUM(count) FROM billing_record").await;
    assert_eq!(served, ["160"]);
    farebox.assert_sound().await;
}

async fn call_of(app: &App, number: usize, call_number: usize) -> Answer {
    call(app, deduct(&format!("k-{number}-{call_number}"), "u", "asset", 1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_in_one_call_are_each_answered_in_their_place() {
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "0.001")]).await;
    let sent: Vec<(String, Content)> =
        (0..1_000).map(|place| (format!("k{}", place % 800), (place % 40, 1))).collect();
    let request = |(key, (user, count)): &(String, Content)| {
        deduct(key, &format!("u{user}"), "asset", *count)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let answers = farebox.app.call(sent.iter().map(request).collect(), deadline).await;
    assert_eq!(answers.len(), 1_000);
    for place in 0..1_000 {
        // Of each user's 20 different calls the first ten are free, and nobody has money.
        let expected = (place % 800) / 40 < 10;
        let outcome = answers[place].as_ref().unwrap();
        assert_eq!(is_charged(outcome), expected, "{place}: {}", say(answers[place].clone()));
        assert_eq!(outcome, answers[place % 800].as_ref().unwrap(), "{place}");
    }
    assert_eq!(farebox.database.rows("SELECT COUNT(*) FROM billing_record").await, ["400"]);
    farebox.assert_sound().await;
}

/// Deducts and undoes the same key at once, on two sidecars; every time, nothing is charged in the end.
async fn race_undo(farebox: &Fixture, apps: &[App; 3], user: impl Fn(usize) -> String) {
    let mut races = JoinSet::new();
    for number in 0..100 {
        let (first, second) = (apps[number % 3].clone(), apps[(number + 1) % 3].clone());
        let (key, user) = (format!("{}-{number}", user(number)), user(number));
        races.spawn(async move {
            let (charge, undone) = (deduct(&key, &user, "asset", 2), undo(&key, &user));
            if rand::random() {
                tokio::join!(call(&first, charge), call(&second, undone))
            } else {
                let (undone, charged) = tokio::join!(call(&second, undone), call(&first, charge));
                (charged, undone)
            }
        });
    }
    while let Some(race) = races.join_next().await {
        match race.unwrap() {
            (Ok(Outcome::Deducted(reply)), Ok(Outcome::Refunded(back))) => {
                assert_eq!(back.record_id, Some(reply.record_id));
                let units = (back.free_units, back.paid_units, back.amount);
                assert_eq!(units, (reply.free_units, reply.paid_units, reply.amount));
            }
            (Ok(Outcome::Cancelled), Ok(Outcome::Refunded(back))) => {
                assert_eq!((back.refund_id, back.free_units + back.paid_units), (None, 0));
            }
            other => panic!("{other:?}"),
        }
    }
    let charged = "SELECT COUNT(*) FROM billing_record WHERE free_units + paid_units <> free_refunded + paid_refunded";
    assert_eq!(farebox.database.rows(charged).await, ["0"]);
    let used = "SELECT COALESCE(SUM(used_quota), 0) FROM free_quota";
    assert_eq!(farebox.database.rows(used).await, ["0"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deduct_that_is_undone_while_it_comes_is_never_charged() {
    let (quotas, prices) = ([("asset", 7)], [("asset", "0.1")]);
    let farebox = Fixture::new(&quotas, &prices).await;
    let apps = farebox.three(&quotas, &prices).await;
    farebox.credit("u", "1000").await;
    race_undo(&farebox, &apps, |_| "u".to_owned()).await;
    assert_eq!(farebox.money("u").await, "1000 0 0");
    // Users that have no row to lock yet.
    race_undo(&farebox, &apps, |number| format!("new{number}")).await;
}
