//! Every bound that both sides of the protocol rely on, by name.

/// The largest count of units in one call or one want: what the predecessor's `int32` could say.
pub const UNITS_MAX: u64 = 2_147_483_647;

/// The largest number of units that one lease may hold at once.
pub const GRANT_MAX: u64 = 1_000_000;

/// The largest total that a lease may reach over its life; beyond it the lease is closed and another one granted.
pub const LEASE_TOTAL_MAX: u64 = 1 << 48;

/// The longest account id, in bytes.
pub const ACCOUNT_ID_BYTES_MAX: usize = 128;

/// The longest service name, in bytes.
pub const SERVICE_NAME_BYTES_MAX: usize = 32;

/// The longest gateway id, in bytes.
pub const GATEWAY_ID_BYTES_MAX: usize = 128;

/// The largest number of reports, wants or journal lines in one sync message, each.
pub const SYNC_ITEMS_MAX: usize = 1_000;

/// The largest body that the sidecar reads, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest key of a request, in bytes.
pub const CALL_KEY_BYTES_MAX: usize = 255;

/// The largest number of requests in one batch.
pub const CALL_ITEMS_MAX: usize = 1_000;

/// The longest that a reservation stands, in milliseconds: a day, as long as answers are kept.
pub const RESERVATION_TTL_MS_MAX: u64 = 86_400_000;

/// The longest that a request may ask to wait, in milliseconds.
pub const WAIT_MS_MAX: u64 = 60_000;

/// The most tiers of one price: a call is charged by as many records at most.
pub const TIERS_MAX: usize = 20;

/// The most units of one package.
pub const PACKAGE_UNITS_MAX: u64 = 1_000_000_000;
