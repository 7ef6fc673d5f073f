//! One worker of the filter with its host, and what became of its calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use farebox_core::assertion::Key;
use farebox_filter::config::Config;
use farebox_filter::ending::Ending;
use farebox_filter::pairs;
use farebox_filter::request::Request;
use farebox_filter::worker::{Next, Worker};

use crate::process::{Message, Process, VmHost};

/// How long a message may take, as the workers are configured.
pub const TIMEOUT_MS: u64 = 1_000;
/// How often workers tick, as they are configured.
pub const SYNC_INTERVAL_MS: u64 = 200;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The service, which is also the path.
    pub service: &'static str,
    /// Units per call.
    pub units: u64,
    /// Whether only successes are charged.
    pub on_success: bool,
}

/// Charged when the call arrives.
pub const ASSET: Route = Route { service: "asset", units: 1, on_success: false };
/// Charged when the call has succeeded.
pub const VIDEO: Route = Route { service: "video", units: 2, on_success: true };

/// A call of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Who pays.
    pub account: &'static str,
    /// What for.
    pub route: Route,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was forwarded.
    GoesOn,
    /// It was answered with this status instead.
    Refused(u32),
}

/// A worker.
#[derive(Debug)]
pub struct Vm {
    host: VmHost,
    worker: Worker,
    last_stream: u32,
    waiting: BTreeMap<u32, Call>,
    running: BTreeMap<u32, Call>,
}

struct Headers(Vec<u8>);

impl Request for Headers {
    fn headers(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn route_name(&self) -> Vec<u8> {
        Vec::new()
    }

    fn route_metadata(&self) -> Vec<u8> {
        Vec::new()
    }

    fn claim(&self, _: &str, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn moved(&self) -> Option<Vec<u8>> {
        None
    }

    fn remove_header(&self, _: &str) {}

    fn set_header(&self, _: &str, _: &str) {}
}

fn configuration(gateway: &str) -> Config {
    let rule = |route: Route| {
        serde_json::json!({
            "prefix": format!("/{}", route.service),
            "service": route.service,
            "units": route.units,
            "charge_on": if route.on_success { "success" } else { "request" },
        })
    };
    let json = serde_json::json!({
        "gateway": gateway,
        "sidecar": {"cluster": "sidecar", "timeout": format!("{TIMEOUT_MS}ms"), "token": "secret"},
        "sync_interval": format!("{SYNC_INTERVAL_MS}ms"),
        "idle_return": "300ms",
        "max_wait": "2s",
        "identity": [{"header": "x-user-id"}],
        "rules": [rule(ASSET), rule(VIDEO)],
    });
    Config::parse(json.to_string().as_bytes()).expect("the configuration of the tests is valid")
}

impl Vm {
    /// A worker of a process.
    pub fn new(process: &Arc<Process>, gateway: &str) -> Self {
        let host = VmHost::new(Arc::clone(process));
        let name = gateway.parse().expect("a gateway's name");
        let worker = Worker::new(&host, configuration(gateway), name, Key::derive("secret"));
        Self { host, worker, last_stream: 0, waiting: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// A call arrives. What becomes of it is among [`Vm::take_fates`], at once or later.
    pub fn call(&mut self, call: Call) {
        self.last_stream += 1;
        let stream = self.last_stream;
        let path = format!("/{}/1", call.route.service);
        let headers = [(":path", path.as_str()), ("x-user-id", call.account)];
        self.waiting.insert(stream, call);
        let request = Headers(pairs::encode(&headers));
        if self.worker.on_request(&self.host, stream, &request) == Next::Continue {
            self.host.resume_at_once(stream);
        }
    }

    /// What became of calls since this was last asked. Those that are charged when they arrive end here.
    pub fn take_fates(&mut self) -> Vec<(Call, Fate)> {
        let mut fates = Vec::new();
        for stream in self.host.take_resumed() {
            let call =
                self.waiting.remove(&stream).expect("a call goes on once, and only if it waits");
            fates.push((call, Fate::GoesOn));
            if call.route.on_success {
                self.running.insert(stream, call);
            } else {
                self.worker.on_response(stream);
                self.worker.on_end(&self.host, stream, Ending::Success);
            }
        }
        for (stream, status) in self.host.take_answered() {
            let call = self
                .waiting
                .remove(&stream)
                .expect("a call is answered once, and only if it waits");
            self.worker.on_end(&self.host, stream, Ending::Failure);
            fates.push((call, Fate::Refused(status)));
        }
        fates
    }

    /// Ends the longest running call.
    pub fn finish(&mut self, succeeds: bool) -> Option<Call> {
        let (stream, call) = self.running.pop_first()?;
        let ending = if succeeds { Ending::Success } else { Ending::Failure };
        self.worker.on_end(&self.host, stream, ending);
        Some(call)
    }

    /// The timer fires.
    pub fn tick(&mut self) {
        self.worker.on_tick(&self.host);
    }

    /// A message is answered, by the sidecar or by Envoy.
    pub fn answer(&mut self, token: u32, status: u32, body: &[u8]) {
        self.worker.on_answer(&self.host, token, status, body);
    }

    /// What was sent since this was last asked.
    pub fn take_sent(&self) -> Vec<Message> {
        self.host.take_sent()
    }

    /// How many calls wait for units.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The calls that were forwarded and have not ended.
    pub fn running(&self) -> impl Iterator<Item = &Call> {
        self.running.values()
    }
}
