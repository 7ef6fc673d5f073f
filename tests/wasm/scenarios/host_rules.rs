//! The host's own rules, checked with a small guest: `host_rules.wat`.

use std::time::Duration;

use farebox_wasm_host::{
    CalloutAnswer, EndOrder, Fault, Hook, Host, Plugin, Request, Settings, StartError, State,
    Status, Stream, Vm,
};

fn plugin() -> Plugin {
    let module = wat::parse_str(include_str!("host_rules.wat")).expect("the guest is valid");
    Plugin::compile(&module).expect("the guest compiles")
}

fn host() -> Host {
    Host::new(Settings { clusters: ["upstream".to_owned()].into(), ..Settings::default() })
}

fn workers() -> (Host, Vm, Vm) {
    let (host, plugin) = (host(), plugin());
    let start = || host.start(&plugin).expect("the guest starts");
    let (first, second) = (start(), start());
    (host, first, second)
}

fn op(op: &str) -> Request {
    Request::get("/").header("op", op)
}

fn set(vm: &Vm, value: &str, cas: u32) -> Option<u32> {
    vm.request(op("set").header("k", "key").header("v", value).header("cas", cas.to_le_bytes()))
        .status()
}

fn update(vm: &Vm, value: &str) -> Option<u32> {
    vm.request(op("update").header("k", "key").header("v", value)).status()
}

fn code(status: Status) -> Option<u32> {
    Some(200 + status.number())
}

fn value(host: &Host) -> String {
    String::from_utf8(host.shared_value("key").expect("the key exists").0)
        .expect("the guest writes text")
}

#[test]
fn of_two_workers_that_create_a_key_with_a_bogus_number_one_succeeds() {
    let (host, first, second) = workers();
    let overtaker = second.clone();
    host.before_shared_data_set(move |_, _| {
        assert_eq!(update(&overtaker, "second"), code(Status::Ok));
        Hook::Remove
    });
    assert_eq!(update(&first, "first"), code(Status::CasMismatch));
    assert_eq!(value(&host), "second");
    host.assert_no_faults();
}

#[test]
fn zero_overwrites_what_another_worker_wrote_meanwhile() {
    let (host, first, second) = workers();
    let overtaker = second.clone();
    host.before_shared_data_set(move |_, _| {
        assert_eq!(set(&overtaker, "second", 0), code(Status::Ok));
        Hook::Remove
    });
    assert_eq!(set(&first, "first", 0), code(Status::Ok));
    assert_eq!(value(&host), "first", "the second worker's value is lost");
}

#[test]
fn a_write_between_read_and_write_is_a_mismatch() {
    let (host, first, second) = workers();
    assert_eq!(update(&first, "one"), code(Status::Ok));
    let overtaker = second.clone();
    host.before_shared_data_set(move |_, _| {
        assert_eq!(update(&overtaker, "two"), code(Status::Ok));
        Hook::Remove
    });
    assert_eq!(update(&first, "three"), code(Status::CasMismatch));
    assert_eq!(update(&first, "three"), code(Status::Ok));
    assert_eq!(value(&host), "three");
}

#[test]
fn an_emptied_key_keeps_its_number() {
    let (host, first, _) = workers();
    assert_eq!(set(&first, "full", 0), code(Status::Ok));
    assert_eq!(set(&first, "", 0), code(Status::Ok));
    let read = first.request(op("get").header("k", "key"));
    assert_eq!((read.status(), read.answer().unwrap().body), (code(Status::Ok), vec![]));
    assert_eq!(set(&first, "new", u32::MAX), code(Status::CasMismatch));
    let cas = host.shared_value("key").unwrap().1;
    assert_eq!(set(&first, "new", cas), code(Status::Ok));
}

#[test]
fn a_missing_key_is_not_found_and_can_be_created_with_any_number() {
    let (_, first, _) = workers();
    assert_eq!(first.request(op("get").header("k", "key")).status(), code(Status::NotFound));
    assert_eq!(set(&first, "new", 12_345), code(Status::Ok));
}

#[test]
fn a_held_stream_is_resumed_once() {
    let (host, vm, _) = workers();
    let stream = vm.request(op("pause"));
    assert!(stream.is_paused() && !stream.is_settled());
    vm.tick();
    assert!(stream.is_forwarded() && stream.is_settled());
    stream.complete(200);
    host.assert_no_faults();

    let stream = vm.request(op("2"));
    vm.tick();
    assert!(!stream.is_settled());
    let faults = host.take_faults();
    assert!(
        matches!(&faults[..], [Fault::Resumed { state, .. }] if state == "Forwarded"),
        "{faults:?}"
    );
}

#[test]
fn a_resume_after_an_answer_is_a_fault() {
    let (host, vm, _) = workers();
    assert_eq!(vm.request(op("both")).status(), Some(200));
    assert!(matches!(&host.take_faults()[..], [Fault::Resumed { .. }]));
}

#[test]
fn a_stream_that_is_gone_cannot_be_made_effective() {
    let (host, vm, _) = workers();
    let stream = vm.request(op("pause"));
    stream.reset();
    assert_eq!((stream.state(), stream.is_settled()), (State::Gone, true));
    vm.tick();
    assert_eq!(host.logs().last().unwrap().text, "waiting", "the guest logs that it found nobody");
    host.assert_no_faults();
}

#[test]
fn of_a_header_that_occurs_twice_the_map_gives_the_first_and_the_property_both() {
    let (_, vm, _) = workers();
    let ask =
        |name| vm.request(op(name).header("dup", "a").header("dup", "b")).answer().unwrap().body;
    assert_eq!((ask("header"), ask("join")), (b"a".to_vec(), b"a,b".to_vec()));
    assert_eq!(vm.request(op("header")).status(), code(Status::NotFound));
}

#[test]
fn headers_are_gone_after_their_phase_and_back_in_the_log() {
    let (host, vm, _) = workers();
    let stream = vm.request(Request::get("/").header("dup", "seen"));
    assert!(stream.is_forwarded());
    stream.respond(200, &[]);
    assert_eq!(host.logs(), []);
    stream.finish();
    assert_eq!(host.logs().last().unwrap().text, "seen");
}

fn callout(vm: &Vm) -> Stream {
    vm.request(op("query").header("k", "upstream").header("v", "question"))
}

#[test]
fn a_callout_is_answered_when_and_how_the_test_likes() {
    let (host, vm, _) = workers();
    let answers = [
        (CalloutAnswer::ok("answer"), 201, "answer"),
        (CalloutAnswer::timeout(), 201, "upstream request timeout"),
        (CalloutAnswer::Reset, 200, ""),
    ];
    for (answer, status, body) in answers {
        let stream = callout(&vm);
        let calls = host.take_callouts();
        let [call] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!((call.cluster(), call.body()), ("upstream", b"question".as_slice()));
        assert_eq!(
            (call.headers().get(":path"), call.timeout()),
            (Some("/"), Duration::from_secs(1))
        );
        assert!(stream.is_paused());
        assert!(call.answer(answer.clone()));
        assert_eq!(stream.status(), Some(status), "200 + the number of headers");
        assert_eq!(stream.answer().unwrap().body, body.as_bytes());
        assert!(!call.answer(answer), "the second answer reaches nobody");
    }
    host.assert_no_faults();
}

#[test]
fn a_callout_outlives_its_stream_and_fails_at_once_for_an_unknown_cluster() {
    let (host, vm, _) = workers();
    let stream = callout(&vm);
    stream.reset();
    assert!(host.take_callouts()[0].answer(CalloutAnswer::ok("late")), "the root context hears it");
    let unknown = vm.request(op("query").header("k", "nowhere").header("v", "question"));
    assert_eq!(unknown.status(), code(Status::BadArgument));
    host.fail_calls_inline(1);
    assert_eq!(callout(&vm).status(), code(Status::InternalFailure));
    assert!(callout(&vm).is_paused());
    host.assert_no_faults();
}

#[test]
fn the_last_worker_that_registers_a_queue_hears_about_it() {
    let (host, first, second) = workers();
    let stream = second.request(op("enqueue").header("k", "item"));
    assert!(stream.is_paused());
    assert!(host.run_posted() && !host.run_posted());
    assert_eq!(stream.answer().unwrap().body, b"item");
    assert_eq!(host.metric("streams_seen"), 1);
    drop(first);
}

#[test]
fn clocks_move_when_the_test_says_so() {
    let (host, vm, _) = workers();
    let clock = |number: u32| {
        let body =
            vm.request(op("time").header("cas", number.to_le_bytes())).answer().unwrap().body;
        Duration::from_nanos(u64::from_le_bytes(body.try_into().unwrap()))
    };
    let (wall, monotonic) = (clock(0), clock(1));
    host.advance(Duration::from_millis(5));
    assert_eq!(clock(0), wall + Duration::from_millis(5));
    host.set_wall_clock(Duration::from_secs(1));
    assert_eq!(clock(0), Duration::from_secs(1));
    assert_eq!(clock(1), monotonic + Duration::from_millis(5));
}

#[test]
fn a_trap_ends_the_worker_and_its_streams_but_not_the_others() {
    let (host, first, second) = workers();
    let held = first.request(op("pause"));
    assert_eq!(first.request(op("x")).status(), Some(503));
    assert_eq!((held.status(), first.has_failed()), (Some(503), true));
    assert_eq!(first.request(Request::get("/")).status(), Some(503));
    let faults = host.take_faults();
    assert!(
        matches!(&faults[..], [Fault::Trap { export: "proxy_on_request_headers", .. }]),
        "{faults:?}"
    );
    assert!(second.request(Request::get("/")).is_forwarded());
}

#[test]
fn a_grpc_call_is_answered_with_status_200_and_trailers_alone() {
    let (_, vm, _) = workers();
    let answer =
        vm.request(Request::grpc("/s/m").header("op", "get").header("k", "key")).answer().unwrap();
    assert_eq!((answer.status, answer.grpc), (200, Some(2)));
    assert_eq!(answer.headers.get("grpc-status"), Some("2"));
}

#[test]
fn shared_data_cannot_be_used_while_the_guest_initializes() {
    let module = wat::parse_str(
        r#"(module
          (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "malloc") (param i32) (result i32) (i32.const 8))
          (func (export "_initialize")
            (drop (call $get (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))))"#,
    );
    let plugin = Plugin::compile(&module.expect("the guest is valid")).expect("the guest compiles");
    let error = host().start(&plugin).unwrap_err();
    let StartError::Trap { export: "_initialize", message } = error else { panic!("{error:?}") };
    assert!(message.contains("proxy_get_shared_data was called during _initialize"), "{message}");
}

/// A guest that logs the calls at the end of its streams.
const ENDINGS: &str = r#"(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "logdonedelete")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 64))
  (func (export "proxy_on_log") (param i32) (drop (call $log (i32.const 2) (i32.const 0) (i32.const 3))))
  (func (export "proxy_on_done") (param i32) (result i32)
    (drop (call $log (i32.const 2) (i32.const 3) (i32.const 4))) (i32.const 1))
  (func (export "proxy_on_delete") (param i32) (drop (call $log (i32.const 2) (i32.const 7) (i32.const 6)))))"#;

#[test]
fn streams_end_in_the_order_of_the_chosen_envoy() {
    let plugin = Plugin::compile(&wat::parse_str(ENDINGS).expect("the guest is valid"))
        .expect("it compiles");
    for (end_order, expected) in [
        (EndOrder::LogThenDone, ["log", "done", "delete"]),
        (EndOrder::DoneThenLog, ["done", "log", "delete"]),
    ] {
        let host = Host::new(Settings { end_order, ..Settings::default() });
        let stream = host.start(&plugin).expect("it starts").request(Request::get("/"));
        stream.complete(200);
        stream.finish();
        let logged: Vec<String> = host.logs().into_iter().map(|line| line.text).collect();
        assert_eq!(logged, expected);
    }
}
