//! One Envoy process: everything that its workers share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::callout::{Callout, Sent};
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::plugin::{Plugin, StartError};
use crate::queues::{Listener, Queues};
use crate::random::Entropy;
use crate::shared_data::SharedData;
use crate::status::Status;
use crate::vm::{Vm, VmCell};

/// What stands in Envoy's configuration about the plugin, and about Envoy itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `vm_config.vm_id`: the namespace of shared data and queues.
    pub vm_id: String,
    /// The plugin's configuration, as the guest reads it.
    pub configuration: Vec<u8>,
    /// The VM's configuration, as the guest reads it.
    pub vm_configuration: Vec<u8>,
    /// `node.id`.
    pub node_id: String,
    /// The clusters that guests may call.
    pub clusters: BTreeSet<String>,
    /// `vm_config.environment_variables`.
    pub environment: Vec<(String, String)>,
    /// How streams end.
    pub end_order: EndOrder,
    /// Whether the host knows the foreign function `declare_property`.
    pub declares_properties: bool,
    /// The seed of what guests get as random bytes.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vm_id: "vm".to_owned(),
            configuration: Vec::new(),
            vm_configuration: Vec::new(),
            node_id: "node-1".to_owned(),
            clusters: BTreeSet::new(),
            environment: Vec::new(),
            end_order: EndOrder::LogThenDone,
            declares_properties: true,
            seed: 1,
        }
    }
}

/// The order of the calls at the end of a stream; `proxy_on_delete` is always the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOrder {
    /// `proxy_on_log`, `proxy_on_done`: current Envoys, whose connection manager logs before it destroys filters.
    LogThenDone,
    /// `proxy_on_done`, `proxy_on_log`: older Envoys, and the order that the ABI's documents describe.
    DoneThenLog,
}

/// A line that a guest logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Which VM.
    pub vm: usize,
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
    pub level: u32,
    /// The line.
    pub text: String,
}

/// A guest is about to touch shared data.
#[derive(Debug)]
pub enum Access<'a> {
    /// It reads.
    Get {
        /// Which VM.
        vm: &'a Vm,
        /// Which key.
        key: &'a str,
    },
    /// It writes.
    Set {
        /// Which VM.
        vm: &'a Vm,
        /// Which key.
        key: &'a str,
        /// The new value.
        value: &'a [u8],
        /// The compare-and-swap number that the stored value must have.
        cas: u32,
    },
}

/// What becomes of a hook after it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// It runs again at the next access.
    Keep,
    /// It is taken away.
    Remove,
}

type AccessHook = Box<dyn FnMut(&Access<'_>) -> Hook>;

/// One Envoy process. Clones are the same process.
#[derive(Clone)]
pub struct Host {
    pub(crate) cell: Rc<HostCell>,
}

pub(crate) struct HostCell {
    pub(crate) settings: RefCell<Settings>,
    pub(crate) shared_data: RefCell<SharedData>,
    pub(crate) queues: RefCell<Queues>,
    pub(crate) metrics: RefCell<Metrics>,
    pub(crate) entropy: RefCell<Entropy>,
    wall: Cell<Duration>,
    monotonic: Cell<Duration>,
    vms: RefCell<Vec<Weak<VmCell>>>,
    posted: RefCell<VecDeque<(Listener, u32)>>,
    callouts: RefCell<VecDeque<(usize, u32, Sent)>>,
    inline_failures: Cell<u32>,
    pub(crate) logs: RefCell<Vec<LogLine>>,
    faults: RefCell<Vec<Fault>>,
    hook: RefCell<Option<AccessHook>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("settings", &self.cell.settings).finish_non_exhaustive()
    }
}

impl Host {
    /// A process without a worker. Its clocks stand at a moment in November 2026 and 1,000 s after the machine's start.
    pub fn new(settings: Settings) -> Self {
        let entropy = Entropy::new(settings.seed);
        Self {
            cell: Rc::new(HostCell {
                settings: RefCell::new(settings),
                shared_data: RefCell::default(),
                queues: RefCell::default(),
                metrics: RefCell::default(),
                entropy: RefCell::new(entropy),
                wall: Cell::new(Duration::from_secs(1_795_000_000)),
                monotonic: Cell::new(Duration::from_secs(1_000)),
                vms: RefCell::default(),
                posted: RefCell::default(),
                callouts: RefCell::default(),
                inline_failures: Cell::new(0),
                logs: RefCell::default(),
                faults: RefCell::default(),
                hook: RefCell::default(),
            }),
        }
    }

    /// Starts a worker: instantiates the plugin and configures it.
    pub fn start(&self, plugin: &Plugin) -> Result<Vm, StartError> {
        let number = self.cell.vms.borrow().len();
        self.cell.vms.borrow_mut().push(Weak::new());
        let vm = Vm::start(self, plugin, number)?;
        self.cell.vms.borrow_mut()[number] = Rc::downgrade(&vm.cell);
        vm.configure()?;
        Ok(vm)
    }

    pub(crate) fn vm(&self, number: usize) -> Option<Vm> {
        let cell = self.cell.vms.borrow().get(number)?.upgrade()?;
        Some(Vm { cell })
    }

    /// Changes the configuration that workers started from now on see.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.cell.settings.borrow_mut());
    }

    // --- Time ---

    /// Lets time pass on both clocks. Nobody ticks by that.
    pub fn advance(&self, time: Duration) {
        self.cell.wall.set(self.cell.wall.get() + time);
        self.cell.monotonic.set(self.cell.monotonic.get() + time);
    }

    /// Sets the wall clock, as an operator or NTP does; the monotonic one goes on.
    pub fn set_wall_clock(&self, since_1970: Duration) {
        self.cell.wall.set(since_1970);
    }

    /// The monotonic clock.
    pub fn now(&self) -> Duration {
        self.cell.monotonic.get()
    }

    /// The wall clock, as time since 1970.
    pub fn wall_clock(&self) -> Duration {
        self.cell.wall.get()
    }

    // --- Interleavings ---

    /// Runs `hook` whenever a guest is about to read or write a shared value. The hook may call into any other VM; while
    /// it runs, accesses of those VMs do not run it again.
    pub fn before_shared_data(&self, hook: impl FnMut(&Access<'_>) -> Hook + 'static) {
        *self.cell.hook.borrow_mut() = Some(Box::new(hook));
    }

    /// Like [`Host::before_shared_data`], for writes alone: `hook` gets the writing VM and the key.
    pub fn before_shared_data_set(&self, mut hook: impl FnMut(&Vm, &str) -> Hook + 'static) {
        self.before_shared_data(move |access| match access {
            Access::Get { .. } => Hook::Keep,
            Access::Set { vm, key, .. } => hook(vm, key),
        });
    }

    /// Takes the hook away.
    pub fn remove_hook(&self) {
        self.cell.hook.borrow_mut().take();
    }

    pub(crate) fn run_hook(&self, access: &Access<'_>) {
        let hook = self.cell.hook.borrow_mut().take();
        let Some(mut hook) = hook else { return };
        if hook(access) == Hook::Keep {
            self.cell.hook.borrow_mut().get_or_insert(hook);
        }
    }

    // --- Random bytes ---

    /// The next random bytes that guests get.
    pub fn script_random(&self, bytes: &[u8]) {
        self.cell.entropy.borrow_mut().script(bytes);
    }

    // --- Queues ---

    pub(crate) fn post(&self, listener: Listener, token: u32) {
        self.cell.posted.borrow_mut().push_back((listener, token));
    }

    /// Delivers one notice about a shared queue. `false` when none waits.
    pub fn run_posted(&self) -> bool {
        let posted = self.cell.posted.borrow_mut().pop_front();
        let Some((listener, token)) = posted else { return false };
        if let Some(vm) = self.vm(listener.vm) {
            vm.queue_ready(token);
        }
        true
    }

    /// How many notices about shared queues wait for delivery.
    pub fn posted(&self) -> usize {
        self.cell.posted.borrow().len()
    }

    // --- Callouts ---

    pub(crate) fn queue_callout(&self, vm: usize, token: u32, sent: Sent) {
        self.cell.callouts.borrow_mut().push_back((vm, token, sent));
    }

    /// Takes the calls that guests made since the last time, in their order; those of VMs that are gone are cancelled.
    pub fn take_callouts(&self) -> Vec<Callout> {
        let taken: Vec<_> = self.cell.callouts.borrow_mut().drain(..).collect();
        let with_vm = taken
            .into_iter()
            .map(|(vm, token, sent)| Some(Callout { vm: self.vm(vm)?, token, sent }));
        with_vm.flatten().collect()
    }

    /// Lets the next `count` calls fail at once with `InternalFailure`, as when Envoy finds the circuit breaker open.
    pub fn fail_calls_inline(&self, count: u32) {
        self.cell.inline_failures.set(count);
    }

    pub(crate) fn fails_inline(&self) -> bool {
        let left = self.cell.inline_failures.get();
        self.cell.inline_failures.set(left.saturating_sub(1));
        left != 0
    }

    // --- What can be seen from outside ---

    /// A shared value and its compare-and-swap number.
    pub fn shared_value(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        let data = self.cell.shared_data.borrow();
        data.get(&self.vm_id(), key).map(|(value, cas)| (value.to_vec(), cas))
    }

    /// Writes a shared value, as a VM outside the test would.
    pub fn set_shared_value(&self, key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
        self.cell.shared_data.borrow_mut().set(&self.vm_id(), key, value, cas)
    }

    /// The keys of shared data, in order.
    pub fn shared_keys(&self) -> Vec<String> {
        self.cell.shared_data.borrow().keys(&self.vm_id()).map(str::to_owned).collect()
    }

    /// Bytes of all shared keys and values.
    pub fn shared_bytes(&self) -> usize {
        self.cell.shared_data.borrow().bytes(&self.vm_id())
    }

    pub(crate) fn vm_id(&self) -> String {
        self.cell.settings.borrow().vm_id.clone()
    }

    /// The value of a metric; 0 when no guest defined it.
    pub fn metric(&self, name: &str) -> u64 {
        self.cell.metrics.borrow().by_name(name).unwrap_or(0)
    }

    /// Everything that guests logged.
    pub fn logs(&self) -> Vec<LogLine> {
        self.cell.logs.borrow().clone()
    }

    pub(crate) fn log(&self, vm: usize, level: u32, text: String) {
        self.cell.logs.borrow_mut().push(LogLine { vm, level, text });
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.cell.faults.borrow_mut().push(fault);
    }

    /// What guests did wrong so far; forgets it.
    pub fn take_faults(&self) -> Vec<Fault> {
        std::mem::take(&mut self.cell.faults.borrow_mut())
    }

    /// Fails the test when a guest did anything wrong.
    #[track_caller]
    pub fn assert_no_faults(&self) {
        let faults = self.cell.faults.borrow();
        let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "the guest is at fault:\n  {}", list.join("\n  "));
    }
}
