//! Subscriptions of the type `key-value`: what another application of Spin's finds in the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tollgate_contract::redis::{Redis, SYNCED};

use super::{KEYS, SIGN_UPS, one, sign_up};
use crate::harness::{ADMIN_KEY, Gateway, Host, RUNTIME_CONFIG, binary, eventually, free_port};

const MADE: &str = "/api/topics/signup/subscriptions/made";
/// Where Spin keeps its own stores, below the directory of its state.
const FILE: &str = "data/sqlite_key_value.db";

/// A subscription with short attempts, so that a lease is over soon after a kill.
fn subscription(url: &str, key: &str) -> Value {
    json!({
        "type": "key-value", "url": url, "key": key, "ratePerSecond": 2_000, "timeout": 1,
        "retry": { "initialSeconds": 1, "factor": 1.0, "capSeconds": 1, "maxAttempts": 50 },
    })
}

async fn put(gateway: &Gateway, body: &Value) -> Value {
    let made = gateway.put(MADE).key(ADMIN_KEY).json(body).send().await;
    assert!(matches!(made.status, 200 | 201), "{}", made.shown());
    made.json()
}

async fn read(gateway: &Gateway, path: &str) -> Value {
    gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json()
}

/// What `get` of the store `default` gives, for every key: read from the file of Spin's own store.
fn stored(directory: &Path) -> BTreeMap<String, Value> {
    let file = Connection::open_with_flags(directory.join(FILE), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let Ok(file) = file else { return BTreeMap::new() };
    let rows = file.prepare("SELECT key, value FROM spin_key_value WHERE store = 'default'");
    let Ok(mut rows) = rows else {
        return BTreeMap::new();
    };
    let rows = rows.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
    });
    let rows = rows.expect("it is read").flatten();
    rows.map(|(key, value)| (key, serde_json::from_slice(&value).expect("JSON")))
        .collect()
}

fn is_each_there(values: &BTreeMap<String, Value>, accepted: &BTreeMap<u64, String>) -> bool {
    accepted
        .values()
        .all(|id| values.contains_key(&format!("signup/{id}")))
}

/// They are there under their keys, each as `GET …/messages` shows it, and nothing else is.
fn are_whole(values: &BTreeMap<String, Value>, accepted: &BTreeMap<u64, String>) {
    assert_eq!(values.len(), accepted.len());
    for (sequence, id) in accepted {
        let value = &values[&format!("signup/{id}")];
        assert_eq!((&value["id"], &value["sequence"]), (&json!(id), &json!(sequence)));
        assert!(
            value["key"].as_str().is_some_and(|key| key.contains("key-")),
            "{value}"
        );
        assert!(value["data"]["n"].as_u64() < Some(SIGN_UPS as u64), "{value}");
    }
}

/// 200 people sign up, Spin is killed in the middle, and every sign-up is a value.
pub async fn a_key_value_store_has_every_sign_up_under_its_key(host: Host) {
    let gateway = Arc::new(Gateway::start(host, "").await);
    let made = put(&gateway, &subscription("key-value://default", "{topic}/{id}")).await;
    assert_eq!(
        (&made["type"], &made["secret"]),
        (&json!("key-value"), &Value::Null)
    );
    let killing = Arc::clone(&gateway);
    let kill = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        killing.kill();
        killing.restart().await;
    });
    let accepted = sign_up(&gateway, SIGN_UPS).await;
    kill.await.expect("it was killed");
    let values = eventually("every sign-up is a value", async || {
        // Where all came before the kill, nobody asks any more but who probes its health: that goes on with what is left.
        gateway.get("/health/ready").send().await;
        let values = stored(gateway.directory());
        is_each_there(&values, &accepted).then_some(values)
    })
    .await;
    are_whole(&values, &accepted);
}

/// A Redis stands behind the store, goes away, and comes back.
pub async fn a_key_value_store_that_is_down_gets_the_values_when_it_is_back(host: Host) {
    let Some(server) = Redis::start_on(free_port(), SYNCED) else {
        return;
    };
    let gateway = Arc::new(Gateway::start(host, "").await);
    gateway.kill();
    let config = format!(
        "[key_value_store.default]\ntype = \"redis\"\nurl = \"{}\"\n",
        server.url(0)
    );
    fs::write(gateway.directory().join(RUNTIME_CONFIG), config).expect("the directory is ours");
    gateway.restart().await;
    put(&gateway, &subscription("key-value://default", "{topic}/{id}")).await;
    let mut accepted = BTreeMap::new();
    for n in 0..5 {
        let (sequence, id) = one(&gateway, n % KEYS, n).await;
        accepted.insert(sequence, id);
    }
    let size = || server.ask(0, &["DBSIZE"]);
    eventually("the first are there", async || (size() == "5").then_some(())).await;
    server.order("stop");
    for n in 5..SIGN_UPS / 4 {
        let (sequence, id) = one(&gateway, n % KEYS, n).await;
        accepted.insert(sequence, id);
    }
    let why = eventually("the failure is shown", async || {
        read(&gateway, MADE).await["lastError"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    assert!(
        why.contains("key-value store") && !why.contains("127.0.0.1"),
        "{why}"
    );
    server.order("start");
    server.wait();
    let all = accepted.len().to_string();
    eventually("all are there", async || (size() == all).then_some(())).await;
    let values = accepted.values().map(|id| {
        let key = format!("signup/{id}");
        let value = server.ask(0, &["GET", &key]);
        (key, serde_json::from_str(&value).expect("JSON"))
    });
    are_whole(&values.collect(), &accepted);
}

/// A store that the manifest does not name, and a message that makes no key. What is delivered late does not replace what came after it.
pub async fn the_last_value_of_a_key_stays_the_last(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let mut body = subscription("key-value://finance", "latest/{key}");
    body["retry"] = json!({ "maxAttempts": 1 });
    put(&gateway, &body).await;
    let letters = format!("{MADE}/dead-letters");
    let dead = async |count: usize| {
        eventually("it is a dead letter", async || {
            let page = read(&gateway, &letters).await;
            let all = page["deadLetters"].as_array()?.clone();
            (all.len() == count).then_some(all)
        })
        .await
    };
    one(&gateway, 1, 1).await;
    let first = dead(1).await.remove(0);
    let error = first["lastError"].as_str().expect("it has failed");
    assert!(
        error.contains("finance") && error.contains("key_value_stores"),
        "{error}"
    );
    body["url"] = json!("key-value://default");
    put(&gateway, &body).await;
    let (last, id) = one(&gateway, 1, 2).await;
    let latest = async || {
        let values = stored(gateway.directory());
        values.into_iter().find(|(key, _)| key.starts_with("latest/"))
    };
    let (key, value) = eventually("the second is there", latest).await;
    assert!(
        key.ends_with("key-1") && !key["latest/".len()..].contains(['/', ' ']),
        "{key}"
    );
    assert_eq!((&value["id"], &value["sequence"]), (&json!(id), &json!(last)));
    let call = gateway.post(&format!("{letters}/redrive")).key(ADMIN_KEY);
    call.json(&json!({ "all": true })).send().await.expect(200);
    let message = format!(
        "/api/messages/{}",
        first["message"]["id"].as_str().expect("an id")
    );
    eventually("the first is delivered", async || {
        let message = read(&gateway, &message).await;
        (message["deliveries"][0]["state"] == "delivered").then_some(())
    })
    .await;
    assert_eq!(dead(0).await.len(), 0);
    let (_, value) = latest().await.expect("it is there");
    assert_eq!(value["sequence"], json!(last));
    // Of a message that lacks what its key names, there is no value.
    body["key"] = json!("claims/{data.user}");
    put(&gateway, &body).await;
    one(&gateway, 1, 3).await;
    let error = dead(1).await[0]["lastError"].to_string();
    assert!(error.contains("key: data.user"), "{error}");
    assert_eq!(stored(gateway.directory()).len(), 1);
}

/// Nobody would deliver to it: said of the field over HTTP, and of the line in a file.
pub async fn key_value_is_refused_where_there_is_no_spin(host: Host) {
    let gateway = Gateway::shared(host).await;
    let body = subscription("key-value://default", "{topic}/{id}");
    let answer = gateway.put(MADE).key(ADMIN_KEY).json(&body).send().await;
    let problem = answer.problem(400, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], json!("#/type"));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tollgate.toml");
    let text =
        "[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"key-value\"\nurl = \"key-value://default\"\n";
    fs::write(&file, text).expect("it is ours");
    let checked = Command::new(binary())
        .args(["check", "--config"])
        .arg(&file)
        .output();
    let checked = checked.expect("it runs");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        !checked.status.success() && said.contains(":3: topics.t.subscriptions[0].type: is for Spin"),
        "{said}"
    );
}
