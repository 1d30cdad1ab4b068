use super::meddled::Meddled;
use super::*;
use crate::config::Clicks;
use crate::settings::Settings;
use tollgate_api::components::Component;
use tollgate_store::commit::StoreError;

#[test]
fn a_link_redirects_and_counts() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let response = gateway.visit("/abc");
    assert_eq!(response.status, 302);
    assert_eq!(response.header("location"), Some("https://example.com/landing"));
    assert_eq!(response.header("cache-control"), Some("private, no-store"));
    assert!(response.body.is_empty());
    gateway.pass(5 * SECOND);
    gateway.visit("/abc?x=1");
    let link = gateway.read("abc");
    assert_eq!(link["visits"], 2);
    assert_eq!(link["lastVisitedAt"], at(5 * SECOND));
}

#[test]
fn only_a_permanent_link_without_limits_may_be_kept_and_not_for_long() {
    let gateway = Gateway::new();
    for (code, fields, kept) in [
        ("permanent", json!({"redirect": 308}), true),
        ("moved", json!({"redirect": 301}), true),
        ("temporary", json!({"redirect": 307}), false),
        ("numbered", json!({"redirect": 301, "maxVisits": 3}), false),
        ("ending", json!({"redirect": 301, "expiresAt": at(SECOND)}), false),
        ("idling", json!({"redirect": 308, "expireAfterIdle": 9}), false),
    ] {
        gateway.link(code, fields.clone());
        let response = gateway.visit(&format!("/{code}"));
        assert_eq!(response.status, fields["redirect"], "{code}");
        let expected = if kept {
            "public, max-age=60"
        } else {
            "private, no-store"
        };
        assert_eq!(response.header("cache-control"), Some(expected), "{code}");
    }
}

#[test]
fn what_is_no_link_is_not_found() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    for path in [
        "/nope",
        "/ABC",
        "/ab",
        "/a.b",
        "/abc++",
        "/",
        "/abc//",
        "/abc/x",
        "/abc/x/",
        "/ab%2f",
        "/%61%62%63%2B%2B",
        "/abc%00",
        "/%2561bc",
    ] {
        let response = gateway.visit(path);
        assert_eq!(response.status, 404, "{path}");
        // Whether there is such a link may change; that there is no such call may not.
        let kept = match gateway.settings.component(path) {
            Component::Shortener => Some("private, no-store"),
            _ => None,
        };
        assert_eq!(response.header("cache-control"), kept, "{path}");
    }
    let response = gateway.call("POST", "/abc", &[], &Value::Null);
    assert_eq!(
        (response.status, response.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[test]
fn a_link_that_does_not_redirect_says_why() {
    let gateway = Gateway::new();
    gateway.link("early", json!({"validFrom": at(60 * SECOND)}));
    gateway.link("late", json!({"expiresAt": at(10 * SECOND)}));
    gateway.link("idle", json!({"expireAfterIdle": 10}));
    gateway.link("once", json!({"maxVisits": 1}));
    gateway.link("off", json!({}));
    gateway.admin("PATCH", "/api/links/off", &json!({"archived": true}));
    assert_eq!(gateway.visit("/once").status, 302);
    gateway.pass(10 * SECOND);
    for (code, status, state) in [
        ("early", 404, Value::Null),
        ("late", 410, json!("expired")),
        ("idle", 410, json!("idle")),
        ("once", 410, json!("exhausted")),
        ("off", 410, json!("archived")),
    ] {
        for path in [format!("/{code}"), format!("/{code}+")] {
            let response = gateway.visit(&path);
            assert_eq!(response.status, status, "{path}");
            assert_eq!(json_of(&response)["state"], state, "{path}");
            assert_eq!(response.header("location"), None);
            assert_eq!(response.header("cache-control"), Some("private, no-store"));
        }
    }
    gateway.pass(50 * SECOND);
    assert_eq!(gateway.visit("/early").status, 302);
}

#[test]
fn a_fallback_takes_over_when_a_link_has_ended() {
    let gateway = Gateway::new();
    let fallback = "https://example.org/over";
    gateway.link(
        "abc",
        json!({"redirect": 301, "maxVisits": 1, "fallbackUrl": fallback}),
    );
    assert_eq!(
        gateway.visit("/abc").header("location"),
        Some("https://example.com/landing")
    );
    let response = gateway.visit("/abc");
    assert_eq!(
        (response.status, response.header("location")),
        (302, Some(fallback))
    );
    assert_eq!(response.header("cache-control"), Some("private, no-store"));
    assert_eq!(gateway.visits("abc"), 1);
}

#[test]
fn a_visit_keeps_an_idle_link_alive_even_where_clicks_are_off() {
    let mut gateway = Gateway::new();
    gateway.settings.config.links.clicks = Clicks::Off;
    gateway.link("abc", json!({"expireAfterIdle": 10}));
    for _ in 0..3 {
        gateway.pass(9 * SECOND);
        assert_eq!(gateway.visit("/abc").status, 302);
    }
    assert_eq!(gateway.visits("abc"), 0);
    gateway.pass(10 * SECOND);
    assert_eq!(gateway.visit("/abc").status, 410);
}

#[test]
fn clicks_are_counted_as_configured() {
    for (clicks, visits) in [(Clicks::Submitted, 1), (Clicks::Durable, 1), (Clicks::Off, 0)] {
        let mut gateway = Gateway::new();
        gateway.settings.config.links.clicks = clicks;
        gateway.link("abc", json!({}));
        gateway.visit("/abc");
        assert_eq!(gateway.visits("abc"), visits, "{clicks:?}");
    }
}

#[test]
fn neither_head_nor_machines_count() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let head = gateway.call("HEAD", "/abc", &[("user-agent", BROWSER)], &Value::Null);
    assert_eq!(head, gateway.call("HEAD", "/abc", &[], &Value::Null));
    for header in [
        ("user-agent", "Twitterbot/1.0"),
        ("sec-purpose", "prefetch"),
        ("x-moz", "prefetch"),
    ] {
        let response = gateway.call("GET", "/abc", &[header], &Value::Null);
        assert_eq!(response, head, "{header:?}");
    }
    assert_eq!(gateway.visits("abc"), 0);
    assert_eq!(gateway.read("abc")["lastVisitedAt"], Value::Null);
    assert_eq!(gateway.visit("/abc"), head);
    assert_eq!(gateway.visits("abc"), 1);
}

#[test]
fn a_machine_neither_burns_nor_learns_a_numbered_link() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 1}));
    for header in [
        ("user-agent", "Slackbot-LinkExpanding 1.0"),
        ("sec-purpose", "prefetch;prerender"),
    ] {
        let response = gateway.call("GET", "/abc", &[header], &Value::Null);
        assert_eq!((response.status, response.header("location")), (200, None));
        assert!(!text(&response).contains("example.com"), "{}", text(&response));
        assert!(text(&response).contains("<form method=\"post\">"));
    }
    let head = gateway.call("HEAD", "/abc", &[("user-agent", BROWSER)], &Value::Null);
    assert_eq!(
        (head.status, head.header("location")),
        (302, Some("https://example.com/landing"))
    );
    assert_eq!(gateway.visit("/abc").status, 302);
    assert_eq!(gateway.visit("/abc").status, 410);
    assert_eq!(gateway.call("HEAD", "/abc", &[], &Value::Null).status, 410);
    assert_eq!(gateway.visits("abc"), 1);
}

#[test]
fn a_query_is_forwarded_only_where_the_link_says_so() {
    let gateway = Gateway::new();
    gateway.create(&json!({"url": "https://example.com/?a=1#top", "code": "with", "forwardQuery": true}));
    gateway.create(&json!({"url": "https://example.com/?a=1#top", "code": "without"}));
    assert_eq!(
        gateway.visit("/with?b=2").header("location"),
        Some("https://example.com/?a=1&b=2#top")
    );
    assert_eq!(
        gateway.visit("/with").header("location"),
        Some("https://example.com/?a=1#top")
    );
    assert_eq!(
        gateway.visit("/without?b=2").header("location"),
        Some("https://example.com/?a=1#top")
    );
}

#[test]
fn a_preview_shows_the_target_as_text_and_counts_nothing() {
    let gateway = Gateway::new();
    gateway.create(&json!({
        "url": "https://example.com/?q=\"><script>alert('x')</script>&y=1",
        "code": "abc", "title": "<b>\"Tea\" & cake</b>"
    }));
    for path in ["/abc+", "/abc%2B"] {
        let response = gateway.visit(path);
        assert_eq!((response.status, response.header("location")), (200, None));
        assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(
            response
                .header("content-security-policy")
                .unwrap()
                .starts_with("default-src 'none'")
        );
        let page = text(&response);
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        let url = "https://example.com/?q=&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;y=1";
        assert!(page.contains(&format!("href=\"{url}\"")), "{page}");
        assert!(page.contains("&lt;b&gt;&quot;Tea&quot; &amp; cake&lt;/b&gt;"));
    }
    assert_eq!(gateway.visits("abc"), 0);
}

#[test]
fn a_preview_of_a_numbered_link_tells_its_host_only() {
    let gateway = Gateway::new();
    let url = "https://user.example.com:8443/secret/path?token=t";
    gateway.create(&json!({"url": url, "code": "abc", "maxVisits": 1}));
    let page = text(&gateway.visit("/abc+"));
    assert!(
        page.contains("user.example.com") && page.contains("<form method=\"post\">"),
        "{page}"
    );
    assert!(!page.contains("secret") && !page.contains("token"), "{page}");
    assert_eq!(gateway.visits("abc"), 0);
}

#[test]
fn a_person_taken_for_a_machine_gets_through_by_the_button() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 2, "redirect": 301}));
    gateway.create(
        &json!({"url": "https://example.com/?a=1", "code": "with", "maxVisits": 1, "forwardQuery": true}),
    );
    let machine = ("user-agent", "Slackbot-LinkExpanding 1.0");
    let press = |path: &str, body: &str| {
        let mut request = request("POST", path, &[machine], &Value::Null);
        request.body = body.as_bytes().to_vec();
        ready(gateway.answer(&gateway.store, &request))
    };
    let page = gateway.call("GET", "/abc", &[machine], &Value::Null);
    assert!(text(&page).contains("name=\"open\" value=\"1\""));
    // Some browsers ask the policy where the answer to a form leads, too.
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("form-action http: https:") && policy.starts_with("default-src 'none'"));
    // A form without the button counts nothing, and neither does a body that is not a form.
    for body in ["", "open", "open=0", "close=1", "{\"open\":1}"] {
        let response = press("/abc", body);
        assert_eq!(
            (response.status, response.header("allow")),
            (405, Some("GET, HEAD")),
            "{body}"
        );
    }
    assert_eq!(gateway.visits("abc"), 0);
    // The browser goes on with GET, whatever the link's own status: the form's body is for us.
    let opened = press("/abc", "open=1");
    assert_eq!(
        (opened.status, opened.header("location")),
        (303, Some("https://example.com/landing"))
    );
    assert_eq!(opened.header("cache-control"), Some("private, no-store"));
    assert_eq!(gateway.visits("abc"), 1);
    // From the page behind the plus, with a slash and encoded too.
    assert_eq!(press("/%61bc+", "x=2&open=1").status, 303);
    assert_eq!((press("/abc/", "open=1").status, gateway.visits("abc")), (410, 2));
    assert_eq!(
        press("/with?b=2", "open=1").header("location"),
        Some("https://example.com/?a=1&b=2")
    );
    assert_eq!(press("/nothing", "open=1").status, 404);
}

#[test]
fn a_link_that_keeps_methods_passes_them_on_and_counts_them() {
    let gateway = Gateway::new();
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut request = request(method, path, headers, &Value::Null);
        request.body = body.as_bytes().to_vec();
        ready(gateway.answer(&gateway.store, &request))
    };
    for status in [307_u16, 308] {
        let code = format!("kept{status}");
        gateway.link(&code, json!({"redirect": status, "forwardQuery": true}));
        let path = format!("/{code}?q=1");
        for (method, body) in [
            ("POST", "{}"),
            // The fields of somebody else's form.
            ("POST", "open=1"),
            ("POST", "user=ann&password=secret"),
            ("PUT", ""),
            ("PATCH", "{}"),
            ("DELETE", ""),
        ] {
            let response = send(method, &path, &[("user-agent", BROWSER)], body);
            assert_eq!(
                (response.status, response.header("location")),
                (status, Some("https://example.com/landing?q=1")),
                "{method} {body}"
            );
            assert_eq!(response.header("cache-control"), Some("private, no-store"));
        }
        assert_eq!(gateway.visits(&code), 6);
        let preview = send("POST", &format!("/{code}+"), &[], "{}");
        assert_eq!(
            (preview.status, preview.header("allow")),
            (405, Some("GET, HEAD"))
        );
    }
    // A bound is exact, machines use up nothing, and the button is heeded where there is one.
    gateway.link("few", json!({"redirect": 307, "maxVisits": 3}));
    let machine = [("user-agent", "Slackbot-LinkExpanding 1.0")];
    assert_eq!(send("PUT", "/few", &machine, "{}").status, 405);
    assert_eq!(send("POST", "/few", &machine, "open=1").status, 303);
    let sent = ["POST", "PUT", "DELETE", "PATCH"].map(|method| send(method, "/few", &[], "{}").status);
    assert_eq!(sent, [307, 307, 410, 410]);
    assert_eq!(gateway.visits("few"), 3);
    // Others take no method but their own, and a password is asked for by a form.
    gateway.link("other", json!({"redirect": 302}));
    gateway.link("secret", json!({"redirect": 307, "password": "tea"}));
    for code in ["/other", "/secret"] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let response = send(method, code, &[], "{}");
            assert_eq!(
                (response.status, response.header("allow")),
                (405, Some("GET, HEAD")),
                "{method} {code}"
            );
        }
    }
    assert_eq!(send("POST", "/secret", &[], "password=tea").status, 303);
    assert_eq!(send("DELETE", "/nothing", &[], "").status, 404);
    assert_eq!(send("TRACE", "/kept307", &[], "").status, 405);
}

#[test]
fn only_forms_of_ours_are_read() {
    for (method, content_type, expected) in [
        ("POST", None, false),
        ("POST", Some("application/x-www-form-urlencoded"), false),
        (
            "POST",
            Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"),
            false,
        ),
        ("POST", Some("application/json"), true),
        ("POST", Some("multipart/form-data; boundary=x"), true),
        ("PUT", None, true),
        ("DELETE", Some("application/x-www-form-urlencoded"), true),
    ] {
        let told = crate::links::needs_no_body(method, content_type.map(str::as_bytes));
        assert_eq!(told, expected, "{method} {content_type:?}");
    }
}

#[test]
fn a_slash_behind_and_encoding_without_need_lead_to_the_same_link() {
    let gateway = Gateway::new();
    gateway.link("sale-1_x", json!({}));
    for path in [
        "/sale-1_x",
        "/sale-1_x/",
        "/%73al%65%2D1%5f%78",
        "/%73ale-1_x/?q=1",
    ] {
        assert_eq!(gateway.visit(path).status, 302, "{path}");
    }
    for path in ["/sale-1_x+", "/sale-1_x+/", "/sale%2d1_x%2b"] {
        assert_eq!(gateway.visit(path).status, 200, "{path}");
    }
    assert_eq!(gateway.visits("sale-1_x"), 4);
    let read = gateway.admin("GET", "/api/links/%73ale%2D1_x", &Value::Null);
    assert_eq!((read.status, &json_of(&read)["code"]), (200, &json!("sale-1_x")));
    assert_eq!(
        gateway
            .admin("DELETE", "/api/links/%73ale-1_x", &Value::Null)
            .status,
        204
    );
}

#[test]
fn a_store_that_fails_closes_the_link() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    gateway.store.fail_next(StoreError::Unavailable("down".into()));
    let response = gateway.visit("/abc");
    assert_eq!((response.status, response.header("location")), (503, None));
    assert!(response.header("retry-after").is_some());
    assert_eq!(gateway.visit("/abc").status, 302);
}

#[test]
fn a_plain_link_costs_one_read_of_one_key_and_no_random() {
    // A note of a visit is told apart from others by a random number, where it is the first of its kind in a moment.
    let gateway = Gateway::with_settings(Settings::parse("[links]\nstats = false\n", "t").unwrap());
    gateway.link("abc", json!({"expiresAt": at(SECOND)}));
    let store = Meddled::new(&gateway, "", Vec::new());
    let fresh = gateway.count.get();
    let get = request("GET", "/abc", &[("user-agent", BROWSER)], &Value::Null);
    assert_eq!(ready(gateway.answer(&store, &get)).status, 302);
    assert_eq!(*store.reads.borrow(), [["link/abc"]]);
    assert_eq!(gateway.count.get(), fresh);
}
