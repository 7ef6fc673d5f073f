//! What a token looks like: `fbx_`, the id by which it is found, `_`, and the secret. Pure.

use chrono::{DateTime, Datelike as _, Utc};
use sha2::{Digest as _, Sha256};

use super::NAME_BYTES_MAX;
use crate::config::Secret;

/// What tokens begin with, so that people and scanners of secrets know one when they see it.
const PREFIX: &str = "fbx_";

/// How many hexadecimal digits an id has.
const ID_DIGITS: usize = 12;

/// The longest text that is looked at.
const TOKEN_BYTES_MAX: usize = 128;

/// A token, and what of it is stored.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) hash: [u8; 32],
    pub(super) token: Secret,
}

/// The token of these random bytes. The secret has 256 random bits, so one round of SHA-256 hides it for good.
pub(super) fn make(id: [u8; ID_DIGITS / 2], secret: [u8; 32]) -> Made {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let id = digits(&id);
    let token = format!("{PREFIX}{id}_{}", digits(&secret));
    Made { hash: hash(&token), id, token: Secret::new(token) }
}

/// What is stored of a token.
fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The id and the hash of what somebody shows, if it looks like a token.
pub(super) fn read(text: &str) -> Option<(&str, [u8; 32])> {
    let rest = text.strip_prefix(PREFIX).filter(|_| text.len() <= TOKEN_BYTES_MAX)?;
    let (id, _) = rest.split_once('_')?;
    is_id(id).then(|| (id, hash(text)))
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a text can be a token's name: it stands in the audit log, and is no id.
pub(super) fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_allowed) && !is_id(text)
}

/// Whether the database has a date for it.
pub(super) fn is_storable(moment: DateTime<Utc>) -> bool {
    (1970..=9999).contains(&moment.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_prefix_and_found_by_its_id() {
        let made = make([0xAB; 6], [7; 32]);
        let text = made.token.expose();
        assert_eq!(text, format!("fbx_abababababab_{}", "07".repeat(32)));
        assert_eq!(read(text), Some(("abababababab", made.hash)));
        let other = text.replace("_07", "_08");
        assert!(read(&other).is_some_and(|(id, hash)| id == made.id && hash != made.hash));
        assert!(!format!("{made:?}").contains("0707"), "a token does not print itself");
    }

    #[test]
    fn what_is_no_token_is_not_looked_up() {
        let long = format!("fbx_abababababab_{}", "0".repeat(TOKEN_BYTES_MAX));
        for text in [
            "",
            "fbx_",
            "fbx_abababababab",
            "fbx_ABABABABABAB_0",
            "fbx_ab_0",
            "abababababab_0",
            &long,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_can_stand_in_the_audit_log_and_is_no_id() {
        let longest = "x".repeat(64);
        for name in ["ann", "CI.deploy-2_b", "abababababa", "abababababag", &longest] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(65);
        for name in ["", "a b", "ä", "a:b", "abababababab", &long] {
            assert!(!is_name(name), "{name}");
        }
    }
}
