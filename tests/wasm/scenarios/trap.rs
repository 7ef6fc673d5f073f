//! The filter that tests can kill: it dies where it is told, and what ships cannot be killed.

use std::cell::RefCell;
use std::rc::Rc;

use farebox_wasm_host::{Fault, Request};

use crate::gateway::{
    Gateway, asset, configuration, filter_bytes, settings, sidecar, trap_filter, trap_filter_bytes,
};

const HEADER: &str = "x-farebox-test-trap";

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn killable() -> Gateway {
    let mut sidecar = sidecar();
    sidecar.credit("rich", "1");
    Gateway::of(trap_filter(), 2, &settings(&configuration(), 1), Rc::new(RefCell::new(sidecar)))
}

fn deadly(place: &str) -> Request {
    asset("rich").header(HEADER, place)
}

/// Where the one VM died that did.
fn death(gateway: &Gateway) -> String {
    match gateway.host.take_faults().as_slice() {
        [Fault::Trap { vm: 0, export, .. }] => (*export).to_owned(),
        faults => panic!("{faults:?}"),
    }
}

#[test]
fn what_ships_does_not_know_the_header_that_kills() {
    assert!(contains(&trap_filter_bytes(), HEADER), "the check finds the name where it is");
    assert!(!contains(&filter_bytes(), HEADER));
    let gateway = Gateway::new(1);
    for place in ["request", "log", "tick"] {
        assert!(gateway.serve(0, deadly(place)).is_forwarded());
        gateway.pass(500);
    }
    gateway.settle_and_check("rich", 3);
}

#[test]
fn a_vm_dies_where_the_request_says() {
    let gateway = killable();
    let stream = gateway.vms[0].request(deadly("request"));
    assert!(gateway.vms[0].has_failed() && !stream.is_forwarded());
    assert_eq!(death(&gateway), "proxy_on_request_headers");

    let gateway = killable();
    let stream = gateway.vms[0].request(deadly("log"));
    gateway.answer_all();
    assert!(stream.is_forwarded() && !gateway.vms[0].has_failed());
    stream.complete(200);
    assert_eq!(death(&gateway), "proxy_on_log");

    let gateway = killable();
    assert!(gateway.serve(0, deadly("tick")).is_forwarded());
    assert!(!gateway.vms[0].has_failed());
    gateway.vms[0].tick();
    assert_eq!(death(&gateway), "proxy_on_tick");
}
