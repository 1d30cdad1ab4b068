//! Receipts: what they say, who may check them, and what no change survives. `jsonwebtoken`, which the product does not use, checks
//! what we sign.

use super::keys::PLACE;
use super::{Facts, Unverified, check};
use crate::settings::Settings;
use crate::testing::{Gateway, SECOND, body, pointer, ready, slug};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_store::memory::START;
use tollgate_store::ports::Store as _;

fn gateway(algorithm: &str, campaign: Value) -> Gateway {
    let text = format!("[receipts]\nalgorithm = \"{algorithm}\"\n");
    let gateway = Gateway::with_settings(Settings::parse(&text, "tollgate.toml").unwrap());
    assert_eq!(gateway.admin("POST", "/api/campaigns", &campaign).status, 201);
    gateway
}

fn claim(gateway: &Gateway, user: &str) -> Value {
    let headers = [("x-user-id", user), ("idempotency-key", "\"k\"")];
    let answer = gateway.call("POST", "/api/campaigns/c/claims", &headers, "");
    assert_eq!(answer.status, 201);
    body(&answer)["claim"].clone()
}

fn receipt(claim: &Value) -> String {
    claim["receipt"]
        .as_str()
        .unwrap_or_else(|| panic!("{claim}"))
        .to_owned()
}

fn verify(gateway: &Gateway, receipt: &str) -> Value {
    body(&gateway.call(
        "POST",
        "/api/receipts/verify",
        &[],
        &json!({ "receipt": receipt }),
    ))
}

fn jwks(gateway: &Gateway) -> String {
    let answer = gateway.call("GET", "/.well-known/jwks.json", &[], "");
    assert_eq!(
        body(&gateway.call("GET", "/api/receipts/keys", &[], "")),
        body(&answer)
    );
    crate::testing::text(&answer)
}

/// The secrets as they are stored, the newest first.
fn secrets(gateway: &Gateway) -> Vec<Vec<u8>> {
    let found = ready(gateway.store.get(PLACE, &[PLACE.to_owned()])).unwrap();
    let ring: Value = serde_json::from_slice(&found[0].as_ref().unwrap().value).unwrap();
    let keys = ring["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| URL_SAFE_NO_PAD.decode(key["secret"].as_str().unwrap()).unwrap())
        .collect()
}

fn decoded(
    receipt: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<Value, jsonwebtoken::errors::Error> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.set_issuer(&["http://localhost:3000"]);
    jsonwebtoken::decode::<Value>(receipt, key, &validation).map(|token| token.claims)
}

#[test]
fn another_library_checks_what_is_signed() {
    let users = ["ann", "a\"\\", "x", "xy", "xyz"];
    let hmac = gateway("HS256", json!({"id": "c", "quantity": 9, "perUser": 3}));
    let ed = gateway("EdDSA", json!({"id": "c", "quantity": 9, "perUser": 3}));
    for user in users {
        let made = claim(&hmac, user);
        let key = DecodingKey::from_secret(&secrets(&hmac)[0]);
        let says = decoded(&receipt(&made), &key, Algorithm::HS256).unwrap();
        let expected = json!({
            "iss": "http://localhost:3000", "sub": user, "jti": made["id"], "campaign": "c", "sequence": made["sequence"],
            "units": 1, "iat": START / 1_000,
        });
        assert_eq!(says, expected);
        assert!(
            decoded(
                &receipt(&made),
                &DecodingKey::from_secret(b"another"),
                Algorithm::HS256
            )
            .is_err()
        );

        let made = claim(&ed, user);
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&jwks(&ed)).unwrap();
        let header = jsonwebtoken::decode_header(&receipt(&made)).unwrap();
        let key = DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
        assert_eq!(
            decoded(&receipt(&made), &key, Algorithm::EdDSA).unwrap()["jti"],
            made["id"]
        );
    }
}

#[test]
fn a_receipt_is_the_same_wherever_it_is_shown() {
    let gateway = gateway("HS256", json!({"id": "c", "quantity": 9}));
    let first = claim(&gateway, "ann");
    assert_eq!(claim(&gateway, "ann"), first, "replayed");
    let again = gateway.call("POST", "/api/campaigns/c/claims", &[("x-user-id", "ann")], "");
    assert_eq!(
        (slug(&again).as_str(), &body(&again)["claim"]),
        ("already-claimed", &first)
    );
    let own = gateway.call("GET", "/api/campaigns/c/claims/ann", &[("x-user-id", "ann")], "");
    assert_eq!(body(&own)["claims"][0], first);
    let checked = verify(&gateway, &receipt(&first));
    assert_eq!(
        (&checked["valid"], &checked["receipt"]["sub"]),
        (&json!(true), &json!("ann"))
    );
    assert_eq!(checked["claim"]["status"], "confirmed");
    gateway.store.set_now(START + 60 * SECOND);
    assert_eq!(claim(&gateway, "ann"), first, "replayed later");
}

#[test]
fn a_claim_has_its_receipt_once_it_is_confirmed() {
    let gateway = gateway(
        "HS256",
        json!({"id": "c", "quantity": 9, "perUser": 2, "holdSeconds": 60}),
    );
    let held = claim(&gateway, "ann");
    assert_eq!(
        (&held["status"], &held["receipt"]),
        (&json!("held"), &Value::Null)
    );
    let id = held["id"].as_str().unwrap();
    let settle = |verb: &str| {
        let headers = [("x-user-id", "ann"), ("idempotency-key", "\"k\"")];
        let answer = gateway.call(
            "POST",
            &format!("/api/campaigns/c/claims/{id}/{verb}"),
            &headers,
            "",
        );
        body(&answer)["claim"].clone()
    };
    let confirmed = settle("confirm");
    assert_eq!(verify(&gateway, &receipt(&confirmed))["valid"], true);
    assert_eq!(settle("confirm"), confirmed, "replayed");
    gateway.admin(
        "POST",
        &format!("/api/campaigns/c/claims/{id}/revoke"),
        &Value::Null,
    );
    let checked = verify(&gateway, &receipt(&confirmed));
    assert_eq!(
        (&checked["valid"], &checked["claim"]["status"]),
        (&json!(true), &json!("revoked"))
    );
    assert_eq!(
        claim(&gateway, "ann")["receipt"],
        Value::Null,
        "it was held when it was answered"
    );
}

#[test]
fn a_new_key_signs_and_those_before_it_still_check() {
    for algorithm in ["HS256", "EdDSA"] {
        let gateway = gateway(algorithm, json!({"id": "c", "quantity": 99}));
        let first = receipt(&claim(&gateway, "ann"));
        let made = gateway.admin("POST", "/api/receipts/keys", &Value::Null);
        assert_eq!((made.status, &body(&made)["alg"]), (201, &json!(algorithm)));
        assert!(!crate::testing::text(&made).contains("secret"));
        let second = receipt(&claim(&gateway, "bob"));
        assert_ne!(first.split('.').next(), second.split('.').next());
        assert_eq!(secrets(&gateway).len(), 2);
        for receipt in [&first, &second] {
            assert_eq!(verify(&gateway, receipt)["valid"], true);
        }
        // The last but sixteen is forgotten.
        for _ in 0..15 {
            gateway.admin("POST", "/api/receipts/keys", &Value::Null);
        }
        assert_eq!(secrets(&gateway).len(), 16);
        assert_eq!(verify(&gateway, &first)["valid"], false);
        assert_eq!(verify(&gateway, &second)["valid"], true);
    }
}

#[test]
fn another_algorithm_makes_a_key_of_its_own() {
    let mut gateway = gateway("HS256", json!({"id": "c", "quantity": 99}));
    let before = receipt(&claim(&gateway, "ann"));
    assert_eq!(jwks(&gateway), r#"{"keys":[]}"#, "a secret is not told");
    gateway.settings = Settings::parse("[receipts]\nalgorithm = \"EdDSA\"\n", "t").unwrap();
    let after = receipt(&claim(&gateway, "bob"));
    assert!(verify(&gateway, &before)["valid"] == true && verify(&gateway, &after)["valid"] == true);
    let says = check(&after, &jwks(&gateway)).unwrap();
    assert_eq!((says.sub.as_str(), says.sequence), ("bob", 2));
    assert_eq!(check(&before, &jwks(&gateway)), Err(Unverified::UnknownKey));
    gateway.settings = Settings::parse("[receipts]\nalgorithm = \"off\"\n", "t").unwrap();
    assert_eq!(claim(&gateway, "cleo")["receipt"], Value::Null);
    assert_eq!(verify(&gateway, &before)["valid"], true);
    assert_eq!(
        gateway.admin("POST", "/api/receipts/keys", &Value::Null).status,
        409
    );
}

#[test]
fn what_is_not_signed_by_us_is_refused() {
    let gateway = gateway("EdDSA", json!({"id": "c", "quantity": 99}));
    let good = receipt(&claim(&gateway, "ann"));
    let parts: Vec<_> = good.split('.').collect();
    let public = serde_json::from_str::<Value>(&jwks(&gateway)).unwrap();
    let (kid, x) = (
        public["keys"][0]["kid"].as_str().unwrap(),
        public["keys"][0]["x"].as_str().unwrap(),
    );
    let header =
        |alg: &str, more: &str| URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}","kid":"{kid}"{more}}}"#));
    // The public key as the secret of an HMAC: what libraries were caught by.
    let forged = jsonwebtoken::encode(
        &jsonwebtoken::Header {
            kid: Some(kid.to_owned()),
            ..jsonwebtoken::Header::new(Algorithm::HS256)
        },
        &json!({"sub": "ann"}),
        &jsonwebtoken::EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(x).unwrap()),
    );
    for bad in [
        String::new(),
        "..".into(),
        "a.b.c".into(),
        format!("{}.{}.", header("none", ""), parts[1]),
        format!("{}.{}.{}", header("none", ""), parts[1], parts[2]),
        format!("{}.{}.{}", header("HS256", ""), parts[1], parts[2]),
        format!(
            "{}.{}.{}",
            header("EdDSA", r#","crit":["b64"],"b64":false"#),
            parts[1],
            parts[2]
        ),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}="),
        format!("{good}.{}", parts[2]),
        format!(" {good}"),
        "x".repeat(10_000),
        forged.unwrap(),
    ] {
        let checked = verify(&gateway, &bad);
        assert_eq!(checked["valid"], false, "{bad}");
        assert!(
            checked["why"].is_string() && checked["claim"].is_null(),
            "{checked}"
        );
        assert!(check(&bad, &jwks(&gateway)).is_err(), "{bad}");
    }
    assert_eq!(
        pointer(&gateway.call("POST", "/api/receipts/verify", &[], r#"{"token":"a"}"#)),
        "#/token"
    );
    assert_eq!(
        pointer(&gateway.call("POST", "/api/receipts/verify", &[], "{}")),
        "#/receipt"
    );
    assert_eq!(
        pointer(&gateway.call("POST", "/api/receipts/verify", &[], r#"{"receipt":7}"#)),
        "#/receipt"
    );
}

#[test]
fn a_key_is_made_once_however_many_need_the_first() {
    let mut gateway = gateway("HS256", json!({"id": "c", "quantity": 99}));
    let first = receipt(&claim(&gateway, "ann"));
    // Another process, which remembers nothing.
    gateway.settings = gateway.settings.clone();
    let second = receipt(&claim(&gateway, "bob"));
    assert_eq!(secrets(&gateway).len(), 1);
    assert_eq!(first.split('.').next(), second.split('.').next());
}

proptest! {
    #[test]
    fn no_change_of_a_receipt_is_good(at in 0..2_000_usize, to in "[A-Za-z0-9_.=-]", algorithm in prop_oneof![Just("HS256"), Just("EdDSA")]) {
        let gateway = gateway(algorithm, json!({"id": "c", "quantity": 9}));
        let good = receipt(&claim(&gateway, "ann"));
        let at = at % good.len();
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        prop_assert_eq!(verify(&gateway, &changed)["valid"] == true, changed == good);
    }

    #[test]
    fn any_user_is_told_as_it_is(sub in ".{0,40}", units in 1..1_000_u64, sequence in any::<u32>()) {
        let gateway = gateway("HS256", json!({"id": "c", "quantity": 9}));
        claim(&gateway, "ann");
        let fresh = || gateway.fresh();
        let world = crate::world::World { store: &gateway.store, settings: &gateway.settings, now: START, fresh: &fresh };
        let signer = ready(super::signer(&world)).unwrap().unwrap();
        let facts = Facts { sub: sub.as_str(), jti: "j", campaign: "c", sequence: u64::from(sequence), units, iat: 7 };
        let said = ready(super::keys::ring(&world, None)).unwrap().check(&signer.sign(&facts)).unwrap();
        prop_assert_eq!((said.sub.as_str(), said.units, said.sequence), (&*sub, units, u64::from(sequence)));
    }
}
