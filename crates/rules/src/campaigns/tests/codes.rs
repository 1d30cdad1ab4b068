//! Codes of the operator's own: each is given to one claim, once.

use super::*;
use std::collections::BTreeSet;

fn import(gateway: &Gateway, codes: &[String]) -> Response {
    gateway.admin("POST", "/api/campaigns/c/codes", &json!({ "codes": codes }))
}

fn codes(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("CODE-{n:05}")).collect()
}

fn with_codes(more: Value, imported: &[String]) -> Gateway {
    let mut campaign = json!({ "id": "c", "codes": "import" });
    for (name, value) in more.as_object().unwrap() {
        campaign[name] = value.clone();
    }
    let gateway = Gateway::with_campaign(campaign);
    if !imported.is_empty() {
        assert_eq!(import(&gateway, imported).status, 200);
    }
    gateway
}

/// The code of a claim that was just confirmed.
#[track_caller]
fn code(response: &Response) -> String {
    assert!(response.status < 300, "{}", body(response));
    body(response)["claim"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn the_stock_is_what_was_imported() {
    let gateway = with_codes(json!({}), &[]);
    assert_eq!(
        (gateway.claim("ann").status, &gateway.campaign()["state"]),
        (410, &json!("soldOut"))
    );
    let answer = body(&import(&gateway, &codes(0..70)));
    assert_eq!(
        answer,
        json!({ "imported": 70, "duplicates": [], "quantity": 70 })
    );
    let again = body(&import(
        &gateway,
        &[
            "new".into(),
            "CODE-00003".into(),
            "new".into(),
            "CODE-00069".into(),
        ],
    ));
    assert_eq!(
        again,
        json!({ "imported": 1, "duplicates": ["CODE-00003", "new", "CODE-00069"], "quantity": 71 })
    );
    let campaign = gateway.campaign();
    let told = ["quantity", "remaining", "admitted", "burnt"].map(|name| campaign[name].as_u64());
    assert_eq!(told, [71, 71, 0, 0].map(Some));
    assert_eq!(
        (&campaign["codes"], &campaign["codeOrder"]),
        (&json!("import"), &json!("random"))
    );
}

#[test]
fn each_code_is_given_once_and_told_in_answer_and_message() {
    for order in ["import", "random"] {
        let all = codes(0..150);
        let gateway = with_codes(json!({ "codeOrder": order }), &all);
        let given: Vec<String> = (0..150)
            .map(|n| code(&gateway.claim(&format!("user-{n}"))))
            .collect();
        assert_eq!(
            given.iter().cloned().collect::<BTreeSet<_>>(),
            all.iter().cloned().collect()
        );
        assert!(order == "import" || given != all, "by chance");
        let messages = gateway.messages();
        let told = messages
            .iter()
            .map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap());
        let told: Vec<String> = told
            .map(|data| data["code"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, given);
        let first = gateway.claim_with_key("user-0", "\"k\"", "");
        assert_eq!(first.status, 409, "another request of that user");
        let late = gateway.claim("late");
        assert_eq!((late.status, slug(&late)), (410, "sold-out".into()));
        // What was given out is known for good.
        let again = body(&import(&gateway, &all[..3]));
        assert_eq!(
            (&again["imported"], again["duplicates"].as_array().unwrap().len()),
            (&json!(0), 3)
        );
        assert_eq!(
            code(&{
                import(&gateway, &["one-more".into()]);
                gateway.claim("late")
            }),
            "one-more"
        );
    }
}

#[test]
fn a_repeated_request_is_answered_with_its_code_also_when_none_is_left() {
    let gateway = with_codes(json!({}), &codes(0..1));
    let first = gateway.claim_with_key("ann", "\"k\"", "");
    let again = gateway.claim_with_key("ann", "\"k\"", "");
    assert_eq!(
        (code(&again), again.header("idempotency-replayed")),
        (code(&first), Some("true"))
    );
    assert_eq!(gateway.claim_with_key("bob", "\"k\"", "").status, 410);
}

#[test]
fn a_short_list_is_given_in_the_order_of_import() {
    let gateway = with_codes(json!({ "codeOrder": "import" }), &codes(0..20));
    assert_eq!(import(&gateway, &codes(20..30)).status, 200);
    let given: Vec<String> = (0..30)
        .map(|n| code(&gateway.claim(&format!("user-{n}"))))
        .collect();
    assert_eq!(given, codes(0..30));
}

#[test]
fn a_code_of_a_hold_is_given_when_it_is_confirmed_and_one_that_was_shown_to_nobody_else() {
    let gateway = with_codes(json!({ "holdSeconds": 10, "codeOrder": "import" }), &codes(0..2));
    let id = |response: &Response| body(response)["claim"]["id"].as_str().unwrap().to_owned();
    let settle = |claim: &str, verb: &str| {
        gateway.admin(
            "POST",
            &format!("/api/campaigns/c/claims/{claim}/{verb}"),
            &Value::Null,
        )
    };
    let (ann, bob) = (gateway.claim("ann"), gateway.claim("bob"));
    assert_eq!(body(&ann)["claim"]["code"], Value::Null);
    // A hold that comes back has shown no code.
    assert_eq!(settle(&id(&bob), "release").status, 200);
    assert_eq!(code(&settle(&id(&ann), "confirm")), "CODE-00000");
    assert_eq!(code(&settle(&id(&ann), "confirm")), "CODE-00000", "repeated");
    assert_eq!(settle(&id(&ann), "revoke").status, 200);
    let campaign = gateway.campaign();
    let told = ["remaining", "admitted", "held", "confirmed", "released", "burnt"]
        .map(|name| campaign[name].as_u64());
    assert_eq!(told, [1, 0, 0, 0, 1, 1].map(Some));
    let cleo = gateway.claim("cleo");
    assert_eq!(code(&settle(&id(&cleo), "confirm")), "CODE-00001");
    assert_eq!(gateway.claim("dan").status, 410);
    let patched = gateway.admin("PATCH", "/api/campaigns/c", &json!({ "state": "closed" }));
    assert_eq!(
        (&body(&patched)["burnt"], &body(&patched)["confirmed"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn what_breaks_a_rule_is_named() {
    let gateway = with_codes(json!({ "perUser": 3 }), &codes(0..3));
    let at = |response: &Response| pointer(response);
    assert_eq!(at(&import(&gateway, &[])), "#/codes");
    assert_eq!(at(&import(&gateway, &codes(0..10_001))), "#/codes");
    for bad in ["", "a b", "a\n", "é", &"x".repeat(129)] {
        assert_eq!(
            at(&import(&gateway, &["good".into(), bad.to_owned()])),
            "#/codes/1",
            "{bad:?}"
        );
    }
    let of = |campaign: Value| at(&gateway.create_campaign(campaign));
    assert_eq!(of(json!({ "id": "d" })), "#/quantity");
    assert_eq!(
        of(json!({ "id": "d", "codes": "import", "quantity": 5 })),
        "#/quantity"
    );
    assert_eq!(
        of(json!({ "id": "d", "quantity": 5, "codeOrder": "random" })),
        "#/codeOrder"
    );
    assert_eq!(
        of(json!({ "id": "d", "codes": "import", "codeOrder": "sorted" })),
        "#/codeOrder"
    );
    assert_eq!(
        at(&gateway.admin("PATCH", "/api/campaigns/c", &json!({ "quantity": 9 }))),
        "#/quantity"
    );
    let two = gateway.call(
        "POST",
        "/api/campaigns/c/claims",
        &[("x-user-id", "ann")],
        &json!({ "units": 2 }),
    );
    assert_eq!(at(&two), "#/units");
    assert_eq!(gateway.campaign()["quantity"], 3, "nothing was imported");
    gateway.create_campaign(json!({ "id": "e", "quantity": 1 }));
    let other = gateway.admin("POST", "/api/campaigns/e/codes", &json!({ "codes": ["x"] }));
    assert_eq!(other.status, 409);
    assert_eq!(
        gateway
            .admin("POST", "/api/campaigns/none/codes", &json!({ "codes": ["x"] }))
            .status,
        404
    );
}

#[test]
fn an_import_whose_reply_is_lost_counts_once() {
    for lost in 0..5 {
        let gateway = with_codes(json!({}), &[]);
        for _ in 0..lost {
            gateway.store.fail_next(StoreError::Unknown("lost".into()));
        }
        let answer = import(&gateway, &codes(0..40));
        let repeated = body(&import(&gateway, &codes(0..40)));
        assert_eq!(repeated["quantity"], 40, "{lost} {}", body(&answer));
        assert_eq!(gateway.campaign()["remaining"], 40);
    }
}

#[test]
fn ten_thousand_codes_are_one_call() {
    let gateway = with_codes(json!({}), &[]);
    let answer = body(&import(&gateway, &codes(0..10_000)));
    assert_eq!(
        (&answer["imported"], &answer["quantity"]),
        (&json!(10_000), &json!(10_000))
    );
    assert!(code(&gateway.claim("ann")).starts_with("CODE-"));
}

#[test]
fn a_record_of_before_there_were_imports_is_read() {
    let old = r#"{"id":"c","quantity":5,"perUser":1,"startsAt":null,"endsAt":null,"codes":"generate","topic":"coupon","createdAt":1,"closed":false}"#;
    let campaign: crate::campaigns::Campaign = serde_json::from_str(old).unwrap();
    assert_eq!(campaign.code_order, None);
}
