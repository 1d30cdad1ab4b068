//! Challenges on the store in memory.

use serde_json::{Value, json};

use super::altcha::{self, Altcha};
use crate::settings::Settings;
use crate::testing::{ADMIN, Gateway, SECOND, body, pointer, slug, text};
use tollgate_api::http::Response;

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

const TOKENS: &str = "[[challenges]]\nname = \"bots\"\npath = \"/api/campaigns/:id/claims\"\nkind = \"siteverify\"\n\
    provider = \"turnstile\"\nsecret = \"0x4AAA\"\nsite_key = \"<1x0>\"\nexpires = \"1m\"\n";

/// A gateway that asks a provider.
fn with_provider(further: &str) -> Gateway {
    let settings = Settings::parse(&[TOKENS, further].concat(), "tollgate.toml").unwrap();
    let gateway = Gateway::with_settings(settings);
    let campaign = json!({ "id": "c", "quantity": 9 });
    assert_eq!(gateway.admin("POST", "/api/campaigns", &campaign).status, 201);
    gateway
}

/// A claim with a token that the provider answers so.
fn claim(gateway: &Gateway, user: &str, token: &str, answer: Result<&str, &str>) -> Response {
    let answer = answer.map(|text| text.as_bytes().to_vec());
    gateway.store.answer_next(answer.map_err(str::to_owned));
    let headers = [("x-user-id", user), ("x-challenge", token)];
    gateway.through("POST", CLAIMS, &headers, &Value::Null)
}

const GOOD: Result<&str, &str> = Ok(r#"{"success":true,"hostname":"example.com","error-codes":[]}"#);

#[test]
fn a_token_is_checked_at_its_provider_and_counts_once() {
    let gateway = with_provider("");
    let refused = gateway.through("POST", CLAIMS, &[("x-user-id", "ann")], &Value::Null);
    assert_eq!(
        (refused.status, slug(&refused)),
        (403, "challenge-required".into())
    );
    let told = body(&refused);
    assert_eq!(told["challenge"], "bots");
    let posed = json!({ "provider": "turnstile", "siteKey": "<1x0>", "action": null });
    assert_eq!((&told["siteverify"], &told["altcha"]), (&posed, &Value::Null));
    let read = gateway.through("GET", "/api/challenges/bots", &[], &Value::Null);
    assert_eq!((read.status, body(&read)), (200, posed));
    assert!(
        gateway.store.posted().is_empty(),
        "there was no token to ask about"
    );
    assert_eq!(claim(&gateway, "ann", "a-token", GOOD).status, 201);
    let (url, form) = gateway.store.posted().remove(0);
    assert_eq!(url, "https://challenges.cloudflare.com/turnstile/v0/siteverify");
    assert_eq!(form, "secret=0x4AAA&response=a-token&remoteip=192.0.2.1");
    // Also where the provider takes it again.
    let again = claim(&gateway, "bob", "a-token", GOOD);
    assert_eq!((again.status, slug(&again)), (403, "challenge-required".into()));
    assert!(text(&again).contains("used before"), "{}", text(&again));
    let refusal = Ok(r#"{"success":false,"error-codes":["timeout-or-duplicate"]}"#);
    assert_eq!(claim(&gateway, "bob", "another", refusal).status, 403);
    assert_eq!(claim(&gateway, "bob", "a third", GOOD).status, 403, "no token");
    // A refused token was not used up, and nothing secret is told.
    assert_eq!(claim(&gateway, "bob", "another", GOOD).status, 201);
    assert!(!text(&again).contains("0x4AAA"));
    let shown = gateway.settings.config.to_toml();
    assert!(!shown.contains("0x4AAA") && shown.contains("site_key"));
    assert!(
        !gateway
            .settings
            .config
            .without_secrets()
            .to_toml()
            .contains("0x4AAA")
    );
    assert!(gateway.settings.config.for_components().contains("0x4AAA"));
}

#[test]
fn without_its_provider_nobody_passes_unless_that_is_set() {
    for fault in [
        Err("nobody there"),
        Ok(r#"{"success":false,"error-codes":["invalid-input-secret"]}"#),
        Ok("<html>"),
    ] {
        let gateway = with_provider("");
        let refused = claim(&gateway, "ann", "t", fault);
        assert_eq!(
            (refused.status, slug(&refused)),
            (503, "unavailable".into()),
            "{fault:?}"
        );
        assert_eq!(refused.header("retry-after"), Some("5"));
        let gateway = with_provider("on_provider_failure = \"allow\"\n");
        assert_eq!(claim(&gateway, "ann", "t", fault).status, 201, "{fault:?}");
        let refusal = Ok(r#"{"success":false}"#);
        assert_eq!(
            claim(&gateway, "bob", "t", refusal).status,
            403,
            "it was asked, and said no"
        );
    }
}

#[test]
fn a_browser_gets_the_widget_of_the_provider() {
    let gateway = with_provider("action = \"claim\"\n");
    let browser = [("accept", "text/html"), ("accept-language", "de")];
    let page = gateway.through("GET", CLAIMS, &browser, &Value::Null);
    let policy = page.header("content-security-policy").unwrap();
    assert_eq!(page.status, 403);
    assert!(
        policy.contains("frame-src https://challenges.cloudflare.com;"),
        "{policy}"
    );
    let page = text(&page);
    for part in [
        "class=\"cf-turnstile\" data-sitekey=\"&lt;1x0&gt;\"",
        "data-action=\"claim\"",
        "<script src=\"https://challenges.cloudflare.com/turnstile/v0/api.js\" async defer>",
        "data-name=\"tollgate-challenge-bots\"",
        "lang=\"de\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // What its script keeps is the token.
    let good = br#"{"success":true,"action":"claim"}"#;
    gateway.store.answer_next(Ok(good.to_vec()));
    let cookie = [("cookie", "tollgate-challenge-bots=the-token")];
    let passed = gateway.through("GET", CLAIMS, &cookie, &Value::Null);
    assert_ne!(slug(&passed), "challenge-required", "{}", text(&passed));
    assert!(gateway.store.posted()[0].1.contains("response=the-token"));
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
        (
            "kind = \"altcha\"",
            "kind = \"altcha\"\nsecret = \"s\"",
            "challenges[0].secret",
        ),
        (
            "kind = \"altcha\"",
            "kind = \"siteverify\"",
            "challenges[0].provider",
        ),
        ("kind = \"altcha\"", "kind = \"captcha\"", "challenges[0].kind"),
    ] {
        let error = Settings::parse(&FILE.replacen(from, to, 1), "t")
            .unwrap_err()
            .to_string();
        assert!(error.contains(field), "{error}");
    }
}
