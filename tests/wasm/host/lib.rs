//! A proxy-wasm host of many VMs, for tests of Envoy filters.
//!
//! A [`Host`] is one Envoy process: shared data with the exact compare-and-swap rules, shared queues, metrics, two clocks
//! and callouts, all under the test's control. A [`Vm`] is one of its workers: an instance of the compiled filter, run by
//! wasmtime. Requests are [`Stream`]s, and calls to other services are [`Callout`]s that the test answers when, in which
//! order and how it likes: in time, late, never, twice.
//!
//! A guest call is atomic within its VM. What workers can do to each other happens between two host calls, and that is
//! where a test can step in: [`Host::before_shared_data`] runs whatever it likes, calls into other VMs included, at the
//! very moment when a guest is about to read or write a shared value. So a race is a plain, repeatable test:
//!
//! ```
//! use farebox_wasm_host::{Access, Hook, Host, Plugin, Request, Settings};
//!
//! # fn main() -> Result<(), farebox_wasm_host::StartError> {
//! # let module = wat::parse_str(r#"(module
//! #   (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
//! #   (memory (export "memory") 1) (data (i32.const 0) "key")
//! #   (func (export "proxy_abi_version_0_2_1"))
//! #   (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
//! #   (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
//! #     (drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3) (i32.const -1)))
//! #     (i32.const 0)))"#).unwrap();
//! let plugin = Plugin::compile(&module)?;
//! let host = Host::new(Settings { vm_id: "counter".into(), ..Settings::default() });
//! let (first, second) = (host.start(&plugin)?, host.start(&plugin)?);
//!
//! // While the first worker is about to write, the second one serves a whole request.
//! let overtaker = second.clone();
//! host.before_shared_data(move |access| match access {
//!     Access::Set { .. } => {
//!         overtaker.request(Request::get("/overtakes"));
//!         Hook::Remove
//!     }
//!     Access::Get { .. } => Hook::Keep,
//! });
//! assert!(first.request(Request::get("/")).is_forwarded());
//! host.assert_no_faults();
//! # Ok(())
//! # }
//! ```
//!
//! What a guest does wrong and Envoy would answer with a hung or a reset request, a crash or silence is a [`Fault`];
//! [`Host::assert_no_faults`] ends a test with all of them.
//!
//! Not modelled: bodies, trailers, gRPC callouts, TCP, more than one plugin per VM.
//!
//! [`sidecar`] is the one module that knows Farebox: an authority in memory that answers the filter's callouts.

mod abi;
mod callout;
mod fault;
mod headers;
mod host;
mod metrics;
mod pairs;
mod plugin;
mod property;
mod queues;
mod random;
mod shared_data;
pub mod sidecar;
mod status;
mod stream;
mod vm;
mod wasi;

pub use self::callout::{Callout, CalloutAnswer};
pub use self::fault::Fault;
pub use self::headers::Headers;
pub use self::host::{Access, EndOrder, Hook, Host, LogLine, Settings};
pub use self::plugin::{Plugin, StartError};
pub use self::property::Value;
pub use self::random::Random;
pub use self::shared_data::SharedData;
pub use self::status::Status;
pub use self::stream::{Answer, Request, State, Stream};
pub use self::vm::Vm;
