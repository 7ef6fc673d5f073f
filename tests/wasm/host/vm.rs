//! One worker: an instance of the plugin with its root context and its streams.

mod exports;
mod streams;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use wasmtime::{Memory, Store, TypedFunc, WasmParams, WasmResults};

use self::exports::{Exports, export};
use self::streams::failed_answer;

use crate::callout::CalloutAnswer;
use crate::fault::Fault;
use crate::headers::Headers;
use crate::host::Host;
use crate::plugin::{Plugin, StartError};
use crate::property::LifeSpan;
use crate::stream::{LocalReply, State, StreamRecord};

/// The number of the root context: Envoy counts contexts from 1.
pub(crate) const ROOT: u32 = 1;

/// What one guest call may cost, in wasmtime's fuel: about as many instructions.
const FUEL_PER_CALL: u64 = 5_000_000_000;

/// A worker. Clones are the same one; with the last clone it is gone, and its callouts are cancelled.
#[derive(Clone)]
pub struct Vm {
    pub(crate) cell: Rc<VmCell>,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("number", &self.number()).finish_non_exhaustive()
    }
}

pub(crate) struct VmCell {
    host: Host,
    pub(crate) shared: Rc<VmShared>,
    store: RefCell<Store<VmState>>,
    exports: Exports,
}

/// What the guest's host functions see.
pub(crate) struct VmState {
    pub(crate) host: Host,
    pub(crate) shared: Rc<VmShared>,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
}

/// Envoy does what a guest call asked for at its end, and what is done calls the guest again: within the former call. In Envoy
/// with nothing but one filter the stack is used up at about 300 such calls; other filters take their part of it.
const NESTED_MAX: usize = 150;

/// A VM's state outside of the store, so that it can be looked at while the guest runs.
#[derive(Debug)]
pub(crate) struct VmShared {
    pub(crate) number: usize,
    pub(crate) streams: RefCell<BTreeMap<u32, StreamRecord>>,
    next_context: Cell<u32>,
    /// Properties that the guest declared.
    pub(crate) declared: RefCell<BTreeMap<String, LifeSpan>>,
    pub(crate) deferred: RefCell<VecDeque<Deferred>>,
    pub(crate) calls: RefCell<Calls>,
    /// `_initialize` is running.
    pub(crate) starting: Cell<bool>,
    pub(crate) current: Cell<u32>,
    /// Set by `proxy_set_effective_context` for the rest of the guest call.
    pub(crate) effective: Cell<Option<u32>>,
    /// The answer that `proxy_on_http_call_response` may read.
    pub(crate) callout_in_view: RefCell<Option<(Headers, Vec<u8>)>>,
    /// `proxy_on_configure` is running.
    pub(crate) configuring: Cell<bool>,
    pub(crate) tick_period: Cell<Option<Duration>>,
    /// The root context wanted to stay after `proxy_on_done`.
    pub(crate) done_pending: Cell<bool>,
    /// Host functions in the order in which the guest called them.
    pub(crate) served: RefCell<Vec<&'static str>>,
    has_failed: Cell<bool>,
    /// Guest calls within each other's deferred actions.
    depth: Cell<usize>,
}

/// Callouts without an answer.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) last_token: u32,
    pub(crate) pending: BTreeSet<u32>,
}

/// What Envoy does after the guest call during which it was asked for.
#[derive(Debug)]
pub(crate) enum Deferred {
    Resume(u32),
    Answer(u32, u32, LocalReply),
    Close(u32),
    Delete,
}

impl VmShared {
    fn new(number: usize) -> Self {
        Self {
            number,
            streams: RefCell::default(),
            next_context: Cell::new(ROOT + 1),
            declared: RefCell::default(),
            deferred: RefCell::default(),
            calls: RefCell::default(),
            starting: Cell::new(true),
            current: Cell::new(0),
            effective: Cell::new(None),
            callout_in_view: RefCell::default(),
            configuring: Cell::new(false),
            tick_period: Cell::new(None),
            done_pending: Cell::new(false),
            served: RefCell::default(),
            depth: Cell::default(),
            has_failed: Cell::new(false),
        }
    }

    /// Whether the guest has a context of this number.
    pub(crate) fn has_context(&self, id: u32) -> bool {
        id == ROOT || self.streams.borrow().get(&id).is_some_and(|stream| stream.alive)
    }
}

impl Vm {
    /// The host functions that the guest has called since this was last asked, in order.
    pub fn take_host_calls(&self) -> Vec<&'static str> {
        self.cell.shared.served.take()
    }

    pub(crate) fn start(host: &Host, plugin: &Plugin, number: usize) -> Result<Self, StartError> {
        let shared = Rc::new(VmShared::new(number));
        let state = VmState {
            host: host.clone(),
            shared: Rc::clone(&shared),
            memory: None,
            allocate: None,
        };
        let mut store = Store::new(&plugin.engine, state);
        store.set_fuel(FUEL_PER_CALL).map_err(StartError::Instantiate)?;
        let instance = plugin
            .linker()?
            .instantiate(&mut store, &plugin.module)
            .map_err(StartError::Instantiate)?;
        let memory =
            instance.get_memory(&mut store, "memory").ok_or(StartError::Export("memory"))?;
        let allocate = match export(&mut store, &instance, "malloc")? {
            Some(malloc) => malloc,
            None => export(&mut store, &instance, "proxy_on_memory_allocate")?
                .ok_or(StartError::Export("proxy_on_memory_allocate"))?,
        };
        store.data_mut().memory = Some(memory);
        store.data_mut().allocate = Some(allocate);
        let exports = Exports::find(&mut store, &instance)?;
        let initialize: Option<TypedFunc<(), ()>> = export(&mut store, &instance, "_initialize")?;
        let cell = VmCell { host: host.clone(), shared, store: RefCell::new(store), exports };
        let vm = Self { cell: Rc::new(cell) };
        vm.call("_initialize", 0, initialize.as_ref(), ());
        vm.cell.shared.starting.set(false);
        vm.started("_initialize")?;
        Ok(vm)
    }

    fn started(&self, export: &'static str) -> Result<(), StartError> {
        if !self.has_failed() {
            return Ok(());
        }
        let faults = self.cell.host.take_faults();
        let message = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Err(StartError::Trap { export, message })
    }

    /// The start of the root context: `proxy_on_context_create`, `proxy_on_vm_start`, `proxy_on_configure`.
    pub(crate) fn configure(&self) -> Result<(), StartError> {
        let exports = &self.cell.exports;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (vm_bytes, bytes) = {
            let settings = self.cell.host.cell.settings.borrow();
            (length(&settings.vm_configuration), length(&settings.configuration))
        };
        self.call("proxy_on_context_create", ROOT, exports.on_context_create.as_ref(), (ROOT, 0));
        self.started("proxy_on_context_create")?;
        let started =
            self.call("proxy_on_vm_start", ROOT, exports.on_vm_start.as_ref(), (ROOT, vm_bytes));
        self.accepted("proxy_on_vm_start", started)?;
        self.cell.shared.configuring.set(true);
        let configured =
            self.call("proxy_on_configure", ROOT, exports.on_configure.as_ref(), (ROOT, bytes));
        self.cell.shared.configuring.set(false);
        self.accepted("proxy_on_configure", configured)
    }

    fn accepted(&self, export: &'static str, answer: Option<u32>) -> Result<(), StartError> {
        self.started(export)?;
        if answer != Some(0) {
            return Ok(());
        }
        let logs = self.cell.host.cell.logs.borrow();
        let lines = logs.iter().filter(|line| line.vm == self.number() && 3 <= line.level);
        let log = lines.map(|line| line.text.as_str()).collect::<Vec<_>>().join("; ");
        Err(StartError::Refused { export, log })
    }

    /// Calls the guest, then does what it asked for meanwhile. `None` when it has no such function, or is dead.
    fn call<P: WasmParams, R: WasmResults>(
        &self,
        export: &'static str,
        context: u32,
        func: Option<&TypedFunc<P, R>>,
        params: P,
    ) -> Option<R> {
        let func = func?;
        if self.has_failed() {
            return None;
        }
        let shared = &self.cell.shared;
        let outcome = {
            let Ok(mut store) = self.cell.store.try_borrow_mut() else {
                panic!("vm {} is busy: a worker makes one guest call at a time", shared.number);
            };
            shared.current.set(context);
            shared.effective.set(None);
            store.set_fuel(FUEL_PER_CALL).and_then(|()| func.call(&mut *store, params))
        };
        let result = outcome.map_err(|error| self.fail(export, &error)).ok();
        let depth = shared.depth.get() + 1;
        if depth == NESTED_MAX {
            self.cell.host.fault(Fault::TooDeep { vm: shared.number, export });
        }
        shared.depth.set(depth);
        self.run_deferred();
        shared.depth.set(depth - 1);
        result
    }

    /// A trap: the VM is dead, and its streams get 503.
    fn fail(&self, export: &'static str, error: &wasmtime::Error) {
        let shared = &self.cell.shared;
        shared.has_failed.set(true);
        shared.deferred.borrow_mut().clear();
        let logs = self.cell.host.cell.logs.borrow().clone();
        let last = logs.iter().rev().filter(|line| line.vm == shared.number).take(3);
        let log = last.map(|line| line.text.as_str()).collect::<Vec<_>>().join(" / ");
        let message = format!("{error:#}; last lines, newest first: {log}");
        self.cell.host.fault(Fault::Trap { vm: shared.number, export, message });
        for stream in shared.streams.borrow_mut().values_mut() {
            if matches!(stream.state, State::Deciding | State::Paused) {
                stream.state = State::Answered(failed_answer(&stream.request));
            }
            stream.alive = false;
        }
    }

    fn run_deferred(&self) {
        loop {
            let next = self.cell.shared.deferred.borrow_mut().pop_front();
            match next {
                None => return,
                Some(Deferred::Resume(stream)) => self.resume(stream),
                Some(Deferred::Answer(stream, status, reply)) => self.answer(stream, status, reply),
                Some(Deferred::Close(stream)) => self.end_stream(stream, 0),
                Some(Deferred::Delete) => {
                    let on_delete = self.cell.exports.on_delete.as_ref();
                    self.call("proxy_on_delete", ROOT, on_delete, ROOT);
                }
            }
        }
    }

    /// Whether the guest trapped.
    pub fn has_failed(&self) -> bool {
        self.cell.shared.has_failed.get()
    }

    /// Whether the guest is in the middle of a call: it cannot take another one.
    pub fn is_busy(&self) -> bool {
        self.cell.store.try_borrow_mut().is_err()
    }

    /// Which VM of its host it is, in the order of their starts.
    pub fn number(&self) -> usize {
        self.cell.shared.number
    }

    /// The process it belongs to.
    pub fn host(&self) -> &Host {
        &self.cell.host
    }

    /// How often the guest wants to tick; `None` when it does not.
    pub fn tick_period(&self) -> Option<Duration> {
        self.cell.shared.tick_period.get()
    }

    /// `proxy_on_tick`.
    pub fn tick(&self) {
        self.call("proxy_on_tick", ROOT, self.cell.exports.on_tick.as_ref(), ROOT);
    }

    pub(crate) fn queue_ready(&self, token: u32) {
        let on_queue_ready = self.cell.exports.on_queue_ready.as_ref();
        self.call("proxy_on_queue_ready", ROOT, on_queue_ready, (ROOT, token));
    }

    /// Delivers the answer to a callout to the root context; `false` when nobody waits for it.
    pub(crate) fn deliver(&self, token: u32, answer: CalloutAnswer) -> bool {
        let shared = &self.cell.shared;
        if self.has_failed() || !shared.calls.borrow_mut().pending.remove(&token) {
            return false;
        }
        let (headers, body) = match answer {
            CalloutAnswer::Reset => (None, Vec::new()),
            CalloutAnswer::Response { status, body } => {
                (Some(Headers::from_iter([(":status", status.to_string())])), body)
            }
        };
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (count, bytes) = (length(headers.as_ref().map_or(0, Headers::len)), length(body.len()));
        *shared.callout_in_view.borrow_mut() = headers.map(|headers| (headers, body));
        let on_response = self.cell.exports.on_http_call_response.as_ref();
        let params = (ROOT, token, count, bytes, 0);
        self.call("proxy_on_http_call_response", ROOT, on_response, params);
        shared.callout_in_view.borrow_mut().take();
        true
    }

    /// Whether the root context stays after [`Self::shut_down`], because the guest asked for it.
    pub fn is_staying(&self) -> bool {
        self.cell.shared.done_pending.get()
    }

    /// Ends the root context, as when Envoy takes the configuration away. `false` when the guest asked to stay until it
    /// calls `proxy_done`.
    pub fn shut_down(&self) -> bool {
        let exports = &self.cell.exports;
        let is_done = self.call("proxy_on_done", ROOT, exports.on_done.as_ref(), ROOT) != Some(0);
        self.cell.shared.done_pending.set(!is_done);
        if is_done {
            self.call("proxy_on_delete", ROOT, exports.on_delete.as_ref(), ROOT);
        }
        is_done
    }
}
