//! A compiled filter.

use wasmtime::{Config, Engine, Linker, Module};

use crate::abi;
use crate::vm::VmState;
use crate::wasi;

/// A module, compiled once and instantiated per worker.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) engine: Engine,
    pub(crate) module: Module,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").finish_non_exhaustive()
    }
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bytes are no module that this engine runs.
    #[error("the module does not compile")]
    Compile(#[source] wasmtime::Error),
    /// It speaks another version of the ABI.
    #[error("the module exports none of proxy_abi_version_0_2_0 and proxy_abi_version_0_2_1")]
    AbiVersion,
    /// An import that this host lacks, or one of another type.
    #[error("the module cannot be instantiated")]
    Instantiate(#[source] wasmtime::Error),
    /// Something that a host needs is not exported.
    #[error("the module exports no {0}")]
    Export(&'static str),
    /// An exported function of another type than the ABI says.
    #[error("the exported function {export} has another type than the ABI says")]
    ExportType {
        /// The function.
        export: &'static str,
        /// What wasmtime says about it.
        #[source]
        source: wasmtime::Error,
    },
    /// The guest trapped while it started.
    #[error("the guest trapped in {export}: {message}")]
    Trap {
        /// The exported function that was running.
        export: &'static str,
        /// What happened.
        message: String,
    },
    /// The guest refused its configuration; its log says why.
    #[error("{export} refused: {log}")]
    Refused {
        /// The exported function that answered 0.
        export: &'static str,
        /// What the guest logged at level warn and above.
        log: String,
    },
}

impl Plugin {
    /// Compiles a module.
    pub fn compile(bytes: &[u8]) -> Result<Self, StartError> {
        let mut config = Config::new();
        // A guest that never returns ends as a trap instead of a hung test.
        config.consume_fuel(true);
        let engine = Engine::new(&config).map_err(StartError::Compile)?;
        let module = Module::new(&engine, bytes).map_err(StartError::Compile)?;
        let known = ["proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"];
        if !module.exports().any(|export| known.contains(&export.name())) {
            return Err(StartError::AbiVersion);
        }
        Ok(Self { engine, module })
    }

    pub(crate) fn linker(&self) -> Result<Linker<VmState>, StartError> {
        let mut linker = Linker::new(&self.engine);
        abi::define(&mut linker).map_err(StartError::Instantiate)?;
        wasi::define(&mut linker).map_err(StartError::Instantiate)?;
        Ok(linker)
    }
}
