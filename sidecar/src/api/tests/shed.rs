//! How many requests of each kind are dealt with at the same time, and that a kind at its limit holds up no other.

use std::pin::Pin;
use std::task::Poll;

use farebox_core::call::DEDUCT_PATH;
use futures_util::stream;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;

/// A kind of requests, as `billing_shed_total` names it.
struct Kind {
    what: &'static str,
    limit: usize,
    router: Router,
    request: fn() -> Request<Body>,
    /// Requests of other kinds, which the same listener answers.
    beside: Vec<fn() -> Request<Body>>,
}

fn kinds() -> Vec<Kind> {
    let health = || get("/health");
    vec![
        Kind {
            what: "sync",
            limit: 128,
            router: gateways(),
            request: sync,
            beside: vec![short_call, long_call],
        },
        Kind {
            what: "calls",
            limit: 8_192,
            router: gateways(),
            request: short_call,
            beside: vec![sync],
        },
        // A body that does not say how long it is may need all the room that any may.
        Kind {
            what: "calls",
            limit: 128,
            router: gateways(),
            request: long_call,
            beside: vec![sync],
        },
        Kind {
            what: "users",
            limit: 256,
            router: users(),
            request: user,
            beside: vec![callback, health],
        },
        Kind {
            what: "callbacks",
            limit: 256,
            router: users(),
            request: callback,
            beside: vec![user, health],
        },
        Kind {
            what: "operators",
            limit: 32,
            router: operators(&[]),
            request: || get("/readyz"),
            beside: vec![|| get("/healthz")],
        },
    ]
}

/// A request of a gateway whose body does not end: whoever is admitted stays.
fn endless(path: &str) -> axum::http::request::Builder {
    Request::post(path).header("authorization", "Bearer good-token")
}

fn silence() -> Body {
    Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>())
}

fn sync() -> Request<Body> {
    endless(SYNC_PATH).body(silence()).unwrap()
}

fn short_call() -> Request<Body> {
    endless(DEDUCT_PATH).header("content-length", 16_384).body(silence()).unwrap()
}

fn long_call() -> Request<Body> {
    endless(DEDUCT_PATH).body(silence()).unwrap()
}

fn callback() -> Request<Body> {
    endless("/internal/v1/billing/callback").body(silence()).unwrap()
}

/// One that waits for the database, which nobody started.
fn user() -> Request<Body> {
    calling(get("/api/v1/billing/orders"), "good-token", "u")
}

type Sent = Pin<Box<dyn Future<Output = Reply>>>;

/// Sends a request, and looks once whether it is answered.
async fn begin(router: &Router, request: Request<Body>) -> Result<Reply, Sent> {
    let mut sent: Sent = Box::pin(send(router.clone(), request));
    match std::future::poll_fn(|context| Poll::Ready(sent.as_mut().poll(context))).await {
        Poll::Ready(reply) => Ok(reply),
        Poll::Pending => Err(sent),
    }
}

#[tokio::test]
async fn beyond_its_limit_a_kind_is_turned_away_at_once_and_counted() {
    for Kind { what, limit, router, request, beside } in kinds() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _recording = ::metrics::set_default_local_recorder(&recorder);
        let (mut admitted, mut shed) = (Vec::new(), Vec::new());
        for _ in 0..limit + 3 {
            match begin(&router, request()).await {
                Ok(reply) => shed.push(reply),
                Err(sent) => admitted.push(sent),
            }
        }
        assert_eq!((admitted.len(), shed.len()), (limit, 3), "{what}");
        for reply in shed {
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
            assert_eq!(reply.headers["retry-after"], "1", "{what}");
            assert_eq!(reply.problem().code, 100_303, "{what}");
        }
        let line = format!("billing_shed_total{{what=\"{what}\"}} 3");
        let counted = handle.render();
        assert!(counted.lines().any(|found| found == line), "no {line} in\n{counted}");

        for other in beside {
            if let Ok(reply) = begin(&router, other()).await {
                assert_eq!(reply.status, StatusCode::OK, "beside {what}: {}", reply.body);
            }
        }
        // As soon as one has ended, another one is admitted.
        admitted.pop();
        assert!(begin(&router, request()).await.is_err(), "{what}");
    }
}
