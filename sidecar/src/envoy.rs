//! Configurations of Envoy as files: what a call gets (`farebox explain-route`), and what is wrong (`farebox lint`).
//!
//! Rules are read and found by the filter's own code, so what is said here is what the filter does.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tree`] | YAML and JSON with the place of every value |
//! | [`proto`] | values as Envoy reads them: fields, durations, structs |
//! | [`configuration`] | listeners, chains, routes and clusters of a bootstrap or a `config_dump` |
//! | [`plugin`] | the Farebox filters among the HTTP filters, and their rules |
//! | [`overrides`] | what routes change: filters and rules |
//! | [`payer`] | who in front of the filter says who pays |
//! | [`path`] | what a connection manager makes of a path |
//! | [`matching`] | which virtual host and route a request gets |
//! | [`explain`] | one request, from listener to price |
//! | [`lint`] | every rule that a configuration may break |

pub(crate) mod configuration;
pub(crate) mod explain;
pub(crate) mod lint;
mod matching;
mod overrides;
mod path;
mod payer;
mod plugin;
mod proto;
mod tree;

pub(crate) use configuration::{Configuration, InputError};
