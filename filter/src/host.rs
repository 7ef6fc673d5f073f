//! What the filter asks of its host. Envoy implements it in `envoy`; everything else sees only this trait.

use crate::answer::Answer;
use crate::stats::Stat;
use crate::trace::Trace;

/// What became of a write to shared data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOutcome {
    /// The value is stored.
    Stored,
    /// Somebody else wrote in between: read again.
    Conflict,
    /// The host refused for another reason.
    Failed,
}

/// A compare-and-swap number that no stored value has.
///
/// The host inserts a missing key whatever the number, and checks it on an existing key. Zero would overwrite without a
/// check, so a key is created with this number: the write succeeds for exactly one creator.
pub const CAS_OF_MISSING: u32 = u32::MAX;

/// How bad a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Of interest to somebody who looks.
    Info,
    /// Something works less well than it should.
    Warn,
    /// Somebody must act.
    Error,
}

/// The process around one VM. No method panics, and each failure is a value.
pub trait Host {
    /// Milliseconds on a clock that never jumps and is the same for all VMs of the process.
    fn now_ms(&self) -> u64;
    /// Seconds since 1970, as the machine's clock says: it may be set, so only other machines are told it.
    fn unix_s(&self) -> u64;
    /// Random bits.
    fn random(&self) -> u64;
    /// A shared value with its compare-and-swap number; `None` when the key was never written.
    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes a shared value if nobody wrote since `cas` was read.
    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> SetOutcome;
    /// Sends a message to one of the sidecar's paths, in the trace of the call that it is about, if there is one. The token
    /// comes back with the answer; `None` when nothing could be sent.
    fn call_sidecar(&self, path: &str, body: &[u8], trace: Option<&Trace>) -> Option<u32>;
    /// Lets a paused stream go on, soon.
    fn resume(&self, stream: u32);
    /// Answers a stream: the one whose request just arrives at once, a paused one soon.
    fn answer(&self, stream: u32, answer: &Answer);
    /// How many paused streams have not been told yet that they go on, or their answer.
    fn untold(&self) -> usize {
        0
    }
    /// Adds to a counter.
    fn count(&self, stat: Stat, by: u64);
    /// Sets a gauge.
    fn gauge(&self, stat: Stat, value: u64);
    /// Writes a line to Envoy's log.
    fn log(&self, severity: Severity, text: &str);
    /// How often `tick` is called.
    fn tick_every_ms(&self, period: u64);
}
