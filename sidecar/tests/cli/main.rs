//! The built `farebox` as an operator meets it: command lines in, exit code and one clear line out.

mod envoy;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A directory with a `farebox.yaml` that is accepted, and the program started in it with nothing in its environment.
struct Desk {
    directory: TempDir,
}

/// What a run left.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

const GOOD: &str = "
server: { http: { addr: '127.0.0.1:0' }, internal: { addr: '127.0.0.1:0' }, admin: { addr: '127.0.0.1:0' } }
data: { database: { source: 'root:s3cret@tcp(127.0.0.1:3306)/billing_service' } }
billing:
  prices: { passport: 0.001, payment: 0.0020 }
  free_quotas: { passport: 10000 }
";

impl Desk {
    fn with(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("farebox.yaml"), config).unwrap();
        Self { directory }
    }

    fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farebox"));
        command.args(words).current_dir(self.directory.path()).env_clear();
        command.envs(variables.iter().copied());
        let Output { status, stdout, stderr } = command.output().unwrap();
        Run {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

const TOKEN: (&str, &str) = ("FAREBOX_GATEWAY_TOKEN", "t0ken-one,t0ken-two");

/// The address of a port that was free a moment ago.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    format!("root:s3cret@tcp(127.0.0.1:{port})/billing_service")
}

#[test]
fn a_good_configuration_is_told_in_full() {
    let run = Desk::with(GOOD).run(&["check-config"], &[TOKEN]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(run.stdout, @r"
    configuration    farebox.yaml is valid
    public           127.0.0.1:0 within 1s
    internal         127.0.0.1:0 within 5s
    admin            127.0.0.1:0
    gateway tokens   2
    admin tokens     0
    database         root@tcp(127.0.0.1:3306)/billing_service
    connections      16
    redis            none
    currency         CNY
    time zone        Asia/Shanghai
    payment service  none
    callback keys    0
    recharge         up to 999999.99
    events           none
    leases           10s, 1s after a restart; of a lost one what was reported is charged
    tracing          none

    service   price  free units per month
    passport  0.001                 10000
    payment   0.002                     -
    ");
}

#[test]
fn who_bears_what_is_lost_is_told_and_a_word_that_says_neither_is_refused() {
    let leases = |word: &str| {
        let word = ("FAREBOX_LEASES__ON_LOST", word);
        Desk::with(GOOD).run(&["check-config"], &[TOKEN, word])
    };
    let charged = "of a lost one all that was granted is charged\n";
    assert!(leases("granted").stdout.contains(charged));
    let wrong = leases("nobody");
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(64), ""));
    assert_eq!(
        wrong.stderr,
        "farebox: leases.on_lost (FAREBOX_LEASES__ON_LOST) is \"nobody\": not a known policy; write reported (the operator bears what was not reported) or granted (the account does)\n"
    );
}

const PAYMENT: &str = "
payment_service:
  grpc_addr: pay:9101
  notify_url: 'http://farebox:8107/internal/v1/billing/callback'
  tls: { server_name: payment.example }
recharge: { max_amount: 5000 }
";

const CALLBACK_SECRET: (&str, &str) = (
    "FAREBOX_CALLBACK_SECRET",
    "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA,whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
);

#[test]
fn a_payment_service_is_told_and_its_secrets_are_only_counted() {
    let variables = [TOKEN, CALLBACK_SECRET, ("FAREBOX_ADMIN_TOKEN", "adm1n")];
    let run = Desk::with(&format!("{GOOD}{PAYMENT}")).run(&["check-config"], &variables);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    for line in [
        "admin tokens     1",
        "payment service  pay:9101 within 5s (TLS)",
        "callback keys    2",
        "recharge         up to 5000",
    ] {
        assert!(run.stdout.lines().any(|found| found == line), "{line}: {}", run.stdout);
    }
    assert!(!run.stdout.contains("whsec_") && !run.stdout.contains("adm1n"));
}

#[test]
fn the_shipped_configuration_is_accepted() {
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../farebox.yaml"));
    let run = Desk::with(&shipped.unwrap()).run(&["check-config"], &[TOKEN]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_mistake_in_the_configuration_is_one_line_and_exit_code_64() {
    let check = |config: &str, variables: &[(&str, &str)]| {
        let run = Desk::with(config).run(&["check-config"], variables);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{}", run.stderr);
        run.stderr
    };
    assert_eq!(
        check(&GOOD.replace("0.001", "0.0000000001"), &[TOKEN]),
        "farebox: billing.prices.passport is \"0.0000000001\": more than 9 decimals; write at most 9, such as 0.000000001\n"
    );
    assert_eq!(
        check(GOOD, &[TOKEN, ("FAREBOX_LEASES__TTL", "soon")]),
        "farebox: leases.ttl (FAREBOX_LEASES__TTL) is \"soon\": not a duration; write for instance 200ms, 0.2s, 1s or 5m\n"
    );
    assert_eq!(
        check("billing:\n\tprices: 1", &[TOKEN]).split(':').take(2).collect::<Vec<_>>(),
        ["farebox", " farebox.yaml"]
    );
    assert_eq!(
        check(GOOD, &[TOKEN, ("RUST_LOG", "farebox=loud")]).split(':').nth(1),
        Some(" RUST_LOG is \"farebox=loud\"")
    );
}

#[test]
fn a_missing_file_is_named() {
    let run = Desk::with(GOOD).run(&["check-config", "--config", "elsewhere.yaml"], &[TOKEN]);
    assert_eq!(run.code, Some(64));
    assert_eq!(
        run.stderr,
        "farebox: cannot read elsewhere.yaml: No such file or directory (os error 2); name the configuration with --config or FAREBOX_CONFIG\n"
    );
    let run = Desk::with(GOOD).run(&["check-config"], &[("FAREBOX_CONFIG", "variable.yaml")]);
    assert!(run.stderr.starts_with("farebox: cannot read variable.yaml:"), "{}", run.stderr);
}

#[test]
fn a_sidecar_without_a_gateway_token_does_not_start() {
    for words in [&["serve"], &["check-config"]] {
        let run = Desk::with(GOOD).run(words, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""));
        assert_eq!(
            run.stderr,
            "farebox: the gateway token is missing; set FAREBOX_GATEWAY_TOKEN, or server.internal.token_file to a file that holds it\n"
        );
    }
}

#[test]
fn a_payment_service_without_a_callback_secret_is_not_served() {
    for words in [&["serve"], &["check-config"]] {
        let run = Desk::with(&format!("{GOOD}{PAYMENT}")).run(words, &[TOKEN]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""));
        assert_eq!(
            run.stderr,
            "farebox: the callback secret of payment_service is missing; set FAREBOX_CALLBACK_SECRET, or payment_service.callback_secret_file to a file that holds it (make one with: echo whsec_$(openssl rand -base64 32)), or remove payment_service\n"
        );
    }
}

const EVENTS: &str = "
events: { url: 'https://shop.example/events', timeout: 3s }
";

#[test]
fn the_receiver_of_events_is_told_and_its_secret_is_not() {
    let secret = ("FAREBOX_EVENTS_SECRET", CALLBACK_SECRET.1);
    let run = Desk::with(&format!("{GOOD}{EVENTS}")).run(&["check-config"], &[TOKEN, secret]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let line = "events           to https://shop.example/events within 3s, signed with 2 keys";
    assert!(run.stdout.lines().any(|found| found == line), "{}", run.stdout);
    assert!(!run.stdout.contains("whsec_"));
}

#[test]
fn events_without_a_secret_are_not_served() {
    for words in [&["serve"], &["check-config"]] {
        let run = Desk::with(&format!("{GOOD}{EVENTS}")).run(words, &[TOKEN]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""));
        assert_eq!(
            run.stderr,
            "farebox: the secret of events is missing; set FAREBOX_EVENTS_SECRET, or events.secret_file to a file that holds it (make one with: echo whsec_$(openssl rand -base64 32)), or remove events\n"
        );
    }
}

#[test]
fn an_unreachable_database_is_exit_code_69_and_one_line_without_the_password() {
    let source = nowhere();
    for words in
        [&["serve"][..], &["migrate"], &["invariants", "--json"], &["account", "show", "u1"]]
    {
        let run = Desk::with(GOOD).run(words, &[TOKEN, ("FAREBOX_DATABASE_SOURCE", &source)]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(69), ""), "{}", run.stderr);
        let shown = source.replace(":s3cret", "");
        let line = format!(
            "farebox: data.database.source is \"{shown}\": the database cannot be reached: "
        );
        assert!(run.stderr.starts_with(&line), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(!run.stderr.contains("s3cret"));
    }
}

#[test]
fn a_command_line_that_cannot_be_read_is_exit_code_64() {
    for (words, says) in [
        (&["charge"][..], "unrecognized subcommand 'charge'"),
        (&["account", "credit", "u1", "1e3", "--reason", "r"], "\"1e3\" is not a decimal number"),
        (&["account", "credit", "u1", "5"], "--reason <REASON>"),
        (&["account", "show", "u 1"], "account id holds the character ' '"),
        (&[], "Usage: farebox"),
    ] {
        let run = Desk::with(GOOD).run(words, &[TOKEN]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{words:?}");
        assert!(run.stderr.contains(says), "{words:?}: {}", run.stderr);
    }
}

#[test]
fn a_moment_that_is_none_is_told_how_to_write_it() {
    for words in [
        &["audit", "--since", "yesterday"][..],
        &["token", "create", "--name", "ann", "--role", "viewer", "--expires", "tomorrow"],
        &["prices", "show", "--at", "noon"],
    ] {
        let run = Desk::with(GOOD).run(words, &[TOKEN]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""));
        let remedy = "write it with its time zone, such as 2027-01-01T00:00:00+08:00";
        assert!(run.stderr.contains(remedy), "{}", run.stderr);
    }
}

#[test]
fn help_and_version_are_answers() {
    for words in [&["--help"], &["--version"]] {
        let run = Desk::with(GOOD).run(words, &[]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        assert!(run.stdout.contains("farebox"));
    }
}
