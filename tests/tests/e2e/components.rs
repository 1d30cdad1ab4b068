//! Components of the operator's own (`[[components]]`): what they are given, what they may do, and what becomes of those that
//! misbehave (`tests/guests/http`).

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, Gateway, Host, Origin, binary, built_components, eventually};

/// How long a request of the one that misbehaves may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One of the components that were built, on `/<name>/...`, with more of its settings.
fn component(name: &str, file: &str, more: &str) -> String {
    let source = built_components().join(format!("{file}.wasm"));
    format!(
        "[[components]]\nname = \"{name}\"\npath = \"/{name}/...\"\nsource = \"{}\"\n{more}\n",
        source.display()
    )
}

fn misbehaving(more: &str) -> String {
    component(
        "own",
        "misbehaving-http",
        &format!("timeout = \"{}s\"\n{more}", TIMEOUT.as_secs()),
    )
}

async fn behaves(gateway: &Gateway) {
    let answer = gateway.get("/own/behaves").send().await.expect(200);
    assert_eq!(answer.text(), "fine");
}

async fn link(gateway: &Gateway, code: &str) -> Answer {
    let body = json!({ "url": "https://example.com/", "code": code });
    gateway.post("/api/links").key(ADMIN_KEY).json(&body).send().await
}

pub async fn a_component_answers_behind_the_limiter(host: Host) {
    let limit = "[[limits]]\nname = \"greetings\"\npath = \"/hello/...\"\ncapacity = 3\nrefill = 1\ninterval = \"1h\"\n";
    let hello = component(
        "hello",
        "hello-component",
        "environment = { GREETING = \"good day\" }",
    );
    let gateway = Gateway::start(host, &format!("{limit}{hello}")).await;
    for count in 1..=2 {
        let answer = gateway
            .get("/hello/ann")
            .header("x-request-id", "mine-1")
            .send()
            .await
            .expect(200);
        assert_eq!(answer.text(), format!("good day, ann! ({count})\n"));
        assert_eq!(answer.header("x-request-id"), "mine-1");
    }
    let head = gateway.head("/hello/bob").send().await.expect(200);
    assert!(head.body.is_empty());
    // A refused one does not reach it.
    let refused = gateway.get("/hello/ann").send().await;
    refused.problem(
        429,
        "https://iana.org/assignments/http-problem-types#quota-exceeded",
    );
    assert!(
        refused.header("ratelimit").contains("greetings"),
        "{}",
        refused.shown()
    );
    // Its first segment is no code.
    link(&gateway, "hello").await.names("#/code");
    link(&gateway, "hallo").await.expect(201);
    gateway.get("/hallo").send().await.expect(302);
    gateway.get("/health/ready").send().await.expect(200);
    // What it counted survives.
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    assert_eq!(
        gateway.get("/hello/ann").send().await.expect(200).text(),
        "good day, ann! (3)\n"
    );
}

pub async fn it_gets_the_request_and_nothing_else(host: Host) {
    let gateway = Gateway::start(
        host,
        &misbehaving("strip_prefix = \"/own\"\nenvironment = { A = \"1\" }"),
    )
    .await;
    let told = gateway.raw(
        "PATCH /own/a%20b/tells?q=1&r HTTP/1.1\r\nhost: shop.test:81\r\nx-two: 1\r\nx-two: 2\r\nconnection: close, x-hop\r\n\
         x-hop: 1\r\nkeep-alive: 5\r\nspin-client-addr: 9.9.9.9:1\r\nauthorization: Bearer of-somebody\r\n\r\n",
    );
    let told = told.await.expect(200);
    let id = told.header("x-request-id").to_owned();
    let told = told.json();
    assert_eq!(told["method"], "PATCH");
    assert_eq!(told["uri"], "http://shop.test:81/a%20b/tells?q=1&r");
    let values = |name: &str| -> Vec<String> {
        let headers = told["headers"].as_array().unwrap().iter();
        let named = headers.filter(|header| header[0] == name);
        named
            .map(|header| header[1].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(values("x-two"), ["1", "2"]);
    assert_eq!(values("authorization"), ["Bearer of-somebody"]);
    assert_eq!(values("x-request-id"), [id]);
    for hop in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
        assert!(values(hop).is_empty(), "{hop}: {told}");
    }
    let address = values("spin-client-addr");
    assert!(
        address.len() == 1 && address[0].starts_with("127.0.0.1:"),
        "{address:?}"
    );
    assert_eq!(told["environment"], json!([["A", "1"]]));
    assert_eq!(told["files"], false);
    let origin = Origin::start().await;
    let target = origin
        .url("")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let told = gateway
        .get(&format!("/own/tells?{target}"))
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(told["socket"], false);
    // However the path is written, the component sees what is behind its own part of it.
    let told = gateway
        .raw("GET //own/tells HTTP/1.0\r\nhost: a\r\n\r\n")
        .await
        .expect(200);
    assert_eq!(told.json()["uri"], "http://a/tells");
    let told = gateway
        .raw("GET /own HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .expect(200);
    assert_eq!(told.text(), "fine");
}

pub async fn bodies_stream_both_ways_within_bounds(host: Host) {
    let gateway = Gateway::start(host, &misbehaving("")).await;
    let body: Vec<u8> = (0..60_000_u32).map(|n| n as u8).collect();
    let echo = gateway
        .post("/own/echoes")
        .body(body.clone())
        .send()
        .await
        .expect(200);
    assert!(echo.body == body);
    let swallowed = gateway
        .post("/own/swallows")
        .body(body.clone())
        .send()
        .await
        .expect(200);
    assert_eq!(swallowed.text(), "60000");
    // What is too large is refused, whether it says so before or not.
    let large = vec![1; 100_000];
    gateway
        .post("/own/swallows")
        .body(large.clone())
        .send()
        .await
        .problem(413, "content-too-large");
    let mut chunked =
        b"POST /own/swallows HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n".to_vec();
    chunked.extend(large);
    chunked.extend(b"\r\n0\r\n\r\n");
    gateway.raw(chunked).await.problem(413, "content-too-large");
    // An answer without an end comes bit by bit, and ends with the request's time; nobody takes it for a whole one.
    let began = Instant::now();
    let url = format!("http://{}/own/trickles", gateway.address());
    let mut answer = reqwest::get(url).await.expect("an answer");
    let first = answer.chunk().await.expect("a piece").expect("of words");
    assert!(
        first.starts_with(b"words") && began.elapsed() < TIMEOUT / 2,
        "{:?}",
        began.elapsed()
    );
    let last = loop {
        match answer.chunk().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(last.is_err(), "{last:?}");
    let took = began.elapsed();
    assert!(took >= TIMEOUT / 2 && took < TIMEOUT * 3, "{took:?}");
    behaves(&gateway).await;
}

pub async fn each_misbehaving_one_ends_and_redirects_go_on(host: Host) {
    let gateway = Gateway::start(host, &misbehaving("memory = \"16MiB\"\nconcurrency = 4")).await;
    link(&gateway, "beside").await.expect(201);
    behaves(&gateway).await;
    for manner in ["traps", "panics", "exits", "recurses", "allocates", "fails"] {
        for _ in 0..3 {
            let answer = gateway.get(&format!("/own/{manner}")).send().await;
            answer.problem(502, "component-failed");
            behaves(&gateway).await;
        }
    }
    for manner in ["loops", "waits"] {
        // As many as there are places: all threads of components have one that does not let go.
        let stuck: Vec<_> = (0..4)
            .map(|_| tokio::spawn(gateway.get(&format!("/own/{manner}")).send()))
            .collect();
        let mut slowest = Duration::ZERO;
        let mut redirects = 0;
        while !stuck.iter().all(|one| one.is_finished()) {
            let began = Instant::now();
            gateway.get("/beside").send().await.expect(302);
            slowest = slowest.max(began.elapsed());
            redirects += 1;
        }
        assert!(
            redirects > 10 && slowest < TIMEOUT / 2,
            "{manner}: {redirects}, {slowest:?}"
        );
        for one in stuck {
            one.await.expect("it was answered").problem(504, "timeout");
        }
        behaves(&gateway).await;
    }
    // What it says is in the log, with its name, up to a bound.
    gateway.get("/own/talks").send().await.expect(200);
    eventually("it is in the log", async || {
        let log = gateway.stderr();
        (log.contains(r#""component":"own""#) && log.contains("as asked for")).then_some(())
    })
    .await;
}

pub async fn who_waits_for_a_place_is_served_or_told(host: Host) {
    let gateway = Gateway::start(host, &misbehaving("concurrency = 1")).await;
    let first = tokio::spawn(gateway.get("/own/waits").send());
    tokio::time::sleep(TIMEOUT / 4).await;
    // This one has more time than the first has left.
    behaves(&gateway).await;
    first.await.expect("it was answered").problem(504, "timeout");
    // Beyond those that may wait, the next is told at once.
    let all = (0..600).map(|_| gateway.get("/own/waits").send());
    let answers = futures::future::join_all(all).await;
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(busy.len() >= 600 - 512 - 4, "{}", busy.len());
    busy.iter().for_each(|answer| {
        answer.problem(503, "unavailable");
        answer.header("retry-after");
    });
    behaves(&gateway).await;
}

pub async fn calls_reach_whom_they_may(host: Host) {
    let origin = Origin::start().await;
    let url = origin.url("/called");
    let (allowed, _) = url.rsplit_once('/').unwrap();
    let both = format!(
        "{}{}",
        misbehaving(&format!("allowed_outbound_hosts = [\"{allowed}\"]")),
        component("silent", "misbehaving-http", "")
    );
    let gateway = Gateway::start(host, &both).await;
    let answer = gateway.get(&format!("/own/calls?{url}")).send().await.expect(200);
    assert_ne!(answer.text(), "", "{}", answer.shown());
    assert!(!answer.text().contains("Denied"), "{}", answer.shown());
    let calls = origin.deliveries();
    assert!(calls.len() == 1 && url.contains(calls[0].header("host")) && !calls[0].header("host").is_empty());
    for (path, target) in [
        ("/silent", url.as_str()),
        ("/own", "http://127.0.0.1:1/"),
        ("/own", "http://localhost/"),
    ] {
        let answer = gateway
            .get(&format!("{path}/calls?{target}"))
            .send()
            .await
            .expect(200);
        assert!(answer.text().contains("Denied"), "{}", answer.shown());
    }
    assert_eq!(origin.deliveries().len(), 1);
}

pub async fn it_sees_its_own_part_of_the_store(host: Host) {
    let other = component("other", "misbehaving-http", "");
    let gateway = Gateway::start(host, &format!("{}{other}", misbehaving(""))).await;
    link(&gateway, "hello").await.expect(201);
    let sees = async |path: &str| -> Value { gateway.get(path).send().await.expect(200).json() };
    let own = json!({ "done": true, "keys": ["a"], "topics": ["a"], "read": ["a"], "link": false });
    assert_eq!(sees("/own/stores?a").await, own);
    assert_eq!(sees("/other/stores?a").await, own);
    let both =
        json!({ "done": true, "keys": ["a", "b"], "topics": ["a", "b"], "read": ["b"], "link": false });
    assert_eq!(sees("/own/stores?b").await, both);
    assert_eq!(gateway.messages("signup").await, Vec::<Value>::new());
}

pub async fn what_speaks_an_older_http_is_served_too(host: Host) {
    let old = component("old", "old-http", "timeout = \"1s\"");
    let gateway = Gateway::start(host, &old).await;
    // Each has an instance of its own, as it expects.
    for _ in 0..3 {
        let answer = gateway.get("/old/behaves?x=1").send().await.expect(200);
        assert_eq!(answer.text(), "/old/behaves?x=1 1");
    }
    for manner in ["traps", "forgets"] {
        gateway
            .get(&format!("/old/{manner}"))
            .send()
            .await
            .problem(502, "component-failed");
    }
    gateway.get("/old/loops").send().await.problem(504, "timeout");
    gateway.get("/old/behaves").send().await.expect(200);
}

pub async fn a_broken_one_does_not_start(host: Host) {
    assert_eq!(host, Host::Native);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    fs::write(directory.path().join("core.wasm"), b"\0asm\x01\0\0\0").expect("it is ours");
    fs::write(directory.path().join("empty.wasm"), b"\0asm\x0d\0\x01\0").expect("it is ours");
    for (file, why) in [
        ("missing.wasm", "cannot read missing.wasm"),
        ("core.wasm", "wasm-tools component new"),
        ("empty.wasm", "exports no handler"),
    ] {
        let settings = format!("[[components]]\nname = \"a\"\npath = \"/a\"\nsource = \"{file}\"\n");
        fs::write(directory.path().join("tollgate.toml"), settings).expect("it is ours");
        for command in ["check", "serve"] {
            let output = Command::new(binary())
                .arg(command)
                .args(["--listen", "127.0.0.1:0", "--data", "data"])
                .current_dir(directory.path())
                .output()
                .expect("the binary runs");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && told.contains(why) && told.contains(file),
                "{command}: {told}"
            );
        }
    }
}
