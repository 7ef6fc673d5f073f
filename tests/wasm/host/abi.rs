//! The host functions of the ABI 0.2.1, module `env`.

mod data;
mod headers;
mod root;
mod streams;

use std::rc::Rc;

use wasmtime::{Caller, Linker};

use crate::headers::Headers;
use crate::host::Host;
use crate::pairs;
use crate::status::Status;
use crate::vm::{VmShared, VmState};

pub(crate) const MODULE: &str = "env";

/// Why a host function does not answer `Ok`.
pub(crate) enum Failure {
    Status(Status),
    Trap(wasmtime::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// What a guest may use before it is configured.
const ALLOWED_DURING_INITIALIZE: [&str; 1] = ["proxy_log"];

/// Runs a host function and answers with its status.
pub(crate) fn serve(
    caller: Caller<'_, VmState>,
    function: &'static str,
    body: impl FnOnce(&mut Guest<'_>) -> Outcome,
) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(caller);
    if guest.vm().starting.get() && !ALLOWED_DURING_INITIALIZE.contains(&function) {
        return Err(wasmtime::format_err!(
            "{function} was called during _initialize, where Envoy allows logging, clock, environment and random bytes alone"
        ));
    }
    guest.vm().served.borrow_mut().push(function);
    match body(&mut guest) {
        Ok(()) => Ok(Status::Ok.number()),
        Err(Failure::Status(status)) => Ok(status.number()),
        Err(Failure::Trap(error)) => Err(error),
    }
}

pub(crate) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    root::define(linker)?;
    data::define(linker)?;
    headers::define(linker)?;
    streams::define(linker)
}

/// The guest, in the middle of a host function.
pub(crate) struct Guest<'a> {
    caller: Caller<'a, VmState>,
}

impl<'a> Guest<'a> {
    pub(crate) fn new(caller: Caller<'a, VmState>) -> Self {
        Self { caller }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.caller.data().host
    }

    pub(crate) fn vm(&self) -> &Rc<VmShared> {
        &self.caller.data().shared
    }

    /// The context that host functions work on: the effective one while it exists.
    pub(crate) fn context(&self) -> u32 {
        let vm = self.vm();
        vm.effective.get().filter(|id| vm.has_context(*id)).unwrap_or_else(|| vm.current.get())
    }

    fn memory(&self) -> Outcome<wasmtime::Memory> {
        self.caller.data().memory.ok_or(Failure::Status(Status::InvalidMemoryAccess))
    }

    pub(crate) fn read(&self, at: u32, length: u32) -> Outcome<Vec<u8>> {
        let memory = self.memory()?.data(&self.caller);
        let start = at as usize;
        let end = start.checked_add(length as usize).ok_or(Status::InvalidMemoryAccess)?;
        Ok(memory.get(start..end).ok_or(Status::InvalidMemoryAccess)?.to_vec())
    }

    pub(crate) fn text(&self, at: u32, length: u32) -> Outcome<String> {
        self.read(at, length).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn headers(&self, at: u32, length: u32) -> Outcome<Headers> {
        let pairs = pairs::decode(&self.read(at, length)?).ok_or(Status::BadArgument)?;
        Ok(Headers::from_iter(pairs))
    }

    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Outcome {
        let memory = self.memory()?;
        memory
            .write(&mut self.caller, at as usize, bytes)
            .map_err(|_| Failure::Status(Status::InvalidMemoryAccess))
    }

    pub(crate) fn write_u32(&mut self, at: u32, number: usize) -> Outcome {
        self.write(at, &u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes())
    }

    /// Hands bytes over: in memory that the guest allocates, with their place and length written where it wants them.
    pub(crate) fn give(&mut self, bytes: &[u8], place_at: u32, length_at: u32) -> Outcome {
        let mut place = 0;
        if !bytes.is_empty() {
            let length = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
            let allocate =
                self.caller.data().allocate.clone().ok_or(Status::InvalidMemoryAccess)?;
            place = allocate.call(&mut self.caller, length).map_err(Failure::Trap)?;
            self.write(place, bytes)?;
        }
        self.write(place_at, &place.to_le_bytes())?;
        self.write_u32(length_at, bytes.len())
    }
}
