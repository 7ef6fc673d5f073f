//! Identity from a signed token, checked by Envoy's jwt_authn: `envoy/envoy-jwt.yaml` as it is shipped.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use farebox_tests::scratch::Scratch;
use farebox_tests::{Plan, Stack, run};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::settled;

/// The name that the reference configuration expects in `iss`.
const ISSUER: &str = "https://accounts.example";

/// Somebody who signs tokens.
pub(crate) struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { key, random }
    }

    /// The public key, as Envoy reads it.
    pub(crate) fn jwks(&self) -> String {
        // An uncompressed point: one byte of kind, then x and y of 32 bytes each.
        let point = self.key.public_key().as_ref();
        let (x, y) = (encoded(&point[1..33]), encoded(&point[33..65]));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", "x": x, "y": y }] })
            .to_string()
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": "1", "typ": "JWT" });
        let signed = format!(
            "{}.{}",
            encoded(header.to_string().as_bytes()),
            encoded(claims.to_string().as_bytes())
        );
        let signature = self.key.sign(&self.random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", encoded(signature.as_ref()))
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn claims(subject: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({ "iss": ISSUER, "aud": "farebox", "sub": subject, "exp": now + 600 })
}

#[test]
fn the_subject_of_a_verified_token_pays() {
    run(async {
        let issuer = Issuer::new();
        let scratch = Scratch::new().unwrap();
        let jwks = scratch.path().join("jwks.json");
        std::fs::write(&jwks, issuer.jwks()).unwrap();
        let plan = Plan::reference().template("envoy-jwt.yaml").mark("jwks", jwks.display());
        let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
        let call = |token: &str| {
            let call = stack.client().get("/v1/asset/x");
            call.header("authorization", &format!("Bearer {token}"))
        };

        // A header says somebody else: the token decides, for the filter and for the service.
        let answer = call(&issuer.token(&claims("ada"))).user("eve").send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["headers"]["x-user-id"], json!(["ada"]));
        settled(&stack, "ada", 1).await;

        let mut elsewhere = claims("ada");
        elsewhere["aud"] = json!("another");
        let mut late = claims("ada");
        late["exp"] = json!(1);
        for (token, why) in [
            (Issuer::new().token(&claims("ada")), "signed by somebody else"),
            (issuer.token(&elsewhere), "meant for somebody else"),
            (issuer.token(&late), "expired"),
            ("nonsense".to_owned(), "no token at all"),
        ] {
            let answer = call(&token).user("ada").send().await;
            assert!(matches!(answer.status.as_u16(), 401 | 403), "{why}: {}", answer.status);
        }
        // A valid token that names nobody reaches the filter, which knows nobody to charge.
        let mut nobody = claims("");
        nobody.as_object_mut().unwrap().remove("sub");
        let answer = call(&issuer.token(&nobody)).send().await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, 100_101), "{}", answer.body);
        settled(&stack, "ada", 1).await;
        assert_eq!(stack.account("eve"), farebox_tests::Account::default());
    });
}
