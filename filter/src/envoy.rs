//! Envoy's side: the proxy-wasm ABI 0.2.1, bound to [`Worker`].
//!
//! The ABI is spoken directly. A host call that fails is a value here, never a panic: a trap would take down every call
//! of the worker thread. And a callout made for a stream is answered to this module even when the stream is gone, which
//! lets other streams wait for the same answer.

mod abi;
#[cfg(feature = "trap")]
mod trap;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use farebox_core::assertion::Key;

use crate::answer::{Answer, Reason};
use crate::backlog::{Backlog, Verdict};
use crate::config::{self, Config, Token};
use crate::control;
use crate::ending::{Ending, Response};
use crate::host::{Host, SetOutcome, Severity};
use crate::pairs;
use crate::request::Request;
use crate::rule::FieldError;
use crate::stats::Stat;
use crate::trace::Trace;
use crate::worker::{Next, Worker};
use abi::{Map, Status};

/// The property of a downstream request that its passes through the filters share.
const MOVED: &str = "farebox.moved";

/// The plugin configurations of this VM, by root context, and the root context of each stream.
#[derive(Debug, Default)]
struct Plugins {
    roots: BTreeMap<u32, Plugin>,
    streams: BTreeMap<u32, u32>,
}

/// One plugin configuration.
#[derive(Debug)]
struct Plugin {
    worker: Worker,
    envoy: Envoy,
}

thread_local! {
    static PLUGINS: RefCell<Plugins> = RefCell::default();
}

/// Runs `act` on the plugin of a context. `None` when there is none: its configuration was refused.
fn with_plugin<T>(context: u32, act: impl FnOnce(&mut Plugin) -> T) -> Option<T> {
    PLUGINS.with(|plugins| {
        let mut plugins = plugins.try_borrow_mut().ok()?;
        let root = plugins.streams.get(&context).copied().unwrap_or(context);
        plugins.roots.get_mut(&root).map(act)
    })
}

fn with_plugins(act: impl FnOnce(&mut Plugins)) {
    PLUGINS.with(|plugins| {
        if let Ok(mut plugins) = plugins.try_borrow_mut() {
            act(&mut plugins);
        }
    });
}

// === Callbacks, called by `abi`

fn on_context_create(context: u32, root: u32) {
    if root != 0 {
        with_plugins(|plugins| {
            plugins.streams.insert(context, root);
        });
    }
}

fn on_configure(root: u32, size: usize) -> bool {
    let bytes = abi::plugin_configuration(size).unwrap_or_default();
    match start(&bytes) {
        Ok(plugin) => {
            with_plugins(|plugins| {
                plugins.roots.insert(root, plugin);
            });
            true
        }
        Err(err) => {
            abi::log(Severity::Error, &format!("farebox: configuration refused: {err}"));
            false
        }
    }
}

fn start(configuration: &[u8]) -> Result<Plugin, FieldError> {
    let config = Config::parse(configuration)?;
    let gateway = match &config.gateway {
        Some(gateway) => gateway.clone(),
        None => {
            let node = abi::property(&["xds", "node", "id"]).unwrap_or_default();
            config::parse_gateway("gateway", &String::from_utf8_lossy(&node))?
        }
    };
    let token = read_token(&config.sidecar.token)?;
    if !abi::declare_request_property(MOVED) {
        abi::log(
            Severity::Warn,
            "farebox: Envoy does not keep notes across internal redirects; redirected calls are charged again",
        );
    }
    let envoy = Envoy {
        cluster: config.sidecar.cluster.clone(),
        authority: config.sidecar.authority.clone(),
        timeout_ms: u32::try_from(config.sidecar.timeout_ms).unwrap_or(u32::MAX),
        authorization: format!("Bearer {token}"),
        metrics: Stat::ALL.map(|stat| abi::define_metric(stat.is_gauge(), stat.name())),
        arriving: Cell::default(),
        backlog: RefCell::default(),
        pace: Cell::default(),
    };
    let kept = control::keep_name(&envoy, gateway.clone());
    if kept != gateway {
        let text = format!(
            "farebox: gateway is \"{gateway}\", but this Envoy has begun as \"{kept}\" and lends and reports under that name \
             until it is started again"
        );
        abi::log(Severity::Warn, &text);
    }
    Ok(Plugin { worker: Worker::new(&envoy, config, kept, Key::derive(&token)), envoy })
}

fn read_token(token: &Token) -> Result<String, FieldError> {
    match token {
        Token::Text(text) => Ok(text.clone()),
        Token::Env(name) => std::env::var(name).ok().filter(|token| !token.is_empty()).ok_or_else(|| FieldError {
            field: "sidecar.token_env".to_owned(),
            value: format!("{name:?}"),
            remedy: "the variable is not set in the VM; list it in vm_config.environment_variables.host_env_keys \
                     and set it for the Envoy process"
                .to_owned(),
        }),
    }
}

fn on_tick(root: u32) {
    #[cfg(feature = "trap")]
    trap::on_tick();
    with_plugin(root, |Plugin { worker, envoy }| {
        if envoy.is_due() {
            worker.on_tick(envoy);
        }
        envoy.tell(true);
    });
    release_ended();
}

fn on_request_headers(stream: u32) -> Next {
    #[cfg(feature = "trap")]
    trap::on_request(stream);
    let next = with_plugin(stream, |Plugin { worker, envoy }| {
        envoy.arriving.set(stream);
        let next = worker.on_request(envoy, stream, &CurrentRequest);
        envoy.arriving.set(0);
        envoy.mind_backlog();
        next
    });
    next.unwrap_or_else(|| {
        let caller = crate::answer::Caller {
            language: farebox_core::code::Language::Chinese,
            is_grpc: false,
        };
        abi::send_local_response(&Reason::Misconfigured.answer(caller));
        Next::Pause
    })
}

fn on_response_headers(stream: u32) {
    let charge = with_plugin(stream, |plugin| plugin.worker.on_response(stream)).flatten();
    if let Some((charge, source)) = charge {
        abi::replace_header(Map::Response, "x-farebox-charge", &charge.to_string());
        abi::replace_header(Map::Response, "x-farebox-source", source);
    }
}

fn on_http_call_response(token: u32, header_count: usize, body_size: usize) {
    let status = if header_count == 0 { 0 } else { call_status() };
    let body = abi::call_response_body(body_size).unwrap_or_default();
    // The answer belongs to whichever configuration asked; tokens are unique in the VM.
    with_plugins(|plugins| {
        for plugin in plugins.roots.values_mut() {
            plugin.worker.on_answer(&plugin.envoy, token, status, &body);
            // Whatever Envoy says in the sidecar's place may be said within another callback.
            plugin.envoy.tell(status == 200);
        }
    });
    release_ended();
}

/// Envoy takes a configuration away, or a stream ends. `false`: the configuration goes when [`release_ended`] says so.
fn on_done(context: u32) -> bool {
    let mut is_done = true;
    with_plugins(|plugins| {
        if let Some(plugin) = plugins.roots.get_mut(&context) {
            is_done = plugin.worker.end(&plugin.envoy);
        }
    });
    is_done
}

/// Lets the configurations go that stayed because charges were to come back.
fn release_ended() {
    let mut ended = Vec::new();
    with_plugins(|plugins| {
        let roots = plugins.roots.iter_mut();
        let over = roots
            .filter_map(|(root, plugin)| plugin.worker.has_ended(&plugin.envoy).then_some(*root));
        ended.extend(over);
    });
    for root in ended {
        abi::in_context(root, abi::done);
    }
}

fn call_status() -> u32 {
    let status = abi::header(Map::CallResponse, ":status").unwrap_or_default();
    String::from_utf8_lossy(&status).parse().unwrap_or(0)
}

fn on_log(stream: u32) {
    #[cfg(feature = "trap")]
    trap::on_log(stream);
    with_plugin(stream, |plugin| {
        let Plugin { worker, envoy } = plugin;
        envoy.forget(stream);
        let Some(caller) = worker.judged_by_ending(stream) else {
            return worker.on_end(envoy, stream, Ending::Success);
        };
        let response = current_response(caller.is_grpc);
        match response.is_redirect().then(|| worker.on_redirect(envoy, stream)).flatten() {
            Some(note) => abi::set_property(MOVED, &note),
            None => worker.on_end(envoy, stream, response.ending()),
        }
    });
}

fn on_delete(context: u32) {
    // A stream that was never logged has not been answered.
    with_plugin(context, |Plugin { worker, envoy }| {
        envoy.forget(context);
        worker.on_end(envoy, context, Ending::Failure);
    });
    with_plugins(|plugins| {
        plugins.streams.remove(&context);
        if let Some(Plugin { mut worker, envoy }) = plugins.roots.remove(&context) {
            worker.shut_down(&envoy);
        }
    });
}

fn current_response(is_grpc: bool) -> Response {
    let number = |name: &str| {
        let bytes = abi::property(&["response", name])?;
        bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    };
    Response {
        code: number("code").unwrap_or(0),
        flags: number("flags").unwrap_or(0),
        code_details: abi::property(&["response", "code_details"]).unwrap_or_default(),
        // Envoy derives a gRPC status from the HTTP one when the response has none, so it counts for gRPC calls only.
        grpc_status: if is_grpc { number("grpc_status") } else { None },
    }
}

/// The request whose callback is running.
struct CurrentRequest;

impl Request for CurrentRequest {
    fn headers(&self) -> Vec<u8> {
        abi::header_pairs(Map::Request).unwrap_or_default()
    }

    fn route_name(&self) -> Vec<u8> {
        abi::property(&["xds", "route_name"]).unwrap_or_default()
    }

    fn route_metadata(&self) -> Vec<u8> {
        abi::property(&["xds", "route_metadata", "filter_metadata", "farebox"]).unwrap_or_default()
    }

    fn claim(&self, payload: &str, claim: &str) -> Option<Vec<u8>> {
        let path = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", payload, claim];
        abi::property(&path)
    }

    fn moved(&self) -> Option<Vec<u8>> {
        abi::property(&[MOVED])
    }

    fn remove_header(&self, name: &str) {
        abi::remove_header(Map::Request, name);
    }

    fn set_header(&self, name: &str, value: &str) {
        abi::replace_header(Map::Request, name, value);
    }
}

/// The process around this VM.
#[derive(Debug)]
struct Envoy {
    cluster: String,
    authority: String,
    timeout_ms: u32,
    authorization: String,
    metrics: [Option<u32>; Stat::ALL.len()],
    /// The stream whose request arrives in the running callback; 0 in any other.
    arriving: Cell<u32>,
    backlog: RefCell<Backlog>,
    pace: Cell<Pace>,
}

/// How often this VM ticks.
#[derive(Debug, Default, Clone, Copy)]
struct Pace {
    /// As the worker wants it.
    period_ms: u64,
    /// When the worker ticked.
    ticked_ms: u64,
    /// Ticks come as fast as they can, for calls that have not been told.
    rushes: bool,
}

impl Envoy {
    fn metric(&self, stat: Stat) -> Option<u32> {
        let place = Stat::ALL.iter().position(|known| *known == stat)?;
        self.metrics.get(place).copied().flatten()
    }

    /// Whether it is time for a tick of the worker's; the others are for the backlog alone.
    fn is_due(&self) -> bool {
        let pace = self.pace.get();
        if !pace.rushes {
            return true;
        }
        let now = self.now_ms();
        let is_due = pace.ticked_ms.saturating_add(pace.period_ms) <= now;
        if is_due {
            self.pace.set(Pace { ticked_ms: now, ..pace });
        }
        is_due
    }

    /// Tells paused calls what becomes of them, as many as the stack takes; the others with the next tick.
    fn tell(&self, stack_is_empty: bool) {
        let Ok(mut backlog) = self.backlog.try_borrow_mut() else { return };
        if stack_is_empty {
            backlog.replenish();
        }
        while let Some((stream, verdict)) = backlog.take_first() {
            abi::in_context(stream, || match &verdict {
                Verdict::Resume => abi::continue_request(),
                Verdict::Answer(answer) => abi::send_local_response(answer),
            });
        }
        drop(backlog);
        self.mind_backlog();
    }

    fn add_verdict(&self, stream: u32, verdict: Verdict) {
        if let Ok(mut backlog) = self.backlog.try_borrow_mut() {
            backlog.push(stream, verdict);
        }
    }

    /// A stream has ended, and is not told any more.
    fn forget(&self, stream: u32) {
        if let Ok(mut backlog) = self.backlog.try_borrow_mut() {
            backlog.forget(stream);
        }
    }

    /// Ticks come as fast as they can while calls are to be told.
    fn mind_backlog(&self) {
        let (pace, rushes) = (self.pace.get(), 0 < self.untold());
        if rushes != pace.rushes {
            self.pace.set(Pace { rushes, ..pace });
            let period_ms = if rushes { 1 } else { pace.period_ms };
            abi::set_tick_period(u32::try_from(period_ms).unwrap_or(u32::MAX));
        }
    }
}

impl Host for Envoy {
    fn now_ms(&self) -> u64 {
        abi::monotonic_ns().checked_div(1_000_000).unwrap_or(0)
    }

    fn unix_s(&self) -> u64 {
        abi::unix_ns().checked_div(1_000_000_000).unwrap_or(0)
    }

    fn random(&self) -> u64 {
        abi::random()
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        abi::get_shared_data(key)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> SetOutcome {
        match abi::set_shared_data(key, value, cas) {
            Status::Ok => SetOutcome::Stored,
            Status::CasMismatch => SetOutcome::Conflict,
            Status::Other => SetOutcome::Failed,
        }
    }

    fn call_sidecar(&self, path: &str, body: &[u8], trace: Option<&Trace>) -> Option<u32> {
        let mut headers = vec![
            (":method", "POST"),
            (":path", path),
            (":authority", &self.authority),
            ("content-type", "application/json"),
            ("accept-language", "en"),
            ("authorization", self.authorization.as_str()),
        ];
        // Envoy puts the context of none of its own spans on a callout.
        headers.extend(trace.into_iter().flat_map(Trace::headers));
        let headers = pairs::encode(&headers);
        abi::http_call(&self.cluster, &headers, body, self.timeout_ms)
    }

    fn resume(&self, stream: u32) {
        self.add_verdict(stream, Verdict::Resume);
    }

    fn answer(&self, stream: u32, answer: &Answer) {
        if stream == self.arriving.get() {
            abi::send_local_response(answer);
        } else {
            self.add_verdict(stream, Verdict::Answer(answer.clone()));
        }
    }

    fn untold(&self) -> usize {
        self.backlog.try_borrow().map_or(0, |backlog| backlog.len())
    }

    fn count(&self, stat: Stat, by: u64) {
        if let (Some(metric), Ok(by)) = (self.metric(stat), i64::try_from(by)) {
            abi::increment_metric(metric, by);
        }
    }

    fn gauge(&self, stat: Stat, value: u64) {
        if let Some(metric) = self.metric(stat) {
            abi::record_metric(metric, value);
        }
    }

    fn log(&self, severity: Severity, text: &str) {
        abi::log(severity, text);
    }

    fn tick_every_ms(&self, period_ms: u64) {
        let pace = Pace { period_ms, ..self.pace.get() };
        self.pace.set(pace);
        if !pace.rushes {
            abi::set_tick_period(u32::try_from(period_ms).unwrap_or(u32::MAX));
        }
    }
}
