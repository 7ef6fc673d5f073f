//! Internal redirects: Envoy sends a call through the filter again, and it is charged once.

use std::cell::RefCell;
use std::rc::Rc;

use farebox_core::call::DEDUCT_PATH;
use farebox_wasm_host::{EndOrder, Stream};
use serde_json::json;

use crate::gateway::{Gateway, asset, at, configuration, settings, sidecar};
use crate::strict::sent_to;

fn forwarded(gateway: &Gateway, path: &str) -> Stream {
    let stream = gateway.vms[0].request(at(path, "rich"));
    gateway.answer_all();
    assert!(stream.is_forwarded(), "{path}: {:?}", stream.state());
    stream
}

/// A gateway whose filter is configured differently.
fn changed(change: impl FnOnce(&mut serde_json::Value), end_order: EndOrder) -> Gateway {
    let mut configuration = configuration();
    change(&mut configuration);
    let mut settings = settings(&configuration, 1);
    settings.end_order = end_order;
    let mut sidecar = sidecar();
    sidecar.credit("rich", "1");
    Gateway::with(2, &settings, Rc::new(RefCell::new(sidecar)))
}

#[test]
fn a_redirected_call_is_charged_once_in_both_modes() {
    for end_order in [EndOrder::LogThenDone, EndOrder::DoneThenLog] {
        for response_headers in [true, false] {
            for (from, to) in [
                ("/v1/asset/1", "/v1/asset/2"),
                ("/v1/asset/1", "/strict/2"),
                ("/strict/1", "/v1/asset/2"),
                ("/strict/1", "/strict/2"),
                ("/v1/asset/1", "/v1/heavy/2"),
                ("/strict/1", "/strict/heavy/2"),
                ("/strict/1", "/free/2"),
                ("/v1/asset/1", "/self/2"),
            ] {
                let gateway =
                    changed(|json| json["response_headers"] = json!(response_headers), end_order);
                let first = forwarded(&gateway, from);
                let second = first.redirect(to);
                assert!(second.is_forwarded(), "{from} {to}: {:?}", second.state());
                second.respond(200, &[]);
                let headers = second.response_headers().unwrap();
                let charge = response_headers.then_some("0.001");
                assert_eq!(headers.get("x-farebox-charge"), charge, "{from} {to}");
                second.finish();
                assert_eq!(gateway.host.metric("farebox_redirected"), 1);
                assert_eq!(gateway.host.metric("farebox_admitted"), 1);
                gateway.settle_and_check("rich", 1);
            }
        }
    }
}

#[test]
fn a_call_redirected_again_and_again_is_charged_once() {
    let gateway = Gateway::new(1);
    let mut stream = forwarded(&gateway, "/v1/asset/1");
    for step in 0..5 {
        stream = stream.redirect(&format!("/strict/{step}"));
        assert!(stream.is_forwarded());
    }
    stream.complete(200);
    gateway.settle_and_check("rich", 1);
}

#[test]
fn a_call_that_began_unmetered_is_charged_where_it_is_metered() {
    let gateway = Gateway::new(1);
    for to in ["/v1/asset/1", "/strict/1"] {
        let second = forwarded(&gateway, "/free/1").redirect(to);
        gateway.answer_all();
        assert!(second.is_forwarded());
        second.complete(200);
    }
    gateway.settle_and_check("rich", 2);
}

#[test]
fn charge_on_success_is_settled_by_the_last_pass() {
    for (from, charged_before) in [("/v1/payment/1", 0), ("/strict/success/1", 1)] {
        for (status, charged) in [(200, 1), (503, 0)] {
            let gateway = Gateway::new(1);
            let second = forwarded(&gateway, from).redirect("/v1/asset/2");
            gateway.pass(1_000);
            assert_eq!(gateway.charged("rich"), charged_before, "{from}: nothing has ended yet");
            second.complete(status);
            gateway.settle_and_check("rich", charged);
        }
        let gateway = Gateway::new(1);
        forwarded(&gateway, from).redirect("/v1/asset/2").reset();
        gateway.settle_and_check("rich", 0);
        // The second route does not exist for the filter: refused, so not a success.
        let second = forwarded(&gateway, from).redirect("/nowhere/2");
        assert_eq!(second.status(), Some(403));
        gateway.settle_and_check("rich", 0);
    }
}

#[test]
fn a_second_pass_that_never_comes_counts_as_a_failure() {
    for from in ["/v1/payment/1", "/strict/success/1"] {
        let gateway = Gateway::new(1);
        // The filter before this one forgets whose request it is, as if this one were switched off on the other route.
        let second = forwarded(&gateway, from)
            .redirect_to("/free/2", |request| request.property(&["farebox.moved"], "".into()));
        second.complete(200);
        gateway.pass(10_100);
        gateway.settle_and_check("rich", 0);
        assert_eq!(gateway.host.metric("farebox_redirected"), 0);
    }
}

#[test]
fn calls_between_two_passes_are_bounded() {
    let gateway = Gateway::new(1);
    gateway.credit("rich", "9");
    for call in 1..=1_001 {
        assert_eq!(gateway.host.metric("farebox_undo_queued"), 0, "before call {call}");
        let first = forwarded(&gateway, "/strict/success/1");
        first.redirect_to("/free/2", |request| request.property(&["farebox.moved"], "".into()));
    }
    assert_eq!(gateway.host.metric("farebox_undo_queued"), 1, "the oldest counts as failed");
    gateway.settle_and_check("rich", 0);
}

#[test]
fn no_header_of_a_client_makes_a_call_free() {
    let gateway = Gateway::new(1);
    // A call is between its two passes all the time.
    let lost = forwarded(&gateway, "/v1/asset/1");
    lost.redirect_to("/free/2", |request| request.property(&["farebox.moved"], "".into()));
    let mut served = 1;
    for path in ["/v1/asset/1", "/strict/1"] {
        for (name, value) in [
            ("x-envoy-original-url", "https://api.example/v1/asset/1"),
            ("x-envoy-original-path", "/v1/asset/1"),
            ("x-request-id", "5e1a4c5e-0000-4000-8000-000000000001"),
            ("farebox.moved", "12345678"),
            ("x-farebox-moved", "12345678"),
        ] {
            let stream = gateway.serve(0, at(path, "rich").header(name, value));
            assert!(stream.is_forwarded());
            served += 1;
        }
    }
    gateway.settle_and_check("rich", served);
}

#[test]
fn a_note_opens_nothing_twice_and_nothing_of_another_worker() {
    let gateway = Gateway::new(2);
    let note = Rc::new(RefCell::new(None));
    let seen = Rc::clone(&note);
    let second = forwarded(&gateway, "/v1/asset/1").redirect_to("/v1/asset/2", move |request| {
        *seen.borrow_mut() = Some(request.clone());
        request
    });
    second.complete(200);
    let with_used_note = note.take().unwrap();
    let with_no_note = asset("rich").property(&["farebox.moved"], "12345678".into());
    // In both workers something is between two passes, so that notes are looked for.
    for worker in 0..2 {
        let lost = gateway.vms[worker].request(asset("rich"));
        gateway.answer_all();
        lost.redirect_to("/free/2", |request| request.property(&["farebox.moved"], "".into()));
        for request in [with_used_note.clone(), with_no_note.clone()] {
            assert!(gateway.serve(worker, request).is_forwarded());
        }
    }
    gateway.settle_and_check("rich", 7);
}

#[test]
fn an_envoy_that_keeps_no_notes_charges_each_pass_and_says_so() {
    let mut settings = settings(&configuration(), 1);
    settings.declares_properties = false;
    let mut sidecar = sidecar();
    sidecar.credit("rich", "1");
    let gateway = Gateway::with(1, &settings, Rc::new(RefCell::new(sidecar)));
    assert!(
        gateway
            .host
            .logs()
            .iter()
            .any(|line| line.text.contains("redirected calls are charged again"))
    );
    let second = forwarded(&gateway, "/v1/asset/1").redirect("/v1/asset/2");
    second.complete(200);
    gateway.settle_and_check("rich", 2);
}

#[test]
fn a_client_who_leaves_before_the_response_is_no_redirect() {
    let gateway = Gateway::new(1);
    forwarded(&gateway, "/v1/asset/1").reset();
    forwarded(&gateway, "/strict/1").reset();
    assert!(gateway.serve(0, asset("rich")).is_forwarded());
    assert!(sent_to(&gateway, DEDUCT_PATH).is_empty());
    gateway.settle_and_check("rich", 3);
}
