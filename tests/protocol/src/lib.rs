//! The protocol between gateways and the sidecar under test: real workers of the filter, run in memory.
//!
//! Two kinds of tests use it. `races` puts the workers of one process into threads of a model checker, which tries
//! schedules. `machine` (and `sidecar/tests/store/protocol.rs`, on the real database) lets several gateways live through
//! histories of calls, lost, doubled and late messages, crashes, expiries, price changes and month ends.
//!
//! | module | what it holds |
//! |---|---|
//! | [`process`] | one Envoy process: shared data, clock, chance; the host that a worker sees |
//! | [`vm`] | one worker with its host, and what became of its calls |
//! | [`sidecar`] | what a history needs of a sidecar, and its books |
//! | [`memory`] | a sidecar in memory, made of the real rules |
//! | [`model`] | what must be true of the books, in less than 200 lines |
//! | [`step`] | what can happen |
//! | [`world`] | gateways, messages under way and a sidecar; tells what happened as a story |
//! | [`explore`] | histories at random, and the shortest one that fails |

pub mod explore;
pub mod memory;
pub mod model;
pub mod process;
pub mod sidecar;
pub mod step;
pub mod vm;
pub mod world;
