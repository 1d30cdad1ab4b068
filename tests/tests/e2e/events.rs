//! `GET /api/events` and the topic of `[events]`: what happens to the gateway is told, once, to those who may hear it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{ADMIN_KEY, EventStream, Gateway, Host, Origin, eventually};

const TOPIC: &str = "[events]\ntopic = \"tollgate\"\n";
/// How long an event may take.
const SOON: Duration = Duration::from_secs(20);
const MAX_STREAMS: usize = 64;

/// Somebody who listens.
struct Listener(EventStream);

impl Listener {
    /// `head`: further lines of the request's head.
    async fn open(gateway: &Gateway, head: &str) -> Self {
        Self::open_as(gateway, ADMIN_KEY, head).await
    }

    async fn open_as(gateway: &Gateway, key: &str, head: &str) -> Self {
        let head = format!("authorization: Bearer {key}\r\n{head}");
        let mut stream = EventStream::open(gateway, "/api/events", &head, SOON).await;
        stream.until("it listens", |text| text.contains(":\n\n")).await;
        Self(stream)
    }

    /// The next event of a type, with its id and its data; each call finds the same first one.
    async fn hears(&mut self, kind: &str) -> (Option<u64>, Value) {
        self.0.until(kind, |text| first(text, kind).is_some()).await;
        first(&self.0.text, kind).unwrap()
    }

    fn count(&self, kind: &str) -> usize {
        self.0.text.matches(&format!("event: {kind}\n")).count()
    }
}

fn first(text: &str, kind: &str) -> Option<(Option<u64>, Value)> {
    let name = format!("event: {kind}\ndata: ");
    let (before, after) = text.split_once(&name)?;
    let (data, _) = after.split_once("\n\n")?;
    let told: Value = serde_json::from_str(data).ok()?;
    assert_eq!(told["type"], kind);
    let id = before.lines().last().and_then(|line| line.strip_prefix("id: "));
    Some((id.and_then(|id| id.parse().ok()), told["data"].clone()))
}

/// Makes and removes one of everything; its code, its campaign, its key's id.
async fn happenings(gateway: &Gateway, code: &str) -> (String, String) {
    gateway.link(code).await;
    let path = format!("/api/links/{code}");
    gateway.delete(&path).key(ADMIN_KEY).send().await.expect(204);
    let campaign = gateway.campaign(1, json!({})).await;
    let path = format!("/api/campaigns/{campaign}/claims");
    gateway.post(&path).user("ann").send().await.expect(201);
    let made = gateway.made_key(&["links"]).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/api/keys/{id}");
    gateway.delete(&path).key(ADMIN_KEY).send().await.expect(204);
    (campaign, id)
}

async fn hears_of_all(listener: &mut Listener, code: &str, campaign: &str, key: &str) {
    for (kind, name, value) in [
        ("link.created", "code", code),
        ("link.deleted", "code", code),
        ("campaign.created", "id", campaign),
        ("key.created", "id", key),
        ("key.revoked", "id", key),
        ("campaign.sold-out", "id", campaign),
    ] {
        let (_, data) = listener.hears(kind).await;
        assert_eq!(data[name], value, "{kind}: {data}");
        assert_eq!(listener.count(kind), 1, "{kind}\n{}", listener.0.text);
    }
}

pub async fn what_happens_is_told_live_where_it_is_kept_nowhere(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let old = gateway.campaign(1, json!({})).await;
    gateway.link("before").await;
    let mut listener = Listener::open(&gateway, "").await;
    // The first look is what later ones are compared with.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (campaign, key) = happenings(&gateway, "launch").await;
    hears_of_all(&mut listener, "launch", &campaign, &key).await;
    assert!(
        !listener.0.text.contains("before") && !listener.0.text.contains("tg_"),
        "{}",
        listener.0.text
    );
    assert!(!listener.0.text.contains("\nid: "), "{}", listener.0.text);
    let link = json!({ "url": "https://example.com/", "code": "again" });
    let create = || {
        gateway
            .post("/api/links")
            .key(ADMIN_KEY)
            .header("idempotency-key", "once")
            .json(&link)
    };
    create().send().await.expect(201);
    let replay = create().send().await.expect(201);
    assert_eq!(replay.header("idempotency-replayed"), "true");
    let close = json!({ "state": "closed" });
    let path = format!("/api/campaigns/{old}");
    gateway
        .patch(&path)
        .key(ADMIN_KEY)
        .json(&close)
        .send()
        .await
        .expect(200);
    let (_, data) = listener.hears("campaign.ended").await;
    assert_eq!(data, json!({ "id": old, "quantity": 1, "remaining": 1 }));
    // Twice asked for, made once.
    assert_eq!(
        listener.0.text.matches(r#""code":"again""#).count(),
        1,
        "{}",
        listener.0.text
    );
}

pub async fn what_happens_is_kept_in_the_topic_and_a_listener_goes_on_where_it_stopped(host: Host) {
    let gateway = Gateway::start(host, TOPIC).await;
    // What was so before is no news.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (campaign, key) = happenings(&gateway, "launch").await;
    let mut listener = Listener::open(&gateway, "last-event-id: 0\r\n").await;
    hears_of_all(&mut listener, "launch", &campaign, &key).await;
    let (created, _) = listener.hears("link.created").await;
    let (sold_out, _) = listener.hears("campaign.sold-out").await;
    assert_eq!(created, Some(1), "it is the first message");
    let kept = gateway.messages("tollgate").await;
    assert_eq!(kept[0]["type"], "link.created");
    assert_eq!(kept[0]["key"], "link/launch");
    assert_eq!(kept[0]["data"]["code"], "launch");
    // Each once, also across a kill.
    gateway.kill();
    gateway.restart().await;
    let head = format!("last-event-id: {}\r\n", sold_out.unwrap() - 1);
    let mut later = Listener::open(&gateway, &head).await;
    let (again, _) = later.hears("campaign.sold-out").await;
    assert_eq!(again, sold_out);
    tokio::time::sleep(Duration::from_secs(7)).await;
    gateway.link("later").await;
    later.hears("link.created").await;
    assert_eq!(later.count("campaign.sold-out"), 1, "{}", later.0.text);
    assert_eq!(later.count("link.deleted"), 0, "{}", later.0.text);
    // Without an id: from now on.
    let mut newcomer = Listener::open(&gateway, "").await;
    gateway.link("newest").await;
    let (_, data) = newcomer.hears("link.created").await;
    assert_eq!(data["code"], "newest");
}

pub async fn refusals_deliveries_and_alerts_are_told(host: Host) {
    let (origin, channel) = (Origin::start().await, Origin::start().await);
    origin.answer(422);
    let settings = format!(
        "[[limits]]\nname = \"tight\"\npath = \"/api/links\"\nper = []\ncapacity = 1\nrefill = 1\ninterval = \"1h\"\n\
         [[alerts]]\nname = \"dead\"\nwhen = \"dead_letters > 0\"\nevery = \"1s\"\nurl = \"{}\"\n\
         allow_private_addresses = true\n\
         [[topics.signup.subscriptions]]\nname = \"crm\"\nurl = \"{}\"\nallow_private_addresses = true\n\
         retry = {{ initial = \"10ms\", factor = 1.0, cap = \"10ms\", max_attempts = 1 }}\n",
        channel.url("/alert"),
        origin.url("/hook"),
    );
    let gateway = Gateway::start(host, &settings).await;
    let mut listener = Listener::open(&gateway, "").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..5 {
        let _ = gateway.get("/api/links").key(ADMIN_KEY).send().await;
    }
    let (_, data) = listener.hears("limit.refusing").await;
    assert_eq!(data["policy"], "tight");
    gateway.post("/signup").body("{}").send().await.expect(202);
    let (_, data) = listener.hears("message.dead").await;
    assert_eq!(
        data,
        json!({ "topic": "signup", "subscription": "crm", "messages": 1 })
    );
    let (_, data) = listener.hears("alert.started").await;
    assert_eq!(data["alert"], "dead");
    let pause = "/api/topics/signup/subscriptions/crm/pause";
    gateway.post(pause).key(ADMIN_KEY).send().await;
    let (_, data) = listener.hears("subscription.paused").await;
    let paused = json!({ "topic": "signup", "subscription": "crm", "reason": "requested" });
    assert_eq!(data, paused);
    // More refusals within the minute are no second event.
    for _ in 0..5 {
        let _ = gateway.get("/api/links").key(ADMIN_KEY).send().await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    gateway.campaign(1, json!({})).await;
    listener.hears("campaign.created").await;
    assert_eq!(listener.count("limit.refusing"), 1, "{}", listener.0.text);
}

pub async fn a_stream_ends_with_its_key_and_with_the_gateway(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let made = gateway.made_key(&["admin"]).await;
    let listener = Listener::open_as(&gateway, made["key"].as_str().unwrap(), "connection: close\r\n").await;
    let mut other = Listener::open(&gateway, "").await;
    let path = format!("/api/keys/{}", made["id"].as_str().unwrap());
    gateway.delete(&path).key(ADMIN_KEY).send().await.expect(204);
    listener.0.ends(SOON).await;
    // The other goes on, and does not keep the gateway from ending.
    gateway.link("after").await;
    other.hears("link.created").await;
    let stopped = timeout(SOON, gateway.stop()).await;
    assert!(stopped.is_ok_and(|status| status.success()));
}

pub async fn streams_are_for_admins_and_bounded(host: Host) {
    let gateway = Gateway::start(host, TOPIC).await;
    let limited = gateway.key(&["topics", "links", "campaigns", "metrics"]).await;
    gateway
        .get("/api/events")
        .send()
        .await
        .problem(401, "unauthorized");
    gateway
        .get("/api/events")
        .key(&limited)
        .send()
        .await
        .problem(403, "forbidden");
    let wrong = gateway.post("/api/events").key(ADMIN_KEY).send().await;
    wrong.problem(405, "method-not-allowed");
    for bad in ["x", "-1", "1.5", "99999999999999999999", ""] {
        let asked = gateway
            .get("/api/events")
            .key(ADMIN_KEY)
            .header("last-event-id", bad);
        asked.send().await.names("header:last-event-id");
    }
    // Nobody but us tells.
    let post = gateway
        .post("/api/topics/tollgate/messages")
        .client("eve")
        .body("{}");
    post.send().await.problem(404, "not-found");
    let mut listeners = Vec::new();
    for _ in 0..MAX_STREAMS {
        listeners.push(Listener::open(&gateway, "").await);
    }
    let refused = gateway.get("/api/events").key(ADMIN_KEY).send().await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "10");
    let metrics = gateway.scrape().await;
    assert!(metrics.contains("\ntollgate_event_streams 64.0\n"), "{metrics}");
    // All of them hear it, and a place is free when one has gone.
    gateway.link("heard").await;
    for listener in &mut listeners {
        listener.hears("link.created").await;
    }
    listeners.pop();
    let place = async {
        loop {
            let host = gateway.address();
            let mut connection = TcpStream::connect(&host).await.unwrap();
            let request = format!(
                "GET /api/events HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {ADMIN_KEY}\r\n\r\n"
            );
            connection.write_all(request.as_bytes()).await.unwrap();
            let mut head = [0; 12];
            connection.read_exact(&mut head).await.unwrap();
            if &head == b"HTTP/1.1 200" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, place).await.expect("its place is free");
}

pub async fn dead_letters_of_a_group_are_told_and_counted(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let group = "/api/topics/jobs/groups/workers";
    let call = async |path: &str, body: Value| {
        let call = gateway.post(path).key(ADMIN_KEY).json(&body);
        call.send().await.json()
    };
    for number in 0..2 {
        call("/api/topics/jobs/messages", json!({ "number": number })).await;
    }
    let made = gateway
        .put(group)
        .key(ADMIN_KEY)
        .json(&json!({ "maxAttempts": 1 }));
    made.send().await.expect(201);
    let mut listener = Listener::open(&gateway, "").await;
    // The first look is what later ones are compared with.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let leased = call(&format!("{group}/lease"), json!({ "limit": 2 })).await;
    let leases = leased["leases"].as_array().unwrap().iter();
    let ids: Vec<_> = leases.map(|lease| lease["leaseId"].clone()).collect();
    call(&format!("{group}/nack"), json!({ "leaseIds": ids })).await;
    let (_, data) = listener.hears("message.dead").await;
    assert_eq!(
        data,
        json!({ "topic": "jobs", "group": "workers", "messages": 2 })
    );
    let counted = "\ntollgate_group_dead_letters_total{topic=\"jobs\",group=\"workers\"} 2\n";
    eventually("they are counted", async || {
        gateway.scrape().await.contains(counted).then_some(())
    })
    .await;
    // What becomes of them changes nothing of that.
    call(&format!("{group}/dead-letters/redrive"), json!({ "all": true })).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(gateway.scrape().await.contains(counted));
    assert_eq!(listener.count("message.dead"), 1, "{}", listener.0.text);
}
