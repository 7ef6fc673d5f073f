//! Who calls, said by a gateway and signed: a JSON Web Token (RFC 7519) in the header [`HEADER`].
//!
//! The sidecar's self-service must know the account behind a request, and a header alone could be written by anybody who
//! reaches the sidecar. Gateways and sidecar share the gateway token already, so a key derived from it signs the name.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::AccountId;

/// The request header that holds the token.
pub const HEADER: &str = "x-farebox-identity";

/// How long a token stands after it was made, in seconds.
pub const LIFETIME_S: u64 = 60;

/// How far the clocks of gateway and sidecar may differ, in seconds.
pub const LEEWAY_S: u64 = 60;

/// Whom the tokens are for: the claim `aud`.
pub const AUDIENCE: &str = "farebox";

/// The longest token that is looked at, in bytes; names of the greatest length make one of about half of it.
pub const TOKEN_BYTES_MAX: usize = 2_048;

/// What a key is derived for, so that the gateway token itself signs nothing.
const PURPOSE: &[u8] = b"farebox user identity v1";

/// The only algorithm: what the token's own header says decides nothing (RFC 8725 section 3.1).
const ALGORITHM: &str = "HS256";

/// Signs and verifies.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The gateway that made it.
    pub iss: String,
    /// Whom it is for: [`AUDIENCE`].
    pub aud: String,
    /// Who calls.
    pub sub: AccountId,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
}

/// Why a token says nothing. The texts go on after "the identity".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// More bytes than any token has.
    #[error("has {bytes} bytes, the limit is {limit}; call through the gateway, which makes a short one", limit = TOKEN_BYTES_MAX)]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not `header.claims.signature`.
    #[error("is not three parts with dots between them; call through the gateway, which makes it")]
    Parts,
    /// A part that cannot be read.
    #[error("has a {part} that cannot be read; call through the gateway, which makes it")]
    Unreadable {
        /// `header`, `claims` or `signature`.
        part: &'static str,
    },
    /// Another algorithm, `none` among them.
    #[error("is signed with {algorithm:?}; sign it with \"HS256\", as the gateway does")]
    Algorithm {
        /// What its header says.
        algorithm: String,
    },
    /// An extension that must be understood, and is not.
    #[error("has a header with crit; leave it out, as the gateway does")]
    Critical,
    /// By none of the keys.
    #[error(
        "is signed with none of this sidecar's gateway tokens; call through the gateway, and give both the same FAREBOX_GATEWAY_TOKEN"
    )]
    Signature,
    /// Signed, but without the claims that are needed.
    #[error("has claims that cannot be used: {problem}; give the gateway the sidecar's version")]
    Claims {
        /// What is wrong with them.
        problem: String,
    },
    /// Meant for somebody else.
    #[error("is for {audience:?}; only those for \"farebox\" count here")]
    Audience {
        /// Whom it is for.
        audience: String,
    },
    /// Its time is over.
    #[error(
        "ended {ago_s} s ago; send the call again through the gateway, and if that does not help, set the clocks of gateway and sidecar"
    )]
    Expired {
        /// How long ago, in seconds.
        ago_s: u64,
    },
    /// Its time has not come.
    #[error("begins in {in_s} s; set the clocks of gateway and sidecar")]
    Future {
        /// In how many seconds.
        in_s: u64,
    },
}

/// The JOSE header, as far as it can matter.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

// === impl Key ===

impl Key {
    /// The key that belongs to a gateway token. Space around the token does not count, as it does not in a header.
    pub fn derive(gateway_token: &str) -> Self {
        let token = keyed(gateway_token.trim_ascii().as_bytes());
        Self(keyed(&signature(token, PURPOSE)))
    }
}

impl fmt::Debug for Key {
    /// Without the key itself: a configuration may be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// HMAC takes one block as its key: a longer one is hashed first, a shorter one is filled with zeros (RFC 2104 section 2).
/// Done here, because the crate's own way for any length returns an error that cannot occur.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    let hashed = (block.len() < key.len()).then(|| Sha256::digest(key));
    let bytes = hashed.as_ref().map_or(key, |hashed| hashed.as_slice());
    block.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    Hmac::new(&block)
}

/// One copy of it is enough for the filter, which is loaded into every worker of Envoy.
#[inline(never)]
fn signature(key: Hmac<Sha256>, text: &[u8]) -> [u8; 32] {
    key.chain_update(text).finalize().into_bytes().into()
}

// === impl Claims ===

impl Claims {
    /// What `gateway` says at `now` (seconds since 1970) about a call of `account`.
    pub fn new(gateway: &str, account: AccountId, now: u64) -> Self {
        Self {
            iss: gateway.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: account,
            iat: now,
            exp: now.saturating_add(LIFETIME_S),
        }
    }
}

/// The token.
pub fn sign(key: &Key, claims: &Claims) -> String {
    // Serializing strings and numbers cannot fail; if it did, the token would say nothing and be refused.
    let claims = serde_json::to_string(claims).unwrap_or_default();
    let mut token = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = signature(key.0.clone(), token.as_bytes());
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// What a token says, if any of `keys` signed it and its time is now.
pub fn verify(keys: &[Key], token: &str, now: u64) -> Result<Claims, AssertionError> {
    if TOKEN_BYTES_MAX < token.len() {
        return Err(AssertionError::TooLong { bytes: token.len() });
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(AssertionError::Parts)?;
    let (header, claims) = signed.split_once('.').ok_or(AssertionError::Parts)?;
    if claims.contains('.') {
        return Err(AssertionError::Parts);
    }
    check_header(&decode("header", header)?)?;
    let shown = decode("signature", signature)?;
    // Every key is tried, whichever fits, and each comparison takes the same time.
    let fits =
        |any, key: &Key| key.0.clone().chain_update(signed).verify_slice(&shown).is_ok() | any;
    if !keys.iter().fold(false, fits) {
        return Err(AssertionError::Signature);
    }
    let claims = serde_json::from_slice(&decode("claims", claims)?)
        .map_err(|err| AssertionError::Claims { problem: err.to_string() })?;
    check_claims(claims, now)
}

/// Strict: neither padding nor spare bits, so that no second text is the same token.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, AssertionError> {
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| AssertionError::Unreadable { part })
}

fn check_header(json: &[u8]) -> Result<(), AssertionError> {
    let header: Header =
        serde_json::from_slice(json).map_err(|_| AssertionError::Unreadable { part: "header" })?;
    if header.alg != ALGORITHM {
        return Err(AssertionError::Algorithm { algorithm: header.alg });
    }
    if header.crit.is_some() { Err(AssertionError::Critical) } else { Ok(()) }
}

fn check_claims(claims: Claims, now: u64) -> Result<Claims, AssertionError> {
    if claims.aud != AUDIENCE {
        return Err(AssertionError::Audience { audience: claims.aud });
    }
    if claims.exp.saturating_add(LEEWAY_S) <= now {
        return Err(AssertionError::Expired { ago_s: now.saturating_sub(claims.exp) });
    }
    let in_s = claims.iat.saturating_sub(now);
    if LEEWAY_S < in_s {
        return Err(AssertionError::Future { in_s });
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: u64 = 1_795_000_000;

    fn key() -> Key {
        Key::derive("secret")
    }

    fn claims() -> Claims {
        Claims::new("edge-1", "user_test_001".parse().unwrap(), NOW)
    }

    fn encoded(text: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    /// A token with a right signature around any header and claims.
    fn signed(header: &str, claims: &str) -> String {
        let text = format!("{}.{}", encoded(header), encoded(claims));
        let signature = encoded(super::signature(key().0, text.as_bytes()));
        format!("{text}.{signature}")
    }

    fn json(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut json = serde_json::to_value(claims()).unwrap();
        change(&mut json);
        json.to_string()
    }

    const HEADER_JSON: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    /// Computed by Python's `hmac` and `hashlib`; the tokens have less than a block, a block, and more.
    #[test]
    fn tokens_are_what_another_implementation_makes_of_the_same_claims() {
        const HEAD: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.";
        const ADA: &str = "eyJpc3MiOiJlZGdlLTEiLCJhdWQiOiJmYXJlYm94Iiwic3ViIjoidXNlcl90ZXN0XzAwMSIsImlhdCI6MTc5NTAwMDAwMCwiZXhwIjoxNzk1MDAwMDYwfQ.";
        const CHINESE: &str = "eyJpc3MiOiJlZGdlLTEiLCJhdWQiOiJmYXJlYm94Iiwic3ViIjoi55So5oi3MSIsImlhdCI6MTc5NTAwMDAwMCwiZXhwIjoxNzk1MDAwMDYwfQ.";
        let digits = "0123456789abcdef";
        for (token, account, middle, signature) in [
            (
                "secret".to_owned(),
                "user_test_001",
                ADA,
                "Kcf6xkAypvb3ffLIulbc5mj-DjPl2lMlWuzfcmolZ4Y",
            ),
            (digits.repeat(4), "user_test_001", ADA, "zV9Bgzg3FLVIjzyBEh1bPWbddZQXtEEVoD8dVnWTTwk"),
            (digits.repeat(8), "用户1", CHINESE, "V8Mku_5BM3155q1UnzuuftJk6aC-a4xvJLgvG0A8xrc"),
        ] {
            let key = Key::derive(&token);
            let claims = Claims::new("edge-1", account.parse().unwrap(), NOW);
            let expected = format!("{HEAD}{middle}{signature}");
            assert_eq!(sign(&key, &claims), expected);
            assert_eq!(verify(&[key], &expected, NOW), Ok(claims));
        }
    }

    #[test]
    fn while_tokens_are_changed_both_are_taken_and_no_key_takes_none() {
        let token = sign(&key(), &claims());
        let other = Key::derive("next");
        for keys in [[key(), other.clone()], [other.clone(), key()]] {
            assert_eq!(verify(&keys, &token, NOW), Ok(claims()));
        }
        assert_eq!(verify(&[other], &token, NOW), Err(AssertionError::Signature));
        assert_eq!(verify(&[], &token, NOW), Err(AssertionError::Signature));
        assert_eq!(verify(&[Key::derive(" secret\n")], &token, NOW), Ok(claims()));
        assert_eq!(format!("{:?}", key()), "Key(…)");
    }

    #[test]
    fn a_token_stands_for_its_lifetime_and_as_far_as_clocks_may_differ() {
        let token = sign(&key(), &claims());
        let at = |now| verify(&[key()], &token, now).map(|claims| claims.iat);
        assert_eq!(at(NOW + LIFETIME_S + LEEWAY_S - 1), Ok(NOW));
        assert_eq!(at(NOW + LIFETIME_S + LEEWAY_S), Err(AssertionError::Expired { ago_s: 60 }));
        assert_eq!(at(u64::MAX), Err(AssertionError::Expired { ago_s: u64::MAX - NOW - 60 }));
        assert_eq!(at(NOW - LEEWAY_S), Ok(NOW));
        assert_eq!(at(NOW - LEEWAY_S - 1), Err(AssertionError::Future { in_s: 61 }));
        assert_eq!(at(0), Err(AssertionError::Future { in_s: NOW }));
    }

    #[test]
    fn forgeries_are_refused_by_name() {
        let good = sign(&key(), &claims());
        let (text, signature) = good.rsplit_once('.').unwrap();
        let (header, middle) = text.split_once('.').unwrap();
        let other_user = json(|json| json["sub"] = "eve".into());
        let none = encoded(r#"{"alg":"none"}"#);
        // 43 characters hold two bits more than 32 bytes: the last one has a twin that differs in those alone.
        let twin = |last| char::from_u32(u32::from(last) + 1).unwrap();
        let spare_bits = {
            let (rest, last) = good.split_at(good.len() - 1);
            format!("{rest}{}", twin(last.chars().next().unwrap()))
        };
        let unreadable = |part| AssertionError::Unreadable { part };
        let algorithm = |name: &str| AssertionError::Algorithm { algorithm: name.to_owned() };
        for (token, expected) in [
            (format!("{none}.{middle}."), algorithm("none")),
            (format!("{none}.{middle}.{signature}"), algorithm("none")),
            (signed(r#"{"alg":"None"}"#, &json(|_| {})), algorithm("None")),
            (signed(r#"{"alg":"hs256"}"#, &json(|_| {})), algorithm("hs256")),
            (signed(r#"{"alg":"HS512"}"#, &json(|_| {})), algorithm("HS512")),
            (signed(r#"{"alg":"RS256"}"#, &json(|_| {})), algorithm("RS256")),
            (signed(r#"{"typ":"JWT"}"#, &json(|_| {})), unreadable("header")),
            (signed(r#"{"alg":"HS256","alg":"HS256"}"#, &json(|_| {})), unreadable("header")),
            (signed(r#"{"alg":"HS256","crit":["b64"]}"#, &json(|_| {})), AssertionError::Critical),
            (sign(&Key::derive("other"), &claims()), AssertionError::Signature),
            (sign(&Key::derive(""), &claims()), AssertionError::Signature),
            (sign(&Key(keyed(b"secret")), &claims()), AssertionError::Signature),
            (format!("{header}.{}.{signature}", encoded(other_user)), AssertionError::Signature),
            (format!("{text}."), AssertionError::Signature),
            (format!("{text}.{}", &signature[..42]), unreadable("signature")),
            (format!("{text}.{}", encoded([0; 31])), AssertionError::Signature),
            (text.to_owned(), AssertionError::Parts),
            (header.to_owned(), AssertionError::Parts),
            (String::new(), AssertionError::Parts),
            ("..".to_owned(), unreadable("header")),
            (good.replace('.', ".."), AssertionError::Parts),
            (format!("{good}."), AssertionError::Parts),
            (format!(".{good}"), AssertionError::Parts),
            (format!("{text}.{signature}="), unreadable("signature")),
            (format!("{header}=.{middle}.{signature}"), unreadable("header")),
            (format!("{good} "), unreadable("signature")),
            (spare_bits, unreadable("signature")),
            (good.replace('-', "+"), unreadable("signature")),
            ("x".repeat(TOKEN_BYTES_MAX + 1), AssertionError::TooLong { bytes: 2_049 }),
            ("x".repeat(TOKEN_BYTES_MAX), AssertionError::Parts),
        ] {
            assert_eq!(verify(&[key()], &token, NOW), Err(expected), "{token}");
        }
    }

    #[test]
    fn what_is_signed_must_still_say_enough() {
        for (said, expected) in [
            (json(|json| json["aud"] = "another".into()), "is for \"another\""),
            (json(|json| json["aud"] = "Farebox".into()), "is for \"Farebox\""),
            (json(|json| json["aud"] = serde_json::json!(["farebox"])), "has claims"),
            (json(|json| json["sub"] = "".into()), "account id is empty"),
            (json(|json| json["sub"] = "two words".into()), "account id holds the character ' '"),
            (json(|json| json["exp"] = serde_json::Value::Null), "has claims"),
            (json(|json| json["exp"] = (NOW - LEEWAY_S).into()), "ended 60 s ago"),
            (json(|json| json["iat"] = (NOW + LEEWAY_S + 1).into()), "begins in 61 s"),
            (json(|json| json["iat"] = (-1).into()), "has claims"),
            ("{}".to_owned(), "missing field `iss`"),
            (json(|_| {}).replace('}', r#","sub":"eve"}"#), "duplicate field `sub`"),
        ] {
            let error = verify(&[key()], &signed(HEADER_JSON, &said), NOW).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(expected), "{said}: {text}");
            assert!(text.contains("; "), "no remedy: {text}");
        }
        let more = json(|json| json["jti"] = "1".into());
        assert_eq!(verify(&[key()], &signed(HEADER_JSON, &more), NOW), Ok(claims()));
    }

    #[test]
    fn the_longest_names_fit() {
        // A quotation mark takes two bytes in JSON.
        let account = "\"".repeat(crate::limits::ACCOUNT_ID_BYTES_MAX).parse().unwrap();
        let gateway = "\"".repeat(crate::limits::GATEWAY_ID_BYTES_MAX);
        let claims = Claims::new(&gateway, account, NOW);
        let token = sign(&key(), &claims);
        assert!(token.len() <= TOKEN_BYTES_MAX / 2, "{}", token.len());
        assert_eq!(verify(&[key()], &token, NOW), Ok(claims));
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        #[test]
        fn what_is_signed_is_verified(
            token in "[!-~]{1,200}",
            gateway in "[!-~]{1,128}",
            account in "[^\\s\\p{C}]{1,32}",
            now in LEEWAY_S..1 << 40,
            late in 0..LIFETIME_S,
        ) {
            let (key, claims) = (Key::derive(&token), Claims::new(&gateway, account.parse().unwrap(), now));
            proptest::prop_assert_eq!(verify(std::slice::from_ref(&key), &sign(&key, &claims), now + late), Ok(claims));
        }

        #[test]
        fn no_other_text_is_taken(place in 0..220_usize, other in "[ -~]") {
            let good = sign(&key(), &claims());
            let place = place % good.len();
            let mut changed = good.clone();
            changed.replace_range(place..=place, &other);
            proptest::prop_assert_eq!(verify(&[key()], &changed, NOW).is_ok(), changed == good);
        }
    }
}
