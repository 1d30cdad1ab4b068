//! Answers that are kept, and the last good one while an origin fails.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;

use super::upstream::{Scripted, head};
use super::{metric, shop};
use crate::harness::{Answer, Gateway, Host, eventually};

const CACHE: &str = "cache = \"by response headers\"";

/// An origin that answers with what comes of the path, and the heads that it was sent. `fields` of an answer, by the path.
async fn origin(
    fields: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (Scripted, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (seen, fields) = (Arc::clone(&heads), Arc::new(fields));
    let origin = Scripted::start(move |mut stream, _| {
        let (seen, fields) = (Arc::clone(&seen), Arc::clone(&fields));
        async move {
            while let Some(head) = head(&mut stream).await {
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(head.to_ascii_lowercase());
                    seen.len()
                };
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                if path.contains("slow") {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                let answer = match head.to_ascii_lowercase().contains("if-none-match: \"v1\"") {
                    true => format!(
                        "HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\n{}\r\n",
                        fields(&path)
                    ),
                    false => {
                        let body = format!("answer {number}");
                        format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{}\r\n{body}",
                            body.len(),
                            fields(&path)
                        )
                    }
                };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (origin, heads)
}

async fn get(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut call = gateway.get(path).outside_contract();
    for (name, value) in fields {
        call = call.header(name, value);
    }
    call.send().await
}

pub async fn answers_are_kept_as_they_say(_: Host) {
    let (origin, heads) = origin(|path| {
        let what = path.rsplit('/').next().unwrap_or_default();
        match what.split(['?', '-']).next().unwrap_or_default() {
            "fresh" | "slow" => "cache-control: max-age=60\r\netag: \"v1\"\r\n",
            "asked" => "cache-control: max-age=0\r\netag: \"v1\"\r\n",
            "vary" => "cache-control: max-age=60\r\nvary: accept-language\r\n",
            "private" => "cache-control: private, max-age=60\r\n",
            "nostore" => "cache-control: no-store\r\n",
            "cookie" => "cache-control: max-age=60\r\nset-cookie: a=b\r\n",
            "public" => "cache-control: public, max-age=60\r\n",
            _ => "",
        }
        .to_owned()
    })
    .await;
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], CACHE, "")).await;
    let hits = || heads.lock().unwrap().len();
    // Kept, with its age; by path and query.
    let first = get(&gateway, "/shop/fresh", &[]).await.expect(200);
    let again = get(&gateway, "/shop/fresh", &[("x-request-id", "second")])
        .await
        .expect(200);
    assert_eq!((first.text(), hits()), (again.text(), 1));
    assert_eq!(
        (again.header("age"), again.header("x-request-id")),
        ("0", "second")
    );
    get(&gateway, "/shop/fresh?b", &[]).await.expect(200);
    assert_eq!(hits(), 2);
    // Who has it is told so; who wants a new one gets one.
    let held = get(&gateway, "/shop/fresh", &[("if-none-match", "\"v0\", W/\"v1\"")])
        .await
        .expect(304);
    assert!(held.body.is_empty());
    assert_eq!(hits(), 2);
    get(&gateway, "/shop/fresh", &[("cache-control", "no-cache")])
        .await
        .expect(200);
    assert_eq!(hits(), 3);
    get(&gateway, "/shop/other", &[("cache-control", "only-if-cached")])
        .await
        .expect(504);
    // Not fresh, but the origin says that it still holds.
    let first = get(&gateway, "/shop/asked", &[]).await.expect(200);
    let again = get(&gateway, "/shop/asked", &[]).await.expect(200);
    assert_eq!(first.text(), again.text());
    assert!(
        heads
            .lock()
            .unwrap()
            .last()
            .is_some_and(|head| head.contains("if-none-match: \"v1\""))
    );
    // One answer for each language.
    let (english, german) = ([("accept-language", "en")], [("accept-language", "de")]);
    let one = get(&gateway, "/shop/vary", &english).await.text();
    let two = get(&gateway, "/shop/vary", &german).await.text();
    let before = hits();
    assert_eq!(get(&gateway, "/shop/vary", &english).await.text(), one);
    assert_eq!(get(&gateway, "/shop/vary", &german).await.text(), two);
    assert!(hits() == before && one != two);
    // What is somebody's own is kept for nobody.
    for (path, fields) in [
        ("/shop/private", &[][..]),
        ("/shop/nostore", &[]),
        ("/shop/cookie", &[]),
        ("/shop/plain", &[]),
        ("/shop/fresh-own", &[("authorization", "Bearer a")]),
        ("/shop/fresh-cookie", &[("cookie", "a=b")]),
        ("/shop/fresh-user", &[("x-user-id", "ann")]),
    ] {
        let one = get(&gateway, path, fields).await.text();
        assert_ne!(get(&gateway, path, fields).await.text(), one, "{path}");
        assert_ne!(get(&gateway, path, &[]).await.text(), one, "{path}");
    }
    let one = get(&gateway, "/shop/public", &[("authorization", "Bearer a")])
        .await
        .text();
    assert_eq!(get(&gateway, "/shop/public", &[]).await.text(), one);
    // Another host is another answer: the origin is told it.
    let before = hits();
    get(&gateway, "/shop/fresh", &[("host", "evil.example")])
        .await
        .expect(200);
    assert_eq!(hits(), before + 1);
    // What changes a thing ends what was kept of it.
    gateway
        .post("/shop/fresh")
        .outside_contract()
        .send()
        .await
        .expect(200);
    let before = hits();
    get(&gateway, "/shop/fresh", &[]).await.expect(200);
    assert_eq!(hits(), before + 1);
    // A crowd asks once.
    let crowd = (0..30).map(|_| get(&gateway, "/shop/slow", &[]));
    let answers = futures::future::join_all(crowd).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 200 && answer.body == answers[0].body)
    );
    assert_eq!(hits(), before + 2);
    assert!(metric(&gateway, &["tollgate_origin_cache_total", "\"hit\""]).await > 30.0);
}

pub async fn answers_are_kept_by_the_place_that_was_asked(_: Host) {
    let (origin, heads) = origin(|path| {
        match path.contains("private") {
            true => "cache-control: private\r\netag: \"v1\"\r\n",
            false => "cache-control: max-age=60\r\n",
        }
        .to_owned()
    })
    .await;
    let server = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let gateway = Gateway::start(
        Host::Native,
        &format!("{server}{}", shop(&[origin.url()], CACHE, "")),
    )
    .await;
    let of = async |name: &'static str, value: &'static str| {
        let answer = get(&gateway, "/shop/page", &[(name, value)]).await;
        answer.expect(200).text()
    };
    // A proxy that is believed serves several sites, and both schemes: no site gets the page of another.
    let mut pages = Vec::new();
    for (name, value) in [
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-host", "b.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=192.0.2.1;host=c.example"),
        ("x-none", ""),
    ] {
        let page = of(name, value).await;
        assert_eq!(of(name, value).await, page, "it is kept");
        assert!(!pages.contains(&page), "{name}: {value}");
        pages.push(page);
    }
    let hits = heads.lock().unwrap().len();
    assert_eq!(hits, pages.len());
    // What is kept for nobody may still be what the client has.
    let page = [("cookie", "a=b"), ("if-none-match", "\"v1\"")];
    get(&gateway, "/shop/private", &page).await.expect(304);
}

pub async fn large_answers_are_passed_on(_: Host) {
    let body = "x".repeat(300_000);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let sized = format!(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let more = "cache = \"by response headers\"\ncache_object = \"64KiB\"\ncache_memory = \"1MiB\"";
    for answer in [chunked, sized] {
        let origin = Scripted::says(answer).await;
        let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], more, "")).await;
        for _ in 0..3 {
            assert_eq!(get(&gateway, "/shop/x", &[]).await.expect(200).text(), body);
        }
    }
    // Many small ones stay within the memory that they may take.
    let (origin, _) = origin(|_| "cache-control: max-age=60\r\n".to_owned()).await;
    let more = "cache = \"by response headers\"\ncache_object = \"8KiB\"\ncache_memory = \"64KiB\"";
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], more, "")).await;
    for n in 0..200 {
        get(&gateway, &format!("/shop/{n}"), &[]).await.expect(200);
    }
    let bytes = metric(&gateway, &["tollgate_origin_cache_bytes", "shop"]).await;
    assert!(bytes > 0.0 && bytes <= 65_536.0, "{bytes}");
}

/// The story of the field: an origin that fails 20 % of the time, after one second, under a steady crowd.
pub async fn the_last_good_answer_is_given_while_the_origin_fails(_: Host) {
    const CROWD: usize = 600;
    let (count, is_down) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, down) = (Arc::clone(&count), Arc::clone(&is_down));
    let failing = Scripted::start(move |mut stream, _| {
        let (counted, down) = (Arc::clone(&counted), Arc::clone(&down));
        async move {
            while head(&mut stream).await.is_some() {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                let fails = down.load(Ordering::Relaxed) || number % 5 == 4;
                if fails {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                let status = if fails { "500 Oops" } else { "200 OK" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\ngood");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let with = "stale_if_error = \"10m\"\nstale_after = \"50ms\"\nbreaker = { open = \"2s\" }";
    let gateway = Gateway::start(Host::Native, &shop(&[failing.url()], with, "")).await;
    get(&gateway, "/shop/news", &[]).await.expect(200);
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let crowd = futures::stream::FuturesUnordered::new();
    for _ in 0..CROWD {
        ticks.tick().await;
        let call = gateway.get("/shop/news").outside_contract();
        crowd.push(tokio::spawn(async move {
            let began = Instant::now();
            let answer = call.send().await;
            (answer.status, answer.text(), began.elapsed())
        }));
    }
    let answers: Vec<_> = futures::future::join_all(crowd)
        .await
        .into_iter()
        .map(|done| done.expect("it ends"))
        .collect();
    assert!(
        answers
            .iter()
            .all(|(status, text, _)| *status == 200 && text == "good"),
        "{answers:?}"
    );
    let mut times: Vec<Duration> = answers.iter().map(|(.., time)| *time).collect();
    times.sort();
    let p99 = times[CROWD * 99 / 100];
    eprintln!(
        "p50 {:?}, p99 {p99:?}, slowest {:?}",
        times[CROWD / 2],
        times[CROWD - 1]
    );
    // Under 100 ms on a machine of its own; here others run beside it.
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
    assert!(metric(&gateway, &["tollgate_origin_cache_total", "\"stale\""]).await > 0.0);
    // Down altogether: the breaker opens, and the last good answer goes on, with its age and a warning.
    is_down.store(true, Ordering::Relaxed);
    eventually("the breaker opens", async || {
        get(&gateway, "/shop/news", &[]).await.expect(200);
        (metric(&gateway, &["tollgate_origin_circuit_state", "shop"]).await == 2.0).then_some(())
    })
    .await;
    let answer = get(&gateway, "/shop/news", &[]).await.expect(200);
    assert!(answer.header("warning").starts_with("111 "), "{}", answer.shown());
    answer.header("age").parse::<u64>().expect("seconds");
    // What was never asked for has no last answer: 503 at once.
    let began = Instant::now();
    let answer = get(&gateway, "/shop/other", &[]).await;
    answer.problem(503, "unavailable");
    answer.header("retry-after");
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    // Nor does anybody get what was asked for by somebody else.
    get(&gateway, "/shop/news", &[("authorization", "Bearer a")])
        .await
        .expect(503);
}
