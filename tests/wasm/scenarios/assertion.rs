//! Who calls, told to the service behind a route with `assert_identity`, and to nobody else.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use farebox_core::assertion::{AssertionError, Claims, HEADER, Key, sign, verify};
use farebox_wasm_host::{Request, Stream};
use serde_json::json;

use crate::gateway::{Gateway, TOKEN, asset, at, configuration, settings, sidecar};

const PATH: &str = "/self/orders";

/// The assertions of a request, as the service gets it.
fn assertions(stream: &Stream) -> Vec<String> {
    let headers = stream.request_headers();
    headers.values(HEADER).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

fn asserted(gateway: &Gateway, request: Request) -> Result<Claims, AssertionError> {
    let stream = gateway.vms[0].request(request);
    assert!(stream.is_forwarded() && stream.is_settled(), "{:?}", stream.state());
    let found = assertions(&stream);
    assert_eq!(found.len(), 1, "{found:?}");
    verify(&[Key::derive(TOKEN)], &found[0], gateway.host.wall_clock().as_secs())
}

/// A token that its sender signed with a key of its own.
fn forged(gateway: &Gateway) -> String {
    let now = gateway.host.wall_clock().as_secs();
    sign(&Key::derive("forger"), &Claims::new("edge-1", "victim".parse().unwrap(), now))
}

#[test]
fn the_service_is_told_who_calls_by_envoys_system_clock_and_nobody_is_asked_or_charged() {
    let gateway = Gateway::new(1);
    gateway.host.before_shared_data(|access| panic!("a lease is looked for: {access:?}"));
    for now in [1_795_000_000, 1_900_000_000, 1_700_000_000] {
        gateway.host.set_wall_clock(Duration::from_millis(now * 1_000 + 999));
        let claims = asserted(&gateway, at(PATH, "rich")).unwrap();
        assert_eq!((claims.iss.as_str(), claims.sub.as_str()), ("edge-1", "rich"));
        assert_eq!((claims.iat, claims.exp), (now, now + 60));
    }
    gateway.host.remove_hook();
    assert!(gateway.host.take_callouts().is_empty());
    assert_eq!(gateway.host.metric("farebox_admitted"), 0);
    gateway.settle_and_check("rich", 0);
}

#[test]
fn what_a_client_sends_in_its_place_reaches_no_service() {
    let gateway = Gateway::new(1);
    gateway.credit("poor", "0");
    let with_forgeries = |request: Request| {
        request.header(HEADER, forged(&gateway)).header("X-Farebox-Identity", forged(&gateway))
    };
    let claims = asserted(&gateway, with_forgeries(at(PATH, "rich"))).unwrap();
    assert_eq!(claims.sub.as_str(), "rich");
    for request in [
        Request::get("/free/1"),
        at("/free/1", "rich"),
        at("/v1/shadow/1", "rich"),
        at("/v1/shadow/1", "poor"),
        Request::get("/v1/shadow/1"),
        asset("rich"),
        Request::get("/other").route_metadata("farebox", &json!({"service": "none"})),
    ] {
        let stream = gateway.serve(0, with_forgeries(request.clone()));
        assert!(stream.is_forwarded(), "{request:?}: {:?}", stream.state());
        assert_eq!(assertions(&stream), [""; 0], "{request:?}");
    }
    gateway.settle_and_check("rich", 2);
}

#[test]
fn a_metered_call_carries_no_assertion() {
    let gateway = Gateway::new(1);
    for path in ["/v1/asset/1", "/v1/shadow/1", "/v1/payment/1", "/free/1"] {
        let stream = gateway.serve(0, at(path, "rich"));
        assert!(stream.is_forwarded(), "{path}");
        assert_eq!(assertions(&stream), [""; 0], "{path}");
    }
}

#[test]
fn a_caller_without_a_name_or_with_two_is_not_let_through_to_the_service() {
    let gateway = Gateway::new(1);
    for (request, status, code) in [
        (Request::get(PATH), 401, 100_101),
        (Request::get(PATH).header(HEADER, forged(&gateway)), 401, 100_101),
        (at(PATH, "a").header("x-user-id", "a"), 400, 100_001),
        (at(PATH, "two words"), 400, 100_001),
        (at(PATH, &"x".repeat(129)), 400, 100_001),
    ] {
        let stream = gateway.vms[0].request(request.clone());
        let answer = stream.answer().unwrap_or_else(|| panic!("{request:?}: {:?}", stream.state()));
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{request:?}");
    }
    assert_eq!(gateway.host.metric("farebox_refused_identity"), 5);
    gateway.host.assert_no_faults();
}

#[test]
fn in_shadow_a_caller_without_a_name_passes_and_nothing_is_said_about_it() {
    let gateway = Gateway::new(1);
    let shadow = json!({"shadow": true});
    let named = at(PATH, "rich").route_metadata("farebox", &shadow);
    assert_eq!(asserted(&gateway, named).unwrap().sub.as_str(), "rich");
    let nobody = Request::get(PATH).header(HEADER, forged(&gateway));
    let stream = gateway.vms[0].request(nobody.route_metadata("farebox", &shadow));
    assert!(stream.is_forwarded());
    assert_eq!(assertions(&stream), [""; 0]);
    assert_eq!(gateway.host.metric("farebox_shadow_refused"), 1);
}

#[test]
fn metadata_of_the_route_may_ask_for_it_where_nobody_pays_and_only_there() {
    let gateway = Gateway::new(1);
    let both = json!({"service": "none", "assert_identity": true});
    assert!(asserted(&gateway, asset("rich").route_metadata("farebox", &both)).is_ok());
    let on = json!({"assert_identity": true});
    assert!(asserted(&gateway, at("/free/1", "rich").route_metadata("farebox", &on)).is_ok());
    let off = at(PATH, "rich").route_metadata("farebox", &json!({"assert_identity": false}));
    assert_eq!(assertions(&gateway.serve(0, off)), [""; 0]);

    let metered = json!({"service": "asset"});
    for request in [
        asset("rich").route_metadata("farebox", &on),
        at(PATH, "rich").route_metadata("farebox", &metered),
    ] {
        let answer = gateway.vms[0].request(request).answer().expect("it is refused");
        assert_eq!((answer.status, &answer.json()["code"]), (500, &json!(100_201)));
    }
    let complaint = "route metadata farebox.assert_identity is true, and the service is \"asset\"";
    let log = gateway.host.logs();
    assert_eq!(log.iter().filter(|line| line.text.contains(complaint)).count(), 2, "{log:?}");
}

#[test]
fn the_key_and_the_name_are_those_that_this_gateway_and_this_caller_really_have() {
    let mut json = configuration();
    json.as_object_mut().unwrap().remove("gateway");
    json["sidecar"] = json!({"cluster": "farebox_sidecar", "token_env": "FAREBOX_GATEWAY_TOKEN"});
    json["identity"] = json!([{"jwt_claim": {"payload": "jwt"}}, {"header": "x-user-id"}]);
    let mut settings = settings(&json, 1);
    settings.node_id = "node-7".to_owned();
    settings.environment = vec![("FAREBOX_GATEWAY_TOKEN".to_owned(), "from-env".to_owned())];
    let gateway = Gateway::with(1, &settings, Rc::new(RefCell::new(sidecar())));
    let claim = json!({"jwt": {"sub": "ada"}});
    let request = at(PATH, "eve").dynamic_metadata("envoy.filters.http.jwt_authn", &claim);
    let found = assertions(&gateway.vms[0].request(request));
    let now = gateway.host.wall_clock().as_secs();
    let claims = verify(&[Key::derive("from-env")], &found[0], now).unwrap();
    assert_eq!((claims.iss.as_str(), claims.sub.as_str()), ("node-7", "ada"));
}
