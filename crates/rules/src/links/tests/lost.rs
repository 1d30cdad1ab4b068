//! Links that lead nowhere, and codes in any case.

use super::*;
use crate::settings::Settings;

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

fn with(settings: &str) -> Gateway {
    Gateway::with_settings(Settings::parse(settings, "t").unwrap())
}

fn ask(gateway: &Gateway, path: &str, language: &str) -> Response {
    let headers = [
        ("user-agent", BROWSER),
        ("accept", HTML),
        ("accept-language", language),
    ];
    gateway.call("GET", path, &headers, &Value::Null)
}

#[test]
fn browsers_get_a_page_in_their_language_and_others_a_problem() {
    let gateway = Gateway::new();
    gateway.link("over", json!({ "expiresAt": at(SECOND) }));
    gateway.link("off", json!({}));
    assert_eq!(
        gateway
            .admin("PATCH", "/api/links/off", &json!({ "archived": true }))
            .status,
        200
    );
    gateway.pass(2 * SECOND);
    for (path, language, status, words) in [
        ("/nothing", "en", 404, "leads nowhere"),
        ("/nothing", "de-CH", 404, "nirgendwohin"),
        ("/nothing", "ko", 404, "연결된 페이지가 없습니다"),
        ("/nothing", "fr, de;q=0.5", 404, "leads nowhere"),
        ("/over", "en", 410, "Its time is over."),
        ("/off", "de", 410, "Er wurde abgeschaltet."),
        ("/x", "en", 404, "leads nowhere"),
    ] {
        let response = ask(&gateway, path, language);
        let page = text(&response);
        assert_eq!(response.status, status, "{path}: {page}");
        assert!(
            page.contains(words) && page.contains("<html lang="),
            "{path}: {page}"
        );
        let policy = response.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        assert_eq!(response.header("cache-control"), Some("private, no-store"));
        assert!(response.body.len() < 1_024);
    }
    for (path, status) in [("/nothing", 404), ("/over", 410)] {
        let response = gateway.visit(path);
        assert_eq!(
            (response.status, response.header("content-type")),
            (status, Some("application/problem+json"))
        );
    }
    let api = gateway.call(
        "GET",
        "/api/links/nothing/here",
        &[("accept", HTML)],
        &Value::Null,
    );
    assert_eq!(api.header("content-type"), Some("application/problem+json"));
}

#[test]
fn the_settings_say_where_lost_links_lead() {
    let gateway = with(
        "[links]\nnot_found_url = \"https://example.com/404\"\ngone_url = \"https://example.com/410\"\n",
    );
    gateway.link("over", json!({ "expiresAt": at(SECOND) }));
    gateway.link(
        "own",
        json!({ "expiresAt": at(SECOND), "fallbackUrl": "https://example.com/own" }),
    );
    gateway.pass(2 * SECOND);
    for (path, to) in [
        ("/nothing", "https://example.com/404"),
        ("/over", "https://example.com/410"),
        ("/own", "https://example.com/own"),
    ] {
        for response in [gateway.visit(path), ask(&gateway, path, "en")] {
            assert_eq!(
                (response.status, response.header("location")),
                (302, Some(to)),
                "{path}"
            );
            assert_eq!(response.header("cache-control"), Some("private, no-store"));
        }
    }
    assert_eq!(gateway.call("POST", "/nothing", &[], "open=1").status, 404);
    assert_eq!(gateway.call("DELETE", "/nothing", &[], "").status, 404);
    for name in ["not_found_url", "gone_url"] {
        let own = format!("[links]\n{name} = \"http://localhost:3000/x\"\n");
        let error = Settings::parse(&own, "t").unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("lead back"), "{error}");
    }
}

#[test]
fn where_case_does_not_matter_new_codes_are_found_in_any_and_old_ones_as_they_are() {
    let gateway = with("[links]\ncase_insensitive = true\n");
    let made = gateway.create(&json!({ "url": "https://example.com/", "code": "MiXed" }));
    assert_eq!(made["code"], "mixed");
    for path in ["/mixed", "/MIXED", "/miXed"] {
        assert_eq!(gateway.visit(path).status, 302, "{path}");
    }
    assert_eq!(gateway.visits("MIXED"), 3);
    let taken = gateway.admin(
        "POST",
        "/api/links",
        &json!({ "url": "https://example.com/", "code": "MIXED" }),
    );
    assert_eq!(taken.status, 409);
    for _ in 0..20 {
        let code = gateway.create(&json!({ "url": "https://example.com/" }))["code"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(code, code.to_ascii_lowercase());
        assert_eq!(
            gateway.visit(&format!("/{}", code.to_ascii_uppercase())).status,
            302
        );
    }
    let bounded = gateway.admin(
        "PATCH",
        "/api/links/MIXED",
        &json!({ "maxVisits": 9, "url": "https://example.com/b" }),
    );
    assert_eq!(
        (bounded.status, json_of(&bounded)["visits"].clone()),
        (200, json!(3))
    );
    let renamed = gateway.admin("PATCH", "/api/links/MIXED", &json!({ "code": "Other" }));
    assert_eq!(json_of(&renamed)["code"], "other");
    assert_eq!(gateway.admin("DELETE", "/api/links/OTHER", "").status, 204);
    // Made when case mattered.
    let strict = Gateway::new();
    strict.link("Old", json!({}));
    let loose = Gateway {
        settings: Settings::parse("[links]\ncase_insensitive = true\n", "t").unwrap(),
        ..strict
    };
    assert_eq!(loose.visit("/Old").status, 302);
    assert_eq!(loose.visit("/old").status, 404);
    loose.link("OLD", json!({ "url": "https://example.com/new" }));
    assert_eq!(
        (
            loose.visit("/Old").header("location"),
            loose.visit("/oLD").header("location")
        ),
        (
            Some("https://example.com/landing"),
            Some("https://example.com/new")
        )
    );
}
