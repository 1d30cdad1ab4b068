//! The dashboard: who may what, what another site's page may not, the live numbers, and a person at work in a real browser.

mod browser;

pub use browser::*;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, Call, EventStream, Gateway, Host, eventually};

/// Log-ins that an address may try at once.
const ATTEMPTS: usize = 20;
/// Streams of one session.
const STREAMS: usize = 8;
const SOON: Duration = Duration::from_secs(10);
const OWN: (&str, &str) = ("x-tollgate-csrf", "1");

fn log_in(gateway: &Gateway, key: &str) -> Call {
    gateway.post("/admin/session").key(key)
}

/// The cookie that a log-in sets, as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie");
    set.split(';').next().unwrap_or_default().to_owned()
}

async fn session(gateway: &Gateway, key: &str) -> String {
    cookie(&log_in(gateway, key).send().await.expect(201))
}

/// As the page makes it.
fn by_page(call: Call, cookie: &str) -> Call {
    call.header("cookie", cookie).header(OWN.0, OWN.1)
}

/// A cookie of no session: neither the API nor the dashboard takes it.
async fn is_nobodys(gateway: &Gateway, cookie: &str) {
    for call in [
        by_page(gateway.get("/api/campaigns"), cookie),
        gateway.get("/admin/session").header("cookie", cookie),
    ] {
        call.send().await.problem(401, "unauthorized");
    }
}

pub async fn its_calls_are_open_to_whom_the_table_of_security_md_says(host: Host) {
    const SECRET: &str = "a-secret-that-nobody-is-shown-1234567890";
    let secrets = format!(
        "[users.jwt]\nissuer = \"i\"\naudience = \"a\"\nsecret = \"{SECRET}\"\n\
         [[forward]]\npath = \"/hook\"\ntopic = \"hook\"\nverify = \"github\"\nsecret = \"{SECRET}\"\n\
         [[challenges]]\nname = \"c\"\npath = \"/hooked\"\nkind = \"siteverify\"\nprovider = \"turnstile\"\nsecret = \"{SECRET}\"\n\
         [[alerts]]\nname = \"x\"\nwhen = \"breaker_open\"\nurl = \"https://hooks.example.com/{SECRET}\"\n"
    );
    let gateway = Gateway::start(host, &secrets).await;
    let mut keys = vec![ADMIN_KEY.to_owned()];
    for scope in ["links", "campaigns", "topics"] {
        keys.push(gateway.key(&[scope]).await);
    }
    for path in ["/admin", "/admin/assets/app.js"] {
        gateway.get(path).send().await.expect(200);
        gateway
            .get(path)
            .key("a-key-that-nobody-knows")
            .send()
            .await
            .expect(200);
    }
    for key in &keys {
        let made = log_in(&gateway, key).send().await.expect(201);
        assert_eq!(made.header("cache-control"), "no-store");
        let cookie = cookie(&made);
        let told = gateway
            .get("/admin/session")
            .header("cookie", &cookie)
            .send()
            .await
            .expect(200);
        assert_eq!(told.json(), made.json(), "{}", told.shown());
        assert!(!told.text().contains(key.as_str()) && !cookie.contains(key.as_str()));
        let seen = gateway
            .get("/admin/configuration")
            .header("cookie", &cookie)
            .send()
            .await;
        match key == ADMIN_KEY {
            true => {
                let shown = seen.expect(200).text();
                assert!(
                    shown.contains("[[challenges]]") && !shown.contains(SECRET),
                    "{shown}"
                );
            }
            false => drop(seen.problem(403, "forbidden")),
        }
    }
    for credential in [
        ("x-client-id", "somebody"),
        ("x-user-id", "somebody"),
        ("authorization", "Bearer a-key-that-nobody-knows"),
        ("authorization", "Basic YTpi"),
        ("cookie", "a=b"),
    ] {
        let with = |call: Call| call.header(credential.0, credential.1);
        with(gateway.post("/admin/session"))
            .send()
            .await
            .problem(401, "unauthorized");
        for path in ["/admin/session", "/admin/events", "/admin/configuration"] {
            with(gateway.get(path)).send().await.problem(401, "unauthorized");
        }
        with(gateway.delete("/admin/session"))
            .send()
            .await
            .problem(401, "unauthorized");
    }
    // A key opens what a session does by its cookie alone.
    let direct = gateway.get("/admin/configuration").key(ADMIN_KEY).send().await;
    direct.problem(401, "unauthorized");
    let unknown = gateway.get("/admin/assets/nothing.js").send().await;
    unknown.problem(404, "not-found");
    let wrong = gateway.put("/admin/session").send().await;
    wrong.problem(405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), "POST, GET, HEAD, DELETE");
    let typed = gateway.get("/admin/").send().await.expect(308);
    assert_eq!(typed.header("location"), "/admin");
}

pub async fn a_cookie_opens_the_api_to_its_own_page_alone(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let cookie = session(&gateway, ADMIN_KEY).await;
    let own = format!("http://{}", gateway.address());
    let link = |call: Call| call.json(&json!({ "url": "https://example.com/" }));
    by_page(gateway.get("/api/keys"), &cookie)
        .send()
        .await
        .expect(200);
    let by_its_page = || link(by_page(gateway.post("/api/links"), &cookie));
    by_its_page().header("origin", &own).send().await.expect(201);
    by_its_page()
        .header("sec-fetch-site", "same-origin")
        .send()
        .await
        .expect(201);
    // A proxy may have changed the host that we see: the browser knows.
    let proxied = by_its_page()
        .header("sec-fetch-site", "same-origin")
        .header("origin", "https://gate.example");
    proxied.send().await.expect(201);
    for foreign in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
    ] {
        let refused = by_its_page().header(foreign.0, foreign.1).send().await;
        refused.problem(400, "client-id-required");
        let refused = by_page(gateway.get("/api/keys"), &cookie).header(foreign.0, foreign.1);
        refused.send().await.problem(401, "unauthorized");
        let call = |method: Method, path: &str| {
            by_page(gateway.call(method, path), &cookie).header(foreign.0, foreign.1)
        };
        call(Method::GET, "/admin/events")
            .send()
            .await
            .problem(403, "forbidden");
        call(Method::DELETE, "/admin/session")
            .send()
            .await
            .problem(403, "forbidden");
        log_in(&gateway, ADMIN_KEY)
            .header(foreign.0, foreign.1)
            .send()
            .await
            .problem(403, "forbidden");
    }
    // A form or an image of another site sends no header of its own.
    let form = gateway.get("/api/keys").header("cookie", &cookie).send().await;
    form.problem(401, "unauthorized");
    let form = gateway
        .delete("/admin/session")
        .header("cookie", &cookie)
        .send()
        .await;
    form.problem(403, "forbidden");
    // Who sends a credential means that one.
    let both = by_page(gateway.get("/api/keys"), &cookie).key("a-key-that-nobody-knows");
    both.send().await.problem(401, "unauthorized");
    by_page(gateway.delete("/admin/session"), &cookie)
        .send()
        .await
        .expect(204);
    by_page(gateway.get("/api/keys"), &cookie)
        .send()
        .await
        .problem(401, "unauthorized");
}

pub async fn a_session_reaches_as_far_as_its_key_and_as_long(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let made = gateway
        .post("/api/keys")
        .key(ADMIN_KEY)
        .json(&json!({ "name": "desk", "scopes": ["campaigns"] }));
    let made = made.send().await.expect(201).json();
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let cookie = session(&gateway, key).await;
    by_page(gateway.get("/api/campaigns"), &cookie)
        .send()
        .await
        .expect(200);
    by_page(gateway.get("/api/keys"), &cookie)
        .send()
        .await
        .problem(403, "forbidden");
    // Its own cookie only, and only whole.
    let (name, token) = cookie.split_once('=').unwrap();
    for bad in [
        format!("{name}={}", &token[1..]),
        format!(
            "{name}={}",
            token.to_uppercase().replace(|c: char| c.is_ascii_digit(), "0")
        ),
        format!("{name}={token}0"),
        format!("__Host-{cookie}"),
        format!("x{cookie}"),
        format!("{name}="),
        "x".repeat(9_000),
    ] {
        is_nobodys(&gateway, &bad).await;
    }
    // Over TLS, as the browser says, the cookie is one that no other host can set.
    let tls = log_in(&gateway, key)
        .header("origin", "https://gate.example")
        .header("sec-fetch-site", "same-origin");
    let tls = tls.send().await.expect(201);
    assert!(tls.header("set-cookie").starts_with("__Host-") && tls.header("set-cookie").contains("; Secure"));
    gateway
        .get("/admin/session")
        .header("cookie", &self::cookie(&tls))
        .send()
        .await
        .expect(200);
    gateway
        .delete(&format!("/api/keys/{id}"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(204);
    is_nobodys(&gateway, &cookie).await;
    // Sessions live as long as the process.
    let cookie = session(&gateway, ADMIN_KEY).await;
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    is_nobodys(&gateway, &cookie).await;
}

pub async fn who_guesses_keys_is_slowed_down(host: Host) {
    let gateway = Gateway::start_trusting(host, "127.0.0.0/8", "").await;
    let from = |address: &str, key: &str| log_in(&gateway, key).header("x-forwarded-for", address);
    let guess = || from("192.0.2.7", "a-key-that-nobody-knows");
    for _ in 0..ATTEMPTS {
        guess().send().await.problem(401, "unauthorized");
    }
    let refused = guess().send().await;
    refused.problem(
        429,
        "https://iana.org/assignments/http-problem-types#quota-exceeded",
    );
    assert!(
        refused
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|seconds| (1..=60).contains(&seconds))
    );
    // Whoever it is then; and nobody else.
    from("192.0.2.7", ADMIN_KEY).send().await.problem(
        429,
        "https://iana.org/assignments/http-problem-types#quota-exceeded",
    );
    from("192.0.2.8", ADMIN_KEY).send().await.expect(201);
}

/// A page that watches the numbers.
async fn watch(gateway: &Gateway, cookie: &str) -> EventStream {
    EventStream::open(gateway, "/admin/events", &format!("cookie: {cookie}\r\n"), SOON).await
}

/// The newest document of an event.
fn newest(text: &str, event: &str) -> Option<Value> {
    let begin = format!("event: {event}\ndata: ");
    let documents = text
        .split(&begin)
        .skip(1)
        .filter_map(|rest| rest.split_once("\n\n"));
    documents
        .filter_map(|(document, _)| serde_json::from_str(document).ok())
        .last()
}

/// How many watch, as a stream tells it.
async fn watchers(gateway: &Gateway, cookie: &str) -> u64 {
    let mut stream = watch(gateway, cookie).await;
    stream
        .until("the gateway's numbers", |text| newest(text, "gateway").is_some())
        .await;
    let told = newest(&stream.text, "gateway").expect("it came");
    told["watchers"].as_u64().expect("it is a number")
}

pub async fn it_tells_who_is_refused_most(host: Host) {
    let settings = "[[limits]]\nname = \"tight\"\npath = \"/api/links\"\nper = [\"client\", \"path\"]\n\
         capacity = 1\nrefill = 1\ninterval = \"1h\"\n\
         [[limits]]\nname = \"would\"\nmethods = [\"DELETE\"]\nper = []\n\
         capacity = 1\nrefill = 1\ninterval = \"1h\"\nshadow = true\n";
    let gateway = Gateway::start(host, settings).await;
    let admin = session(&gateway, ADMIN_KEY).await;
    let desk = session(&gateway, &gateway.key(&["topics"]).await).await;
    for (client, times) in [("ann", 5), ("a|b", 3), ("once", 1)] {
        for _ in 0..times {
            gateway.get("/api/links").client(client).send().await;
        }
    }
    for _ in 0..3 {
        gateway.delete("/api/links/nothing").send().await;
    }
    let (mut stream, mut other) = (watch(&gateway, &admin).await, watch(&gateway, &desk).await);
    let most = |text: &str| Some(newest(text, "limits")?["most"].clone());
    stream.until("who is refused", |text| most(text).is_some()).await;
    let one = |policy: &str, who: &[&str], refused: u64| json!({ "policy": policy, "who": who, "refused": refused, "atLeast": false });
    let expected = json!([
        one("tight", &["id:ann", "/api/links"], 4),
        one("tight", &["id:a|b", "/api/links"], 2),
        one("would", &[], 2),
    ]);
    assert_eq!(most(&stream.text), Some(expected));
    // It names clients: for who may see the limits.
    other
        .until("topics", |text| newest(text, "topics").is_some())
        .await;
    assert!(!other.text.contains("tight"), "{}", other.text);
}

pub async fn numbers_move_for_whom_they_concern(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let campaign = gateway.campaign(10, json!({})).await;
    let desk = session(&gateway, &gateway.key(&["campaigns"]).await).await;
    let admin = session(&gateway, ADMIN_KEY).await;
    let (mut one, mut other) = (watch(&gateway, &desk).await, watch(&gateway, &admin).await);
    let stock = |text: &str| {
        let told = newest(text, "campaigns")?;
        let campaigns = told["campaigns"].as_array().cloned().unwrap_or_default();
        campaigns.iter().find(|one| one["id"] == campaign.as_str())?["remaining"].as_u64()
    };
    one.until("the stock", |text| stock(text) == Some(10)).await;
    for n in 0..3 {
        let path = format!("/api/campaigns/{campaign}/claims");
        gateway
            .post(&path)
            .user(&format!("user-{n}"))
            .send()
            .await
            .expect(201);
    }
    one.until("the stock as it falls", |text| stock(text) == Some(7))
        .await;
    other.until("the same", |text| stock(text) == Some(7)).await;
    other
        .until("topics", |text| {
            newest(text, "topics").is_some_and(|told| told.to_string().contains("coupon"))
        })
        .await;
    other
        .until("origins", |text| newest(text, "origins").is_some())
        .await;
    for of_others in ["event: topics", "event: limits", "event: origins"] {
        assert!(!one.text.contains(of_others), "its key does not reach there");
    }
    assert!(
        one.text.contains("content-type: text/event-stream") && one.text.contains("cache-control: no-store")
    );
    // A session has so many streams; whoever goes makes room.
    let mut more = Vec::new();
    for _ in 1..STREAMS {
        let mut stream = watch(&gateway, &desk).await;
        stream.until("a stream", |text| text.contains("event: ")).await;
        more.push(stream);
    }
    gateway
        .get("/admin/events")
        .header("cookie", &desk)
        .send()
        .await
        .problem(503, "unavailable");
    drop(more);
    eventually("those who went are forgotten", async || {
        (watchers(&gateway, &admin).await == 3).then_some(())
    })
    .await;
    // Who logs out sees no more, and an orderly end waits for nobody who watches.
    by_page(gateway.delete("/admin/session"), &desk)
        .send()
        .await
        .expect(204);
    let ended = one.ends(2 * SOON).await;
    assert!(
        ended.ends_with("0\r\n\r\n"),
        "in order: {}",
        &ended[ended.len().saturating_sub(80)..]
    );
    let begun = std::time::Instant::now();
    let (status, _) = tokio::join!(gateway.stop(), other.ends(2 * SOON));
    assert!(
        status.success() && begun.elapsed() < SOON,
        "{:?}",
        begun.elapsed()
    );
}

pub async fn its_files_are_guarded_and_sent_once(host: Host) {
    let gateway = Gateway::shared(host).await;
    for path in [
        "/admin",
        "/admin/assets/app.js",
        "/admin/assets/style.css",
        "/admin/assets/icon.svg",
    ] {
        let first = gateway.get(path).send().await.expect(200);
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-cache"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(first.header(name), value, "{path}");
        }
        let policy = first.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        let again = gateway
            .get(path)
            .header("if-none-match", first.header("etag"))
            .send()
            .await;
        assert!(again.expect(304).body.is_empty());
        let head = gateway.head(path).send().await.expect(200);
        assert_eq!(head.header("content-length"), first.body.len().to_string());
    }
}

pub async fn the_root_is_a_page_for_browsers_and_nothing_for_others(host: Host) {
    let gateway = Gateway::shared(host).await;
    let page = gateway
        .get("/")
        .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
        .send()
        .await
        .expect(200);
    assert!(
        page.text().contains("href=\"admin\"") && page.header("vary") == "accept, accept-encoding",
        "{}",
        page.shown()
    );
    // It shows the ways to all that is there for people.
    let text = page.text();
    let ways: Vec<&str> = text
        .split("<a href=\"")
        .skip(1)
        .filter_map(|way| way.split('"').next())
        .collect();
    assert_eq!(ways, ["admin", "docs", "health/ready"]);
    for way in ways {
        gateway.get(&format!("/{way}")).send().await.expect(200);
    }
    for accept in ["*/*", "application/json"] {
        gateway
            .get("/")
            .header("accept", accept)
            .send()
            .await
            .problem(404, "not-found");
    }
    gateway.post("/").send().await.problem(405, "method-not-allowed");
}

pub async fn the_root_leads_where_the_settings_say(host: Host) {
    let gateway = Gateway::start(host, "[links]\nroot_url = \"https://www.example.com/hé\"\n").await;
    for accept in ["text/html", "*/*"] {
        let root = gateway.get("/").header("accept", accept).send().await.expect(302);
        assert_eq!(root.header("location"), "https://www.example.com/h%C3%A9");
    }
    gateway.head("/").send().await.expect(302);
    gateway.post("/").send().await.problem(405, "method-not-allowed");
    let page = gateway.get("/admin").send().await;
    assert_eq!(page.status, if host.is_spin() { 404 } else { 200 });
}

pub async fn the_icon_is_an_icon(host: Host) {
    let gateway = Gateway::shared(host).await;
    let icon = gateway.get("/favicon.ico").send().await.expect(200);
    assert!(icon.header("content-type") == "image/x-icon" && icon.body.starts_with(&[0, 0, 1, 0]));
}

pub async fn there_is_none_and_it_is_told_why(host: Host) {
    let gateway = Gateway::shared(host).await;
    for (method, path) in [
        (Method::GET, "/admin"),
        (Method::GET, "/admin/assets/app.js"),
        (Method::POST, "/admin/session"),
    ] {
        let problem = gateway
            .call(method, path)
            .key(ADMIN_KEY)
            .send()
            .await
            .problem(404, "not-found");
        let why = problem["detail"].as_str().unwrap_or_default();
        assert!(why.contains("tollgate binary"), "{path}: {why}");
    }
}
