//! What Spin does its own way: bodies and their ends, many instances on one database, a log that is kept for ever, and routes
//! that are fixed by the build.

mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{ADMIN_KEY, Call, Connection, Gateway, Host, Serve, crowd, eventually, unique};

pub use targets::the_application_passes_a_check_of_its_target;

/// What Spin wrote for the components of a gateway: what is in its files, and on stderr.
fn logged(gateway: &Gateway) -> String {
    fn read(directory: &Path, into: &mut String) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => read(&path, into),
                path if path.extension().is_some_and(|extension| extension == "txt") => {
                    into.push_str(&fs::read_to_string(&path).unwrap_or_default());
                }
                _ => {}
            }
        }
    }
    let mut all = String::new();
    read(gateway.directory(), &mut all);
    all
}

/// Every kind of call is answered.
async fn serves(gateway: &Gateway) {
    let key = gateway.key(&["links"]).await;
    let made = gateway
        .post("/api/links")
        .key(&key)
        .json(&json!({ "url": "https://example.com/" }));
    let code = made.send().await.expect(201).json()["code"]
        .as_str()
        .expect("it has one")
        .to_owned();
    gateway.get(&format!("/{code}")).send().await.expect(302);
    let campaign = gateway.campaign(1, json!({})).await;
    let claim = gateway
        .post(&format!("/api/campaigns/{campaign}/claims"))
        .user("u");
    claim.send().await.expect(201);
    gateway
        .post("/signup")
        .client(&unique("c"))
        .json(&json!({}))
        .send()
        .await
        .expect(202);
    gateway.get("/health/ready").send().await.expect(200);
}

pub async fn aborted_uploads_take_nobodys_place(host: Host) {
    const UPLOADS: usize = 6_000;
    let gateway = Gateway::start(host, "").await;
    serves(&gateway).await;
    let address = gateway.address();
    let paths = [
        "/api/links",
        "/api/campaigns/none/claims",
        "/signup",
        "/api/keys",
        "/nothing",
        "/none/none",
    ];
    crowd(32, 0..UPLOADS, |number| {
        let (address, path) = (address.clone(), paths[number % paths.len()]);
        async move {
            let mut stream = TcpStream::connect(&address).await.expect("it listens");
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\nx-client-id: c\r\nx-user-id: u\r\ncontent-type: application/json\r\n\
                 content-length: 30\r\n\r\n12345"
            );
            // It may have been answered, and closed, before all was sent.
            let _ = stream.write_all(head.as_bytes()).await;
        }
    })
    .await;
    for _ in 0..5 {
        serves(&gateway).await;
    }
}

pub async fn uploads_that_stall_are_given_up(host: Host) {
    let gateway = Gateway::shared(host).await;
    let mut connection = Connection::open(&gateway.address()).await.expect("it listens");
    let head = "POST /signup HTTP/1.1\r\nhost: a\r\nx-client-id: c\r\ncontent-type: application/json\r\n\
                content-length: 30\r\n\r\n12345";
    connection.send(head.as_bytes()).await.expect("it is read");
    let answer = connection.answer("POST /signup").await.expect("an answer");
    answer.problem(504, "timeout");
    // What says that it is too long is not waited for.
    let mut connection = Connection::open(&gateway.address()).await.expect("it listens");
    let head = "POST /signup HTTP/1.1\r\nhost: a\r\nx-client-id: c\r\ncontent-length: 99999999\r\n\r\n12345";
    connection.send(head.as_bytes()).await.expect("it is read");
    let answer = connection.answer("POST /signup").await.expect("an answer");
    answer.problem(413, "content-too-large");
}

pub async fn emptied_bucket_admits_nobody_however_busy_the_store(host: Host) {
    const CROWD: usize = 512;
    const ASKED: usize = 144;
    let limit = "[[limits]]\nname = \"hourly\"\npath = \"/api/hourly/...\"\ncapacity = 1\nrefill = 1\ninterval = \"1h\"\n";
    let gateway = Arc::new(Gateway::start(host, limit).await);
    let campaign = gateway.campaign(1_000_000, json!({})).await;
    let client = unique("greedy");
    gateway
        .get("/api/hourly/x")
        .client(&client)
        .send()
        .await
        .expect(404);
    let done = Arc::new(AtomicBool::new(false));
    let claims = {
        let (gateway, done) = (Arc::clone(&gateway), Arc::clone(&done));
        tokio::spawn(async move {
            crowd(CROWD, 0..CROWD, |_| {
                let (gateway, done, campaign) = (Arc::clone(&gateway), Arc::clone(&done), campaign.clone());
                async move {
                    while !done.load(Ordering::Relaxed) {
                        let claim = gateway.post(&format!("/api/campaigns/{campaign}/claims"));
                        // Under this load some are told to come back.
                        let _ = claim.user(&unique("user")).attempt().await;
                    }
                }
            })
            .await;
        })
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answers = crowd(16, 0..ASKED, |_| {
        gateway.get("/api/hourly/x").client(&client).send()
    })
    .await;
    done.store(true, Ordering::Relaxed);
    let told = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    eprintln!("refused {}, told to come back {}", told(429), told(503));
    assert_eq!(
        told(429) + told(503),
        ASKED,
        "{:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
    claims.await.expect("it has no reason to fail");
}

pub async fn two_gateways_on_one_state_directory_are_exact(host: Host) {
    const USERS: usize = 300;
    const QUANTITY: u64 = 20;
    let gateway = Gateway::start(host, "").await;
    let campaign = gateway.campaign(QUANTITY, json!({})).await;
    let (mut second, base) = gateway.twin().await;
    let client = reqwest::Client::new();
    let answers = crowd(32, 0..USERS, |number| {
        let path = format!("/api/campaigns/{campaign}/claims");
        let call = match number % 2 {
            0 => gateway.post(&path),
            _ => Call::new(
                client.request(Method::POST, format!("{base}{path}")),
                format!("POST {path}"),
            ),
        };
        // Every user asks both.
        call.user(&format!("user-{}", number / 2)).send()
    })
    .await;
    second.kill();
    let admitted: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .map(crate::harness::Answer::json)
        .collect();
    let sequences: BTreeSet<u64> = admitted
        .iter()
        .filter_map(|claim| claim["claim"]["sequence"].as_u64())
        .collect();
    let expected: BTreeSet<u64> = (1..=QUANTITY).collect();
    assert_eq!((admitted.len() as u64, sequences), (QUANTITY, expected));
    let state = gateway
        .get(&format!("/api/campaigns/{campaign}"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&state["admitted"], &state["remaining"]),
        (&json!(QUANTITY), &json!(0))
    );
}

pub async fn an_admin_key_is_asked_for_and_never_made(host: Host) {
    let gateway = Gateway::start_as(host, Serve::without_key(), "").await;
    // What needs no key works.
    let link = json!({ "url": "https://example.com/" });
    let made = gateway
        .post("/api/links")
        .client("c")
        .json(&link)
        .send()
        .await
        .expect(201);
    let code = made.json()["code"].as_str().expect("it has one").to_owned();
    gateway.get(&format!("/{code}")).send().await.expect(302);
    let user = gateway.post("/api/campaigns/none/claims").send().await;
    assert_ne!(user.status, 503, "{}", user.shown());
    for _ in 0..10 {
        for call in [
            gateway.get("/api/keys"),
            gateway.get("/api/links").key("tg_no-such-key-at-all"),
            gateway
                .post("/api/campaigns")
                .key(ADMIN_KEY)
                .json(&json!({ "quantity": 1 })),
            gateway.get("/api/topics"),
        ] {
            let problem = call.send().await.problem(503, "unavailable");
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(detail.contains("tollgate_admin_key"), "{problem}");
        }
    }
    let log = logged(&gateway);
    assert!(!log.contains("tg_"), "no key is made:\n{log}");
    assert_eq!(
        log.matches("there is no admin key").count(),
        1,
        "told once:\n{log}"
    );
    assert!(log.len() < 1_000, "told shortly:\n{log}");
}

pub async fn settings_that_are_not_valid_are_told(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let file = gateway.directory().join("tollgate.toml");
    let good = fs::read_to_string(&file).expect("it is ours");
    gateway.kill();
    let secret = "whsec_not-base64-but-secret";
    let bad = format!(
        "{good}\n[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"http://127.0.0.1:1/\"\nsecret = \"{secret}\"\n"
    );
    fs::write(&file, bad).expect("it is ours");
    gateway.restart().await;
    let answered = async |why: &str| {
        for path in [
            "/",
            "/abc1234",
            "/api/keys",
            "/api/campaigns",
            "/api/topics",
            "/health/live",
            "/health/ready",
        ] {
            for _ in 0..5 {
                let problem = gateway
                    .get(path)
                    .key(ADMIN_KEY)
                    .send()
                    .await
                    .problem(500, "internal");
                let detail = problem["detail"].as_str().unwrap_or_default();
                assert!(
                    detail.contains("not valid") && !detail.contains(secret),
                    "{problem}"
                );
            }
        }
        let log = logged(&gateway);
        assert_eq!(log.matches(why).count(), 1, "told once, and why:\n{log}");
        assert!(!log.contains(secret) && log.len() < 1_500, "told shortly:\n{log}");
    };
    answered("topics.signup.subscriptions[0].secret").await;
    gateway.kill();
    fs::write(&file, good).expect("it is ours");
    gateway.restart().await;
    gateway.get("/api/keys").key(ADMIN_KEY).send().await.expect(200);
    drop(gateway);
    for key in ["fifteen-chars-x", "tg_but-not-one-of-ours"] {
        let gateway = Gateway::start_as(host, Serve::with_key(key), "").await;
        gateway
            .get("/api/keys")
            .key(key)
            .send()
            .await
            .problem(500, "internal");
        gateway.get("/abc1234").send().await.problem(500, "internal");
        let log = logged(&gateway);
        assert_eq!(log.matches("variable tollgate_admin_key").count(), 1, "{log}");
        assert!(!log.contains(key), "{log}");
    }
}

pub async fn routes_that_came_without_a_build_are_told(host: Host) {
    let gateway = Gateway::start(host, "[[forward]]\npath = \"/contact\"\ntopic = \"contact\"\n").await;
    let contact = || gateway.post("/contact").client("c").json(&json!({}));
    for _ in 0..5 {
        contact().send().await.problem(503, "unavailable");
        gateway
            .get("/health/ready")
            .send()
            .await
            .problem(503, "unavailable");
    }
    gateway.get("/health/live").send().await.expect(200);
    gateway
        .post("/signup")
        .client("c")
        .json(&json!({}))
        .send()
        .await
        .expect(202);
    let log = eventually("it is in the log", async || {
        Some(logged(&gateway)).filter(|log| log.contains("spin build"))
    })
    .await;
    assert_eq!(log.matches("+/contact").count(), 1, "{log}");
    gateway.build_route("/contact").await;
    contact().send().await.expect(202);
    gateway.get("/health/ready").send().await.expect(200);
}

pub async fn paths_of_our_own_are_no_short_links(host: Host) {
    let gateway = Gateway::shared(host).await;
    for path in [
        "/health",
        "/openapi.json/x",
        "/docs/x",
        "/admin/x",
        "/api",
        "/a/b",
    ] {
        let problem = gateway.get(path).send().await.problem(404, "not-found");
        assert_eq!(problem["detail"], "There is nothing at this address.", "{path}");
        gateway.post(path).send().await.problem(404, "not-found");
    }
}
