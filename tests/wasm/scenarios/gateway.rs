//! A gateway under test: one process with some workers of the Farebox filter, and the sidecar that answers it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use farebox_wasm_host::sidecar::FakeSidecar;
use farebox_wasm_host::{
    Callout, CalloutAnswer, Host, Plugin, Request, Settings, StartError, Stream, Vm,
};
use serde_json::{Value as Json, json};

pub(crate) const CLUSTER: &str = "farebox_sidecar";
pub(crate) const TOKEN: &str = "secret";

/// The compiled filter, compiled by wasmtime once per test run.
pub(crate) fn filter() -> &'static Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| compile(&filter_bytes()))
}

/// The filter whose VMs die when a request says so.
pub(crate) fn trap_filter() -> &'static Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| compile(&trap_filter_bytes()))
}

pub(crate) fn filter_bytes() -> Vec<u8> {
    read("FAREBOX_FILTER_WASM", "wasm32-wasip1/wasm/farebox_filter.wasm")
}

pub(crate) fn trap_filter_bytes() -> Vec<u8> {
    read("FAREBOX_FILTER_TRAP_WASM", "trap/wasm32-wasip1/wasm/farebox_filter.wasm")
}

fn read(variable: &str, built: &str) -> Vec<u8> {
    let target = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let path = std::env::var_os(variable).map_or_else(|| target().join(built), PathBuf::from);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run `cargo xtask test`, or name the filter in {variable}",
            path.display()
        )
    })
}

fn compile(bytes: &[u8]) -> Plugin {
    Plugin::compile(bytes).unwrap_or_else(|error| panic!("the filter: {error:?}"))
}

/// A configuration with one rule for every path of the tests.
pub(crate) fn configuration() -> Json {
    json!({
        "gateway": "edge-1",
        "sidecar": {"cluster": CLUSTER, "authority": "farebox", "timeout": "1s", "token": TOKEN},
        "identity": [{"header": "x-user-id"}],
        "rules": [
            {"prefix": "/v1/asset/", "service": "asset"},
            {"prefix": "/v1/payment/", "service": "payment", "price": "0.002", "charge_on": "success"},
            {"prefix": "/v1/allow/", "service": "asset", "on_unreachable": "allow"},
            {"prefix": "/v1/grace/", "service": "asset", "on_unreachable": "grace(3)"},
            {"prefix": "/v1/shadow/", "service": "asset", "shadow": true},
            {"prefix": "/v1/heavy/", "service": "asset", "units": 5},
            {"prefix": "/v1/unknown/", "service": "nobody-prices-this"},
            {"prefix": "/strict/", "service": "asset", "mode": "strict"},
            {"prefix": "/strict/success/", "service": "asset", "mode": "strict", "charge_on": "success"},
            {"prefix": "/strict/shadow/", "service": "asset", "mode": "strict", "shadow": true},
            {"prefix": "/strict/allow/", "service": "asset", "mode": "strict", "on_unreachable": "allow"},
            {"prefix": "/strict/grace/", "service": "asset", "mode": "strict", "on_unreachable": "grace(3)"},
            {"prefix": "/strict/heavy/", "service": "asset", "mode": "strict", "units": 5},
            {"prefix": "/strict/zero/", "service": "asset", "mode": "strict", "units": 0},
            {"prefix": "/strict/trial/", "service": "trial", "mode": "strict"},
            {"prefix": "/strict/unknown/", "service": "nobody-prices-this", "mode": "strict"},
            {"prefix": "/free/", "service": "none"},
            {"prefix": "/self/", "service": "none", "assert_identity": true}
        ]
    })
}

pub(crate) fn settings(configuration: &Json, seed: u64) -> Settings {
    Settings {
        vm_id: "farebox".to_owned(),
        configuration: configuration.to_string().into_bytes(),
        clusters: [CLUSTER.to_owned()].into(),
        seed,
        ..Settings::default()
    }
}

/// The sidecar with the tests' services. `asset` costs 0.001; 10 of its units are free for accounts that have no money.
pub(crate) fn sidecar() -> FakeSidecar {
    FakeSidecar::new().price("asset", "0.001").price("payment", "0.005").free_quota("trial", 10)
}

/// Prints what happens between gateway and sidecar when `FAREBOX_TRACE` is set: for a look at a failed scenario.
pub(crate) fn trace(text: impl FnOnce() -> String) {
    if std::env::var_os("FAREBOX_TRACE").is_some() {
        eprintln!("{}", text());
    }
}

/// Clones are the same gateway.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) host: Host,
    pub(crate) vms: Vec<Vm>,
    pub(crate) sidecar: Rc<RefCell<FakeSidecar>>,
    plugin: &'static Plugin,
}

pub(crate) fn asset(account: &str) -> Request {
    Request::get("/v1/asset/1").header("x-user-id", account).header("accept-language", "en")
}

pub(crate) fn at(path: &str, account: &str) -> Request {
    Request::get(path).header("x-user-id", account).header("accept-language", "en")
}

impl Gateway {
    /// A gateway with some workers and a sidecar of its own, in which `rich` has 1.00.
    pub(crate) fn new(workers: usize) -> Self {
        let mut sidecar = sidecar();
        sidecar.credit("rich", "1");
        Self::with(workers, &settings(&configuration(), 1), Rc::new(RefCell::new(sidecar)))
    }

    pub(crate) fn with(
        workers: usize,
        settings: &Settings,
        sidecar: Rc<RefCell<FakeSidecar>>,
    ) -> Self {
        Self::of(filter(), workers, settings, sidecar)
    }

    pub(crate) fn of(
        plugin: &'static Plugin,
        workers: usize,
        settings: &Settings,
        sidecar: Rc<RefCell<FakeSidecar>>,
    ) -> Self {
        let host = Host::new(settings.clone());
        let mut gateway = Self { host, vms: Vec::new(), sidecar, plugin };
        for _ in 0..workers {
            gateway
                .start_worker()
                .unwrap_or_else(|error| panic!("the filter does not start: {error:?}"));
        }
        gateway
    }

    pub(crate) fn start_worker(&mut self) -> Result<Vm, StartError> {
        let vm = self.host.start(self.plugin)?;
        self.vms.push(vm.clone());
        Ok(vm)
    }

    pub(crate) fn credit(&self, account: &str, amount: &str) {
        self.sidecar.borrow_mut().credit(account, amount);
    }

    pub(crate) fn charged(&self, account: &str) -> u64 {
        self.sidecar.borrow().charged(account)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.host.now().as_millis()).expect("tests do not last that long")
    }

    /// What the sidecar says to a call.
    pub(crate) fn reply_to(&self, call: &Callout) -> CalloutAnswer {
        assert_eq!(call.headers().get("authorization"), Some("Bearer secret"));
        assert_eq!(call.headers().get("content-type"), Some("application/json"));
        assert_eq!(call.headers().get(":method"), Some("POST"));
        let path = call.headers().get(":path").unwrap_or_default();
        let reply = self.sidecar.borrow_mut().answer_at(path, call.body(), self.now_ms());
        let reply = reply.unwrap_or_else(|| panic!("no gateway calls {path}"));
        trace(|| {
            format!("{:?} vm {} {call:?}\n    -> {reply:?}", self.host.now(), call.vm().number())
        });
        CalloutAnswer::Response { status: reply.status, body: reply.body }
    }

    /// Lets the sidecar answer everything that was asked, and what is asked because of that, until nobody asks.
    pub(crate) fn answer_all(&self) {
        for _ in 0..1_000 {
            while self.host.run_posted() {}
            let calls = self.host.take_callouts();
            if calls.is_empty() {
                return;
            }
            for call in calls {
                let reply = self.reply_to(&call);
                call.answer(reply);
            }
        }
        panic!("the filter asks the sidecar without end");
    }

    /// Lets time pass in steps of a worker's own tick, without anybody answering.
    pub(crate) fn pass_silently(&self, milliseconds: u64) {
        self.pass_with(milliseconds, |_| {});
    }

    /// Lets time pass; everything is answered at once.
    pub(crate) fn pass(&self, milliseconds: u64) {
        self.pass_with(milliseconds, Self::answer_all);
    }

    /// Every 10 ms the workers whose period has come tick, one after the other, and then `between` runs.
    pub(crate) fn pass_with(&self, milliseconds: u64, between: impl Fn(&Self)) {
        for _ in 0..milliseconds.div_ceil(10) {
            self.host.advance(Duration::from_millis(10));
            let now = self.now_ms();
            for (number, vm) in self.vms.iter().enumerate() {
                let period = vm.tick_period().map_or(u64::MAX, |period| {
                    u64::try_from(period.as_millis()).unwrap_or(u64::MAX)
                });
                // Workers start at different moments, so their ticks never meet.
                if (now / 10 + number as u64).is_multiple_of((period / 10).max(1)) {
                    vm.tick();
                    while self.host.run_posted() {}
                }
            }
            between(self);
        }
    }

    /// A call of `account`, answered by the sidecar as far as it takes and by the upstream with 200. Whether it was served.
    pub(crate) fn serve(&self, worker: usize, request: Request) -> Stream {
        let stream = self.vms[worker].request(request);
        self.answer_all();
        if stream.is_forwarded() {
            stream.complete(200);
        }
        stream
    }

    /// Lets all leases come home, and checks that everything that was served is charged, and nothing else.
    #[track_caller]
    pub(crate) fn settle_and_check(&self, account: &str, served_units: u64) {
        self.pass(12_000);
        self.host.assert_no_faults();
        let sidecar = self.sidecar.borrow();
        assert_eq!(sidecar.charged(account), served_units, "charged and served units of {account}");
        assert_eq!(
            sidecar.open_leases(account),
            [0_u64; 0],
            "leases of {account} come home when nobody uses them"
        );
        let held = sidecar.account(account).held;
        assert_eq!(held, farebox_core::money::Nanos::ZERO, "nothing is held without leases");
    }
}
