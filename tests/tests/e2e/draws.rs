//! Draws: entries, the close, the outcome, and that anybody can check it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::command_line::tollgate;
use crate::harness::{ADMIN_KEY, Gateway, Host, eventually, in_seconds, unique};

/// Makes a draw; its id.
async fn made(gateway: &Gateway, fields: Value) -> String {
    let mut body = json!({
        "id": unique("draw"), "pick": 6, "pool": { "from": 1, "to": 49 }, "closesAt": in_seconds(3_600),
        "prizes": [{ "matches": 6, "name": "car", "quantity": 1 }, { "matches": 3, "name": "book" }],
    });
    let fields = fields.as_object().expect("fields are an object").clone();
    body.as_object_mut().expect("so is this").extend(fields);
    let answer = gateway.post("/api/draws").key(ADMIN_KEY).json(&body).send().await;
    let draw = answer.expect(201).json();
    assert_eq!((&draw["seed"], &draw["entries"]), (&Value::Null, &json!(0)));
    draw["id"].as_str().expect("a draw has an id").to_owned()
}

async fn state(gateway: &Gateway, draw: &str) -> Value {
    gateway
        .get(&format!("/api/draws/{draw}"))
        .send()
        .await
        .expect(200)
        .json()
}

async fn proof(gateway: &Gateway, draw: &str, user: &str) -> Value {
    let path = format!("/api/draws/{draw}/entries/{user}/proof");
    gateway.get(&path).user(user).send().await.expect(200).json()
}

/// Draws, however many calls it takes.
async fn drawn(gateway: &Gateway, draw: &str, body: Value) -> Value {
    let path = format!("/api/draws/{draw}/draw");
    eventually("the draw is drawn", async || {
        let answer = gateway.post(&path).key(ADMIN_KEY).json(&body).send().await;
        (answer.status != 202).then(|| answer.expect(200).json())
    })
    .await
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().to_vec()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("a hash");
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Whether a proof leads from its leaf to the root: written out from RFC 9162, section 2.1.3.2, and from nothing of ours.
fn leads_to_the_root(draw: &Value, proof: &Value) -> bool {
    let number = |value: &Value| value.as_u64().expect("a number");
    let words = proof["words"].as_array().expect("words").iter();
    let words: Vec<String> = words.map(Value::to_string).collect();
    let lines = [
        "tollgate draw entry 1".to_owned(),
        draw["id"].as_str().expect("an id").to_owned(),
        proof["sequence"].to_string(),
        proof["owner"].as_str().expect("a hash").to_owned(),
        words.join("\n"),
    ];
    let mut hash = sha256(&[&[0], lines.join("\n").as_bytes()]);
    let (mut at, mut last) = (number(&proof["sequence"]) - 1, number(&draw["entries"]) - 1);
    for sibling in proof["path"].as_array().expect("a path") {
        let sibling = bytes(sibling);
        if at % 2 == 1 || at == last {
            hash = sha256(&[&[1], &sibling, &hash]);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = sha256(&[&[1], &hash, &sibling]);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && hash == bytes(&draw["root"])
}

pub async fn a_draw_is_drawn_once_and_anybody_can_check_it(host: Host) {
    const USERS: u64 = 40;
    let gateway = Gateway::shared(host).await;
    let draw = made(&gateway, json!({ "perUser": 2 })).await;
    let commitment = state(&gateway, &draw).await["commitment"].clone();
    let path = format!("/api/draws/{draw}/entries");
    let entries = join_all((0..2 * USERS).map(|n| {
        let call = gateway.post(&path).user(&format!("user-{}", n / 2));
        async move { call.send().await.expect(201).json()["entry"].clone() }
    }))
    .await;
    let sequences: BTreeSet<u64> = entries
        .iter()
        .filter_map(|entry| entry["sequence"].as_u64())
        .collect();
    assert_eq!(sequences, (1..=2 * USERS).collect());
    gateway
        .post(&path)
        .user("user-1")
        .send()
        .await
        .problem(409, "already-entered");

    let outcomes = join_all((0..4).map(|_| drawn(&gateway, &draw, json!({})))).await;
    assert!(outcomes.iter().all(|one| *one == outcomes[0]), "{outcomes:?}");
    let outcome = &outcomes[0];
    assert_eq!(
        (&outcome["state"], &outcome["entries"]),
        (&json!("drawn"), &json!(2 * USERS))
    );
    gateway
        .post(&path)
        .user("late")
        .send()
        .await
        .problem(403, "ended");

    // Checked with what anybody has at hand.
    let (seed, root) = (bytes(&outcome["seed"]), bytes(&outcome["root"]));
    assert_eq!(sha256(&[&seed]), bytes(&commitment));
    let hash = sha256(&[&seed, &root]);
    let first = u64::from_be_bytes(hash[..8].try_into().expect("eight bytes"));
    let winner = first % (2 * USERS) + 1;
    assert_eq!(outcome["winner"]["sequence"], winner);
    let entry = entries
        .iter()
        .find(|entry| entry["sequence"] == winner)
        .expect("it is there");
    assert_eq!(entry["words"], outcome["winningWords"]);
    for user in 0..USERS {
        let proof = proof(&gateway, &draw, &format!("user-{user}")).await;
        assert_eq!(proof["draw"], *outcome);
        let own = proof["entries"].as_array().expect("a list");
        assert_eq!(own.len(), 2);
        for one in own.iter().chain([&proof["winner"]]) {
            assert!(leads_to_the_root(outcome, one), "{one}");
        }
        for one in own {
            let told = entries
                .iter()
                .find(|entry| entry["id"] == one["id"])
                .expect("it was admitted");
            assert_eq!(told["leaf"], one["leaf"]);
        }
    }
    let (path, user) = (
        format!("{path}/{}", entry["user"].as_str().unwrap_or("")),
        entry["user"].as_str(),
    );
    let own = gateway
        .get(&path)
        .user(user.unwrap_or(""))
        .send()
        .await
        .expect(200)
        .json();
    let prizes: Vec<_> = own["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["prize"])
        .collect();
    assert!(prizes.contains(&&json!("car")), "{own}");
    // One message for each entry, and one for the outcome, after them.
    let mut messages = gateway.messages("draw").await;
    messages.retain(|message| message["data"]["draw"] == draw);
    assert_eq!(messages.len() as u64, 2 * USERS + 1);
    let last = messages.last().expect("there is one");
    assert_eq!(
        (&last["type"], &last["data"]["winner"]["user"]),
        (&json!("draw.drawn"), &entry["user"])
    );
}

pub async fn a_draw_closes_and_is_drawn_by_itself(host: Host) {
    let gateway = Gateway::shared(host).await;
    let draw = made(
        &gateway,
        json!({ "closesAt": in_seconds(3), "pool": ["ant", "bee", "cat"], "pick": 2,
        "prizes": [{ "matches": 2, "name": "all" }] }),
    )
    .await;
    let body = json!({ "words": ["cat", "ant"] });
    let path = format!("/api/draws/{draw}/entries");
    let entry = gateway
        .post(&path)
        .user("ann")
        .json(&body)
        .send()
        .await
        .expect(201)
        .json();
    assert_eq!(entry["entry"]["words"], json!(["ant", "cat"]));
    let outcome = eventually("it is drawn", async || {
        let now = state(&gateway, &draw).await;
        (now["state"] == "drawn").then_some(now)
    })
    .await;
    assert_eq!(outcome["winningWords"], json!(["ant", "cat"]));
    gateway.post(&path).user("bob").send().await.problem(403, "ended");
}

pub async fn a_draw_waits_for_the_beacon_that_was_announced(host: Host) {
    let gateway = Gateway::shared(host).await;
    let draw = made(&gateway, json!({ "beaconSource": "the index of the day after" })).await;
    let entries = format!("/api/draws/{draw}/entries");
    for user in ["ann", "bob", "cid"] {
        gateway.post(&entries).user(user).send().await.expect(201);
    }
    let path = format!("/api/draws/{draw}/draw");
    let early = gateway
        .post(&path)
        .key(ADMIN_KEY)
        .json(&json!({ "beacon": "7" }))
        .send()
        .await;
    early.problem(409, "conflict");
    let closed = drawn(&gateway, &draw, json!({})).await;
    assert_eq!(
        (&closed["state"], &closed["seed"]),
        (&json!("closed"), &Value::Null)
    );
    let before = proof(&gateway, &draw, "bob").await;
    assert!(leads_to_the_root(&closed, &before["entries"][0]), "{before}");
    let outcome = drawn(&gateway, &draw, json!({ "beacon": "18391.44" })).await;
    assert_eq!(
        (&outcome["state"], &outcome["root"]),
        (&json!("drawn"), &closed["root"])
    );
}

pub async fn the_command_line_checks_a_draw_offline(host: Host) {
    let gateway = Gateway::shared(host).await;
    let draw = made(&gateway, json!({})).await;
    let entries = format!("/api/draws/{draw}/entries");
    for user in ["ann", "bob", "cid"] {
        gateway.post(&entries).user(user).send().await.expect(201);
    }
    let commitment = state(&gateway, &draw).await["commitment"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    drawn(&gateway, &draw, json!({})).await;
    let mut document = proof(&gateway, &draw, "bob").await;
    let file = gateway.directory().join(format!("{draw}.json"));
    let name = file.to_str().expect("a plain name").to_owned();
    let verify = async |document: &Value, more: &[&str]| {
        std::fs::write(&file, document.to_string()).expect("the disk takes it");
        let arguments = [&["draw", "verify", &name], more].concat();
        let output = tollgate(&arguments).output().await.expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = verify(&document, &["--commitment", &commitment]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(
        out.contains("holds  entry 2 is in the tree") && !out.contains("FAILS"),
        "{out}"
    );
    let (code, out, _) = verify(&document, &["--json"]).await;
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["checks"][0]["holds"]), (Some(0), &json!(true)));
    document["draw"]["beacon"] = json!("chosen afterwards");
    document["entries"][0]["words"][0] = json!(50);
    let (code, out, err) = verify(&document, &[]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("FAILS  entry 2 is in the tree") && err.contains("is not as it says"),
        "{out}{err}"
    );
    let (code, _, err) = verify(&json!([]), &[]).await;
    assert!(code == Some(1) && err.contains("no proof of a draw"), "{err}");
}

/// Every entry that was acknowledged is in the tree, whenever the process dies: while entries come in, and while it is drawn.
pub async fn entries_and_the_outcome_outlive_crashes(host: Host) {
    const USERS: usize = 3_000;
    let gateway = Gateway::start(host, "").await;
    let draw = made(&gateway, json!({})).await;
    let path = format!("/api/draws/{draw}/entries");
    let done = AtomicU64::new(0);
    let enter = async |user: String| loop {
        match gateway.post(&path).user(&user).attempt().await {
            Ok(answer) if answer.status == 201 => {
                done.fetch_add(1, Ordering::Relaxed);
                return answer.json()["entry"].clone();
            }
            // It was admitted, and the answer was lost.
            Ok(answer) if answer.status == 409 => return answer.json()["entry"].clone(),
            Ok(answer) if answer.status < 500 => panic!("{}", answer.shown()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let crashes = async {
        for after in [300, 1_500] {
            while done.load(Ordering::Relaxed) < after {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            gateway.kill();
            gateway.restart().await;
        }
    };
    let users = futures::stream::iter(0..USERS).map(|n| enter(format!("user-{n}")));
    let (entries, ()) = tokio::join!(users.buffer_unordered(64).collect::<Vec<_>>(), crashes);
    let sequences: BTreeSet<u64> = entries
        .iter()
        .filter_map(|entry| entry["sequence"].as_u64())
        .collect();
    assert_eq!(sequences, (1..=USERS as u64).collect());

    let drawing = format!("/api/draws/{draw}/draw");
    let asked = tokio::time::timeout(
        Duration::from_millis(20),
        gateway.post(&drawing).key(ADMIN_KEY).attempt(),
    );
    let _ = asked.await;
    gateway.kill();
    gateway.restart().await;
    let outcome = drawn(&gateway, &draw, json!({})).await;
    assert_eq!(
        (&outcome["state"], &outcome["entries"]),
        (&json!("drawn"), &json!(USERS))
    );
    for entry in entries.iter().step_by(97) {
        let user = entry["user"].as_str().expect("a user");
        let proof = proof(&gateway, &draw, user).await;
        assert_eq!(proof["entries"][0]["leaf"], entry["leaf"]);
        assert!(leads_to_the_root(&outcome, &proof["entries"][0]), "{proof}");
    }
    let messages = gateway.messages("draw").await;
    let ends = messages
        .iter()
        .filter(|message| message["type"] == "draw.drawn")
        .count();
    assert_eq!((messages.len(), ends), (USERS + 1, 1));
}
