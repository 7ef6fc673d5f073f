//! The contract between Farebox and a payment service.
//!
//! `proto/payment/v1/payment.proto` is the contract itself and `README.md` explains it, with the callbacks, to those who
//! implement it. This crate is what a compiler makes of it.

/// Version 1: client, server and messages.
#[expect(clippy::allow_attributes, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("payment.v1");
}
