//! The sidecar.

pub mod api;
pub mod app;
pub mod assembly;
pub mod cache;
mod calendar;
pub mod cli;
pub mod config;
pub mod currency;
mod envoy;
mod errors;
pub mod events;
pub mod jobs;
pub mod metrics;
mod negative;
pub mod payment;
pub mod server;
pub mod store;
pub mod telemetry;
mod trace;
pub mod webhook;
