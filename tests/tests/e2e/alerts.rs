//! `[[alerts]]`: one message when something begins to be wrong and one when it ends, whatever else happens.

use std::time::Duration;

use serde_json::{Value, json};

use tollgate_contract::postgres::Postgres;

use crate::harness::{ADMIN_KEY, Delivery, Gateway, Host, Origin, Reply, SECRET, eventually};

/// Several times as long as alerts wait between two looks here.
const QUIET: Duration = Duration::from_millis(3_500);

/// An alert that is looked at every second.
fn alert(name: &str, when: &str, to: &Origin, more: &str) -> String {
    format!(
        "[[alerts]]\nname = \"{name}\"\nwhen = \"{when}\"\nurl = \"{}\"\nevery = \"1s\"\n\
         allow_private_addresses = true\n{more}\n",
        to.url(&format!("/{name}"))
    )
}

fn body(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.body).unwrap()
}

/// The states that were told of, in order.
fn states(channel: &Origin) -> Vec<String> {
    let taken = channel.taken();
    taken
        .iter()
        .map(|delivery| body(delivery)["state"].as_str().unwrap().to_owned())
        .collect()
}

async fn told(channel: &Origin, count: usize) -> Delivery {
    let what = format!("the channel hears of it ({count})");
    eventually(&what, async || channel.taken().into_iter().nth(count - 1)).await
}

pub async fn an_alert_tells_once_when_it_starts_and_once_when_it_ends_also_across_a_kill(host: Host) {
    let channel = Origin::start().await;
    let signed = format!("secret = \"{SECRET}\"");
    let gateway = Gateway::start(host, &alert("stock", "stock < 3", &channel, &signed)).await;
    let campaign = gateway.campaign(4, json!({})).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(channel.deliveries().len(), 0, "there is enough");
    for user in ["ann", "ben"] {
        let path = format!("/api/campaigns/{campaign}/claims");
        gateway.post(&path).user(user).send().await.expect(201);
    }
    let started = told(&channel, 1).await;
    let message = body(&started);
    assert_eq!(
        (&message["alert"], &message["state"], &message["value"]),
        (&json!("stock"), &json!("started"), &json!(2))
    );
    assert_eq!(message["when"], "stock < 3");
    assert_eq!(message["subjects"], json!([{"name": campaign, "value": 2}]));
    assert!(started.is_signed(), "{started:?}");
    assert_eq!(started.header("ce-type"), "tollgate.alert.started");

    // It is told once, whoever dies meanwhile.
    tokio::time::sleep(QUIET).await;
    gateway.kill();
    gateway.restart().await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(states(&channel), ["started"]);

    let more = json!({"quantity": 10});
    let path = format!("/api/campaigns/{campaign}");
    let edited = gateway.patch(&path).key(ADMIN_KEY).json(&more);
    edited.send().await.expect(200);
    let ended = told(&channel, 2).await;
    assert_eq!(body(&ended)["since"], message["since"]);
    assert_ne!(ended.id(), started.id());
    // For people who run this case with `--nocapture`.
    for told in [&started, &ended] {
        eprintln!("{}", String::from_utf8_lossy(&told.body));
    }
    gateway.kill();
    gateway.restart().await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(states(&channel), ["started", "ended"]);
}

pub async fn an_alert_of_a_fleet_tells_once_whoever_of_it_dies(_: Host) {
    let started = tokio::task::spawn_blocking(|| Postgres::start("")).await;
    let Some(database) = started.unwrap() else { return };
    let (url, channel) = (database.fresh(), Origin::start().await);
    let settings = alert("stock", "stock < 3", &channel, "");
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Gateway::start_on(&url, &settings).await);
    }
    let campaign = all[0].campaign(4, json!({})).await;
    for (gateway, user) in all.iter().zip(["ann", "ben"]) {
        let path = format!("/api/campaigns/{campaign}/claims");
        gateway.post(&path).user(user).send().await.expect(201);
    }
    told(&channel, 1).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(states(&channel), ["started"], "each of three would tell it");
    // Whoever had it is among them, as a rule.
    all[0].kill();
    all[1].stop().await;
    let more = json!({"quantity": 10});
    let edited = all[2].patch(&format!("/api/campaigns/{campaign}")).key(ADMIN_KEY);
    edited.json(&more).send().await.expect(200);
    told(&channel, 2).await;
    all[1].restart().await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(states(&channel), ["started", "ended"]);
}

pub async fn a_channel_that_fails_gets_the_message_later_and_holds_nothing_up(host: Host) {
    let (broken, fine) = (Origin::start().await, Origin::start().await);
    broken.answer(500);
    let settings = [
        alert("broken", "stock < 10", &broken, ""),
        alert("fine", "stock < 10", &fine, ""),
    ];
    let gateway = Gateway::start(host, &settings.concat()).await;
    let campaign = gateway.campaign(5, json!({})).await;
    told(&fine, 1).await;
    let refused = eventually("the broken one is tried", async || {
        broken.deliveries().into_iter().next()
    })
    .await;
    let path = format!("/api/campaigns/{campaign}/claims");
    gateway.post(&path).user("ann").send().await.expect(201);
    // Also across a restart.
    gateway.kill();
    gateway.restart().await;
    broken.down().await;
    broken.up();
    broken.answer(204);
    let taken = told(&broken, 1).await;
    assert_eq!(
        taken.id(),
        refused.id(),
        "it is the same message, however often it is sent"
    );
    tokio::time::sleep(QUIET).await;
    assert_eq!(
        (states(&broken), states(&fine)),
        (vec!["started".into()], vec!["started".into()])
    );
}

pub async fn dead_letters_are_told_to_a_chat(host: Host) {
    let (chat, origin) = (Origin::start().await, Origin::start().await);
    origin.answer(422);
    let settings = [
        alert("dead", "dead_letters > 0", &chat, "format = \"slack\""),
        format!(
            "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nallow_private_addresses = true\n\
             retry = {{ initial = \"10ms\", factor = 1.0, cap = \"10ms\", max_attempts = 1 }}\n",
            origin.url("/signups")
        ),
    ];
    let gateway = Gateway::start(host, &settings.concat()).await;
    gateway
        .post("/signup")
        .client("ann")
        .body("x")
        .send()
        .await
        .expect(202);
    let started = told(&chat, 1).await;
    let text = body(&started)["text"].as_str().unwrap().to_owned();
    assert!(
        text.contains("*dead* started: dead_letters &gt; 0 (now 1): `signup/origin` 1"),
        "{text}"
    );

    origin.answer(204);
    let path = "/api/topics/signup/subscriptions/origin/dead-letters/redrive";
    let redrive = gateway.post(path).key(ADMIN_KEY).json(&json!({"all": true}));
    redrive.send().await.expect(200);
    let ended = told(&chat, 2).await;
    let text = body(&ended)["text"].as_str().unwrap().to_owned();
    assert!(
        text.contains("*dead* ended: dead_letters &gt; 0 (now 0)"),
        "{text}"
    );

    let group = "/api/topics/signup/groups/shop";
    let made = gateway.put(group).key(ADMIN_KEY).json(&json!({"maxAttempts": 1}));
    made.send().await.expect(201);
    let ask = async |call: &str, body: Value| {
        let call = gateway
            .post(&format!("{group}/{call}"))
            .key(ADMIN_KEY)
            .json(&body);
        call.send().await.expect(200).json()
    };
    let leased = ask("lease", json!({})).await;
    let ids = json!({"leaseIds": [leased["leases"][0]["leaseId"]]});
    ask("nack", ids).await;
    let started = told(&chat, 3).await;
    let text = body(&started)["text"].as_str().unwrap().to_owned();
    assert!(text.contains("(now 1): `signup/groups/shop` 1"), "{text}");
}

pub async fn server_errors_are_counted_over_their_window(host: Host) {
    let (channel, origin) = (Origin::start().await, Origin::start().await);
    origin.behave(|_| Reply::status(500));
    let full = format!(
        "[topics.signup]\nretention = \"7d\"\nmax_bytes = \"1KiB\"\nmax_backlog = \"1KiB\"\n\
         [[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nallow_private_addresses = true\n",
        origin.url("/signups")
    );
    let settings = [alert("errors", "server_errors > 5 per 4s", &channel, ""), full];
    let gateway = Gateway::start(host, &settings.concat()).await;
    tokio::time::sleep(QUIET).await;
    // A request that asks for what there is not is no error of the server.
    for _ in 0..10 {
        let asked = "POST /signup HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n";
        gateway.raw(asked).await.expect(501);
    }
    tokio::time::sleep(QUIET).await;
    assert_eq!(channel.deliveries().len(), 0);
    let mut failed = 0;
    for _ in 0..50 {
        let post = gateway.post("/signup").client("ann").body("x".repeat(500));
        failed += u32::from(post.send().await.status == 503);
    }
    assert!(failed > 5, "the topic is full");
    let started = told(&channel, 1).await;
    assert!(body(&started)["value"].as_u64().unwrap() > 5);
    let ended = told(&channel, 2).await;
    assert_eq!(body(&ended)["state"], "ended");
}

pub async fn a_breaker_that_opens_is_told_and_when_it_closes(host: Host) {
    let (channel, origin) = (Origin::start().await, Origin::start().await);
    origin.behave(|_| Reply {
        retry_after: Some(3_600),
        ..Reply::status(503)
    });
    let settings = [
        alert("breaker", "breaker_open", &channel, ""),
        format!(
            "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nallow_private_addresses = true\n\
             retry = {{ initial = \"50ms\", factor = 1.0, cap = \"50ms\", max_attempts = 100 }}\n",
            origin.url("/signups")
        ),
    ];
    let gateway = Gateway::start(host, &settings.concat()).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(channel.deliveries().len(), 0, "it is closed");
    // Without a key: none waits behind another.
    for n in 0..20 {
        let post = gateway.post("/signup").json(&json!({ "n": n }));
        post.send().await.expect(202);
    }
    let started = body(&told(&channel, 1).await);
    assert_eq!(
        (&started["state"], &started["when"], &started["value"]),
        (&json!("started"), &json!("breaker_open"), &json!(1))
    );
    assert_eq!(started["subjects"][0]["name"], "signup/origin");
    tokio::time::sleep(QUIET).await;
    assert_eq!(states(&channel), ["started"]);
    origin.behave(|_| Reply::status(204));
    let reset = "/api/topics/signup/subscriptions/origin/reset-breaker";
    gateway.post(reset).key(ADMIN_KEY).send().await;
    let ended = body(&told(&channel, 2).await);
    assert_eq!(
        (&ended["state"], &ended["since"]),
        (&json!("ended"), &started["since"])
    );
}

pub async fn an_origin_that_is_down_is_told_and_when_it_is_back(host: Host) {
    let (channel, origin) = (Origin::start().await, Origin::start().await);
    let settings = [
        alert("origin", "origin_down", &channel, ""),
        format!(
            "[[origins]]\nname = \"shop\"\nurls = [\"{}\"]\n\
             health = {{ path = \"/health\", every = \"500ms\", timeout = \"400ms\" }}\n\
             [[proxy]]\npath = \"/shop/...\"\norigin = \"shop\"\n",
            origin.url("")
        ),
    ];
    let gateway = Gateway::start(host, &settings.concat()).await;
    let asked = gateway.get("/shop/cart").outside_contract();
    asked.send().await.expect(204);
    tokio::time::sleep(QUIET).await;
    assert_eq!(channel.deliveries().len(), 0, "it is well");
    origin.down().await;
    let started = body(&told(&channel, 1).await);
    assert_eq!(
        (&started["state"], &started["when"], &started["value"]),
        (&json!("started"), &json!("origin_down"), &json!(1))
    );
    assert_eq!(started["subjects"], json!([{"name": "shop", "value": 1}]));
    tokio::time::sleep(QUIET).await;
    assert_eq!(states(&channel), ["started"]);
    origin.up();
    let ended = body(&told(&channel, 2).await);
    assert_eq!(
        (&ended["state"], &ended["since"]),
        (&json!("ended"), &started["since"])
    );
}
