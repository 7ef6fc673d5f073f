//! Events reach their receiver, an axum server of the test, whatever it answers and whoever dies.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::post;
use farebox_sidecar::app::{App, Deliveries};
use farebox_sidecar::config::{Events, Secret};
use farebox_sidecar::events::EventSender;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Notify};

use crate::fixture::Fixture;

const SECRET: &str = "whsec_ZXZlbnRzLXNlY3JldC1vZi10aGUtc3RvcmUtdGVzdHM=";

/// Whom events are sent to.
struct Receiver {
    url: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    events: Mutex<Vec<(HeaderMap, String)>>,
    /// What to answer, the last one for ever; nothing means 200, and 0 no answer at all.
    answers: Mutex<Vec<u16>>,
    arrived: Notify,
}

impl Receiver {
    async fn start(answers: &[u16]) -> Self {
        let seen = Arc::new(Seen::default());
        *seen.answers.lock().unwrap() = answers.to_vec();
        let router = Router::new()
            .route("/events", post(told))
            .route("/elsewhere", post(async || Redirect::temporary("/events")))
            .with_state(Arc::clone(&seen));
        Self { url: serve(router).await, seen }
    }

    fn answer(&self, status: u16) {
        *self.seen.answers.lock().unwrap() = vec![status];
    }

    /// The ids of all events so far, each of them verified as a receiver would, and its body compared.
    fn ids(&self) -> Vec<String> {
        let webhook = Webhook::new(SECRET).unwrap();
        let id = |(headers, body): &(HeaderMap, String)| {
            webhook.verify(body.as_bytes(), headers).unwrap();
            assert_eq!(headers["content-type"], "application/json");
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            assert_eq!(body, &payload(&id));
            id
        };
        self.seen.events.lock().unwrap().iter().map(id).collect()
    }
}

/// Serves on a free port; the address of its events.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn told(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: String) -> StatusCode {
    seen.events.lock().unwrap().push((headers, body));
    let status = {
        let mut answers = seen.answers.lock().unwrap();
        if 1 < answers.len() { answers.remove(0) } else { *answers.first().unwrap_or(&200) }
    };
    seen.arrived.notify_one();
    if status == 0 {
        std::future::pending::<()>().await;
    }
    StatusCode::from_u16(status).unwrap()
}

fn sender(url: &str, timeout: Duration) -> EventSender {
    let secrets = vec![Secret::new(SECRET)];
    EventSender::new(&Events { url: url.to_owned(), secrets, timeout }).unwrap()
}

/// Far beyond what any delivery takes.
const PATIENT: Duration = Duration::from_secs(60);

/// A further sidecar that tells this receiver.
async fn teller(farebox: &Fixture, url: &str) -> App {
    farebox.sidecar(&[], &[]).await.with_events(sender(url, PATIENT))
}

fn payload(event_id: &str) -> String {
    format!(r#"{{"type":"recharge.paid","data":{{"order_id":"{event_id}","amount":"1.5"}}}}"#)
}

/// Writes events as a transaction of ours would.
async fn write(farebox: &Fixture, event_ids: impl IntoIterator<Item = String>) {
    for id in event_ids {
        let payload = payload(&id);
        let sql = format!(
            "INSERT INTO outbox (event_id, event_type, user_id, payload_json, send_at, created_at)
             VALUES ('{id}', 'recharge.paid', 'ada', '{payload}', UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))"
        );
        assert_eq!(farebox.database.run(sql).await, 1);
    }
}

/// `event_id attempts waits delivered`, of every event.
async fn rows(farebox: &Fixture) -> Vec<String> {
    let sql = "SELECT event_id, attempts, send_at IS NOT NULL, delivered_at IS NOT NULL FROM outbox ORDER BY event_id";
    farebox.database.rows(sql).await
}

/// Lets every event that waits be due.
async fn make_due(farebox: &Fixture) {
    let sql = "UPDATE outbox SET send_at = UTC_TIMESTAMP(3) WHERE send_at IS NOT NULL";
    farebox.database.run(sql).await;
}

async fn deliver(app: &App) -> Deliveries {
    app.deliver_events(|| true).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_sent_until_it_is_taken_signed_each_time_and_under_one_id() {
    let farebox = Fixture::new(&[], &[]).await;
    let receiver = Receiver::start(&[500, 500, 200]).await;
    let app = teller(&farebox, &receiver.url).await;
    write(&farebox, ["e1".to_owned()]).await;
    for expected in ["e1 1 1 0", "e1 2 1 0", "e1 2 0 1", "e1 2 0 1"] {
        deliver(&app).await;
        assert_eq!(rows(&farebox).await, [expected]);
        assert_eq!(deliver(&app).await, Deliveries::default(), "nothing is due before its time");
        make_due(&farebox).await;
    }
    assert_eq!(receiver.ids(), ["e1"; 3]);

    // README's way to send one again.
    farebox.database.run("UPDATE outbox SET send_at = UTC_TIMESTAMP(), attempts = 0").await;
    assert_eq!(deliver(&app).await.delivered, 1);
    assert_eq!(rows(&farebox).await, ["e1 0 0 1"]);
    assert_eq!(receiver.ids(), ["e1"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_follow_the_schedule_until_the_event_is_given_up() {
    let farebox = Fixture::new(&[], &[]).await;
    // 410 is a failure like any other: who comes back within three days misses nothing.
    let receiver = Receiver::start(&[410]).await;
    let app = teller(&farebox, &receiver.url).await;
    write(&farebox, ["e1".to_owned()]).await;
    for (failures, wait_s) in
        (1..).zip([5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400])
    {
        let before = now(&farebox).await;
        assert_eq!(deliver(&app).await.failed, 1);
        let after = now(&farebox).await;
        let sql = "SELECT UNIX_TIMESTAMP(send_at), attempts FROM outbox";
        let row = farebox.database.rows(sql).await.remove(0);
        let (send_at, attempts) = row.split_once(' ').unwrap();
        let send_at_ms = milliseconds(send_at);
        let expected = before + wait_s * 1_000..=after + wait_s * 1_000;
        assert!(
            expected.contains(&send_at_ms),
            "after failure {failures}: {send_at_ms} {expected:?}"
        );
        assert_eq!(attempts, failures.to_string());
        make_due(&farebox).await;
    }
    assert_eq!(deliver(&app).await.failed, 1);
    assert_eq!(rows(&farebox).await, ["e1 10 0 0"], "given up");
    make_due(&farebox).await;
    assert_eq!(deliver(&app).await, Deliveries::default());
    assert_eq!(receiver.ids().len(), 10);
}

async fn now(farebox: &Fixture) -> i64 {
    milliseconds(&farebox.database.rows("SELECT UNIX_TIMESTAMP(UTC_TIMESTAMP(3))").await[0])
}

/// Seconds with three decimals, without the detour over a float.
fn milliseconds(seconds: &str) -> i64 {
    seconds.replace('.', "").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_refused_holds_no_other_up() {
    let farebox = Fixture::new(&[], &[]).await;
    let receiver = Receiver::start(&[400, 200]).await;
    let app = teller(&farebox, &receiver.url).await;
    write(&farebox, (0..20).map(|number| format!("e{number:02}"))).await;
    assert_eq!(deliver(&app).await, Deliveries { delivered: 19, failed: 1, is_full: false });
    make_due(&farebox).await;
    assert_eq!(deliver(&app).await, Deliveries { delivered: 1, failed: 0, is_full: false });
    assert_eq!(receiver.ids().into_iter().collect::<BTreeSet<_>>().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sidecars_at_once_deliver_each_event_once() {
    let farebox = Fixture::new(&[], &[]).await;
    let receiver = Receiver::start(&[]).await;
    let (one, other) =
        (teller(&farebox, &receiver.url).await, teller(&farebox, &receiver.url).await);
    write(&farebox, (0..130).map(|number| format!("e{number:03}"))).await;
    let work = async |app: &App| {
        while deliver(app).await.is_full {}
    };
    tokio::join!(work(&one), work(&other));
    // Whoever had the job went on to the end; the other one had nothing to do.
    let ids = receiver.ids();
    assert_eq!(ids.len(), 130);
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>().len(), 130);
    assert!(rows(&farebox).await.iter().all(|row| row.ends_with(" 0 0 1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_before_the_mark_leaves_the_event_to_the_next() {
    let farebox = Fixture::new(&[], &[]).await;
    let receiver = Receiver::start(&[0]).await;
    let (dying, next) =
        (teller(&farebox, &receiver.url).await, teller(&farebox, &receiver.url).await);
    write(&farebox, ["e1".to_owned()]).await;
    let delivery = tokio::spawn(async move { dying.deliver_events(|| true).await });
    receiver.seen.arrived.notified().await;
    delivery.abort();
    assert!(delivery.await.unwrap_err().is_cancelled());
    assert_eq!(rows(&farebox).await, ["e1 0 1 0"]);

    receiver.answer(200);
    assert_eq!(deliver(&next).await, Deliveries::default(), "the job is still the dead one's");
    let sql = "UPDATE job_lease SET until = UTC_TIMESTAMP(3) WHERE name = 'deliver_events'";
    assert_eq!(farebox.database.run(sql).await, 1);
    assert_eq!(deliver(&next).await.delivered, 1);
    assert_eq!(rows(&farebox).await, ["e1 0 0 1"]);
    assert_eq!(receiver.ids(), ["e1", "e1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let farebox = Fixture::new(&[], &[]).await;
    let receiver = Receiver::start(&[]).await;
    let app = teller(&farebox, &receiver.url.replace("/events", "/elsewhere")).await;
    write(&farebox, ["e1".to_owned()]).await;
    assert_eq!(deliver(&app).await.failed, 1);
    assert_eq!(rows(&farebox).await, ["e1 1 1 0"]);
    assert!(receiver.ids().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_silent_or_away_costs_a_deadline_and_no_event() {
    let farebox = Fixture::new(&[], &[]).await;
    let receiver = Receiver::start(&[0]).await;
    let app = farebox.sidecar(&[], &[]).await;
    let app = app.with_events(sender(&receiver.url, Duration::from_millis(200)));
    write(&farebox, ["e1".to_owned()]).await;
    assert_eq!(deliver(&app).await.failed, 1);
    make_due(&farebox).await;
    // The same sidecar, so that it keeps the job; nobody listens at this port.
    let app = app.with_events(sender("http://127.0.0.1:1/events", PATIENT));
    assert_eq!(deliver(&app).await.failed, 1);
    make_due(&farebox).await;
    receiver.answer(204);
    let app = app.with_events(sender(&receiver.url, PATIENT));
    assert_eq!(deliver(&app).await.delivered, 1);
    assert_eq!(rows(&farebox).await, ["e1 2 0 1"]);
}

/// The receiver answers only when eight deliveries wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn eight_deliveries_run_at_once_and_never_more() {
    let crowd = Arc::new((Barrier::new(8), AtomicU32::new(0)));
    let meet = async |State(crowd): State<Arc<(Barrier, AtomicU32)>>| {
        crowd.0.wait().await;
        crowd.1.fetch_add(1, Ordering::SeqCst);
    };
    let router = Router::new().route("/events", post(meet)).with_state(Arc::clone(&crowd));
    let url = serve(router).await;
    let farebox = Fixture::new(&[], &[]).await;
    let app = teller(&farebox, &url).await;
    write(&farebox, (0..48).map(|number| format!("e{number:02}"))).await;
    let (begun, most) = (AtomicU32::new(0), AtomicU32::new(0));
    // Asked before each delivery begins.
    let go_on = || {
        let running = begun.fetch_add(1, Ordering::SeqCst) + 1 - crowd.1.load(Ordering::SeqCst);
        most.fetch_max(running, Ordering::SeqCst);
        true
    };
    assert_eq!(app.deliver_events(go_on).await.unwrap().delivered, 48);
    assert_eq!(most.into_inner(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn none_begins_after_the_stop_and_those_that_began_are_marked() {
    let farebox = Fixture::new(&[], &[]).await;
    let receiver = Receiver::start(&[]).await;
    let app = teller(&farebox, &receiver.url).await;
    write(&farebox, (0..20).map(|number| format!("e{number:02}"))).await;
    let asked = AtomicU32::new(0);
    let round = app.deliver_events(|| asked.fetch_add(1, Ordering::SeqCst) < 3).await.unwrap();
    assert_eq!((round.delivered, round.failed, receiver.ids().len()), (3, 0, 3));
    assert_eq!(deliver(&app).await.delivered, 17);
    assert_eq!(receiver.ids().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_forgotten_after_thirty_days_and_those_that_wait_only_without_a_receiver() {
    let farebox = Fixture::new(&[], &[]).await;
    write(&farebox, ["done", "given-up", "new", "waiting"].map(str::to_owned)).await;
    for sql in [
        "UPDATE outbox SET created_at = created_at - INTERVAL 31 DAY WHERE event_id <> 'new'",
        "UPDATE outbox SET send_at = NULL, delivered_at = created_at WHERE event_id IN ('done', 'new')",
        "UPDATE outbox SET send_at = NULL, attempts = 10 WHERE event_id = 'given-up'",
    ] {
        farebox.database.run(sql).await;
    }
    let told = farebox.app.clone().with_events(sender("http://127.0.0.1:1/", PATIENT));
    assert_eq!(told.purge().await.unwrap(), 2);
    assert_eq!(rows(&farebox).await, ["new 0 0 1", "waiting 0 1 0"]);
    assert_eq!(deliver(&farebox.app).await, Deliveries::default(), "nobody is to be told");
    assert_eq!(farebox.app.purge().await.unwrap(), 1);
    assert_eq!(rows(&farebox).await, ["new 0 0 1"]);
}

/// The job itself, as `serve` runs it: what failed once is sent again without anybody's doing.
#[tokio::test(flavor = "multi_thread")]
async fn the_job_delivers_and_stops_when_told() {
    let farebox = Fixture::new(&[], &[]).await;
    let receiver = Receiver::start(&[503, 200]).await;
    let app = teller(&farebox, &receiver.url).await;
    write(&farebox, (0..60).map(|number| format!("e{number:02}"))).await;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let jobs = tokio::spawn(farebox_sidecar::jobs::run(app, stopping));
    let deadline = Instant::now() + PATIENT;
    while !rows(&farebox).await.iter().all(|row| row.ends_with(" 0 1")) {
        assert!(Instant::now() < deadline, "{:?}", rows(&farebox).await);
        make_due(&farebox).await;
    }
    assert_eq!(receiver.ids().len(), 61);
    stop.send(true).unwrap();
    jobs.await.unwrap();
}
