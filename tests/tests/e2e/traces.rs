//! Traces: from the door to the origin in one of them, whatever the collector does, and whatever strangers send.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, Reply, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// What the collector asks for.
const KEY: &str = "the-key-of-the-collector";
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
/// Longer than spans wait to be sent together.
const QUIET: Duration = Duration::from_millis(2_500);

fn traces(endpoint: &str, more: &str) -> String {
    format!("[traces]\nendpoint = \"{endpoint}\"\nheaders = {{ x-api-key = \"{KEY}\" }}\n{more}\n")
}

fn to(origin: &Origin) -> String {
    format!(
        "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nallow_private_addresses = true\n",
        origin.url("/hook")
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a collector was sent so far.
fn spans(collector: &Origin) -> Vec<Span> {
    let mut spans = Vec::new();
    for delivery in collector.taken() {
        assert_eq!(delivery.path, "/v1/traces");
        assert_eq!(delivery.header("content-type"), "application/x-protobuf");
        assert_eq!(delivery.header("x-api-key"), KEY);
        let sent = ExportTraceServiceRequest::decode(delivery.body).expect("OTLP");
        for resource in sent.resource_spans {
            let of = resource.resource.expect("a resource");
            assert_eq!(
                attribute(&of.attributes, "service.name").as_deref(),
                Some("tollgate")
            );
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

fn attribute(of: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> Option<String> {
    let value = of.iter().find(|one| one.key == key)?.value.clone()?.value?;
    Some(match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// The spans of one trace, by name, once all of these are there.
async fn trace(collector: &Origin, id: &str, names: &[&str]) -> BTreeMap<String, Span> {
    let what = format!("{names:?} of {id}");
    eventually(&what, async || {
        let all = spans(collector)
            .into_iter()
            .filter(|span| hex(&span.trace_id) == id);
        let all: BTreeMap<_, _> = all.map(|span| (span.name.clone(), span)).collect();
        names.iter().all(|name| all.contains_key(*name)).then_some(all)
    })
    .await
}

/// Attributes that a printed trace shows.
const SHOWN: [&str; 4] = [
    "http.response.status_code",
    "tollgate.threads",
    "tollgate.attempt",
    "tollgate.outcome",
];

/// A trace as a tree, for people who run a case with `--nocapture`: when each span began, and how long it took. `origin`: what an
/// origin was told of its place.
fn print(spans: &[Span], origin: &[String]) {
    let mut spans: Vec<&Span> = spans.iter().collect();
    spans.sort_by_key(|span| span.start_time_unix_nano);
    let first = spans.first().map_or(0, |span| span.start_time_unix_nano);
    let Some(root) = spans
        .iter()
        .find(|span| spans.iter().all(|other| other.span_id != span.parent_span_id))
    else {
        return;
    };
    eprintln!("trace {}", hex(&root.trace_id));
    branch(&spans, root, 0, first, origin);
}

fn branch(spans: &[&Span], span: &Span, depth: usize, first: u64, origin: &[String]) {
    let (began, took) = (
        span.start_time_unix_nano - first,
        span.end_time_unix_nano - span.start_time_unix_nano,
    );
    let told = SHOWN.iter().filter_map(|key| {
        let value = attribute(&span.attributes, key)?;
        Some(format!("{}={value}", key.rsplit('.').next()?))
    });
    let told: Vec<String> = told.collect();
    let name = format!("{:indent$}{}", "", span.name, indent = 2 * depth);
    let (began, took) = (began as f64 / 1e6, took as f64 / 1e6);
    eprintln!(
        "{began:>9.3} ms {took:>9.3} ms  {}  {name:<26} {}",
        hex(&span.span_id),
        told.join(" ")
    );
    for place in origin.iter().filter(|place| place.contains(&hex(&span.span_id))) {
        eprintln!("{:48}{:indent$}origin: {place}", "", "", indent = 2 * depth);
    }
    for below in spans.iter().filter(|below| below.parent_span_id == span.span_id) {
        branch(spans, below, depth + 1, first, origin);
    }
}

/// The spans of one trace so far.
fn of_trace(collector: &Origin, id: &str) -> Vec<Span> {
    let mut all = spans(collector);
    all.retain(|span| hex(&span.trace_id) == id);
    all
}

/// The places in traces that an origin was told.
fn places(origin: &Origin) -> Vec<String> {
    let deliveries = origin.deliveries().into_iter();
    deliveries
        .map(|delivery| delivery.header("traceparent").to_owned())
        .collect()
}

pub async fn a_trace_leads_from_the_door_to_the_origin(host: Host) {
    let (origin, collector) = (Origin::start().await, Origin::start().await);
    // The first attempt fails: each has a span.
    origin.behave({
        let count = std::sync::atomic::AtomicU32::new(0);
        move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Reply::status(503),
            _ => Reply::status(204),
        }
    });
    let retry = "retry = { initial = \"100ms\", factor = 1.0, cap = \"1s\", max_attempts = 5 }\n";
    let settings = format!(
        "{}{}{retry}",
        traces(&collector.url(""), "sample = 1.0"),
        to(&origin)
    );
    let gateway = Gateway::start(host, &settings).await;
    let sent = gateway
        .post("/signup")
        .client("ann")
        .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
        .header("x-request-id", "from-door-to-origin");
    sent.body("hello").send().await.expect(202);
    let taken = eventually("it is delivered", async || origin.taken().into_iter().next()).await;
    let place = taken.header("traceparent").to_owned();
    let parts: Vec<&str> = place.split('-').collect();
    let [_, id, delivery, "01"] = parts[..] else {
        panic!("{place}");
    };
    assert_ne!(id, TRACE, "a stranger's id is not taken over");
    let names = ["POST forward", "rule", "body", "commit", "deliver signup"];
    let spans = trace(&collector, id, &names).await;
    print(&of_trace(&collector, id), &places(&origin));
    let [server, rule, body, commit, deliver] = names.map(|name| &spans[name]);
    assert_eq!(server.kind, SERVER);
    assert!(server.parent_span_id.is_empty(), "the trace begins at the door");
    assert_eq!(
        hex(&server.links[0].trace_id),
        TRACE,
        "what the stranger sent is linked to"
    );
    assert_eq!(
        attribute(&server.attributes, "http.response.status_code").as_deref(),
        Some("202")
    );
    assert_eq!(
        attribute(&server.attributes, "tollgate.request_id").as_deref(),
        Some("from-door-to-origin")
    );
    assert_eq!(rule.parent_span_id, server.span_id);
    assert_eq!(
        (&body.parent_span_id, &commit.parent_span_id),
        (&rule.span_id, &rule.span_id)
    );
    assert_eq!(deliver.parent_span_id, server.span_id);
    assert_eq!(
        hex(&deliver.span_id),
        delivery,
        "the origin is below the attempt that it got"
    );
    assert_eq!(
        attribute(&deliver.attributes, "tollgate.outcome").as_deref(),
        Some("accepted")
    );
    for (outer, inner) in [(server, rule), (rule, commit), (rule, body)] {
        assert!(
            outer.start_time_unix_nano <= inner.start_time_unix_nano,
            "{outer:?}\n{inner:?}"
        );
        assert!(
            inner.end_time_unix_nano <= outer.end_time_unix_nano,
            "{outer:?}\n{inner:?}"
        );
    }
    assert!(commit.end_time_unix_nano > commit.start_time_unix_nano);
    let attempts = self::spans(&collector);
    let attempts = attempts.iter().filter(|span| span.name == "deliver signup");
    let mut attempts: Vec<_> = attempts
        .map(|span| {
            ["tollgate.attempt", "tollgate.outcome"]
                .map(|key| attribute(&span.attributes, key).expect("it is there"))
        })
        .collect();
    attempts.sort();
    assert_eq!(attempts, [["1", "refused"], ["2", "accepted"]]);
    let read = gateway.messages("signup").await.remove(0);
    assert_eq!(
        read["traceparent"],
        format!("00-{id}-{}-01", hex(&server.span_id))
    );

    // A call of the rest, and one that the host answers.
    gateway.get("/api/links").key(ADMIN_KEY).send().await.expect(200);
    gateway.get("/health/live").send().await.expect(200);
    eventually("both have spans", async || {
        let all = self::spans(&collector);
        let named = |name: &str| all.iter().find(|span| span.name == name);
        let rest = named("GET /api/links")?;
        let is_of_rest = |span: &&Span| {
            span.parent_span_id == rest.span_id
                && attribute(&span.attributes, "tollgate.threads").as_deref() == Some("rest")
        };
        named("GET /health/live")?;
        all.iter().find(is_of_rest).map(drop)
    })
    .await;
    // What waits is sent before the end, and the key is in no log.
    gateway.get("/the-last").send().await.expect(404);
    let log = gateway.stderr();
    assert!(gateway.stop().await.success());
    let last = |span: &Span| attribute(&span.attributes, "url.path").as_deref() == Some("/the-last");
    assert!(self::spans(&collector).iter().any(last));
    assert!(!log.contains(KEY));
}

pub async fn a_trace_goes_on_through_the_reverse_proxy(host: Host) {
    let collector = Origin::start().await;
    for (name, more) in [("shop", ""), ("kept", "cache = \"by response headers\"\n")] {
        let origin = Origin::start().await;
        // The first attempt fails: each has a span.
        origin.behave({
            let count = std::sync::atomic::AtomicU32::new(0);
            move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Reply::status(503),
                _ => Reply::status(204),
            }
        });
        let settings = format!(
            "{}[[origins]]\nname = \"{name}\"\nurls = [{:?}]\n{more}[[proxy]]\npath = \"/{name}/...\"\norigin = \"{name}\"\n",
            traces(&collector.url(""), "sample = 1.0"),
            origin.url("")
        );
        let gateway = Gateway::start(host, &settings).await;
        let sent = gateway
            .get(&format!("/{name}/a"))
            .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"));
        sent.outside_contract().send().await.expect(204);
        let told = places(&origin);
        let [first, second] = &told[..] else {
            panic!("{told:?}");
        };
        let id = first.split('-').nth(1).expect("a trace id");
        assert_ne!(id, TRACE, "a stranger's id is not taken over");
        let attempt = format!("proxy {name}");
        let spans = eventually("both attempts and the request have spans", async || {
            let all = of_trace(&collector, id);
            let attempts = all.iter().filter(|span| span.name == attempt).count();
            (attempts == 2 && all.iter().any(|span| span.name == "GET proxy")).then_some(all)
        })
        .await;
        print(&spans, &told);
        let server = spans.iter().find(|span| span.name == "GET proxy").expect("found");
        assert_eq!(hex(&server.links[0].trace_id), TRACE);
        for (number, status, place) in [("1", "503", first), ("2", "204", second)] {
            let is_it = |span: &&Span| place == &format!("00-{id}-{}-01", hex(&span.span_id));
            let span = spans.iter().find(is_it);
            let span = span.unwrap_or_else(|| panic!("the origin is below its attempt: {place}"));
            assert_eq!(span.name, attempt);
            assert_eq!((span.kind, &span.parent_span_id), (CLIENT, &server.span_id));
            let told = ["tollgate.attempt", "http.response.status_code", "tollgate.origin"]
                .map(|key| attribute(&span.attributes, key));
            let expected = [number, status, name].map(|text| Some(text.to_owned()));
            assert_eq!(told, expected);
        }
        assert!(gateway.stop().await.success());
    }
}

pub async fn strangers_decide_neither_what_is_recorded_nor_under_which_id(host: Host) {
    let (origin, collector) = (Origin::start().await, Origin::start().await);
    let settings = format!("{}{}", traces(&collector.url(""), "sample = 0.0"), to(&origin));
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    let post = async |gateway: &Gateway, place: &str| {
        let sent = gateway.post("/signup").header("traceparent", place);
        sent.body("x").send().await.expect(202);
    };
    {
        let gateway = Gateway::start(host, &settings).await;
        post(&gateway, &sampled).await;
        let taken = eventually("it is delivered", async || origin.taken().into_iter().next()).await;
        let place = taken.header("traceparent");
        // It goes on, as one that is not recorded.
        assert!(
            place.starts_with(&format!("00-{TRACE}-")) && place.ends_with("-00"),
            "{place}"
        );
        assert!(
            !place.contains(PARENT),
            "who changes the flag has a span of its own: {place}"
        );
        tokio::time::sleep(QUIET).await;
        assert_eq!(spans(&collector).len(), 0, "nobody makes us record");
    }
    let trusted = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\npublic_url = \"http://short.test\"\n{settings}"
    );
    let gateway = Gateway::start(host, &trusted).await;
    post(&gateway, &sampled.replace("-01", "-00")).await;
    post(&gateway, &sampled.replace("00-", "zz-")).await;
    post(&gateway, &sampled).await;
    let spans_of = trace(
        &collector,
        TRACE,
        &["POST forward", "rule", "commit", "deliver signup"],
    )
    .await;
    assert_eq!(
        hex(&spans_of["POST forward"].parent_span_id),
        PARENT,
        "the proxy's trace goes on"
    );
    assert!(spans_of["POST forward"].links.is_empty());
    let taken = eventually("all are delivered", async || {
        Some(origin.taken()).filter(|taken| taken.len() == 4)
    })
    .await;
    let places: Vec<&str> = taken
        .iter()
        .map(|delivery| delivery.header("traceparent"))
        .collect();
    assert!(
        places.contains(&sampled.replace("-01", "-00").as_str()),
        "{places:?}"
    );
    assert!(places.contains(&""), "what is malformed goes nowhere: {places:?}");
    tokio::time::sleep(QUIET).await;
    let doors = spans(&collector)
        .iter()
        .filter(|span| span.kind == SERVER)
        .count();
    assert_eq!(doors, 1, "the proxy decides");
}

pub async fn a_dead_collector_holds_nothing_up(host: Host) {
    const REQUESTS: usize = 1_500;
    /// An answer comes at once, on a busy machine too.
    const SOON: Duration = Duration::from_secs(20);
    let stuck = Origin::start().await;
    stuck.behave(|_| Reply {
        delay: Duration::from_secs(600),
        ..Reply::status(200)
    });
    let nobody = Origin::start().await;
    nobody.down().await;
    for (endpoint, reason) in [(nobody.url(""), "collector"), (stuck.url(""), "full")] {
        let gateway = Gateway::start(host, &traces(&endpoint, "sample = 1.0")).await;
        let began = Instant::now();
        // At least two spans each: more than may wait.
        for _ in 0..REQUESTS {
            gateway.get("/none").send().await.expect(404);
        }
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        eventually("what is dropped is counted", async || {
            let scrape = gateway.scrape().await;
            let start = format!("tollgate_trace_spans_dropped_total{{reason=\"{reason}\"}} ");
            let line = scrape.lines().find(|line| line.starts_with(&start))?;
            (!line.ends_with(" 0")).then_some(())
        })
        .await;
        let told = gateway
            .stderr()
            .matches("the collector does not take spans")
            .count();
        assert!(told <= 1, "it is told once:\n{}", gateway.stderr());
        assert!(gateway.stop().await.success());
    }
}

pub async fn the_state_of_a_trace_goes_on_with_that_trace_alone(host: Host) {
    const STATE: &str = "rojo=00f067aa0ba902b7";
    let collector = Origin::start().await;
    for (trusted, sample, goes_on) in [("", "1.0", false), ("", "0.0", true), ("127.0.0.1", "1.0", true)] {
        let origin = Origin::start().await;
        let settings = format!(
            "[server]\ntrusted_proxies = [{}]\npublic_url = \"http://short.test\"\n{}\
             [[origins]]\nname = \"shop\"\nurls = [{:?}]\n[[proxy]]\npath = \"/shop/...\"\norigin = \"shop\"\n",
            match trusted {
                "" => String::new(),
                address => format!("{address:?}"),
            },
            traces(&collector.url(""), &format!("sample = {sample}")),
            origin.url("")
        );
        let gateway = Gateway::start(host, &settings).await;
        let sent = gateway.get("/shop/a").header("tracestate", STATE);
        let sent = sent.header("traceparent", &format!("00-{TRACE}-{PARENT}-01"));
        sent.outside_contract().send().await.expect(204);
        let got = origin.deliveries().pop().expect("it was asked");
        let of_its_trace = got.header("traceparent").starts_with(&format!("00-{TRACE}-"));
        assert_eq!(of_its_trace, goes_on, "{trusted} {sample}: {got:?}");
        let state = if goes_on { STATE } else { "" };
        assert_eq!(got.header("tracestate"), state, "{trusted} {sample}");
        assert!(gateway.stop().await.success());
    }
}
