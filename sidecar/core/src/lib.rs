//! The pure rules of Farebox.
//!
//! Nothing here reads a clock, a socket, a random source or the environment: time, ids and randomness are arguments.
//! The same code is compiled into the sidecar and into the WebAssembly filter, so both sides agree by construction.
//!
//! One word per concept:
//!
//! | word | meaning | where |
//! |---|---|---|
//! | account | who owns free quotas and money; the user's words are "user" and "user id" | [`id::AccountId`] |
//! | service | what is metered; free quota and default price hang on it | [`id::ServiceName`] |
//! | unit | what a call is counted in; most routes take one unit per call | plain `u64` |
//! | free quota | units per account, service and month that cost nothing | [`grant::Funds`] |
//! | price | money per unit | [`money::Nanos`] |
//! | tariff | a price of the book: the same for all units of a month, or graduated | [`tariff::Tariff`] |
//! | tier | units of a month at one price of a graduated tariff | [`tier::TierUsage`] |
//! | deduct | charging one call at once, by its own request | [`charge::decide`], [`call`] |
//! | reservation | units or money of one account set aside for one call | [`call::ReserveRequest`] |
//! | lease | units of one account set aside for one gateway to spend alone | [`lease::Lease`] |
//! | grant | the sidecar's act of setting units aside | [`grant::decide`] |
//! | draw | the filter's act of spending units of a lease for one call | the filter's `record` |
//! | report | what a gateway says it used, in totals, never in differences | [`wire::Report`] |
//! | settle | turning reported usage into charges, once | [`lease::Lease::settle`] |
//! | recall | asking a gateway to give unused units back | [`wire::Recall`] |
//! | journal | usage that a gateway allowed without a lease while the sidecar was away | [`wire::JournalReport`] |
//! | receivable | a charge that found no money left; visible, collected from the next credit | [`ledger`] |
//! | assertion | what a gateway says, signed, about who calls | [`assertion`] |

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

pub mod assertion;
pub mod call;
pub mod charge;
pub mod code;
pub mod grant;
pub mod id;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod money;
#[cfg(feature = "openapi")]
mod openapi;
pub mod order;
pub mod package;
pub mod problem;
pub mod tariff;
pub mod tier;
pub mod wire;
