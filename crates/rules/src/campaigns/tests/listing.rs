//! A campaign's claims, page by page and in other forms.

use std::collections::BTreeSet;

use super::*;
use base64::Engine as _;

fn list(gateway: &Gateway, query: &str, accept: &str) -> Response {
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("accept", accept)];
    gateway.call("GET", &format!("/api/campaigns/c/claims?{query}"), &headers, "")
}

/// All claims, by following the cursors; asserts that no page is longer than its limit.
fn all(gateway: &Gateway, filter: &str, limit: usize) -> Vec<Value> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..1_000 {
        let page = body(&list(gateway, &format!("limit={limit}{filter}{cursor}"), "*/*"));
        let claims = page["claims"].as_array().unwrap();
        assert!(claims.len() <= limit);
        seen.extend(claims.iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
    panic!("the pages do not end");
}

#[test]
fn claims_are_listed_page_by_page_and_once_each() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 50, "perUser": 3}));
    // A campaign whose id begins with this one's, and users whose names could be places.
    gateway.create_campaign(json!({"id": "c-2", "quantity": 5}));
    gateway.call("POST", "/api/campaigns/c-2/claims", &[("x-user-id", "ann")], "");
    let users = ["ann", "ann", "a/n", "1", "%", "zoe", "ann", "ann/1", "=1+1"];
    for user in users {
        assert_eq!(gateway.claim(user).status, 201);
    }
    for limit in [1, 2, 3, 8, 9, 10, 500] {
        let claims = all(&gateway, "", limit);
        let sequences: Vec<_> = claims
            .iter()
            .map(|claim| claim["sequence"].as_u64().unwrap())
            .collect();
        assert_eq!(sequences.len(), users.len(), "{limit}");
        assert_eq!(
            sequences.iter().copied().collect::<BTreeSet<_>>(),
            (1..=9).collect()
        );
        for claim in &claims {
            let sequence = claim["sequence"].as_u64().unwrap() as usize;
            assert_eq!(
                (&claim["user"], &claim["campaign"]),
                (&json!(users[sequence - 1]), &json!("c"))
            );
            assert_eq!(claim["claimedAt"], time::format(START));
        }
    }
}

#[test]
fn claims_are_listed_by_what_became_of_them() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 50, "holdSeconds": 60}));
    let mut ids = Vec::new();
    for user in 0..12 {
        ids.push(
            body(&gateway.claim(&format!("u{user}")))["claim"]["id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    for (index, verb) in [(0, "confirm"), (3, "release"), (7, "revoke"), (8, "confirm")] {
        let path = format!("/api/campaigns/c/claims/{}/{verb}", ids[index]);
        assert_eq!(gateway.admin("POST", &path, &Value::Null).status, 200);
    }
    for (status, expected) in [
        ("held", 8),
        ("confirmed", 2),
        ("released", 1),
        ("revoked", 1),
        ("expired", 0),
    ] {
        for limit in [1, 5, 100] {
            let claims = all(&gateway, &format!("&status={status}"), limit);
            assert_eq!(claims.len(), expected, "{status} {limit}");
            assert!(claims.iter().all(|claim| claim["status"] == status));
        }
    }
}

#[test]
fn a_page_looks_at_a_bounded_number_of_claims() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 3_000}));
    for user in 0..2_500 {
        gateway.claim(&format!("u{user}"));
    }
    let page = body(&list(&gateway, "status=held&limit=1", "*/*"));
    assert_eq!(page["claims"], json!([]));
    assert!(page["nextCursor"].is_string(), "there may be more");
    assert!(all(&gateway, "&status=held", 1).is_empty());
    assert_eq!(all(&gateway, "&status=confirmed", 500).len(), 2_500);
}

#[test]
fn tables_and_lines_can_be_put_together() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 9, "codes": "generate"}));
    for user in ["=cmd", "a,\"b", "zoe"] {
        gateway.claim(user);
    }
    for (accept, media) in [
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/x-ndjson", "application/x-ndjson"),
    ] {
        let (mut whole, mut path) = (String::new(), "/api/campaigns/c/claims?limit=2".to_owned());
        let bearer = format!("Bearer {ADMIN}");
        for page in 0..2 {
            let headers = [("authorization", bearer.as_str()), ("accept", accept)];
            let answer = gateway.call("GET", &path, &headers, "");
            assert_eq!((answer.status, answer.header("vary")), (200, Some("accept")));
            assert!(answer.header("content-type").unwrap().starts_with(media));
            whole += &crate::testing::text(&answer);
            match (page, answer.header("link")) {
                (0, Some(link)) => path = link[1..].split('>').next().unwrap().to_owned(),
                (1, None) => {}
                other => panic!("{other:?}"),
            }
        }
        let lines: Vec<_> = whole.lines().collect();
        if accept == "text/csv" {
            assert_eq!(
                lines[0],
                "id,campaign,user,sequence,units,code,status,claimedAt,expiresAt,metadata"
            );
            assert_eq!(lines.len(), 4, "{whole}");
            assert!(lines[1].contains(",c,'=cmd,1,"), "{whole}");
            assert!(lines[2].contains(",c,\"a,\"\"b\",2,"), "{whole}");
            assert!(whole.ends_with("\r\n"));
        } else {
            let users = lines
                .iter()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["user"].clone());
            assert_eq!(users.collect::<Vec<_>>(), ["=cmd", "a,\"b", "zoe"]);
        }
    }
}

#[test]
fn bad_lists_name_their_field() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 1}));
    let of = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    for (query, at) in [
        ("status=lost".to_owned(), "query:status"),
        ("status=".to_owned(), "query:status"),
        ("limit=0".to_owned(), "query:limit"),
        ("limit=501".to_owned(), "query:limit"),
        ("cursor=%2F".to_owned(), "query:cursor"),
        (format!("cursor={}", of("a\0b")), "query:cursor"),
        (format!("cursor={}", of(&"x".repeat(600))), "query:cursor"),
        ("user=ann".to_owned(), "query:user"),
    ] {
        assert_eq!(pointer(&list(&gateway, &query, "*/*")), at, "{query}");
    }
    assert_eq!(
        gateway
            .admin("GET", "/api/campaigns/none/claims", &Value::Null)
            .status,
        404
    );
    assert_eq!(
        gateway
            .call("GET", "/api/campaigns/c/claims", &[("x-user-id", "ann")], "")
            .status,
        401
    );
}
