//! The demo's stack in the foreground, for trying things by hand. Ctrl-C ends it and leaves nothing behind.

use std::io::{self, Write};
use std::process::ExitCode;

use farebox_tests::{Plan, Stack, StackError, binaries, run};

fn main() -> ExitCode {
    run(async {
        tokio::select! {
            outcome = stay_up() => match outcome {
                Ok(()) => ExitCode::SUCCESS,
                Err(err) => {
                    eprintln!("farebox up: {err}");
                    ExitCode::FAILURE
                }
            },
            _ = tokio::signal::ctrl_c() => {
                say("\nstopped; nothing is left behind\n");
                ExitCode::SUCCESS
            }
        }
    })
}

async fn stay_up() -> Result<(), StackError> {
    let plan = Plan::reference()
        .prices(&[("passport", "0.001"), ("payment", "0.002"), ("asset", "0.001")])
        .free_quotas(&[("passport", 10_000), ("payment", 1_000), ("asset", 10)])
        .documented_ports();
    let stack = Stack::start_telling(plan, |part| say(&format!("starting {part}\n"))).await?;
    say(&invitation(&stack)?);
    std::future::pending().await
}

/// Prints, also when nobody reads any more.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

/// What to try.
fn invitation(stack: &Stack) -> Result<String, StackError> {
    let gateway = stack.gateway();
    let addresses = stack.sidecar.addresses();
    let admin = stack.envoy.admin_addr().map(|addr| addr.to_string()).unwrap_or_default();
    let operators = addresses.admin;
    let (token, admin_token) = (farebox_tests::sidecar::TOKEN, farebox_tests::sidecar::ADMIN_TOKEN);
    let callback_secret = farebox_tests::payment::CALLBACK_SECRET;
    let pay = format!("http://{}", stack.payment.http_addr());
    let farebox = binaries::farebox()?.display().to_string();
    let config = stack.sidecar.config().display().to_string();
    Ok(format!(
        "
Envoy listens at {gateway}, the sidecar at {} (users), {} (gateways) and {} (operators).
The payment service: payment pages at {pay}/pay/…, payment.v1 at {}. No money moves.
Logs and data: {}

A new user has 10 free units of `asset` a month; a report takes 5 units:
  curl -i http://{gateway}/v1/asset/items  -H 'x-user-id: ada'
  curl -i http://{gateway}/v1/asset/report -H 'x-user-id: ada'

Add money, and look at the account:
  alias farebox='FAREBOX_GATEWAY_TOKEN={token} {farebox} --config {config}'
  farebox account credit ada 1.00 --reason gift
  farebox account show ada
  farebox prices show
  farebox invariants

Or recharge as users do. The answer names a payment page: open `payment_url` in a browser and press Pay, or do it here.
  curl -i http://{gateway}/api/v1/billing/recharge -H 'x-user-id: ada' -H 'Idempotency-Key: first' \\
    -H 'content-type: application/json' -d '{{\"amount\":\"10.00\",\"currency\":\"CNY\",\"payment_method\":\"alipay\"}}'
  curl -X POST {pay}/pay/PAYMENT_ID
The payment service keeps a list of payments, and of the callbacks that it sent, with every answer:
  curl -s {pay}/control/payments
  curl -s {pay}/control/callbacks
What README.md and payment/README.md show with these three:
  export FAREBOX_GATEWAY_TOKEN={token} FAREBOX_ADMIN_TOKEN={admin_token} CALLBACK_SECRET={callback_secret} FAREBOX_CALLBACK_SECRET={callback_secret}
  curl -s http://{}/internal/v1/billing/deduct -H \"authorization: Bearer $FAREBOX_GATEWAY_TOKEN\" \\
    -H 'accept-language: en' -d '{{\"user_id\":\"ada\",\"service\":\"asset\",\"count\":2,\"idempotency_key\":\"first\"}}'
  curl -s http://{operators}/admin/v1/orders -H \"authorization: Bearer $FAREBOX_ADMIN_TOKEN\"
  farebox orders list

Other routes: /v1/passport/…, /v1/payment/… (charged only when it succeeds: try /v1/payment/status/503),
/public/… (not metered), anything else (refused: no rule names it). Without x-user-id: 401.
What Envoy counts:
  curl -s http://{admin}/stats | grep wasmcustom

Ctrl-C ends everything.
",
        addresses.http,
        addresses.internal,
        addresses.admin,
        stack.payment.grpc_addr(),
        stack.folder().display(),
        addresses.internal,
    ))
}
