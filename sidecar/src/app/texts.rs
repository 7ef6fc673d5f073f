//! The texts that come with what operators order: a key, a reason, and who it was. Each has its column.

/// A text that is empty or beyond its column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} has {bytes} bytes; give 1 to {limit}")]
pub struct LengthError {
    /// Which text.
    pub field: &'static str,
    /// Its length.
    pub bytes: usize,
    /// The longest.
    pub limit: usize,
}

const KEY_BYTES_MAX: usize = 255;
const REASON_BYTES_MAX: usize = 1_000;
const ACTOR_BYTES_MAX: usize = 128;

/// Requires that each of them is there and fits.
pub(super) fn check(key: &str, reason: &str, actor: &str) -> Result<(), LengthError> {
    fits("key", key, KEY_BYTES_MAX)?;
    check_why(reason, actor)
}

/// The same of what needs no key.
pub(super) fn check_why(reason: &str, actor: &str) -> Result<(), LengthError> {
    fits("reason", reason, REASON_BYTES_MAX)?;
    fits("actor", actor, ACTOR_BYTES_MAX)
}

fn fits(field: &'static str, text: &str, limit: usize) -> Result<(), LengthError> {
    let bytes = text.len();
    if bytes == 0 || limit < bytes { Err(LengthError { field, bytes, limit }) } else { Ok(()) }
}
