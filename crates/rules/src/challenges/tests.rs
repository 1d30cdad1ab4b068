//! Challenges on the store in memory.

use serde_json::{Value, json};

use super::altcha::{self, Altcha};
use crate::settings::Settings;
use crate::testing::{ADMIN, Gateway, SECOND, body, pointer, slug, text};

const FILE: &str = "[[challenges]]\nname = \"claims\"\npath = \"/api/campaigns/:id/claims\"\nmethods = [\"POST\"]\nkind = \"altcha\"\nmax_number = 1000\nexpires = \"1m\"\n\
    [[challenges]]\nname = \"page\"\npath = \"/p%61ge\"\nkind = \"altcha\"\nmax_number = 1000\n";
const CLAIMS: &str = "/api/campaigns/c/claims";

fn gateway() -> Gateway {
    let gateway = Gateway::with_settings(Settings::parse(FILE, "tollgate.toml").unwrap());
    let campaign = json!({ "id": "c", "quantity": 9 });
    assert_eq!(gateway.admin("POST", "/api/campaigns", &campaign).status, 201);
    gateway
}

fn solution(gateway: &Gateway, name: &str) -> String {
    let made = gateway.through("GET", &format!("/api/challenges/{name}"), &[], &Value::Null);
    assert_eq!(
        (made.status, made.header("cache-control")),
        (200, Some("no-store"))
    );
    let altcha: Altcha = serde_json::from_slice(&made.body).unwrap();
    altcha::solve(&altcha)
}

#[test]
fn a_solution_counts_once_and_for_its_challenge() {
    let gateway = gateway();
    let claim = |user: &str, solution: &str| {
        let headers = [("x-user-id", user), ("x-challenge", solution)];
        gateway.through("POST", CLAIMS, &headers, &Value::Null)
    };
    let refused = gateway.through("POST", CLAIMS, &[("x-user-id", "ann")], &Value::Null);
    assert_eq!(
        (refused.status, slug(&refused)),
        (403, "challenge-required".into())
    );
    let told = body(&refused);
    assert_eq!(
        (&told["challenge"], &told["url"]),
        (&json!("claims"), &json!("/api/challenges/claims"))
    );
    // What the refusal says can be solved as it is.
    let altcha: Altcha = serde_json::from_value(told["altcha"].clone()).unwrap();
    let good = altcha::solve(&altcha);
    assert_eq!(claim("ann", &good).status, 201);
    for user in ["ann", "bob"] {
        let again = claim(user, &good);
        assert_eq!((again.status, slug(&again)), (403, "challenge-required".into()));
        assert!(text(&again).contains("used before"), "{}", text(&again));
    }
    assert_eq!(
        claim("bob", &solution(&gateway, "page")).status,
        403,
        "another challenge's"
    );
    assert_eq!(claim("bob", &solution(&gateway, "claims")).status, 201);
    // Other methods are not asked.
    let read = gateway.through(
        "GET",
        "/api/campaigns/c/claims/ann",
        &[("x-user-id", "ann")],
        &Value::Null,
    );
    assert_eq!(read.status, 200);
    let good = solution(&gateway, "claims");
    let twice = [
        ("x-user-id", "cleo"),
        ("x-challenge", &*good),
        ("x-challenge", &*good),
    ];
    assert_eq!(
        pointer(&gateway.through("POST", CLAIMS, &twice, &Value::Null)),
        "header:x-challenge"
    );
}

#[test]
fn a_solution_ends_with_its_challenge() {
    let gateway = gateway();
    let late = solution(&gateway, "claims");
    gateway.store.set_now(gateway.store.now() + 60 * SECOND);
    let headers = [("x-user-id", "ann"), ("x-challenge", &*late)];
    let refused = gateway.through("POST", CLAIMS, &headers, &Value::Null);
    assert!(text(&refused).contains("has expired"), "{}", text(&refused));
}

#[test]
fn an_api_key_is_no_machine_of_a_strangers() {
    let gateway = gateway();
    let with = |key: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("x-user-id", "ann"), ("authorization", &*bearer)];
        gateway.through("POST", CLAIMS, &headers, &Value::Null).status
    };
    assert_eq!(with("a-key-that-nobody-has-ever-seen"), 403);
    assert_ne!(with(ADMIN), 403);
}

#[test]
fn a_browser_gets_a_page_that_solves_it() {
    let gateway = gateway();
    let link = json!({ "url": "https://example.com/", "code": "page" });
    assert_eq!(gateway.admin("POST", "/api/links", &link).status, 201);
    let headers = [("accept", "text/html"), ("accept-language", "de")];
    let page = gateway.through("GET", "/page", &headers, &Value::Null);
    let html = text(&page);
    assert!(
        page.status == 403 && html.contains("<html lang=\"de\">"),
        "{html}"
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("script-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    let altcha = html
        .split("data-altcha=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let altcha: Altcha = serde_json::from_str(&altcha.replace("&quot;", "\"").replace("&amp;", "&")).unwrap();
    let cookie = format!("a=b; tollgate-challenge-page={}", altcha::solve(&altcha));
    let headers = [("accept", "text/html"), ("cookie", &*cookie)];
    assert_eq!(
        gateway.through("GET", "/page", &headers, &Value::Null).status,
        302
    );
    assert_eq!(
        gateway.through("GET", "/page", &headers, &Value::Null).status,
        403
    );
}

#[test]
fn what_is_set_wrong_is_named() {
    for (from, to, field) in [
        ("name = \"claims\"", "name = \"Claims\"", "challenges[0].name"),
        ("path = \"/api", "path = \"api", "challenges[0].path"),
        (
            "max_number = 1000",
            "max_number = 999",
            "challenges[0].max_number",
        ),
        ("expires = \"1m\"", "expires = \"1s\"", "challenges[0].expires"),
        (
            "methods = [\"POST\"]",
            "methods = [\"post\"]",
            "challenges[0].methods",
        ),
        ("name = \"page\"", "name = \"claims\"", "challenges[1].name"),
    ] {
        let error = Settings::parse(&FILE.replacen(from, to, 1), "t")
            .unwrap_err()
            .to_string();
        assert!(error.contains(field), "{error}");
    }
}
