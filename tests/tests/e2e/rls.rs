//! Envoy's rate limit service: by a client of our own, by one that does not play fair, and in front of a real Envoy with the guide's
//! configuration.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, Program, eventually, free_port, root};
use crate::hostile::http2::{PREFACE, RESET, SETTINGS, frame};

const ASK: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const LIMITS: &str = "[[limits]]\nname = \"each\"\ndomain = \"site\"\ndescriptor = [{ key = \"remote_address\" }]\ncapacity = 3\nrefill = 1\ninterval = \"1h\"\n\n\
    [[limits]]\nname = \"login\"\ndomain = \"site\"\ndescriptor = [{ key = \"path\", value = \"/login\" }]\ncapacity = 2\nrefill = 1\ninterval = \"1h\"\n";

/// A gateway with the service, which believes these, and the service's address.
async fn start(host: Host, proxies: &str) -> (Gateway, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let server = format!(
        "{LIMITS}\n[server]\npublic_url = \"http://short.test\"\ntrusted_proxies = [{proxies}]\nrls_listen = \"{address}\"\n"
    );
    (Gateway::start(host, &server).await, address)
}

/// A field of a message (type 2: bytes).
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut head = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        head.push((length % 128) as u8 | 128);
        length /= 128;
    }
    head.push(length as u8);
    [&head, bytes].concat()
}

fn request(domain: &str, descriptors: &[&[(&str, &str)]]) -> Vec<u8> {
    let entry = |(key, value): &(&str, &str)| {
        field(
            1,
            &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat(),
        )
    };
    let one = |entries: &&[(&str, &str)]| field(2, &entries.iter().flat_map(entry).collect::<Vec<_>>());
    [
        field(1, domain.as_bytes()),
        descriptors.iter().flat_map(one).collect(),
    ]
    .concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("it is short");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// The status of gRPC, and the message if there is one.
async fn call(address: &str, path: &str, body: Vec<u8>) -> (u32, Bytes) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build();
    let sent = client.expect("a client").post(format!("http://{address}{path}"));
    let answer = sent
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let answer = answer.body(body).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let code = |fields: &http::HeaderMap| {
        fields
            .get("grpc-status")
            .map(|code| code.to_str().unwrap().parse().unwrap())
    };
    if let Some(code) = code(answer.headers()) {
        return (code, Bytes::new());
    }
    let body = http::Response::from(answer)
        .into_body()
        .collect()
        .await
        .expect("a body");
    let code = body.trailers().and_then(code).expect("trailers");
    let bytes = body.to_bytes();
    let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
    assert_eq!(bytes.len(), 5 + length as usize);
    (code, bytes.slice(5..))
}

/// Whether a call is over its limit.
async fn is_over(address: &str, descriptors: &[&[(&str, &str)]]) -> bool {
    let (code, message) = call(address, ASK, framed(&request("site", descriptors))).await;
    assert_eq!(code, 0);
    match message[..2] {
        [0x08, 1] => false,
        [0x08, 2] => true,
        _ => panic!("{message:?}"),
    }
}

pub async fn descriptors_of_a_call_are_charged_together(host: Host) {
    let (gateway, address) = start(host, "\"127.0.0.1\"").await;
    for _ in 0..2 {
        assert!(!is_over(&address, &[&[("remote_address", "a")], &[("path", "/login")]]).await);
    }
    assert!(is_over(&address, &[&[("remote_address", "a")], &[("path", "/login")]]).await);
    // The refused call took nothing of the other.
    assert!(!is_over(&address, &[&[("remote_address", "a")]]).await);
    assert!(is_over(&address, &[&[("remote_address", "a")]]).await);
    assert!(!is_over(&address, &[&[("remote_address", "b")]]).await);
    assert!(!is_over(&address, &[&[("nobody", "counts this")]]).await);
    // What a caller makes long, or odd, is no way around the limit beside it: Envoy lets through what it is not told of.
    let long = format!("/{}", "x".repeat(59 << 10));
    assert!(is_over(&address, &[&[("path", &long)], &[("remote_address", "a")]]).await);
    let entry = |key: &[u8], value: &[u8]| field(2, &field(1, &[field(1, key), field(2, value)].concat()));
    let odd = [
        field(1, b"site"),
        entry(b"path", b"\xff"),
        entry(b"remote_address", b"a"),
    ]
    .concat();
    let (code, message) = call(&address, ASK, framed(&odd)).await;
    assert_eq!((code, &message[..2]), (0, &[8, 2][..]));
    assert_eq!(
        call(&address, HEALTH, framed(&[])).await,
        (0, Bytes::from_static(&[8, 1]))
    );
    assert_eq!(call(&address, HEALTH, framed(&field(1, b"other"))).await.0, 5);
    // Refusals are told where those of requests are.
    eventually("metrics tell of them", async || {
        let told = gateway.get("/metrics").key(ADMIN_KEY).send().await.expect(200);
        let line = "tollgate_limit_decisions_total{policy=\"login\",decision=\"refused\"} 1";
        let text = String::from_utf8_lossy(&told.body).into_owned();
        text.contains(line).then_some(())
    })
    .await;
    let limits = gateway
        .get("/api/limits")
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    let of = limits["limits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "login")
        .cloned();
    assert_eq!(of.unwrap()["descriptor"][0]["value"], "/login");
    // Requests of HTTP are none of its business.
    gateway.get("/login").send().await.expect(404);
}

pub async fn json_is_answered_as_the_reference_answers_it(host: Host) {
    let (_gateway, address) = start(host, "\"127.0.0.1\"").await;
    let ask = async |body: Value| {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let sent = client
            .post(format!("http://{address}/json"))
            .body(body.to_string());
        let answer = sent.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("text");
        (status, serde_json::from_str::<Value>(&text).expect("JSON"))
    };
    let body = json!({ "domain": "site", "descriptors": [{ "entries": [{ "key": "path", "value": "/login" }] }], "hitsAddend": 2 });
    let (status, answer) = ask(body.clone()).await;
    assert_eq!((status, &answer["overallCode"]), (200, &json!("OK")), "{answer}");
    let limit = json!({ "name": "login", "requestsPerUnit": 1, "unit": "HOUR" });
    assert_eq!(answer["statuses"][0]["currentLimit"], limit);
    let (status, answer) = ask(body).await;
    assert_eq!(
        (status, &answer["statuses"][0]["code"]),
        (429, &json!("OVER_LIMIT")),
        "{answer}"
    );
    for bad in [
        json!({}),
        json!({ "domain": "", "descriptors": [] }),
        json!([]),
        json!({ "domain": "a", "descriptors": [{ "entries": [] }] }),
    ] {
        assert_eq!(ask(bad.clone()).await.0, 400, "{bad}");
    }
}

pub async fn a_stranger_drains_nobodys_bucket(host: Host) {
    let (_gateway, address) = start(host, "\"192.0.2.1\"").await;
    let (code, _) = call(
        &address,
        ASK,
        framed(&request("site", &[&[("remote_address", "a")]])),
    )
    .await;
    assert_eq!(code, 7);
    assert_eq!(
        call(&address, HEALTH, framed(&[])).await.0,
        0,
        "whether it serves is told"
    );
}

pub async fn hostile_frames_are_bounded(host: Host) {
    let (gateway, address) = start(host, "\"127.0.0.1\"").await;
    let good = request("site", &[&[("remote_address", "z")]]);
    let many = request("site", &[&[("a", "b")] as &[_]; 6].map(|one| one));
    for (body, code) in [
        (Vec::new(), 3),
        (vec![0, 0, 0, 0], 3),
        (vec![0, 255, 255, 255, 255], 3),
        ([framed(&good), framed(&good)].concat(), 3),
        (vec![1, 0, 0, 0, 0], 12),
        (framed(&[0xff; 32]), 3),
        (framed(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]), 3),
        (framed(&field(1, b"site")), 3),
        (framed(&[&many[..], &many[6..], &many[6..]].concat()), 3),
        (vec![0; 2 << 20], 8),
    ] {
        assert_eq!(
            call(&address, ASK, body.clone()).await.0,
            code,
            "{:.40}",
            format!("{body:?}")
        );
    }
    assert_eq!(
        call(
            &address,
            "/envoy.service.ratelimit.v3.RateLimitService/Other",
            framed(&[])
        )
        .await
        .0,
        12
    );
    // Resets without end, and connections that say nothing or nonsense, end by themselves and keep nobody out.
    let mut silent = Vec::new();
    for start in [&b""[..], PREFACE, b"NONSENSE\r\n\r\n", &[0; 64]] {
        for _ in 0..8 {
            let mut stream = TcpStream::connect(&address).await.expect("it listens");
            let _ = stream.write_all(start).await;
            silent.push(stream);
        }
    }
    let mut stream = TcpStream::connect(&address).await.expect("it listens");
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for number in 0..20_000_u32 {
        bytes.extend(frame(1, 4, 2 * number + 1, &[0x82, 0x86, 0x84, 0x41, 1, b'a']));
        bytes.extend(frame(RESET, 0, 2 * number + 1, &[0; 4]));
    }
    let _ = stream.write_all(&bytes).await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut rest)).await;
    assert!(!is_over(&address, &[&[("remote_address", "z")]]).await);
    gateway.get("/health/ready").send().await.expect(200);
}

pub async fn envoy_asks_the_service_before_it_goes_on(host: Host) {
    let envoy = std::env::var("TOLLGATE_ENVOY").unwrap_or_else(|_| "envoy".into());
    let mut version = Command::new(&envoy);
    let found = version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {envoy} is not on this machine");
        return;
    }
    let (_gateway, address) = start(host, "\"127.0.0.0/8\"").await;
    let (origin, port) = (Origin::start().await, free_port());
    let guide = fs::read_to_string(root().join("docs/guides/envoy.md")).expect("the guide");
    let block = guide
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the guide has it");
    let of = |address: &str| address.rsplit(':').next().expect("a port").to_owned();
    let text = block
        .replace("port_value: 8081", &format!("port_value: {}", of(&address)))
        .replace(
            "port_value: 9000",
            &format!("port_value: {}", of(&origin.url(""))),
        )
        .replace("port_value: 8080", &format!("port_value: {port}"));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("envoy.yaml");
    fs::write(&file, text).expect("the directory is ours");
    let mut command = Command::new(&envoy);
    command
        .args(["--log-level", "error", "--use-dynamic-base-id", "-c"])
        .arg(&file);
    let _program = Program::start(command, directory.path());
    let base = format!("http://127.0.0.1:{port}");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let send = |path: &str| client.post(format!("{base}{path}")).body("a body").send();
    // One by one: the first are refused by Envoy itself, until it listens and knows that the service is well.
    eventually("Envoy listens", async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await;
    let mut statuses = Vec::new();
    let last = loop {
        let answer = send("/login").await.expect("an answer");
        let status = answer.status().as_u16();
        if status >= 500 && statuses.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        statuses.push(status);
        if statuses.len() == 3 {
            break answer;
        }
    };
    assert_eq!(statuses, [204, 204, 429], "two log-ins an hour");
    let wait = last
        .headers()
        .get("retry-after")
        .and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| (1..=3_600).contains(&wait)), "{wait:?}");
    // The refused one took nothing of the address, which has one of three left.
    assert_eq!(send("/other").await.expect("an answer").status(), 204);
    assert_eq!(send("/other").await.expect("an answer").status(), 429);
    assert_eq!(
        origin
            .deliveries()
            .iter()
            .filter(|one| &one.body[..] == b"a body")
            .count(),
        3
    );
}
