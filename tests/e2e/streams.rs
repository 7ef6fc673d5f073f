//! Calls that are not a plain GET: HEAD, HTTP/2, gRPC, long streams, calls that end early or fail.

use std::time::Duration;

use axum::http::Method;
use farebox_tests::{Answer, Stack, eventually, run};
use http_body_util::BodyExt;

use crate::{settled, shared};

#[test]
fn head_is_a_call_like_any_other() {
    run(async {
        let stack = shared().await;
        stack.credit("header", "0.001");
        let call = || stack.client().call(Method::HEAD, "/coin/x").user("header").send();
        let served = call().await;
        assert_eq!((served.status.as_u16(), served.body.as_str()), (200, ""));
        let refused = call().await;
        assert_eq!((refused.status.as_u16(), refused.body.as_str()), (402, ""));
        settled(stack, "header", 1).await;
    });
}

#[test]
fn http2_streams_of_one_connection_are_metered_one_by_one() {
    run(async {
        let stack = shared().await;
        stack.credit("modern", "0.100");
        let client = stack.client_http2();
        let tally = client.storm(150, 50, |client, _| client.get("/coin/x").user("modern")).await;
        assert_eq!((tally.of(200), tally.of(402)), (100, 50), "{tally}");
        settled(stack, "modern", 100).await;
    });
}

fn grpc(stack: &Stack, user: &str) -> farebox_tests::client::Call {
    let client = stack.client_http2();
    let call = client.call(Method::POST, "/coin/grpc").user(user).header("te", "trailers");
    call.header("content-type", "application/grpc").body(vec![0; 5])
}

#[test]
fn grpc_calls_are_served_with_trailers_and_refused_with_trailers_only() {
    run(async {
        let stack = shared().await;
        stack.credit("rpc", "0.001");
        let served: axum::http::Response<reqwest::Body> =
            grpc(stack, "rpc").begin().await.unwrap().into();
        assert_eq!(served.status(), 200);
        let body = served.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");

        let refused: Answer = grpc(stack, "rpc").send().await;
        assert_eq!(refused.status, 200, "gRPC says it in grpc-status");
        assert_eq!((refused.header("grpc-status"), refused.body.as_str()), ("8", ""));
        assert_eq!(refused.header("content-type"), "application/grpc");
        assert_ne!(refused.header("grpc-message"), "");
        settled(stack, "rpc", 1).await;
    });
}

/// Longer than twice the time that a lease of the shared stack stands without a renewal.
const LONG: Duration = Duration::from_secs(5);

#[test]
fn a_long_stream_keeps_its_units_and_is_charged_once() {
    run(async {
        let stack = shared().await;
        stack.credit("viewer", "0.001");
        let call = stack.client().get("/success/stream?name=long").user("viewer");
        let mut response = call.begin().await.unwrap();
        assert_eq!(response.status(), 200);
        let started = std::time::Instant::now();
        while started.elapsed() < LONG {
            assert!(response.chunk().await.unwrap().is_some(), "the stream goes on");
        }
        // The unit is set aside for the stream: nothing is left for another call.
        let other = stack.client().get("/success/x").user("viewer").send().await;
        assert_eq!(other.status, 402, "{}", other.body);
        stack.upstream.finish("long");
        while response.chunk().await.unwrap().is_some() {}
        settled(stack, "viewer", 1).await;
        assert_eq!(stack.account("viewer").balance, "0");
    });
}

#[test]
fn a_call_that_the_upstream_fails_costs_nothing_where_success_is_charged() {
    run(async {
        let stack = shared().await;
        stack.credit("unlucky", "0.001");
        let call = |path| stack.client().get(path).user("unlucky").send();
        for _ in 0..3 {
            assert_eq!(call("/success/status/503").await.status, 503);
        }
        assert_eq!(call("/success/x").await.status, 200);
        assert_eq!(call("/success/x").await.status, 402);
        settled(stack, "unlucky", 1).await;
        // Where every call is charged, so is one that fails.
        stack.credit("stoic", "0.001");
        let failed = stack.client().get("/coin/status/503").user("stoic").send().await;
        assert_eq!(failed.status, 503);
        settled(stack, "stoic", 1).await;
    });
}

#[test]
fn a_caller_who_goes_away_pays_only_where_every_call_is_charged() {
    run(async {
        let stack = shared().await;
        stack.credit("hasty", "0.002");
        for (path, stream) in [("/success/", "gone-1"), ("/coin/", "gone-2")] {
            let path = format!("{path}stream?name={stream}");
            let mut response = stack.client().get(&path).user("hasty").begin().await.unwrap();
            assert!(response.chunk().await.unwrap().is_some());
            // Dropping the response closes the connection in the middle of the stream.
            drop(response);
        }
        settled(stack, "hasty", 1).await;
        // The unit of the first call is back.
        let call = async || stack.client().get("/coin/x").user("hasty").send().await;
        eventually!(call().await.status == 200);
        assert_eq!(call().await.status, 402);
        settled(stack, "hasty", 2).await;
        for stream in ["gone-1", "gone-2"] {
            stack.upstream.finish(stream);
        }
    });
}
