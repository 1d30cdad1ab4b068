//! Hostile input: what is sent to exhaust the gateway, to confuse it, or to get around its rules. Every case ends with
//! others being served.

mod framing;
pub mod http2;
mod places;
mod slow;
mod uploads;

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{ADMIN_KEY, Gateway, Host, crowd, unique};

pub use framing::{
    one_request_never_gets_two_answers, the_parsers_refusals_are_problems_like_all_others,
    transfer_codings_that_are_not_understood_are_told,
};
pub use http2::{
    continuation_without_end_ends_the_connection, one_bad_stream_ends_alone, rapid_resets_end_the_connection,
};
pub use places::{
    answers_that_nobody_takes_end_their_connection, as_many_files_are_opened_as_the_system_allows,
    connections_that_only_answer_pings_keep_nobody_out,
    health_and_operators_get_through_while_all_places_are_busy,
    one_address_holds_its_share_of_connections_and_no_more,
};
pub use slow::{idle_connections_keep_nobody_out, slow_and_silent_clients_are_cut_off};
pub use uploads::{
    a_refused_upload_over_http_2_ends_its_stream_alone, a_refused_upload_without_end_is_cut_off,
    refused_uploads_get_their_answer, who_waits_to_be_told_to_send_is_answered_at_once,
};

/// By how much the memory of the gateway may grow, whatever a case does to it, in bytes. It holds what a hundred
/// thousand strangers may leave behind (buckets, cached absences), the buffers of ten thousand connections, and the
/// allocator's slack.
const GROWTH: u64 = 256 << 20;

/// Others are served: without a component, by a rule, and by a commit.
async fn serves_others(gateway: &Gateway) {
    for _ in 0..5 {
        gateway.get("/health/ready").send().await.expect(200);
        gateway
            .get("/api/campaigns")
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200);
        let posted = gateway.post("/signup").client(&unique("other"));
        posted.json(&json!({})).send().await.expect(202);
    }
}

fn assert_bounded(gateway: &Gateway, before: u64) {
    let after = gateway.memory();
    assert!(
        after < before + GROWTH,
        "memory grew from {} to {} MiB",
        before >> 20,
        after >> 20
    );
}

pub async fn a_hundred_thousand_client_ids_take_no_more_memory_than_their_bound(host: Host) {
    const CONNECTIONS: usize = 8;
    const EACH: usize = 12_500;
    let settings = "[clients]\nmax_buckets = 10000\n";
    let gateway = Gateway::start(host, settings).await;
    serves_others(&gateway).await;
    let before = gateway.memory();
    let address = gateway.address();
    let flood = crowd(CONNECTIONS, 0..CONNECTIONS, |connection| {
        let address = address.clone();
        async move {
            let stream = TcpStream::connect(address).await.expect("the gateway listens");
            let (mut reader, mut writer) = stream.into_split();
            let sending = tokio::spawn(async move {
                for number in 0..EACH {
                    let close = if number + 1 == EACH {
                        "connection: close\r\n"
                    } else {
                        ""
                    };
                    let request = format!(
                        "GET /c{connection}-{number} HTTP/1.1\r\nhost: short.test\r\n\
                         x-client-id: stranger-{connection}-{number}\r\n{close}\r\n"
                    );
                    writer.write_all(request.as_bytes()).await.expect("it reads on");
                }
                writer
            });
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.expect("it answers all");
            drop(sending.await);
            framing::statuses(&received)
        }
    });
    let (answers, ()) = tokio::join!(flood, serves_others(&gateway));
    let all: Vec<u16> = answers.into_iter().flatten().collect();
    assert_eq!(all.len(), CONNECTIONS * EACH);
    assert!(
        all.iter().all(|status| *status == 404),
        "each is answered by the rule"
    );
    assert_bounded(&gateway, before);
    serves_others(&gateway).await;
}

pub async fn heads_without_end_are_cut_off(host: Host) {
    const CLIENTS: usize = 50;
    /// Far beyond the bound of a head (32 KiB) and what sockets buffer.
    const ENOUGH: usize = 64 << 20;
    let gateway = Gateway::start(host, "").await;
    let (before, address) = (gateway.memory(), gateway.address());
    let floods = crowd(CLIENTS, 0..CLIENTS, |client| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
            // One endless field, endless fields, or an endless target.
            let (start, piece) = match client % 3 {
                0 => (
                    "GET / HTTP/1.1\r\nhost: short.test\r\nx-long: ",
                    "x".repeat(8_192),
                ),
                1 => (
                    "GET / HTTP/1.1\r\nhost: short.test\r\n",
                    "x-more: 1\r\n".repeat(800),
                ),
                _ => ("GET /", "x".repeat(8_192)),
            };
            let mut sent = 0;
            let mut ended = stream.write_all(start.as_bytes()).await.is_err();
            while !ended && sent < ENOUGH {
                ended = stream.write_all(piece.as_bytes()).await.is_err();
                sent += piece.len();
            }
            ended
        }
    });
    let (ended, ()) = tokio::join!(floods, serves_others(&gateway));
    assert!(
        ended.iter().all(|ended| *ended),
        "a head without end was read on and on"
    );
    assert_bounded(&gateway, before);
    serves_others(&gateway).await;
}

pub async fn json_made_to_hurt_is_refused(host: Host) {
    const ROUNDS: usize = 8;
    let gateway = Arc::new(Gateway::start(host, "").await);
    let key = gateway.key(&["links", "campaigns"]).await;
    let before = gateway.memory();
    let many = |piece: &str, size: usize| piece.repeat(size / piece.len());
    let most = 60 << 10;
    let fields: String = (0..4_000).map(|n| format!("\"f{n}\":1,")).collect();
    let tags = format!(
        "{{\"url\":\"https://example.com/\",\"tags\":[{}\"\"]}}",
        many("\"a\",", most)
    );
    let bodies = [
        many("[", most),
        many("{\"url\":", most),
        format!("{{\"url\":{}1}}", many("[", most)),
        format!("{{{fields}\"url\":\"https://example.com/\"}}"),
        format!("{{\"maxVisits\":{}}}", many("9", most)),
        format!("{{\"maxVisits\":1e{}}}", many("9", most)),
        format!("{{\"url\":\"https://example.com/{}\"}}", many("\\u0000", most)),
        format!("{{\"url\":\"{}\"}}", many("\\ud83d", most)),
        tags,
        many(" ", most),
    ];
    let all: Vec<(&str, String)> = bodies
        .iter()
        .flat_map(|body| [("/api/links", body.clone()), ("/api/campaigns", body.clone())])
        .collect();
    let jobs = (0..ROUNDS).flat_map(|_| all.iter().cloned());
    let attack = crowd(16, jobs, |(path, body)| {
        let call = gateway
            .post(path)
            .key(&key)
            .header("content-type", "application/json");
        call.body(body).send()
    });
    let (answers, ()) = tokio::join!(attack, serves_others(&gateway));
    for answer in answers {
        answer.problem(400, "invalid-request");
    }
    assert_bounded(&gateway, before);
}

/// Paths that a careless reader would take for others: none is a call, whoever asks, and none leads to a file.
pub async fn encoded_paths_are_no_way_around(host: Host) {
    let gateway = Gateway::shared(host).await;
    for path in [
        "/api%2fkeys",
        "/api/keys%2f",
        "/%61pi/keys",
        "/api/%6beys",
        "/API/keys",
        "/api/keys/",
        "/api/./keys",
        "/api/links/../keys",
        "/api/links/..%2fkeys",
        "/api/links/%2e%2e/keys",
        "/api/links/%2e%2e%2fkeys",
        "/api;x=1/keys",
        "/api/keys;x=1",
        "/api/keys%00",
        "/api/keys%20",
        "/api\\keys",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5cetc%5cpasswd",
        "/....//....//etc/passwd",
        "/%c0%ae%c0%ae/etc/passwd",
        "/robots.txt/..",
        "/robots.txt%2f..%2fapi%2fkeys",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: short.test\r\nconnection: close\r\nauthorization: Bearer {ADMIN_KEY}\r\n\r\n"
        );
        let answer = gateway.raw(request).await;
        assert!(
            matches!(answer.status, 400 | 404),
            "{path} is none of our paths\n{}",
            answer.shown()
        );
    }
}

/// The call of the API that only our host answers.
const HOST_ONLY: [&str; 3] = ["/api/events", "/api/links/top", "/api/limits/refusals"];

/// A sample of the table of `SECURITY.md` over HTTP; all of it is tested natively, in `crates/rules/src/authorization.rs`.
pub async fn every_call_asks_for_its_credential(host: Host) {
    let gateway = Gateway::shared(host).await;
    let table = include_str!("../../../SECURITY.md");
    let keys = [gateway.key(&["links"]).await, gateway.key(&["topics"]).await];
    let mut asked = 0;
    for line in table
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains(" /api/"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let call = cells[0].split('`').nth(1).expect("a call");
        let (method, path) = call.split_once(' ').expect("method and path");
        let path = path.replace("/:topic", "/signup").replace(':', "nobodys-");
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        // Columns: nobody, bad key, links, campaigns, topics. What is found out before the resource is looked for.
        for (cell, key) in [
            (cells[1], None),
            (cells[2], Some("tg_nobody_knows_this_key")),
            (cells[3], Some(keys[0].as_str())),
            (cells[5], Some(keys[1].as_str())),
        ] {
            let Ok(expected @ (401 | 403)) = cell.parse::<u16>() else {
                continue;
            };
            // Whether a link or a message is the caller's shows only when it is there.
            let owned = call.contains("/api/links/:code") || call.contains("/api/messages/:id");
            if owned && (expected == 403 || call.contains("messages")) {
                continue;
            }
            // A call that only our host answers is none under Spin, whoever asks.
            let expected = match host.is_spin() && HOST_ONLY.contains(&&*path) {
                true => 404,
                false => expected,
            };
            let request = gateway.call(method.clone(), &path);
            let request = match key {
                Some(key) => request.key(key),
                None => request,
            };
            let request = match expected {
                404 => request.outside_contract(),
                _ => request,
            };
            let answer = request.send().await;
            assert!(
                answer.status == expected || cells[0].contains("with `"),
                "expected {expected}\n{}",
                answer.shown()
            );
            asked += 1;
        }
    }
    assert!(asked > 60, "the table was not found: {asked}");
}
