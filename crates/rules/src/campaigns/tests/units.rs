//! Claims of several units, and what they are sent with.

use super::*;
use crate::campaigns::record::{Claim, Status};
use tollgate_store::template::Number;

fn claim(gateway: &Gateway, user: &str, body: &Value) -> Response {
    gateway.call("POST", "/api/campaigns/c/claims", &[("x-user-id", user)], body)
}

fn counters(gateway: &Gateway) -> [u64; 5] {
    let campaign = gateway.campaign();
    ["admitted", "held", "confirmed", "released", "remaining"].map(|name| campaign[name].as_u64().unwrap())
}

fn eligible(gateway: &Gateway, user: &str, units: u64) -> Value {
    let path = format!("/api/campaigns/c/claims/eligibility?units={units}");
    body(&gateway.call("GET", &path, &[("x-user-id", user)], ""))
}

#[test]
fn a_claim_of_several_units_takes_them_or_none() {
    let gateway =
        Gateway::with_campaign(json!({"id": "c", "quantity": 7, "perUser": 4, "codes": "generate"}));
    let first = body(&claim(&gateway, "ann", &json!({"units": 3})));
    assert_eq!(
        (&first["claim"]["sequence"], &first["claim"]["units"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(
        first["claim"]["code"].as_str().unwrap().len(),
        10,
        "one code for all its units"
    );
    assert_eq!(counters(&gateway), [3, 0, 3, 0, 4]);
    let over = claim(&gateway, "ann", &json!({"units": 2}));
    assert_eq!((over.status, slug(&over).as_str()), (409, "already-claimed"));
    assert_eq!(body(&over)["claim"], first["claim"]);
    assert_eq!(eligible(&gateway, "ann", 2)["problem"], body(&over));
    assert_eq!(eligible(&gateway, "ann", 1)["eligible"], true);
    assert_eq!(
        body(&claim(&gateway, "ann", &json!({"units": 1})))["claim"]["sequence"],
        2
    );
    // Three are left.
    let short = claim(&gateway, "bob", &json!({"units": 4}));
    assert_eq!((short.status, slug(&short).as_str()), (410, "sold-out"));
    assert_eq!(body(&short)["remaining"], 3);
    assert_eq!(eligible(&gateway, "bob", 4)["problem"], body(&short));
    assert_eq!(claim(&gateway, "bob", &json!({"units": 3})).status, 201);
    let full = claim(&gateway, "cleo", &json!({"units": 2}));
    assert_eq!((full.status, &body(&full)["remaining"]), (410, &Value::Null));
    assert_eq!(counters(&gateway), [7, 0, 7, 0, 0]);
    let units: Vec<_> = gateway
        .messages()
        .iter()
        .map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap()["units"].clone())
        .collect();
    assert_eq!(units, [3, 1, 3]);
    for units in [
        json!(0),
        json!(5),
        json!(1_001),
        json!(-1),
        json!(1.5),
        json!("2"),
    ] {
        assert_eq!(
            pointer(&claim(&gateway, "dan", &json!({"units": units}))),
            "#/units"
        );
    }
    let path = "/api/campaigns/c/claims/eligibility?units=5";
    assert_eq!(
        pointer(&gateway.call("GET", path, &[("x-user-id", "a")], "")),
        "query:units"
    );
}

#[test]
fn units_come_back_together_and_once() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 6, "perUser": 3, "holdSeconds": 60}));
    let id = |answer: &Response| body(answer)["claim"]["id"].as_str().unwrap().to_owned();
    let settle = |id: &str, verb: &str| {
        gateway.admin(
            "POST",
            &format!("/api/campaigns/c/claims/{id}/{verb}"),
            &Value::Null,
        )
    };
    let ann = id(&claim(&gateway, "ann", &json!({"units": 3})));
    let bob = id(&claim(&gateway, "bob", &json!({"units": 2})));
    assert_eq!(counters(&gateway), [5, 5, 0, 0, 1]);
    let held = claim(&gateway, "cleo", &json!({"units": 2}));
    assert_eq!((held.status, held.header("retry-after")), (410, Some("60")));
    assert_eq!(
        (&body(&held)["held"], &body(&held)["remaining"]),
        (&json!(5), &json!(1))
    );
    for _ in 0..2 {
        assert_eq!(settle(&bob, "release").status, 200);
        assert_eq!(counters(&gateway), [3, 3, 0, 2, 3]);
    }
    assert_eq!(settle(&ann, "confirm").status, 200);
    assert_eq!(counters(&gateway), [3, 0, 3, 2, 3]);
    for _ in 0..2 {
        assert_eq!(settle(&ann, "revoke").status, 200);
        assert_eq!(counters(&gateway), [0, 0, 0, 5, 6]);
    }
    // Holds that have ended make room for a claim of several.
    for user in ["d", "e", "f"] {
        assert_eq!(claim(&gateway, user, &json!({"units": 2})).status, 201);
    }
    gateway.store.set_now(START + 60 * SECOND);
    assert_eq!(eligible(&gateway, "gil", 3)["eligible"], true);
    assert_eq!(claim(&gateway, "gil", &json!({"units": 3})).status, 201);
    assert_eq!(counters(&gateway)[1], 3 + 6 - (counters(&gateway)[3] - 5));
}

#[test]
fn metadata_goes_with_the_claim_and_its_messages() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 6, "perUser": 3, "holdSeconds": 60}));
    let metadata =
        json!({"order": "A-17", "n": -1, "m": [-65, -130, -200], "\"q\"": "\u{0}", "nested": {"deep": null}});
    let answer = claim(&gateway, "ann", &json!({"metadata": metadata}));
    assert_eq!(
        body(&answer)["claim"]["metadata"],
        metadata,
        "{}",
        crate::testing::text(&answer)
    );
    let id = body(&answer)["claim"]["id"].as_str().unwrap().to_owned();
    gateway.admin(
        "POST",
        &format!("/api/campaigns/c/claims/{id}/confirm"),
        &Value::Null,
    );
    let messages = gateway.messages();
    assert_eq!(messages.len(), 2);
    for message in messages {
        let data: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((&data["metadata"], &data["sequence"]), (&metadata, &json!(1)));
    }
    let claims = body(&gateway.call("GET", "/api/campaigns/c/claims/ann", &[("x-user-id", "ann")], ""));
    assert_eq!(claims["claims"][0]["metadata"], metadata);
    let longest = json!({"t": "x".repeat(1_024 - 8)});
    assert_eq!(claim(&gateway, "ann", &json!({"metadata": longest})).status, 201);
    for bad in [
        json!({"t": "x".repeat(1_024 - 7)}),
        json!([1]),
        json!("text"),
        json!(7),
    ] {
        assert_eq!(
            pointer(&claim(&gateway, "bob", &json!({"metadata": bad}))),
            "#/metadata"
        );
    }
    let plain = body(&claim(&gateway, "bob", &json!({"metadata": null})));
    assert!(plain["claim"].get("metadata").is_none());
}

#[test]
fn another_number_of_units_is_another_request() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 6, "perUser": 3}));
    let first = gateway.claim_with_key("ann", "\"k\"", r#"{"units":2}"#);
    let again = gateway.claim_with_key("ann", "\"k\"", r#"{"units":2}"#);
    assert_eq!(
        (body(&again), again.header("idempotency-replayed")),
        (body(&first), Some("true"))
    );
    assert_eq!(
        gateway.claim_with_key("ann", "\"k\"", r#"{"units":3}"#).status,
        422
    );
    assert_eq!(counters(&gateway)[0], 2);
}

#[test]
fn a_claim_of_an_earlier_version_is_one_unit() {
    let record =
        r#"{"id":"a","campaign":"c","user":"u","sequence":1,"code":null,"status":"confirmed","time":5}"#;
    let claim: Claim = serde_json::from_str(record).unwrap();
    let expected = (1, None, Status::Confirmed, Number::Known(5));
    assert_eq!(
        (claim.units, claim.metadata.clone(), claim.status, claim.time),
        expected
    );
    assert_eq!(
        serde_json::to_string(&claim).unwrap(),
        record,
        "and is written as it was"
    );
}
