//! The protocol between gateways and the sidecar: `POST /internal/v1/billing/sync`, JSON both ways.
//!
//! One message reports usage, asks for units and gives units back; its reply acknowledges, grants, refuses and recalls.
//! All quantities are totals since a lease (or a journal line) began, never differences: a repeat or a reordering merges
//! by taking the larger value.
//!
//! Unknown members are ignored by both sides, so that either may be newer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, GatewayId, ServiceName};
use crate::limits::{LEASE_TOTAL_MAX, SYNC_ITEMS_MAX, UNITS_MAX};
use crate::money::Nanos;

/// The path of the endpoint.
pub const SYNC_PATH: &str = "/internal/v1/billing/sync";

/// What a lease is for. A gateway has at most one open lease per key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseKey {
    /// Who pays.
    pub account: AccountId,
    /// What is metered.
    pub service: ServiceName,
    /// The route's own price per unit; absent: the price book's price for the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::not_negative))]
    pub price: Option<Nanos>,
}

/// Gateway → sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SyncRequest {
    /// The sender's stable name.
    pub gateway: GatewayId,
    /// Drawn at random when the gateway process starts: two processes of one name are told apart by it.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9A-Fa-f]{32}$"))]
    pub instance: String,
    /// The number the sidecar gave this instance; 0 before the first reply.
    pub epoch: u64,
    /// The number of this message within the instance, from 1. Sent again with the same body, it gets the same reply.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub seq: u64,
    /// Usage of leases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub reports: Vec<Report>,
    /// Units asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub wants: Vec<Want>,
    /// Usage without a lease.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub journal: Vec<JournalReport>,
}

/// Usage of one lease, in totals since it began. It also renews the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Report {
    /// Which lease.
    pub lease: u64,
    /// Units to be charged.
    #[cfg_attr(feature = "openapi", schema(maximum = 281474976710656_i64))]
    pub used: u64,
    /// Units of calls that are still running (`charge_on: success`).
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(maximum = 281474976710656_i64))]
    pub in_flight: u64,
    /// Units given back unused.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(maximum = 281474976710656_i64))]
    pub returned: u64,
    /// The gateway will not spend from the lease any more.
    #[serde(default)]
    pub close: bool,
}

/// A wish for units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Want {
    /// What for.
    pub key: LeaseKey,
    /// How many would be welcome, on top of what the gateway holds.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2147483647))]
    pub units: u64,
    /// How many are needed for the next call to go on.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2147483647))]
    pub min: u64,
    /// A call waits for them. Only then units that other leases hold unused are recalled.
    #[serde(default)]
    pub waiting: bool,
    /// What the gateway knows to have for the key. Absent: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
}

/// What a gateway knows of its lease for a key. When it was granted more, the answer that said so was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Known {
    /// The lease; 0 for none.
    pub lease: u64,
    /// Units granted since the lease began.
    pub granted: u64,
}

/// Usage that a gateway allowed without a lease while the sidecar was away, in totals since the line began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JournalReport {
    /// Random name of the line, unique within the instance.
    pub line: u64,
    /// Who pays for what, at which price.
    pub key: LeaseKey,
    /// Units to be charged.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2147483647))]
    pub used: u64,
}

/// Sidecar → gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SyncReply {
    /// The number of this instance.
    pub epoch: u64,
    /// What became of each report, in no particular order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acks: Vec<Ack>,
    /// Wants that were met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Wants that were not met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// Leases of this gateway whose unused units are needed elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recalls: Vec<Recall>,
    /// Journal lines that are booked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal_acks: Vec<JournalAck>,
}

/// What the sidecar has on record for a reported lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ack {
    /// Which lease.
    pub lease: u64,
    /// Units charged.
    pub used: u64,
    /// Whether the lease still stands. When not, the gateway forgets it.
    pub open: bool,
    /// How long the lease stands, counted by the gateway from when it sent the report, in milliseconds.
    pub ttl_ms: u64,
}

/// Units set aside, in totals since the lease began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// The lease: a new one, or the one that the gateway already has for this key.
    pub lease: u64,
    /// What for.
    pub key: LeaseKey,
    /// Free units granted since the lease began.
    pub free_units: u64,
    /// Paid units granted since the lease began.
    pub paid_units: u64,
    /// Price per paid unit.
    pub price: Nanos,
    /// How long the lease stands, counted by the gateway from when it asked, in milliseconds.
    pub ttl_ms: u64,
    /// Ask for more when fewer units than this are left.
    pub low_water: u64,
    /// Nothing is left to grant at the moment.
    #[serde(default, rename = "final")]
    pub is_final: bool,
    /// The month's free quota of the service.
    pub free_quota: FreeQuota,
}

/// The month's free quota, as callers are told about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FreeQuota {
    /// Units per month.
    pub total: u64,
    /// Units neither used nor held by a lease.
    pub remaining: u64,
    /// Seconds until the month ends in the billing time zone.
    pub resets_in_s: u64,
}

/// A want that was not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Refusal {
    /// What was asked for.
    pub key: LeaseKey,
    /// The minimum that could not be met: fewer units might.
    pub min: u64,
    /// It is about this moment only, ask again after `retry_after_ms`: other leases hold enough unused units, and they were
    /// recalled if a call waits; or somebody has locked the account, and nothing is known of what it has.
    #[serde(default)]
    pub soon: bool,
    /// Error number for the caller: 190102, 190202, 190205; 190104 while the account is frozen; 190402 while it is locked.
    /// A gateway takes one that it does not know for 190102.
    pub code: u32,
    /// When asking again makes sense, in milliseconds.
    pub retry_after_ms: u64,
    /// What may be spent: the balance that nothing holds, and the credit limit.
    pub available: Nanos,
    /// Price per unit, for the caller's information; absent when the service has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Nanos>,
    /// The month's free quota of the service.
    pub free_quota: FreeQuota,
}

/// A request to give back at once what a lease holds unused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recall {
    /// Which lease.
    pub lease: u64,
    /// Its key, by which the gateway finds it.
    pub key: LeaseKey,
}

/// A journal line that is booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JournalAck {
    /// Which line.
    pub line: u64,
    /// Units booked.
    pub used: u64,
}

/// A field of a message that breaks a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {problem}")]
pub struct FieldError {
    /// JSON path, for instance `wants[3].min`.
    pub field: String,
    /// What stands there.
    pub value: String,
    /// What should.
    pub problem: &'static str,
}

pub(crate) fn require(
    holds: bool,
    field: impl Into<String>,
    value: impl ToString,
    problem: &'static str,
) -> Result<(), FieldError> {
    if holds {
        Ok(())
    } else {
        Err(FieldError { field: field.into(), value: value.to_string(), problem })
    }
}

impl SyncRequest {
    /// Whether it has no usage to tell.
    pub fn only_asks(&self) -> bool {
        self.reports.is_empty() && self.journal.is_empty()
    }

    /// Checks every bound that the types cannot express, before anything is read or written.
    pub fn validate(&self) -> Result<(), FieldError> {
        let instance_is_hex =
            self.instance.len() == 32 && self.instance.bytes().all(|byte| byte.is_ascii_hexdigit());
        require(instance_is_hex, "instance", &self.instance, "must be 32 hexadecimal digits")?;
        require(1 <= self.seq, "seq", self.seq, "must be 1 or more")?;
        for (list, count) in [
            ("reports", self.reports.len()),
            ("wants", self.wants.len()),
            ("journal", self.journal.len()),
        ] {
            require(count <= SYNC_ITEMS_MAX, list, count, "must have 1000 items or fewer")?;
        }
        for (index, report) in self.reports.iter().enumerate() {
            for (name, units) in [
                ("used", report.used),
                ("in_flight", report.in_flight),
                ("returned", report.returned),
            ] {
                require(
                    units <= LEASE_TOTAL_MAX,
                    format!("reports[{index}].{name}"),
                    units,
                    "must be 2^48 or less",
                )?;
            }
        }
        for (index, want) in self.wants.iter().enumerate() {
            let Want { key, units, min, .. } = want;
            require(
                (1..=UNITS_MAX).contains(min),
                format!("wants[{index}].min"),
                min,
                "must be 1 to 2147483647",
            )?;
            require(
                (*min..=UNITS_MAX).contains(units),
                format!("wants[{index}].units"),
                units,
                "must be min to 2147483647",
            )?;
            check_price(key, format!("wants[{index}].key.price"))?;
        }
        for (index, line) in self.journal.iter().enumerate() {
            let used = line.used;
            require(
                (1..=UNITS_MAX).contains(&used),
                format!("journal[{index}].used"),
                used,
                "must be 1 to 2147483647",
            )?;
            check_price(&line.key, format!("journal[{index}].key.price"))?;
            let price = line.key.price.unwrap_or(Nanos::ZERO);
            require(
                price.checked_mul(used).is_some(),
                format!("journal[{index}].used"),
                used,
                "must cost no more than 9223372036.854775807 at its price",
            )?;
        }
        check_lines(&self.journal)
    }
}

/// A line is one key's: its total would otherwise be charged to several accounts in parts.
fn check_lines(journal: &[JournalReport]) -> Result<(), FieldError> {
    let mut keys = BTreeMap::new();
    for (index, JournalReport { line, key, .. }) in journal.iter().enumerate() {
        let first = *keys.entry(line).or_insert(key);
        require(
            first == key,
            format!("journal[{index}].line"),
            line,
            "must not stand for two keys in one message",
        )?;
    }
    Ok(())
}

fn check_price(key: &LeaseKey, field: String) -> Result<(), FieldError> {
    match key.price {
        Some(price) => require(!price.is_negative(), field, price, "must not be negative"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn key() -> LeaseKey {
        LeaseKey { account: "u1".parse().unwrap(), service: "asset".parse().unwrap(), price: None }
    }

    fn request() -> SyncRequest {
        SyncRequest {
            gateway: "gw-1".parse().unwrap(),
            instance: "0123456789abcdef0123456789abcdef".to_owned(),
            epoch: 7,
            seq: 1,
            reports: vec![Report { lease: 5, used: 3, in_flight: 1, returned: 0, close: false }],
            wants: vec![Want { key: key(), units: 20, min: 1, waiting: true, known: None }],
            journal: vec![],
        }
    }

    #[test]
    fn a_message_reads_as_documented() {
        let expected = r#"{"gateway":"gw-1","instance":"0123456789abcdef0123456789abcdef","epoch":7,"seq":1,"reports":[{"lease":5,"used":3,"in_flight":1,"returned":0,"close":false}],"wants":[{"key":{"account":"u1","service":"asset"},"units":20,"min":1,"waiting":true}]}"#;
        assert_eq!(serde_json::to_string(&request()).unwrap(), expected);
    }

    #[test]
    fn members_of_a_newer_version_are_ignored() {
        let text = r#"{"gateway":"g","instance":"0123456789abcdef0123456789abcdef","epoch":0,"seq":1,"colour":"red"}"#;
        assert!(serde_json::from_str::<SyncRequest>(text).unwrap().validate().is_ok());
    }

    #[test]
    fn a_bound_that_is_broken_is_named_with_its_value() {
        let broken = |change: fn(&mut SyncRequest)| {
            let mut request = request();
            change(&mut request);
            request.validate().unwrap_err().to_string()
        };
        assert_eq!(broken(|r| r.seq = 0), "seq is 0: must be 1 or more");
        assert_eq!(broken(|r| r.wants[0].min = 0), "wants[0].min is 0: must be 1 to 2147483647");
        assert_eq!(
            broken(|r| r.wants[0].units = 0),
            "wants[0].units is 0: must be min to 2147483647"
        );
        assert_eq!(
            broken(|r| r.wants[0].units = 1 << 31),
            "wants[0].units is 2147483648: must be min to 2147483647"
        );
        assert_eq!(
            broken(|r| r.reports[0].used = u64::MAX),
            "reports[0].used is 18446744073709551615: must be 2^48 or less"
        );
        assert_eq!(
            broken(|r| r.instance = "x".into()),
            "instance is x: must be 32 hexadecimal digits"
        );
        assert_eq!(
            broken(|r| r.wants[0].key.price = Some(Nanos::new(-1))),
            "wants[0].key.price is -0.000000001: must not be negative"
        );
        let line = JournalReport { line: 1, key: key(), used: 3 };
        let dear = LeaseKey { price: Some(Nanos::MAX), ..key() };
        let unpayable =
            SyncRequest { journal: vec![JournalReport { key: dear, ..line }], ..request() };
        assert_eq!(
            unpayable.validate().unwrap_err().to_string(),
            "journal[0].used is 3: must cost no more than 9223372036.854775807 at its price"
        );
        let (one, other) = (JournalReport { line: 1, key: key(), used: 3 }, "u2".parse().unwrap());
        let again = JournalReport { used: 4, ..one.clone() };
        let twice = SyncRequest { journal: vec![one.clone(), again.clone()], ..request() };
        assert_eq!(twice.validate(), Ok(()), "the larger total counts");
        let mixed = JournalReport { key: LeaseKey { account: other, ..key() }, ..again };
        let mixed = SyncRequest { journal: vec![one, mixed], ..request() };
        assert_eq!(
            mixed.validate().unwrap_err().to_string(),
            "journal[1].line is 1: must not stand for two keys in one message"
        );
        assert_eq!(
            broken(|r| r.wants = vec![r.wants[0].clone(); 1_001]),
            "wants is 1001: must have 1000 items or fewer"
        );
    }
}
