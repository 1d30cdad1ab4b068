//! The line: stock that comes back goes to the next in it, once, and to nobody else.

use super::*;
use crate::campaigns::maintain;
use crate::testing::ready;

fn with_line(quantity: u64) -> Gateway {
    let gateway = Gateway::with_campaign(
        json!({ "id": "c", "quantity": quantity, "holdSeconds": 10, "waitlist": true }),
    );
    for n in 0..quantity {
        assert_eq!(gateway.claim(&format!("early-{n}")).status, 201);
    }
    gateway
}

fn wait(gateway: &Gateway, method: &str, user: &str) -> Response {
    gateway.call(method, "/api/campaigns/c/waitlist", &[("x-user-id", user)], "")
}

/// How a user's claim is; `None` if there is none.
fn status(gateway: &Gateway, user: &str) -> Option<String> {
    let path = format!("/api/campaigns/c/claims/{user}");
    let claims = body(&gateway.call("GET", &path, &[("x-user-id", user)], ""));
    Some(
        claims["claims"].as_array()?.last()?["status"]
            .as_str()?
            .to_owned(),
    )
}

fn claim_id(gateway: &Gateway, user: &str) -> String {
    let path = format!("/api/campaigns/c/claims/{user}");
    let claims = body(&gateway.call("GET", &path, &[("x-user-id", user)], ""));
    claims["claims"][0]["id"].as_str().unwrap().to_owned()
}

fn settle(gateway: &Gateway, user: &str, verb: &str) -> u16 {
    let path = format!("/api/campaigns/c/claims/{}/{verb}", claim_id(gateway, user));
    gateway.admin("POST", &path, &Value::Null).status
}

#[test]
fn a_unit_that_comes_back_is_the_next_ones_and_no_strangers() {
    let gateway = with_line(2);
    for (n, user) in ["ann", "bob", "cleo"].into_iter().enumerate() {
        let place = wait(&gateway, "POST", user);
        assert_eq!(
            (place.status, body(&place)["position"].as_u64()),
            (201, Some(n as u64 + 1))
        );
    }
    assert_eq!(wait(&gateway, "POST", "bob").status, 200, "once");
    assert_eq!(gateway.campaign()["waiting"], 3);
    assert_eq!(settle(&gateway, "early-0", "release"), 200);
    assert_eq!(status(&gateway, "ann").as_deref(), Some("held"));
    assert_eq!(status(&gateway, "bob"), None);
    let stranger = gateway.claim("stranger");
    assert_eq!(
        (stranger.status, body(&stranger)["waiting"].as_u64()),
        (410, Some(2))
    );
    assert_eq!(body(&wait(&gateway, "GET", "bob"))["position"], 1);
    assert_eq!(body(&wait(&gateway, "GET", "ann"))["since"], Value::Null);
    let told = gateway.messages();
    let told = told
        .iter()
        .filter(|message| message.kind == "coupon.claimed" && message.key == "ann");
    let told: Vec<Value> = told
        .map(|message| serde_json::from_slice(&message.payload).unwrap())
        .collect();
    assert_eq!(
        (told.len(), &told[0]["status"], &told[0]["sequence"]),
        (1, &json!("held"), &json!(3))
    );
    // Whoever was served is in line no more, also not after giving the unit back.
    assert_eq!(settle(&gateway, "ann", "release"), 200);
    assert_eq!(
        (
            status(&gateway, "ann").as_deref(),
            status(&gateway, "bob").as_deref()
        ),
        (Some("released"), Some("held"))
    );
    // And is confirmed as any other.
    assert_eq!(settle(&gateway, "bob", "confirm"), 200);
}

#[test]
fn holds_that_end_and_more_stock_serve_the_line_with_nobodys_help() {
    let gateway = with_line(1);
    for user in ["ann", "bob", "cleo"] {
        wait(&gateway, "POST", user);
    }
    gateway.store.set_now(gateway.store.now() + 10 * SECOND);
    ready(maintain(&gateway.store, gateway.store.now())).unwrap();
    assert_eq!(
        (status(&gateway, "ann").as_deref(), status(&gateway, "bob")),
        (Some("held"), None)
    );
    let patched = gateway.admin("PATCH", "/api/campaigns/c", &json!({ "quantity": 2 }));
    assert_eq!(
        (&body(&patched)["waiting"], &body(&patched)["remaining"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(status(&gateway, "bob").as_deref(), Some("held"));
    // A stranger who asks at the end of a hold gives it to the line, not to himself.
    gateway.store.set_now(gateway.store.now() + 10 * SECOND);
    // Two have ended: the first is the line's.
    let stranger = gateway.claim("stranger");
    assert_eq!(
        (stranger.status, &body(&stranger)["claim"]["sequence"]),
        (201, &json!(5))
    );
    assert_eq!(status(&gateway, "cleo").as_deref(), Some("held"));
}

#[test]
fn a_place_can_be_left_and_is_for_those_who_may_claim() {
    let gateway = with_line(1);
    assert_eq!(slug(&wait(&gateway, "POST", "early-0")), "already-claimed");
    wait(&gateway, "POST", "ann");
    wait(&gateway, "POST", "bob");
    assert_eq!(wait(&gateway, "DELETE", "ann").status, 204);
    assert_eq!(wait(&gateway, "DELETE", "ann").status, 204);
    assert_eq!(gateway.campaign()["waiting"], 1);
    assert_eq!(settle(&gateway, "early-0", "revoke"), 200);
    assert_eq!(
        (status(&gateway, "ann"), status(&gateway, "bob").as_deref()),
        (None, Some("held"))
    );
    gateway.admin("PUT", "/api/campaigns/c/eligible", &json!({ "add": ["dan"] }));
    assert_eq!(slug(&wait(&gateway, "POST", "cleo")), "not-eligible");
    assert_eq!(wait(&gateway, "POST", "dan").status, 201);
    gateway.admin("PATCH", "/api/campaigns/c", &json!({ "state": "closed" }));
    assert_eq!(settle(&gateway, "bob", "release"), 200);
    assert_eq!(status(&gateway, "dan"), None, "a closed campaign admits nobody");
    gateway.admin("PATCH", "/api/campaigns/c", &json!({ "state": "open" }));
    assert_eq!(status(&gateway, "dan").as_deref(), Some("held"));
}

#[test]
fn where_units_are_left_or_nobody_can_wait_it_is_said() {
    let gateway =
        Gateway::with_campaign(json!({ "id": "c", "quantity": 1, "holdSeconds": 10, "waitlist": true }));
    let refused = wait(&gateway, "POST", "ann");
    assert_eq!(
        (refused.status, body(&refused)["remaining"].as_u64()),
        (409, Some(1))
    );
    assert_eq!(
        slug(&gateway.call("POST", "/api/campaigns/c/waitlist", &[], "")),
        "user-required"
    );
    assert_eq!(wait(&gateway, "GET", "ann").status, 200);
    assert_eq!(
        pointer(&gateway.create_campaign(json!({ "id": "d", "quantity": 1, "waitlist": true }))),
        "#/waitlist"
    );
    gateway.create_campaign(json!({ "id": "d", "quantity": 1 }));
    let none = gateway.call("POST", "/api/campaigns/d/waitlist", &[("x-user-id", "ann")], "");
    assert_eq!(none.status, 409);
}

#[test]
fn a_place_is_served_once_however_many_serve_it() {
    let gateway = with_line(3);
    for user in ["ann", "bob"] {
        wait(&gateway, "POST", user);
    }
    gateway.store.set_now(gateway.store.now() + 10 * SECOND);
    for _ in 0..5 {
        ready(maintain(&gateway.store, gateway.store.now())).unwrap();
    }
    let campaign = gateway.campaign();
    assert_eq!(
        ["held", "waiting", "remaining"].map(|name| campaign[name].as_u64()),
        [2, 0, 1].map(Some)
    );
    let told = gateway.messages();
    assert_eq!(
        told.iter()
            .filter(|message| message.kind == "coupon.claimed")
            .count(),
        5
    );
}
