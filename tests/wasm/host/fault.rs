//! What a guest must not do.

/// A mistake of the guest that Envoy answers with a hung or a reset request, a crash, or silence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The guest trapped: in Envoy every stream of this worker ends with 503, and ticks stop.
    #[error("vm {vm} trapped in {export}: {message}")]
    Trap {
        /// Which VM.
        vm: usize,
        /// The exported function that was running.
        export: &'static str,
        /// What happened, with the last lines that the guest logged.
        message: String,
    },
    /// A stream that is not paused was resumed.
    #[error("vm {vm} resumed stream {stream}, which is {state}")]
    Resumed {
        /// Which VM.
        vm: usize,
        /// Which stream.
        stream: u32,
        /// Its state before.
        state: String,
    },
    /// A stream was answered that has an answer or was forwarded already.
    #[error("vm {vm} answered stream {stream}, which is {state}")]
    Answered {
        /// Which VM.
        vm: usize,
        /// Which stream.
        stream: u32,
        /// Its state before.
        state: String,
    },
    /// A stream function was called while a root context was in effect: Envoy does nothing.
    #[error("vm {vm} called {function} on its root context")]
    NoStream {
        /// Which VM.
        vm: usize,
        /// The function.
        function: &'static str,
    },
    /// So much was asked for in one guest call that doing it uses the stack up: in Envoy the guest traps.
    #[error("vm {vm} called {export} too deep in the actions of other calls")]
    TooDeep {
        /// Which VM.
        vm: usize,
        /// The exported function that was called.
        export: &'static str,
    },
    /// The guest stopped the response, which this host does not model.
    #[error("vm {vm} paused the response of stream {stream}")]
    PausedResponse {
        /// Which VM.
        vm: usize,
        /// Which stream.
        stream: u32,
    },
}
