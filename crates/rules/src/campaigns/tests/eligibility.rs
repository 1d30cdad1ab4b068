//! What a claim would be answered: the dry run says what the claim then does.

use super::*;

fn check(gateway: &Gateway, user: &str) -> Value {
    let path = "/api/campaigns/c/claims/eligibility";
    body(&gateway.call("GET", path, &[("x-user-id", user)], ""))
}

/// The dry run changes nothing, and the claim is answered as it says.
#[track_caller]
fn agrees(gateway: &Gateway, user: &str, expected: Option<&str>) {
    let before = format!("{:?}", gateway.store);
    let told = check(gateway, user);
    assert_eq!(
        format!("{:?}", gateway.store),
        before,
        "a dry run changes nothing"
    );
    let answer = gateway.claim(user);
    assert_eq!(told["eligible"], answer.status == 201, "{told}");
    match expected {
        None => assert_eq!(told["problem"], Value::Null),
        Some(kind) => {
            assert_eq!((slug(&answer).as_str(), &told["problem"]), (kind, &body(&answer)));
            let seconds = told["retryAfter"].as_u64().map(|seconds| seconds.to_string());
            assert_eq!(seconds.as_deref(), answer.header("retry-after"));
        }
    }
}

#[test]
fn a_dry_run_says_what_the_claim_then_does() {
    let gateway = Gateway::with_campaign(json!({
        "id": "c", "quantity": 2, "startsAt": time::format(START + 60 * SECOND), "endsAt": time::format(START + 120 * SECOND),
    }));
    agrees(&gateway, "ann", Some("not-started"));
    gateway.store.set_now(START + 60 * SECOND);
    agrees(&gateway, "ann", None);
    agrees(&gateway, "ann", Some("already-claimed"));
    agrees(&gateway, "bob", None);
    agrees(&gateway, "cleo", Some("sold-out"));
    agrees(&gateway, "ann", Some("already-claimed"));
    gateway.store.set_now(START + 130 * SECOND);
    agrees(&gateway, "dan", Some("ended"));
    agrees(&gateway, "ann", Some("already-claimed"));
    assert_eq!(
        slug(&gateway.call("GET", "/api/campaigns/c/claims/eligibility", &[], "")),
        "user-required"
    );
    let none = gateway.call(
        "GET",
        "/api/campaigns/x/claims/eligibility",
        &[("x-user-id", "a")],
        "",
    );
    assert_eq!(none.status, 404);
    let claims = gateway.call(
        "GET",
        "/api/campaigns/c/claims/%65ligibility",
        &[("x-user-id", "eligibility")],
        "",
    );
    assert_eq!(body(&claims), json!({"claims": []}));
}

#[test]
fn a_dry_run_knows_holds() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 1, "holdSeconds": 60}));
    agrees(&gateway, "ann", None);
    agrees(&gateway, "ann", Some("already-claimed"));
    agrees(&gateway, "bob", Some("sold-out"));
    gateway.store.set_now(START + 60 * SECOND);
    // Nobody has given the hold back yet.
    assert_eq!(check(&gateway, "ann")["eligible"], true);
    agrees(&gateway, "bob", None);
    agrees(&gateway, "ann", Some("sold-out"));
}
