//! Requests that become messages, and topics as their consumers read them.

mod deleting;

pub use deleting::*;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, EventStream, Gateway, Host, crowd, eventually, unique};

/// Posts to a topic with the admin's key, which may begin one.
async fn post(gateway: &Gateway, topic: &str, key: &str, body: Value) -> Value {
    let call = gateway
        .post(&format!("/api/topics/{topic}/messages"))
        .key(ADMIN_KEY);
    call.header("x-partition-key", key)
        .json(&body)
        .send()
        .await
        .expect(202)
        .json()
}

async fn page(gateway: &Gateway, topic: &str, query: &str) -> Value {
    let path = format!("/api/topics/{topic}/messages?{query}");
    gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json()
}

pub async fn sign_up_becomes_a_message_and_a_record(host: Host) {
    let gateway = Gateway::shared(host).await;
    let client = unique("client");
    let body = json!({ "name": "Ada", "n": 1 });
    let call = gateway
        .post("/signup")
        .client(&client)
        .header("x-partition-key", "ada");
    let accepted = call.json(&body).send().await.expect(202);
    let (id, sequence) = (accepted.json()["id"].clone(), accepted.json()["sequence"].clone());
    assert_eq!(accepted.json()["topic"], "signup");
    let path = accepted.header("location").to_owned();
    assert_eq!(path, format!("/api/messages/{}", id.as_str().unwrap()));
    // A caller's ordering key is in the caller's own namespace.
    let key = json!(format!("id:{client} ada"));
    let record = gateway.get(&path).client(&client).send().await.expect(200).json();
    for (member, expected) in [
        ("id", id.clone()),
        ("sequence", sequence.clone()),
        ("topic", json!("signup")),
        ("key", key.clone()),
        ("method", json!("POST")),
        ("path", json!("/signup")),
        ("contentType", json!("application/json")),
    ] {
        assert_eq!(record[member], expected, "{member}");
    }
    gateway
        .get(&path)
        .client("somebody-else")
        .send()
        .await
        .problem(403, "forbidden");
    gateway.get(&path).send().await.problem(401, "unauthorized");
    let messages = gateway.messages("signup").await;
    let found: Vec<_> = messages.iter().filter(|message| message["id"] == id).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0]["sequence"], &found[0]["data"], &found[0]["key"]),
        (&sequence, &body, &key)
    );
}

pub async fn a_form_and_plain_bytes_are_taken_as_they_are(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("any");
    let path = format!("/api/topics/{topic}/messages");
    let send = |content_type: &str, body: &'static [u8]| {
        gateway
            .post(&path)
            .key(ADMIN_KEY)
            .header("content-type", content_type)
            .body(body)
            .send()
    };
    send("text/plain; charset=utf-8", "grüße".as_bytes())
        .await
        .expect(202);
    send("application/x-www-form-urlencoded", b"a=b&c=d")
        .await
        .expect(202);
    send("application/octet-stream", b"\x00\xff\xfe")
        .await
        .expect(202);
    send("application/json", b"{ not json").await.expect(202);
    let messages = gateway.messages(&topic).await;
    assert_eq!(messages[0]["data"], "grüße");
    assert_eq!(messages[1]["dataBase64"], "YT1iJmM9ZA==");
    assert_eq!(messages[2]["dataBase64"], "AP/+");
    assert_eq!(messages[3]["dataBase64"], "eyBub3QganNvbg==");
}

pub async fn sequences_of_a_topic_are_dense_under_parallel_posts(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("dense");
    let path = format!("/api/topics/{topic}/messages");
    let answers = crowd(32, 0..200, |n| {
        gateway.post(&path).key(ADMIN_KEY).json(&json!({ "n": n })).send()
    })
    .await;
    let told: BTreeSet<(u64, String)> = answers
        .into_iter()
        .map(|answer| named(&answer.expect(202).json()))
        .collect();
    let read: Vec<(u64, String)> = gateway.messages(&topic).await.iter().map(named).collect();
    assert_eq!(
        read.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(),
        (1..=200).collect::<Vec<_>>()
    );
    assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), told);
}

fn named(message: &Value) -> (u64, String) {
    let sequence = message["sequence"].as_u64().expect("a message has a sequence");
    (
        sequence,
        message["id"].as_str().expect("a message has an id").to_owned(),
    )
}

pub async fn topic_is_read_from_any_place_in_pages(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("pages");
    assert_eq!(
        page(&gateway, &topic, "after=0").await,
        json!({ "messages": [], "nextAfter": 0 })
    );
    for n in 1..=10 {
        post(&gateway, &topic, "k", json!({ "n": n })).await;
    }
    let read = async |query: &str| -> (Vec<u64>, u64) {
        let page = page(&gateway, &topic, query).await;
        let messages = page["messages"].as_array().expect("a page has messages");
        let numbers = messages
            .iter()
            .map(|message| message["data"]["n"].as_u64().unwrap())
            .collect();
        (numbers, page["nextAfter"].as_u64().unwrap())
    };
    assert_eq!(read("limit=4").await, (vec![1, 2, 3, 4], 4));
    assert_eq!(read("after=4&limit=4").await, (vec![5, 6, 7, 8], 8));
    assert_eq!(read("after=8&limit=4").await, (vec![9, 10], 10));
    assert_eq!(read("after=10").await, (vec![], 10));
    assert_eq!(
        read("after=0&limit=2").await,
        (vec![1, 2], 2),
        "reading takes nothing away"
    );
    let view = gateway
        .get(&format!("/api/topics/{topic}"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&view["name"], &view["last"], &view["depth"]),
        (&json!(topic), &json!(10), &json!(10))
    );
    let path = format!("/api/topics/{}", unique("nothing"));
    gateway
        .get(&path)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn waiting_reader_gets_the_message_when_it_arrives(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("waiting");
    post(&gateway, &topic, "k", json!({ "n": 1 })).await;
    let path = format!("/api/topics/{topic}/messages?after=1&wait=30");
    let reader = tokio::spawn(gateway.get(&path).key(ADMIN_KEY).send());
    // It waits: an answer now could only be an empty one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!reader.is_finished(), "{:?}", reader.await);
    post(&gateway, &topic, "k", json!({ "n": 2 })).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), reader).await;
    let page = answer
        .expect("well before its 30 s are over")
        .unwrap()
        .expect(200)
        .json();
    assert_eq!(page["messages"][0]["data"]["n"], 2);
    // One second without a message is an empty page, not an error.
    let empty = crate::topics::page(&gateway, &topic, "after=2&wait=1").await;
    assert_eq!(empty, json!({ "messages": [], "nextAfter": 2 }));
}

pub async fn repeated_idempotency_key_is_one_message(host: Host) {
    let gateway = Gateway::shared(host).await;
    let client = unique("client");
    let send = |client: &str, body: Value| {
        let call = gateway
            .post("/signup")
            .client(client)
            .header("idempotency-key", "\"k-1\"");
        call.json(&body).send()
    };
    let first = send(&client, json!({ "n": 1 })).await.expect(202);
    let again = send(&client, json!({ "n": 1 })).await.expect(202);
    assert_eq!(
        (again.header("idempotency-replayed"), &again.body),
        ("true", &first.body)
    );
    send(&client, json!({ "n": 2 }))
        .await
        .problem(422, "idempotency-key-reused");
    // The key may come bare; and it is another request where anything but the key's quotes differs.
    for (path, name, value, replayed) in [
        ("/signup", "x-unseen", "1", true),
        ("/signup?from=ad", "x-unseen", "1", false),
        ("/signup", "x-partition-key", "p", false),
        ("/signup", "content-type", "text/plain", false),
    ] {
        let call = gateway
            .post(path)
            .client(&client)
            .header("idempotency-key", "k-1");
        let call = match name {
            "content-type" => call.header(name, value).body("{\"n\":1}"),
            _ => call.header(name, value).json(&json!({ "n": 1 })),
        };
        let answer = call.send().await;
        match replayed {
            true => assert_eq!(answer.expect(202).header("idempotency-replayed"), "true"),
            false => drop(answer.problem(422, "idempotency-key-reused")),
        }
    }
    let other = send(&unique("client"), json!({ "n": 2 })).await.expect(202);
    assert_ne!(
        other.json()["id"],
        first.json()["id"],
        "keys are each client's own"
    );
    let id = &first.json()["id"];
    assert_eq!(
        gateway
            .messages("signup")
            .await
            .iter()
            .filter(|message| message["id"] == *id)
            .count(),
        1
    );
}

pub async fn strangers_post_only_where_the_configuration_lets_them(host: Host) {
    let gateway = Gateway::shared(host).await;
    let body = json!({});
    let to = |topic: &str| gateway.post(&format!("/api/topics/{topic}/messages"));
    to("signup").client("a").json(&body).send().await.expect(202);
    to("signup")
        .json(&body)
        .send()
        .await
        .problem(400, "client-id-required");
    to(&unique("new"))
        .client("a")
        .json(&body)
        .send()
        .await
        .problem(404, "not-found");
    to("coupon")
        .client("a")
        .json(&body)
        .send()
        .await
        .problem(404, "not-found");
    // A browser's form has neither key nor header.
    gateway.post("/signup").json(&body).send().await.expect(202);
    gateway
        .get("/api/topics/signup/messages")
        .client("a")
        .send()
        .await
        .problem(401, "unauthorized");
    let links = gateway.key(&["links"]).await;
    gateway
        .get("/api/topics")
        .key(&links)
        .send()
        .await
        .problem(403, "forbidden");
}

pub async fn topics_are_listed_with_their_extent(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("listed");
    post(&gateway, &topic, "k", json!({})).await;
    let found = eventually("the topic is listed", async || {
        let (mut cursor, mut found) = (String::new(), None);
        loop {
            let answer: Answer = gateway
                .get(&format!("/api/topics?limit=3{cursor}"))
                .key(ADMIN_KEY)
                .send()
                .await;
            let page = answer.expect(200).json();
            let topics = page["topics"].as_array().expect("a page has topics").clone();
            found = found.or(topics.into_iter().find(|one| one["name"] == topic.as_str()));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    })
    .await;
    assert_eq!(
        (&found["first"], &found["last"], &found["depth"]),
        (&json!(1), &json!(1), &json!(1))
    );
}

pub async fn a_long_poll_outlasts_the_time_that_a_request_may_take(host: Host) {
    let settings = "[server]\npublic_url = \"http://short.test\"\nrequest_timeout = \"1s\"";
    let gateway = Gateway::start(host, settings).await;
    let waiting = async {
        let path = "/api/topics/signup/messages?wait=20";
        gateway.get(path).key(ADMIN_KEY).send().await
    };
    let posting = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        gateway.post("/signup").json(&json!({})).send().await.expect(202);
    };
    let (found, ()) = tokio::join!(waiting, posting);
    let found = found.expect(200).json();
    assert_eq!(found["messages"].as_array().map(Vec::len), Some(1), "{found}");
    // And where nothing comes, it says so in the end.
    let path = "/api/topics/signup/messages?after=1&wait=3";
    let nothing = gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(nothing["messages"], json!([]));
}

pub async fn a_body_as_large_as_the_settings_allow_is_taken(host: Host) {
    let settings = "[server]\npublic_url = \"http://short.test\"\nmax_body = \"128KiB\"";
    let gateway = Gateway::start(host, settings).await;
    let post = |bytes: usize| gateway.post("/signup").body(vec![b'x'; bytes]).send();
    post(128 << 10).await.expect(202);
    post((128 << 10) + 1).await.problem(413, "content-too-large");
}

pub async fn a_topic_is_listened_to_and_gone_on_with(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("heard").to_lowercase();
    let path = format!("/api/topics/{topic}/messages");
    let post = async |number: u64| {
        let call = gateway.post(&path).key(ADMIN_KEY);
        call.json(&serde_json::json!({ "number": number }))
            .send()
            .await
            .expect(202);
    };
    let head = format!("accept: text/event-stream\r\nauthorization: Bearer {ADMIN_KEY}\r\n");
    let patience = std::time::Duration::from_secs(10);
    post(1).await;
    post(2).await;
    let from_first = format!("{path}?after=1");
    let mut stream = EventStream::open(&gateway, &from_first, &head, patience).await;
    stream
        .until("what is kept", |text| text.contains("id: 2\n"))
        .await;
    assert!(!stream.text.contains("id: 1\n"), "{}", stream.text);
    post(3).await;
    stream
        .until("what comes", |text| text.contains("id: 3\ndata: {"))
        .await;
    assert!(stream.text.contains(r#""data":{"number":3}"#), "{}", stream.text);
    drop(stream);
    let again = format!("{head}last-event-id: 2\r\n");
    let mut stream = EventStream::open(&gateway, &path, &again, patience).await;
    stream
        .until("what was missed", |text| text.contains("id: 3\n"))
        .await;
    assert!(!stream.text.contains("id: 2\n"), "{}", stream.text);

    let accept = ("accept", "text/event-stream");
    let call = || gateway.get(&path).header(accept.0, accept.1);
    call().send().await.problem(401, "unauthorized");
    let links = gateway.key(&["links"]).await;
    call().key(&links).send().await.problem(403, "forbidden");
    call()
        .key(ADMIN_KEY)
        .header("last-event-id", "x")
        .outside_contract()
        .send()
        .await
        .names("header:last-event-id");
    let limited = gateway
        .get(&format!("{path}?limit=1"))
        .header(accept.0, accept.1)
        .key(ADMIN_KEY);
    limited.send().await.names("query:limit");
}
