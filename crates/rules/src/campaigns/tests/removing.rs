//! Campaigns that are removed.

use super::*;
use crate::campaigns::purge;
use crate::idempotency::TTL_MS;
use crate::testing::ready;
use tollgate_store::retention::{Keeping, Retention};

fn remove(gateway: &Gateway) -> Response {
    gateway.admin("DELETE", "/api/campaigns/c", &Value::Null)
}

/// Removes the messages of claims, as retention does.
fn empty_topic(gateway: &Gateway) {
    let keeping = Keeping {
        default: Some(Retention {
            age_ms: None,
            max_bytes: Some(0),
            ..Retention::default()
        }),
        ..Keeping::default()
    };
    while gateway.store.sweep(&keeping) > 0 {}
    assert_eq!(gateway.messages(), []);
}

fn entries(gateway: &Gateway) -> Vec<String> {
    let mut keys = Vec::new();
    for kind in [
        "campaign",
        "claim",
        "claims",
        "hold",
        "holder",
        "remaining",
        "held",
        "released",
        "sequence",
    ] {
        let items = block_on(gateway.store.scan(&format!("{kind}/"), None, 1_000)).unwrap();
        keys.extend(items.into_iter().map(|item| item.key));
    }
    keys.extend(
        block_on(gateway.store.scan("removed-campaign/", None, 9))
            .unwrap()
            .into_iter()
            .map(|item| item.key),
    );
    keys
}

#[test]
fn a_campaign_that_admitted_nobody_is_gone_at_once() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 2}));
    assert_eq!(remove(&gateway).status, 204);
    assert!(entries(&gateway).is_empty(), "{:?}", entries(&gateway));
    assert_eq!(remove(&gateway).status, 404);
    assert_eq!(gateway.claim("ann").status, 404);
    assert_eq!(
        gateway.create_campaign(json!({"id": "c", "quantity": 7})).status,
        201
    );
    assert_eq!(gateway.campaign()["remaining"], 7);
}

#[test]
fn a_campaign_with_claims_is_removed_once_nothing_tells_of_them() {
    let gateway =
        Gateway::with_campaign(json!({"id": "c", "quantity": 2_000, "perUser": 2, "holdSeconds": 60}));
    gateway.create_campaign(json!({"id": "c-2", "quantity": 1}));
    gateway.call("POST", "/api/campaigns/c-2/claims", &[("x-user-id", "ann")], "");
    let mut ids = Vec::new();
    for user in 0..1_500 {
        let claimed = gateway.claim_with_key(&format!("u{user}"), "\"k\"", "");
        ids.push(body(&claimed)["claim"]["id"].as_str().unwrap().to_owned());
    }
    let refused = remove(&gateway);
    assert_eq!(
        (refused.status, slug(&refused).as_str()),
        (409, "conflict"),
        "it is open"
    );
    gateway.admin("PATCH", "/api/campaigns/c", &json!({"state": "closed"}));
    assert_eq!(remove(&gateway).status, 409, "its topic has messages");
    empty_topic(&gateway);
    assert_eq!(remove(&gateway).status, 409, "claims are held");
    for id in &ids {
        gateway.admin(
            "POST",
            &format!("/api/campaigns/c/claims/{id}/confirm"),
            &Value::Null,
        );
    }
    empty_topic(&gateway);
    let before = gateway.campaign();
    assert_eq!(
        (&before["held"], &before["confirmed"]),
        (&json!(0), &json!(1_500))
    );
    assert_eq!(remove(&gateway).status, 204);
    assert_eq!(gateway.call("GET", "/api/campaigns/c", &[], "").status, 404);
    assert_eq!(gateway.claim("new").status, 404);
    assert_eq!(gateway.claim_with_key("u1", "\"k\"", "").status, 404);
    let list = body(&gateway.admin("GET", "/api/campaigns?limit=1", &Value::Null));
    assert_eq!(list["campaigns"], json!([]), "a page may be short");
    let cursor = list["nextCursor"].as_str().unwrap().to_owned();
    let list = body(&gateway.admin(
        "GET",
        &format!("/api/campaigns?limit=1&cursor={cursor}"),
        &Value::Null,
    ));
    assert_eq!(
        (&list["campaigns"][0]["id"], &list["nextCursor"]),
        (&json!("c-2"), &Value::Null)
    );
    let taken = gateway.create_campaign(json!({"id": "c", "quantity": 1}));
    assert_eq!(taken.status, 409);
    assert!(
        body(&taken)["detail"].as_str().unwrap().contains("was removed"),
        "{}",
        body(&taken)
    );

    let removed_at = gateway.store.now();
    let mut steps = 0;
    while ready(purge(&gateway.store, removed_at)).unwrap() {
        steps += 1;
        assert!(steps < 50, "the purge does not end");
    }
    assert!(steps > 1, "its work is bounded");
    let left = entries(&gateway);
    let own = |key: &String| key.split('/').nth(1) == Some("c");
    assert!(
        !left.iter().any(|key| own(key) && key.starts_with("claim")),
        "{left:?}"
    );
    assert_eq!(remove(&gateway).status, 204, "repeated");
    assert_eq!(
        gateway.create_campaign(json!({"id": "c", "quantity": 1})).status,
        409
    );
    gateway.store.set_now(removed_at + TTL_MS);
    assert!(!ready(purge(&gateway.store, gateway.store.now())).unwrap());
    assert!(!entries(&gateway).iter().any(own), "{:?}", entries(&gateway));
    assert!(
        entries(&gateway).iter().any(|key| key.starts_with("claim/c-2/")),
        "another's claims are kept"
    );
    assert_eq!(
        gateway.create_campaign(json!({"id": "c", "quantity": 1})).status,
        201
    );
    let anew = gateway.claim_with_key("u1", "\"k\"", "");
    assert_eq!((anew.status, anew.header("idempotency-replayed")), (201, None));
    assert_eq!(body(&anew)["claim"]["sequence"], 1);
}

#[test]
fn a_removal_whose_reply_is_lost_is_asked_for_again() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 2}));
    let delete = request(
        "DELETE",
        "/api/campaigns/c",
        &[("authorization", &format!("Bearer {ADMIN}"))],
        "",
    );
    let lossy = Lossy {
        store: &gateway.store,
        lose: Cell::new(1),
    };
    assert_eq!(block_on(gateway.answer(&lossy, &delete)).status, 204);
    assert_eq!(remove(&gateway).status, 404);
}
