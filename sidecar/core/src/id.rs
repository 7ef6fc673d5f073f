//! Names that come from outside, checked once where they enter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{ACCOUNT_ID_BYTES_MAX, GATEWAY_ID_BYTES_MAX, SERVICE_NAME_BYTES_MAX};

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No character at all.
    #[error("{kind} is empty")]
    Empty {
        /// What the text should have named.
        kind: &'static str,
    },
    /// More bytes than the limit.
    #[error("{kind} has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// What the text should have named.
        kind: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A character that a name of this kind may not have.
    #[error("{kind} holds the character {character:?}; allowed: {allowed}")]
    Character {
        /// What the text should have named.
        kind: &'static str,
        /// The first offending character.
        character: char,
        /// What may stand there.
        allowed: &'static str,
    },
}

fn check(
    kind: &'static str,
    text: &str,
    limit: usize,
    allowed: &'static str,
    may_hold: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if limit < text.len() {
        return Err(NameError::TooLong { kind, bytes: text.len(), limit });
    }
    match text.chars().find(|&character| !may_hold(character)) {
        Some(character) => Err(NameError::Character { kind, character, allowed }),
        None => Ok(()),
    }
}

/// Declares a checked name: a newtype over `String` that cannot hold an invalid text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $limit:expr, $allowed:literal, $may_hold:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check($kind, &text, $limit, $allowed, $may_hold)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Who pays: 1–128 bytes of visible ASCII or other UTF-8, without spaces and control characters.
    AccountId, "account id", ACCOUNT_ID_BYTES_MAX, "visible characters without spaces",
    |character| !character.is_control() && !character.is_whitespace()
}

name! {
    /// What is metered: 1–32 of `a`–`z`, `A`–`Z`, `0`–`9`, `.`, `_`, `-`; the predecessor's column holds 32.
    ServiceName, "service", SERVICE_NAME_BYTES_MAX, "letters, digits, '.', '_', '-'",
    |character| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

name! {
    /// One Envoy process among those that share a sidecar; usually Envoy's `node.id`.
    GatewayId, "gateway", GATEWAY_ID_BYTES_MAX, "visible ASCII",
    |character| character.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn account_ids_are_visible_text_of_1_to_128_bytes() {
        for good in ["u", "user_test_001", "用户1", "a@b.c", "0", &"x".repeat(128)] {
            assert!(good.parse::<AccountId>().is_ok(), "{good:?}");
        }
        for (bad, problem) in [
            ("", "account id is empty".to_owned()),
            ("a\tb", "account id holds the character '\\t'; allowed: visible characters without spaces".into()),
            ("a b", "account id holds the character ' '; allowed: visible characters without spaces".into()),
            ("a\u{7f}", "account id holds the character '\\u{7f}'; allowed: visible characters without spaces".into()),
            (&"x".repeat(129), "account id has 129 bytes, the limit is 128".into()),
        ] {
            assert_eq!(bad.parse::<AccountId>().unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn service_names_are_plain_words() {
        assert!("short-link".parse::<ServiceName>().is_ok());
        assert!("passport service".parse::<ServiceName>().is_err());
        assert!("支付".parse::<ServiceName>().is_err());
    }
}
