//! Creating, listing and changing campaigns.

use super::*;
use tollgate_store::commit::{Commit, Mutation, literal};

#[test]
fn a_campaign_is_made_once_and_shown_to_anyone() {
    let gateway = Gateway::new();
    let response = gateway.create_campaign(json!({"id": "c", "quantity": 5}));
    assert_eq!(
        (response.status, response.header("location")),
        (201, Some("/api/campaigns/c"))
    );
    let expected = json!({
        "id": "c", "title": null, "quantity": 5, "perUser": 1, "startsAt": null, "endsAt": null, "holdSeconds": null, "codes": "none",
        "topic": "coupon", "createdAt": time::format(START), "admitted": 0, "held": 0, "confirmed": 0, "released": 0,
        "remaining": 5, "state": "open", "restricted": false, "room": null,
    });
    assert_eq!(body(&response), expected);
    assert_eq!(gateway.campaign(), expected);
    let again = gateway.create_campaign(json!({"id": "c", "quantity": 6}));
    assert_eq!((again.status, &gateway.campaign()), (409, &expected));
    assert_eq!(
        gateway
            .call("POST", "/api/campaigns", &[], r#"{"id":"d","quantity":1}"#)
            .status,
        401
    );
    assert_eq!(gateway.call("GET", "/api/campaigns", &[], "").status, 401);
    assert_eq!(gateway.call("PATCH", "/api/campaigns/c", &[], "{}").status, 401);
    assert_eq!(gateway.call("DELETE", "/api/campaigns/c", &[], "").status, 401);
    assert_eq!(
        gateway.call("PUT", "/api/campaigns/c", &[], "").header("allow"),
        Some("GET, HEAD, PATCH, DELETE")
    );
    for path in [
        "/api/campaigns/",
        "/api/campaigns/none",
        "/api/campaigns/C",
        "/api/campaigns/c/x",
        "/api/receipts/none",
    ] {
        assert_eq!(gateway.call("GET", path, &[], "").status, 404, "{path}");
    }
}

#[test]
fn a_lost_reply_to_a_new_campaign_is_asked_for_again() {
    let gateway = Gateway::new();
    let create = request(
        "POST",
        "/api/campaigns",
        &[("authorization", &format!("Bearer {ADMIN}"))],
        r#"{"id":"c","quantity":2}"#,
    );
    let lossy = Lossy {
        store: &gateway.store,
        lose: Cell::new(1),
    };
    let response = block_on(gateway.answer(&lossy, &create));
    assert_eq!((response.status, &body(&response)["remaining"]), (201, &json!(2)));
}

#[test]
fn bad_campaigns_name_their_field() {
    let gateway = Gateway::new();
    let cases = [
        (json!({"quantity": 1}), "#/id"),
        (json!({"id": "c"}), "#/quantity"),
        (json!({"id": "", "quantity": 1}), "#/id"),
        (json!({"id": "-c", "quantity": 1}), "#/id"),
        (json!({"id": "a/b", "quantity": 1}), "#/id"),
        (json!({"id": "x".repeat(65), "quantity": 1}), "#/id"),
        (json!({"id": "c", "quantity": 1, "title": ""}), "#/title"),
        (
            json!({"id": "c", "quantity": 1, "title": "ü".repeat(101)}),
            "#/title",
        ),
        (json!({"id": "c", "quantity": 1, "title": "a\nb"}), "#/title"),
        (json!({"id": "c", "quantity": 1, "title": 5}), "#/title"),
        (json!({"id": "c", "quantity": 0}), "#/quantity"),
        (json!({"id": "c", "quantity": -1}), "#/quantity"),
        (json!({"id": "c", "quantity": 1.5}), "#/quantity"),
        (json!({"id": "c", "quantity": "1"}), "#/quantity"),
        (json!({"id": "c", "quantity": 1_000_000_001_u64}), "#/quantity"),
        (json!({"id": "c", "quantity": 1, "perUser": 0}), "#/perUser"),
        (json!({"id": "c", "quantity": 1, "perUser": 1_001}), "#/perUser"),
        (
            json!({"id": "c", "quantity": 1, "startsAt": "soon"}),
            "#/startsAt",
        ),
        (
            json!({"id": "c", "quantity": 1, "startsAt": "2027-01-02T00:00:00Z", "endsAt": "2027-01-02T00:00:00Z"}),
            "#/endsAt",
        ),
        (
            json!({"id": "c", "quantity": 1, "holdSeconds": 0}),
            "#/holdSeconds",
        ),
        (
            json!({"id": "c", "quantity": 1, "holdSeconds": 2_592_001}),
            "#/holdSeconds",
        ),
        (
            json!({"id": "c", "quantity": 1, "holdSeconds": "60"}),
            "#/holdSeconds",
        ),
        (json!({"id": "c", "quantity": 1, "codes": "some"}), "#/codes"),
        (json!({"id": "c", "quantity": 1, "topic": "A b"}), "#/topic"),
        (json!({"id": "c", "quantity": 1, "nope": 1}), "#/nope"),
    ];
    for (campaign, expected) in cases {
        assert_eq!(
            pointer(&gateway.create_campaign(campaign.clone())),
            expected,
            "{campaign}"
        );
    }
    assert_eq!(
        body(&gateway.admin("GET", "/api/campaigns", &Value::Null)),
        json!({"campaigns": [], "nextCursor": null})
    );
}

#[test]
fn a_campaign_may_have_a_title_that_changes() {
    let title = "봄 ".repeat(50);
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 2, "title": title}));
    let patch = |patch: Value| gateway.admin("PATCH", "/api/campaigns/c", &patch);
    assert_eq!(gateway.campaign()["title"], json!(title));
    assert_eq!(
        body(&patch(json!({"title": "Spring", "quantity": 3})))["title"],
        "Spring"
    );
    assert_eq!(body(&patch(json!({"quantity": 4})))["title"], "Spring");
    for bad in [json!(""), json!("x".repeat(101)), json!("a\u{0}b"), json!(["x"])] {
        assert_eq!(pointer(&patch(json!({ "title": bad }))), "#/title");
    }
    assert_eq!(gateway.campaign()["title"], "Spring");
    assert_eq!(body(&patch(json!({"title": null})))["title"], Value::Null);
    let listed = body(&gateway.admin("GET", "/api/campaigns", &Value::Null));
    assert_eq!(listed["campaigns"][0]["title"], Value::Null);
}

#[test]
fn a_change_moves_the_units_left_and_never_below_what_is_admitted() {
    let gateway =
        Gateway::with_campaign(json!({"id": "c", "quantity": 2, "endsAt": time::format(START + SECOND)}));
    gateway.claim("ann");
    gateway.claim("bob");
    let patch = |patch: Value| gateway.admin("PATCH", "/api/campaigns/c", &patch);
    assert_eq!(gateway.claim("cleo").status, 410);
    let more = body(&patch(json!({"quantity": 3})));
    assert_eq!(
        (&more["remaining"], &more["admitted"], &more["state"]),
        (&json!(1), &json!(2), &json!("open"))
    );
    assert_eq!(gateway.claim("cleo").status, 201);
    let below = patch(json!({"quantity": 2}));
    assert_eq!(
        (below.status, &body(&below)["errors"][0]["pointer"]),
        (409, &json!("#/quantity"))
    );
    assert_eq!(gateway.campaign()["quantity"], 3);
    assert_eq!(body(&patch(json!({"endsAt": null})))["endsAt"], Value::Null);
    for (bad, at) in [
        (json!({"quantity": null}), "#/quantity"),
        (json!({"quantity": 0}), "#/quantity"),
        (json!({"endsAt": "x"}), "#/endsAt"),
        (json!({"state": "soldOut"}), "#/state"),
        (json!({"startsAt": 5}), "#/startsAt"),
        (
            json!({"startsAt": "2027-01-03T00:00:00Z", "endsAt": "2027-01-02T00:00:00Z"}),
            "#/endsAt",
        ),
        (json!({"state": null}), "#/state"),
        (json!({"perUser": 2}), "#/perUser"),
    ] {
        assert_eq!(pointer(&patch(bad.clone())), at, "{bad}");
    }
    assert_eq!(
        gateway.admin("PATCH", "/api/campaigns/none", &json!({})).status,
        404
    );
    assert_eq!(
        body(&patch(json!({"quantity": 4, "state": "closed"})))["state"],
        "closed"
    );
    assert_eq!(slug(&gateway.claim("dan")), "ended");
    assert_eq!(slug(&gateway.claim("ann")), "already-claimed");
    assert_eq!(body(&patch(json!({})))["state"], "closed");
}

#[test]
fn campaigns_are_listed_page_by_page() {
    let gateway = Gateway::new();
    for id in ["b", "a", "a-b", "c"] {
        gateway.create_campaign(json!({"id": id, "quantity": 1}));
    }
    gateway.claim("ann");
    let mut seen = Vec::new();
    let mut query = "limit=3".to_owned();
    for _ in 0..3 {
        let mut listed = request(
            "GET",
            "/api/campaigns",
            &[("authorization", &format!("Bearer {ADMIN}"))],
            "",
        );
        listed.query = Some(query.clone());
        let page = body(&block_on(gateway.answer(&gateway.store, &listed)));
        let campaigns = page["campaigns"].as_array().unwrap();
        seen.extend(
            campaigns
                .iter()
                .map(|c| (c["id"].as_str().unwrap().to_owned(), c["remaining"].clone())),
        );
        match page["nextCursor"].as_str() {
            Some(cursor) => query = format!("limit=3&cursor={cursor}"),
            None => break,
        }
    }
    let expected = [("a", 1), ("a-b", 1), ("b", 1), ("c", 0)].map(|(id, left)| (id.to_owned(), json!(left)));
    assert_eq!(seen, expected);
}

#[test]
fn a_campaign_starts_when_it_is_said_to_and_is_opened_again() {
    let gateway =
        Gateway::with_campaign(json!({"id": "c", "quantity": 3, "endsAt": time::format(START + 9 * SECOND)}));
    let patch = |patch: Value| gateway.admin("PATCH", "/api/campaigns/c", &patch);
    let later = patch(json!({"startsAt": time::format(START + 5 * SECOND)}));
    assert_eq!(body(&later)["state"], "scheduled");
    assert_eq!(slug(&gateway.claim("ann")), "not-started");
    let before = gateway.campaign();
    let late = patch(json!({"startsAt": time::format(START + 9 * SECOND)}));
    assert_eq!(pointer(&late), "#/startsAt");
    assert_eq!(gateway.campaign(), before);
    assert_eq!(body(&patch(json!({"startsAt": null})))["state"], "open");
    assert_eq!(gateway.claim("ann").status, 201);
    assert_eq!(gateway.claim("bob").status, 201);
    assert_eq!(body(&patch(json!({"state": "closed"})))["state"], "closed");
    assert_eq!(slug(&gateway.claim("cleo")), "ended");
    assert_eq!(body(&patch(json!({"state": "open"})))["state"], "open");
    assert_eq!(body(&gateway.claim("cleo"))["claim"]["sequence"], 3);
    gateway.store.set_now(START + 9 * SECOND);
    patch(json!({"state": "closed"}));
    assert_eq!(
        body(&patch(json!({"state": "open"})))["state"],
        "ended",
        "its times count"
    );
}

#[test]
fn a_record_of_an_earlier_version_is_read() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 3}));
    let record = br#"{"id":"c","quantity":3,"perUser":1,"startsAt":null,"endsAt":null,"codes":"none","topic":"coupon","createdAt":7,"closed":false}"#;
    let commit = Commit {
        partition: "campaign/c".into(),
        mutations: vec![Mutation::Set {
            key: "campaign/c".into(),
            value: literal(&record[..]),
            expires: None,
        }],
        ..Commit::default()
    };
    block_on(gateway.store.commit(commit)).unwrap();
    assert_eq!(gateway.campaign()["createdAt"], time::format(7));
    assert_eq!(gateway.claim("ann").status, 201);
}
