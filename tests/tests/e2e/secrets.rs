//! Secrets stay secret: a gateway that logs everything it can, with secrets of every kind that are found nowhere else.

use std::fs;

use serde_json::json;

use crate::harness::{Gateway, Host, Origin, Serve, eventually, unique};

/// Known to nobody but this case; as long as a configured key may be guessed to be.
const ADMIN: &str = "admin-key-of-the-case-about-secrets-7f3a9c";
/// 32 bytes that are no text.
const WEBHOOK: &str = "whsec_w7xK0d3Jq1vYbGm5Zt8RhLs2NcXpEaUoFiWy9BQkT4M=";
const IDEMPOTENCY: &str = "idempotency-key-of-the-case-5d1e";

pub async fn secrets_are_in_no_log_no_problem_and_no_file(host: Host) {
    let origin = Origin::start().await;
    let settings = format!(
        "[access_log]\nformat = \"json\"\npath = \"stderr\"\nsample_refusals = 1.0\n\
         [[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nsecret = \"{WEBHOOK}\"\n\
         allow_private_addresses = true\n",
        origin.url("/hook")
    );
    let serve = Serve {
        log: "trace".into(),
        ..Serve::with_key(ADMIN)
    };
    let gateway = Gateway::start_as(host, serve, &settings).await;
    let key_of = async |scope: &str| -> String {
        let body = json!({ "name": "of the case", "scopes": [scope] });
        let made = gateway
            .post("/api/keys")
            .key(ADMIN)
            .json(&body)
            .send()
            .await
            .expect(201);
        made.json()["key"].as_str().expect("it is shown once").to_owned()
    };
    let (links, topics) = (key_of("links").await, key_of("topics").await);
    let link = gateway
        .post("/api/links")
        .client("c")
        .json(&json!({ "url": "https://example.com/" }));
    let link = link.send().await.expect(201).json();
    let token = link["manageToken"].as_str().expect("it is shown once").to_owned();
    let hook = gateway.put("/api/topics/signup/subscriptions/made").key(&topics);
    let hook = hook
        .json(&json!({ "url": "https://hook.invalid/" }))
        .send()
        .await
        .expect(201)
        .json();
    let made_up = hook["secret"].as_str().expect("it is shown once").to_owned();
    let posted = gateway
        .post("/signup")
        .client(&unique("poster"))
        .header("idempotency-key", &format!("\"{IDEMPOTENCY}\""))
        .json(&json!({}));
    posted.send().await.expect(202);
    eventually("the message is delivered", async || {
        origin
            .deliveries()
            .into_iter()
            .find(|delivery| delivery.path == "/hook")
    })
    .await;

    let secrets = [
        ("the admin key", ADMIN),
        ("an API key", links.rsplit('_').next().expect("it has parts")),
        (
            "another API key",
            topics.rsplit('_').next().expect("it has parts"),
        ),
        ("a manage token", token.trim_start_matches("lm_")),
        (
            "the webhook secret of the file",
            WEBHOOK.trim_start_matches("whsec_"),
        ),
        (
            "the webhook secret that was made up",
            made_up.trim_start_matches("whsec_"),
        ),
        ("an idempotency key", IDEMPOTENCY),
    ];
    let h2 = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .expect("a client");
    // Every secret, wherever a caller may put one by mistake or on purpose, so that it is refused.
    let mut problems = Vec::new();
    for key in [ADMIN, &links, &topics, &token, WEBHOOK] {
        let cut = &key[..key.len() - 1];
        for (method, path) in [
            ("GET", "/api/nothing"),
            ("POST", "/api/links"),
            ("PUT", "/api/links"),
            ("GET", "/api/limits"),
            ("PUT", "/api/topics/signup/subscriptions/origin"),
        ] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
            let call = gateway.call(method.clone(), path).key(key);
            problems.push(call.body("{\"url\":5}").send().await);
            problems.push(gateway.call(method.clone(), path).key(cut).send().await);
            let call = gateway.call_through(&h2, method, path).key(key);
            problems.push(call.body("{\"url\":5}").send().await);
        }
        let basic = gateway
            .get("/api/keys")
            .header("authorization", &format!("Basic {key}"));
        problems.push(basic.send().await);
    }
    let short = json!({ "url": "https://example.com/", "secret": &WEBHOOK[..WEBHOOK.len() - 1] });
    let refused = gateway
        .put("/api/topics/signup/subscriptions/bad")
        .key(&topics)
        .json(&short);
    problems.push(refused.send().await.expect(400));
    let again = gateway
        .post("/signup")
        .client("other")
        .header("idempotency-key", &format!("\"{IDEMPOTENCY}"));
    problems.push(again.json(&json!({ "other": true })).send().await.expect(400));
    for path in ["/api/topics/signup/subscriptions", "/api/keys"] {
        problems.push(gateway.get(path).key(ADMIN).send().await.expect(200));
    }
    for answer in &problems {
        for (what, secret) in secrets {
            assert!(
                !answer.shown().contains(secret),
                "{what} is in an answer\n{}",
                answer.shown()
            );
        }
        assert!(
            !answer.text().contains(&WEBHOOK[6..30]),
            "a broken secret is in an answer\n{}",
            answer.shown()
        );
    }
    let log = gateway.stderr();
    assert!(log.contains("\"TRACE\""), "the gateway was to log everything");
    for (what, secret) in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(
            line.is_none(),
            "{what} is in the log: {}",
            line.unwrap_or_default()
        );
    }

    assert!(gateway.stop().await.success());
    let files = fs::read_dir(gateway.directory().join("data")).expect("it is there");
    let files = files.filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_file()));
    let mut read = 0;
    for path in files {
        let bytes = fs::read(&path).expect("it is ours");
        read += bytes.len();
        let holds = |secret: &str| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        };
        for (what, secret) in secrets {
            // Signing needs it: see SECURITY.md.
            if secret != made_up.trim_start_matches("whsec_") {
                assert!(!holds(secret), "{what} is in {}", path.display());
            }
        }
    }
    assert!(read > 0, "there is a database");
}
