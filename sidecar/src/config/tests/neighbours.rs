//! What stands beside the sidecar: the payment service, the receiver of events, operators, and the files of TLS.

use super::*;

/// A good `payment_service` with more keys in it.
fn payment(keys: &str) -> String {
    format!(
        "{SMALL}payment_service: {{ grpc_addr: 'pay:9101', notify_url: 'http://farebox:8107/callback', {keys} }}"
    )
}

/// The text in a file that lives as long as the value does.
fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{text}").unwrap();
    file
}

const SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER_SECRET: &str = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";

/// A certificate and its private key, in PEM.
fn pair() -> (String, String) {
    let pair = rcgen::generate_simple_self_signed(["farebox".to_owned()]).unwrap();
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

#[test]
fn without_a_payment_service_no_secret_is_needed_and_with_one_it_is() {
    assert!(config(SMALL).payment.is_none());
    assert_eq!(config(SMALL).require_callback_secrets(), Ok(&[][..]));
    let secret = Environment::from([("FAREBOX_CALLBACK_SECRET", SECRET)]);
    let read = |text: &str| Config::parse(text, &secret).unwrap();
    assert_eq!(read(&payment("")).require_callback_secrets(), Ok(&[Secret::new(SECRET)][..]));
    assert_eq!(
        config(&payment("")).require_callback_secrets().unwrap_err().to_string(),
        "the callback secret of payment_service is missing; set FAREBOX_CALLBACK_SECRET, or payment_service.callback_secret_file to a file that holds it (make one with: echo whsec_$(openssl rand -base64 32)), or remove payment_service"
    );
}

/// The shipped file with this commented block as part of it.
fn shipped_with(block: &str) -> Config {
    let shipped = include_str!("../../../../farebox.yaml");
    let (before, rest) = shipped.split_once(&format!("# {block}:\n")).unwrap();
    let commented = rest.lines().take_while(|line| line.starts_with('#')).count();
    let lines = rest.lines().enumerate().map(|(number, line)| {
        if number < commented { line.strip_prefix("# ").unwrap() } else { line }
    });
    config(&format!("{before}{block}:\n{}", lines.collect::<Vec<_>>().join("\n")))
}

#[test]
fn a_commented_block_of_the_shipped_file_works_once_it_is_none() {
    let payment = shipped_with("payment_service").payment.unwrap();
    assert_eq!(payment.grpc_addr.to_string(), "127.0.0.1:9101");
    assert_eq!((payment.return_url.as_deref(), payment.protection()), (None, "TLS"));
    let events = shipped_with("events").events.unwrap();
    assert_eq!(
        (events.url.as_str(), events.timeout.as_secs()),
        ("https://shop.example/events", 10)
    );
    let tracing = shipped_with("tracing").tracing.unwrap();
    assert_eq!((tracing.endpoint.as_str(), tracing.sample_ratio), ("http://127.0.0.1:4317", 0.01));
    assert_eq!(tracing.service_name.as_deref(), Some("farebox"));
}

#[test]
fn spans_go_where_the_file_says_or_else_the_usual_variables() {
    let with = |keys: &str| format!("{SMALL}tracing: {{ {keys} }}");
    let of = |text: &str, environment: &Environment| {
        Config::parse(text, environment).unwrap().tracing.unwrap()
    };
    let usual = Environment::from([("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317")]);
    let both = Environment::from([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317"),
    ]);
    assert_eq!(of(&with(""), &usual).endpoint, "http://all:4317");
    assert_eq!(of(&with(""), &both).endpoint, "http://traces:4317");
    assert_eq!(of(&with("otlp_endpoint: 'http://own:4317'"), &both).endpoint, "http://own:4317");
    let defaults = of(&with(""), &usual);
    assert_eq!((defaults.sample_ratio, defaults.service_name), (0.01, None));
    assert_eq!(of(&with("sample_ratio: 1"), &usual).sample_ratio, 1.0);
    // The variables alone switch nothing on.
    assert!(Config::parse(SMALL, &both).unwrap().tracing.is_none());
    for (keys, expected) in [
        (
            "",
            "tracing.otlp_endpoint is missing; write where OTLP is received by gRPC, such as http://127.0.0.1:4317, or set OTEL_EXPORTER_OTLP_ENDPOINT, or remove tracing",
        ),
        (
            "sample_ratio: 1.5",
            r#"tracing.sample_ratio is "1.5": no part of a whole; write 0 to 1, such as 0.01"#,
        ),
        (
            "sample_ratio: NaN",
            r#"tracing.sample_ratio is "NaN": no part of a whole; write 0 to 1, such as 0.01"#,
        ),
        (
            "service_name: ''",
            r#"tracing.service_name is "": no name; write 1 to 64 visible characters, such as farebox"#,
        ),
    ] {
        assert_eq!(refusal(&with(keys), &Environment::default()), expected);
    }
    let secret = "otlp_endpoint: 'http://user:s3cret@collector:4317'";
    assert!(
        refusal(&with(secret), &Environment::default()).contains("remove what stands before the @")
    );
}

#[test]
fn callback_secrets_come_from_a_variable_or_a_file_and_never_show() {
    let several = file(&format!("{SECRET},\n {OTHER_SECRET}\n"));
    let text = payment(&format!("callback_secret_file: {}", several.path().display()));
    let secrets = |config: &Config| config.payment.clone().unwrap().callback_secrets;
    assert_eq!(secrets(&config(&text)), [Secret::new(SECRET), Secret::new(OTHER_SECRET)]);
    let environment = Environment::from([("FAREBOX_CALLBACK_SECRET", OTHER_SECRET)]);
    let config = Config::parse(&text, &environment).unwrap();
    assert_eq!(secrets(&config), [Secret::new(OTHER_SECRET)]);
    assert!(!format!("{config:?}").contains("AQEB"));

    let complaint = "holds a secret that is not whsec_ and the standard base64 of 24 to 64 bytes; make one with: echo whsec_$(openssl rand -base64 32), and write commas between several";
    let bad = format!("{SECRET},whsec_c2hvcnQ=");
    let environment = Environment::from([("FAREBOX_CALLBACK_SECRET", bad.as_str())]);
    assert_eq!(refusal(&text, &environment), format!("FAREBOX_CALLBACK_SECRET {complaint}"));
    let bad = file("s3cret");
    let text = payment(&format!("callback_secret_file: {}", bad.path().display()));
    assert_eq!(
        refusal(&text, &Environment::default()),
        format!("payment_service.callback_secret_file {complaint}")
    );
}

/// A good `events` with more keys in it.
fn events(keys: &str) -> String {
    format!("{SMALL}events: {{ url: 'https://shop.example/events?a=b', {keys} }}")
}

#[test]
fn events_have_a_receiver_a_deadline_and_a_secret_that_never_shows() {
    assert!(config(SMALL).events.is_none());
    assert!(matches!(config(SMALL).require_signed_events(), Ok(None)));
    let read = config(&events(""));
    let Events { url, timeout, .. } = read.events.as_ref().unwrap();
    assert_eq!((url.as_str(), timeout.as_secs()), ("https://shop.example/events?a=b", 10));
    assert_eq!(
        read.require_signed_events().unwrap_err().to_string(),
        "the secret of events is missing; set FAREBOX_EVENTS_SECRET, or events.secret_file to a file that holds it (make one with: echo whsec_$(openssl rand -base64 32)), or remove events"
    );

    let several = file(&format!("{SECRET},\n {OTHER_SECRET}\n"));
    let text = events(&format!("timeout: 2s, secret_file: {}", several.path().display()));
    let read = config(&text);
    let Events { secrets, timeout, .. } = read.require_signed_events().unwrap().unwrap();
    assert_eq!(secrets[..], [Secret::new(SECRET), Secret::new(OTHER_SECRET)]);
    assert_eq!(timeout.as_secs(), 2);
    let environment = Environment::from([("FAREBOX_EVENTS_SECRET", OTHER_SECRET)]);
    let read = Config::parse(&text, &environment).unwrap();
    assert_eq!(read.events.as_ref().unwrap().secrets, [Secret::new(OTHER_SECRET)]);
    assert!(!format!("{read:?}").contains("AQEB"));
}

#[test]
fn a_mistake_in_events_is_named_with_its_remedy() {
    let refused = |text: &str| refusal(text, &Environment::default());
    let bad = file("s3cret");
    let bad_secret = refused(&events(&format!("secret_file: {}", bad.path().display())));
    assert!(bad_secret.starts_with("events.secret_file holds a secret that is not whsec_ and "));
    assert!(!bad_secret.contains("s3cret"));
    for (found, expected) in [
        (
            refused(&format!("{SMALL}events: {{ timeout: 1s }}")),
            "events.url is missing; write where events are sent, such as https://shop.example/events, or remove events",
        ),
        (refused(&format!("{SMALL}events: ")), "events has no value; write one or remove the key"),
        (
            refused(&format!("{SMALL}events: {{ url: shop.example }}")),
            r#"events.url is "shop.example": no web address; write http:// or https://, a host and a path, such as https://shop.example/paid, and percent-encode special characters"#,
        ),
        (
            refused(&events("timeout: 2m")),
            r#"events.timeout is "2m": out of bounds; write 1ms to 60000ms"#,
        ),
        (
            refused(&events("secret: x")),
            "events.secret is not a key of this program; remove it or write one of: url, secret_file, timeout",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn admin_tokens_come_from_a_variable_or_a_file_and_never_show() {
    let several = file("old-token, new-token");
    let path = several.path().display();
    let text = format!("{SMALL}server: {{ admin: {{ token_file: {path} }} }}");
    let tokens = |config: &Config| config.admin_tokens.clone();
    assert_eq!(tokens(&config(SMALL)), []);
    assert_eq!(tokens(&config(&text)), [Secret::new("old-token"), Secret::new("new-token")]);
    let environment = Environment::from([("FAREBOX_ADMIN_TOKEN", "from-variable")]);
    let read = Config::parse(&text, &environment).unwrap();
    assert_eq!(tokens(&read), [Secret::new("from-variable")]);
    assert_eq!(read.gateway_tokens, [], "an operator's token lets no gateway in");
    assert!(!format!("{read:?}").contains("from-variable"));

    let spaced = Environment::from([("FAREBOX_ADMIN_TOKEN", "s3cret s3cret")]);
    let refused = refusal(SMALL, &spaced);
    assert!(refused.starts_with("FAREBOX_ADMIN_TOKEN holds a token that no header can carry"));
    assert!(!refused.contains("s3cret"));
}

#[test]
fn a_mistake_in_payment_service_is_named_with_its_remedy() {
    let block = |keys: &str| {
        refusal(&format!("{SMALL}payment_service: {{ {keys} }}"), &Environment::default())
    };
    let with = |keys: &str| refusal(&payment(keys), &Environment::default());
    const NO_URL: &str = "no web address; write http:// or https://, a host and a path, such as https://shop.example/paid, and percent-encode special characters";
    for (found, expected) in [
        (
            block("notify_url: 'http://h/'"),
            "payment_service.grpc_addr is missing; write host and port, such as 127.0.0.1:9101, or remove payment_service".to_owned(),
        ),
        (
            block("grpc_addr: 'pay:9101'"),
            "payment_service.notify_url is missing; write where callbacks reach this sidecar, such as http://localhost:8107/internal/v1/billing/callback, or remove payment_service".to_owned(),
        ),
        (
            block("grpc_addr: pay"),
            r#"payment_service.grpc_addr is "pay": not a host and port; write for instance redis:6379"#.to_owned(),
        ),
        (
            block("grpc_addr: 'pay:9101', notify_url: ''"),
            format!(r#"payment_service.notify_url is "": {NO_URL}"#),
        ),
        (
            with("return_url: '/paid'"),
            format!(r#"payment_service.return_url is "/paid": {NO_URL}"#),
        ),
        (
            with("timeout: 0s"),
            r#"payment_service.timeout is "0s": out of bounds; write 1ms to 600000ms"#.to_owned(),
        ),
        (
            with("callback_secret: x"),
            "payment_service.callback_secret is not a key of this program; remove it or write one of: grpc_addr, timeout, return_url, notify_url, callback_secret_file, tls".to_owned(),
        ),
        (
            with("tls: { ca: x }"),
            "payment_service.tls.ca is not a key of this program; remove it or write one of: ca_file, cert_file, key_file, server_name".to_owned(),
        ),
        (with("tls: "), "payment_service.tls has no value; write one or remove the key".to_owned()),
        (
            with("tls: { server_name: 'pay:9101' }"),
            r#"payment_service.tls.server_name is "pay:9101": no host name; write it without scheme and port, such as payment.example"#.to_owned(),
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn tls_is_read_from_its_files() {
    let (cert_pem, key_pem) = pair();
    let (certificate, key) = (file(&cert_pem), file(&key_pem));
    let (certificate, key) = (certificate.path().display(), key.path().display());
    let read = |keys: &str| config(&payment(&format!("tls: {{ {keys} }}"))).payment.unwrap();
    assert_eq!(read("").protection(), "TLS");
    let full = format!(
        "ca_file: {certificate}, cert_file: {certificate}, key_file: {key}, server_name: pay.example"
    );
    let payment = read(&full);
    assert_eq!(payment.protection(), "mutual TLS");
    let shown = format!("{payment:?}");
    assert!(key_pem.lines().all(|line| !shown.contains(line)));
    let tls = payment.tls.unwrap();
    assert_eq!(tls.ca_pem.as_deref(), Some(cert_pem.as_bytes()));
    assert_eq!(tls.server_name.as_deref(), Some("pay.example"));
    let identity = tls.identity.unwrap();
    assert_eq!(identity.cert_pem, cert_pem.as_bytes());
    assert_eq!(identity.key_pem.expose(), key_pem);
}

#[test]
fn a_tls_file_that_cannot_be_used_is_named_by_key_and_path() {
    let (cert_pem, key_pem) = pair();
    let (certificate, key) = (file(&cert_pem), file(&key_pem));
    let (certificate, key) = (certificate.path().display(), key.path().display());
    let tls =
        |keys: &str| refusal(&payment(&format!("tls: {{ {keys} }}")), &Environment::default());
    for (found, expected) in [
        (
            tls("ca_file: /nowhere/ca.pem"),
            r#"payment_service.tls.ca_file is "/nowhere/ca.pem": cannot be read: No such file or directory (os error 2); name a readable PEM file"#.to_owned(),
        ),
        (
            tls(&format!("ca_file: {key}")),
            format!(
                r#"payment_service.tls.ca_file is "{key}": holds no readable certificate; name a PEM file with -----BEGIN CERTIFICATE-----"#
            ),
        ),
        (
            tls(&format!("cert_file: {certificate}, key_file: {certificate}")),
            format!(
                r#"payment_service.tls.key_file is "{certificate}": holds no readable private key; name a PEM file with -----BEGIN PRIVATE KEY----- and without a password"#
            ),
        ),
        (
            tls(&format!("cert_file: {certificate}")),
            "payment_service.tls.key_file is missing; name the file with the private key of payment_service.tls.cert_file, or remove cert_file".to_owned(),
        ),
        (
            tls(&format!("key_file: {key}")),
            "payment_service.tls.cert_file is missing; name the file with the certificate of payment_service.tls.key_file, or remove key_file".to_owned(),
        ),
    ] {
        assert_eq!(found, expected);
    }
    let mut binary = tempfile::NamedTempFile::new().unwrap();
    binary.write_all(&[0x30, 0x82, 0xff]).unwrap();
    let refused = tls(&format!("ca_file: {}", binary.path().display()));
    assert!(refused.contains(": holds no readable certificate; "), "{refused}");
}

/// What rustls would pass over, or refuse when the connection is made, is refused here, by its key.
#[test]
fn a_tls_file_with_something_else_in_good_base64_is_refused() {
    let (cert_pem, key_pem) = pair();
    let broken = |label: &str| format!("-----BEGIN {label}-----\nAAEC\n-----END {label}-----\n");
    let (certificate, key) = (file(&cert_pem), file(&key_pem));
    let (other_key, broken_key) = (file(&pair().1), file(&broken("PRIVATE KEY")));
    let broken_cert = file(&broken("CERTIFICATE"));
    let half_broken = file(&format!("{cert_pem}{}", broken("CERTIFICATE")));
    let at = |file: &tempfile::NamedTempFile| file.path().display().to_string();
    let tls =
        |keys: &str| refusal(&payment(&format!("tls: {{ {keys} }}")), &Environment::default());
    const NO_CERTIFICATE: &str =
        "holds no readable certificate; name a PEM file with -----BEGIN CERTIFICATE-----";
    for broken in [&broken_cert, &half_broken] {
        assert_eq!(
            tls(&format!("ca_file: {}", at(broken))),
            format!("payment_service.tls.ca_file is {:?}: {NO_CERTIFICATE}", at(broken))
        );
        assert_eq!(
            tls(&format!("cert_file: {}, key_file: {}", at(broken), at(&key))),
            format!("payment_service.tls.cert_file is {:?}: {NO_CERTIFICATE}", at(broken))
        );
    }
    assert_eq!(
        tls(&format!("cert_file: {}, key_file: {}", at(&certificate), at(&broken_key))),
        format!(
            "payment_service.tls.key_file is {:?}: holds no readable private key; name a PEM file with -----BEGIN PRIVATE KEY----- and without a password",
            at(&broken_key)
        )
    );
    assert_eq!(
        tls(&format!("cert_file: {}, key_file: {}", at(&certificate), at(&other_key))),
        format!(
            "payment_service.tls.key_file is {:?}: holds another key than that of the first certificate in {}; name the files of one pair",
            at(&other_key),
            at(&certificate)
        )
    );
}
