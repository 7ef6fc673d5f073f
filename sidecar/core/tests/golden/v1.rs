//! How version 1 reads: a frozen copy of its members, apart from today's types. Never changed.
//!
//! Numbers and texts are plain here: what version 1 made of them is tested where it still does.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(crate) struct LeaseKey {
    account: String,
    service: String,
    #[serde(default)]
    price: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct FreeQuota {
    total: u64,
    remaining: u64,
    resets_in_s: u64,
}

// === sync, as the sidecar reads it

#[derive(Serialize, Deserialize)]
pub(crate) struct SyncRequest {
    gateway: String,
    instance: String,
    epoch: u64,
    seq: u64,
    #[serde(default)]
    reports: Vec<Report>,
    #[serde(default)]
    wants: Vec<Want>,
    #[serde(default)]
    journal: Vec<JournalReport>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    lease: u64,
    used: u64,
    #[serde(default)]
    in_flight: u64,
    #[serde(default)]
    returned: u64,
    #[serde(default)]
    close: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Want {
    key: LeaseKey,
    units: u64,
    min: u64,
    #[serde(default)]
    waiting: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct JournalReport {
    line: u64,
    key: LeaseKey,
    used: u64,
}

// === sync, as the gateway reads it

#[derive(Serialize, Deserialize)]
pub(crate) struct SyncReply {
    epoch: u64,
    #[serde(default)]
    acks: Vec<Ack>,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    refusals: Vec<Refusal>,
    #[serde(default)]
    recalls: Vec<Recall>,
    #[serde(default)]
    journal_acks: Vec<JournalAck>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Ack {
    lease: u64,
    used: u64,
    open: bool,
    ttl_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Grant {
    lease: u64,
    key: LeaseKey,
    free_units: u64,
    paid_units: u64,
    price: String,
    ttl_ms: u64,
    low_water: u64,
    #[serde(default, rename = "final")]
    is_final: bool,
    free_quota: FreeQuota,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Refusal {
    key: LeaseKey,
    min: u64,
    #[serde(default)]
    soon: bool,
    code: u32,
    retry_after_ms: u64,
    available: String,
    #[serde(default)]
    price: Option<String>,
    free_quota: FreeQuota,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Recall {
    lease: u64,
    key: LeaseKey,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct JournalAck {
    line: u64,
    used: u64,
}

// === calls

#[derive(Serialize, Deserialize)]
pub(crate) struct CheckRequest {
    user_id: String,
    service: String,
    count: u64,
    #[serde(default)]
    price: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CheckReply {
    allowed: bool,
    reason: String,
    remaining_free: u64,
    available: String,
    cost: String,
    #[serde(default)]
    price: Option<String>,
    currency: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DeductRequest {
    #[serde(default)]
    idempotency_key: String,
    user_id: String,
    service: String,
    count: u64,
    #[serde(default)]
    price: Option<String>,
    #[serde(default)]
    wait_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DeductReply {
    record_id: String,
    free_units: u64,
    paid_units: u64,
    amount: String,
    #[serde(default)]
    price: Option<String>,
    balance: String,
    available: String,
    currency: String,
    free_quota: FreeQuota,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Shortfall {
    remaining_free: u64,
    available: String,
    cost: String,
    #[serde(default)]
    price: Option<String>,
    free_quota: FreeQuota,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    code: u32,
    #[serde(default)]
    field: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ReserveRequest {
    #[serde(default)]
    idempotency_key: String,
    user_id: String,
    service: String,
    #[serde(default)]
    units: Option<u64>,
    #[serde(default)]
    amount: Option<String>,
    #[serde(default)]
    price: Option<String>,
    #[serde(default)]
    ttl_ms: Option<u64>,
    #[serde(default)]
    wait_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ReserveReply {
    reservation_id: String,
    free_units: u64,
    paid_units: u64,
    amount: String,
    #[serde(default)]
    price: Option<String>,
    expires_at: String,
    balance: String,
    available: String,
    currency: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CommitRequest {
    reservation_id: String,
    #[serde(default)]
    units: Option<u64>,
    #[serde(default)]
    amount: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CommitReply {
    reservation_id: String,
    #[serde(default)]
    record_id: Option<String>,
    free_units: u64,
    paid_units: u64,
    amount: String,
    balance: String,
    available: String,
    currency: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ReleaseRequest {
    reservation_id: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ReleaseReply {
    reservation_id: String,
    free_units: u64,
    paid_units: u64,
    amount: String,
    balance: String,
    available: String,
    currency: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RefundRequest {
    #[serde(default)]
    idempotency_key: String,
    #[serde(default)]
    record_id: Option<String>,
    #[serde(default)]
    deduct_key: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    units: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RefundReply {
    #[serde(default)]
    refund_id: Option<String>,
    #[serde(default)]
    record_id: Option<String>,
    free_units: u64,
    paid_units: u64,
    amount: String,
    balance: String,
    available: String,
    currency: String,
}
