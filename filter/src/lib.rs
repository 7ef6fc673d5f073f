//! The Farebox filter: meters calls inside Envoy, without a remote call on the hot path.
//!
//! Pure modules decide; `envoy` is the only one that knows the proxy-wasm ABI and is compiled for WebAssembly alone.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`], [`rule`] | the plugin configuration and the rule of each route |
//! | [`routes`] | rules already looked up, by route |
//! | [`request`], [`identity`] | what is read from a request; who pays for it |
//! | [`record`], [`table`] | leases in shared data: draw, grant, give back; the bounded slot table |
//! | [`control`] | what the workers of one process agree on: instance, epoch, leader, message numbers |
//! | [`sync`] | messages to the sidecar and what their replies change |
//! | [`deduct`], [`undo`] | messages of strict calls, and of charges that are to come back |
//! | [`running`], [`roster`] | units of running calls; which VMs live, and the roll call that finds those of the dead |
//! | [`risk`] | money at risk, and the budget for it |
//! | [`waiting`], [`backlog`] | calls that are paused until units arrive; what they are told, some at a time |
//! | [`worker`] | one VM: ties the above together behind the [`host::Host`] trait |
//! | [`answer`] | what a refused caller is told |
//! | [`ending`] | whether a finished call is charged when only successes are |
//! | [`trace`] | the trace context that a waiting call's message carries on |
//! | [`pairs`], [`stats`] | the ABI's list format; names of the statistics |

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::float_arithmetic
    )
)]

pub mod answer;
pub mod backlog;
pub mod config;
pub mod control;
pub mod deduct;
pub mod ending;
#[cfg(target_os = "wasi")]
mod envoy;
pub mod host;
pub mod identity;
pub mod pairs;
mod protobuf;
pub mod record;
pub mod request;
pub mod risk;
pub mod roster;
pub mod routes;
pub mod rule;
pub mod running;
pub mod stats;
pub mod sync;
pub mod table;
pub mod trace;
pub mod undo;
pub mod waiting;
pub mod worker;
