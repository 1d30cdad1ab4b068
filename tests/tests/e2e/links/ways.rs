//! Links that lead to more than one place, ask for a password, tell of their visits, get another code, or lead nowhere.

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, Call, Gateway, Host, crowd, eventually, unique};

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const PHONE: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36";

async fn way(gateway: &Gateway, fields: Value) -> String {
    let code = unique("way");
    let mut body = json!({ "url": "https://example.com/own", "code": code });
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let made = gateway.post("/api/links").key(ADMIN_KEY).json(&body);
    made.send().await.expect(201);
    code
}

fn form(call: Call, body: &'static str) -> Call {
    call.header("content-type", "application/x-www-form-urlencoded")
        .header("user-agent", BROWSER)
        .body(body)
}

#[track_caller]
fn asks(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.shown());
    assert!(answer.text().contains("type=\"password\""), "{}", answer.shown());
    assert!(!answer.shown().contains("example.com/own"), "{}", answer.shown());
}

pub async fn link_leads_by_rules_and_then_by_weights(host: Host) {
    let gateway = Gateway::shared(host).await;
    let code = way(
        &gateway,
        json!({
            "rules": [
                { "when": { "device": "mobile", "os": "android" }, "url": "https://example.com/android" },
                { "when": { "language": "ko" }, "url": "https://example.com/ko" },
            ],
            "targets": [
                { "url": "https://example.com/a", "weight": 1 },
                { "url": "https://example.com/b", "weight": 1 },
            ],
        }),
    )
    .await;
    let path = format!("/{code}");
    let to = async |agent: &str, language: &str, client: &str| {
        let call = gateway.get(&path).header("user-agent", agent).client(client);
        let answer = call.header("accept-language", language).send().await.expect(302);
        assert_eq!(answer.header("cache-control"), "private, no-store");
        answer.header("location").to_owned()
    };
    assert_eq!(to(PHONE, "ko", "c").await, "https://example.com/android");
    assert_eq!(to(BROWSER, "ko-KR,en;q=0.5", "c").await, "https://example.com/ko");
    let mut led = std::collections::BTreeSet::new();
    for client in 0..32 {
        let client = format!("client-{client}");
        let first = to(BROWSER, "en", &client).await;
        assert_eq!(to(BROWSER, "en", &client).await, first);
        led.insert(first);
    }
    assert_eq!(
        led.into_iter().collect::<Vec<_>>(),
        ["https://example.com/a", "https://example.com/b"]
    );
}

pub async fn utm_parameters_are_added_to_wherever_a_link_leads(host: Host) {
    let gateway = Gateway::shared(host).await;
    let code = way(
        &gateway,
        json!({
            "utm": { "source": "news & more", "content": "{code}" },
            "rules": [{ "when": { "os": "android" }, "url": "https://example.com/app?utm_source=app" }],
        }),
    )
    .await;
    let path = format!("/{code}");
    let to = async |agent: &str| {
        let answer = gateway.get(&path).header("user-agent", agent).send().await;
        answer.expect(302).header("location").to_owned()
    };
    let own = format!("https://example.com/own?utm_source=news%20%26%20more&utm_content={code}");
    assert_eq!(to(BROWSER).await, own);
    let app = format!("https://example.com/app?utm_source=app&utm_content={code}");
    assert_eq!(to(PHONE).await, app);
    let link = format!("/api/links/{code}");
    let patch = gateway.patch(&link).key(ADMIN_KEY);
    let changed = patch.json(&json!({ "utm": { "source": null, "replace": true } }));
    let changed = changed.send().await.expect(200).json();
    assert_eq!(changed["utm"], json!({ "content": "{code}", "replace": true }));
    assert_eq!(
        to(BROWSER).await,
        format!("https://example.com/own?utm_content={code}")
    );
}

pub async fn link_with_a_password_asks_before_it_leads_anywhere(host: Host) {
    let gateway = Gateway::shared(host).await;
    let code = way(&gateway, json!({ "password": "open sesame!" })).await;
    let path = format!("/{code}");
    asks(&gateway.get(&path).send().await, 200);
    gateway.head(&path).send().await.expect(200);
    gateway
        .get(&format!("{path}+"))
        .send()
        .await
        .problem(404, "not-found");
    asks(&form(gateway.post(&path), "password=wrong").send().await, 403);
    let opened = form(gateway.post(&path), "password=open+sesame%21")
        .send()
        .await
        .expect(303);
    assert_eq!(opened.header("location"), "https://example.com/own");
    let set = opened.header("set-cookie").to_owned();
    assert!(
        set.contains("; HttpOnly; SameSite=Lax") && set.contains(&format!("; Path={path};")),
        "{set}"
    );
    let cookie = set.split(';').next().unwrap();
    let again = gateway
        .get(&path)
        .header("user-agent", BROWSER)
        .header("cookie", cookie);
    assert_eq!(
        again.send().await.expect(302).header("location"),
        "https://example.com/own"
    );
    for _ in 0..5 {
        asks(&form(gateway.post(&path), "password=wrong").send().await, 403);
    }
    let refused = form(gateway.post(&path), "password=open+sesame%21").send().await;
    asks(&refused, 429);
    refused.header("retry-after");
    let api = format!("/api/links/{code}");
    let shown = gateway.get(&api).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&shown["hasPassword"], shown.get("password")),
        (&json!(true), None)
    );
    let cleared = gateway
        .patch(&api)
        .key(ADMIN_KEY)
        .json(&json!({ "password": null }));
    cleared.send().await.expect(200);
    gateway.get(&path).send().await.expect(302);
}

pub async fn renamed_link_leads_by_its_new_code_alone(host: Host) {
    let gateway = Gateway::shared(host).await;
    let code = way(&gateway, json!({ "maxVisits": 3 })).await;
    let visit = async |code: &str| {
        gateway
            .get(&format!("/{code}"))
            .header("user-agent", BROWSER)
            .send()
            .await
    };
    visit(&code).await.expect(302);
    let to = unique("renamed");
    let api = format!("/api/links/{code}");
    // Of many at once one wins, and nobody finds the link under two codes.
    let others = crowd(8, 0..8, |n: usize| {
        let body = json!({ "code": format!("{to}-{n}") });
        let call = gateway.patch(&api).key(ADMIN_KEY).json(&body);
        async { call.send().await.status }
    })
    .await;
    assert_eq!(
        others.iter().filter(|status| **status == 200).count(),
        1,
        "{others:?}"
    );
    let winner = others.iter().position(|status| *status == 200).unwrap();
    let new = format!("{to}-{winner}");
    visit(&code).await.problem(404, "not-found");
    visit(&new).await.expect(302);
    visit(&new).await.expect(302);
    visit(&new).await.problem(410, "gone");
    let taken = json!({ "code": new });
    let other = way(&gateway, json!({})).await;
    let taken = gateway
        .patch(&format!("/api/links/{other}"))
        .key(ADMIN_KEY)
        .json(&taken);
    let taken = taken.send().await;
    taken.problem(409, "conflict");
    taken.points_at("#/code");
}

pub async fn visits_are_told_to_the_topic_of_events(host: Host) {
    let gateway = Gateway::start(host, "[events]\ntopic = \"own\"\n").await;
    let code = way(&gateway, json!({ "events": true })).await;
    for _ in 0..3 {
        let visit = gateway.get(&format!("/{code}")).header("user-agent", BROWSER);
        visit.send().await.expect(302);
    }
    let told = async || {
        let all = gateway.messages("own").await;
        let told = all.iter().filter(|message| message["type"] == "link.visited");
        told.map(|message| message["data"].clone()).collect::<Vec<_>>()
    };
    eventually("three visits are told", async || {
        (told().await.len() == 3).then_some(())
    })
    .await;
    let told = told().await;
    assert!(
        told.iter()
            .all(|data| data["code"] == code && data["target"] == "https://example.com/own"),
        "{told:?}"
    );
}

pub async fn lost_visitor_gets_a_page_in_the_language_of_the_browser(host: Host) {
    let gateway = Gateway::shared(host).await;
    let ask = |language: &str| {
        let call = gateway
            .get("/no-such-code")
            .header("accept", "text/html,*/*;q=0.8");
        call.header("accept-language", language).send()
    };
    for (language, words) in [
        ("ko-KR", "연결된 페이지가 없습니다"),
        ("de", "führt nirgendwohin"),
        ("en", "leads nowhere"),
    ] {
        let answer = ask(language).await.expect(404);
        assert!(answer.text().contains(words), "{}", answer.shown());
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    }
    gateway
        .get("/no-such-code")
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn lost_visitor_is_led_where_the_settings_say_and_codes_are_found_in_any_case(host: Host) {
    let settings = "[links]\nnot_found_url = \"https://example.com/404\"\ngone_url = \"https://example.com/410\"\ncase_insensitive = true\n";
    let gateway = Gateway::start(host, settings).await;
    let body = json!({ "url": "https://example.com/own", "code": "Mixed-Case" });
    let made = gateway
        .post("/api/links")
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201);
    assert_eq!(made.json()["code"], "mixed-case");
    let to = async |path: &str| {
        gateway
            .get(path)
            .send()
            .await
            .expect(302)
            .header("location")
            .to_owned()
    };
    for path in ["/mixed-case", "/MIXED-CASE", "/Mixed-Case"] {
        assert_eq!(to(path).await, "https://example.com/own", "{path}");
    }
    assert_eq!(to("/no-such-code").await, "https://example.com/404");
    let archived = gateway
        .patch("/api/links/MIXED-case")
        .key(ADMIN_KEY)
        .json(&json!({ "archived": true }));
    archived.send().await.expect(200);
    assert_eq!(to("/mixed-case").await, "https://example.com/410");
}
