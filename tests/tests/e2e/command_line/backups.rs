//! Backups of a gateway in use, and their way back.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Ended, run, tollgate};
use crate::harness::{ADMIN_KEY, Gateway, Host};

const STOCK: u64 = 1_000_000;
/// Restores that are killed at some moment.
const KILLS: u64 = 10;

fn on(gateway: &Gateway, arguments: &[&str], file: &Path) -> Command {
    let mut command = tollgate(arguments);
    command
        .arg(file)
        .arg("--data")
        .arg(gateway.directory().join("data"));
    command.current_dir(gateway.directory());
    command
}

async fn backup(gateway: &Gateway, name: &str) -> (std::path::PathBuf, Ended) {
    let file = gateway.directory().join(name);
    let ended = run(on(gateway, &["backup", "--json"], &file)).await.expect(0);
    (file, ended)
}

/// State and queue agree, and the claims of these users are there. How many are there at all.
async fn check(gateway: &Gateway, id: &str, users: &BTreeSet<String>) -> u64 {
    let path = format!("/api/campaigns/{id}");
    let campaign = gateway.get(&path).send().await.expect(200).json();
    let admitted = campaign["admitted"].as_u64().expect("it is a number");
    assert_eq!(campaign["remaining"], STOCK - admitted, "{campaign}");
    let messages = gateway.messages("coupon").await;
    let claims = messages
        .iter()
        .filter(|message| message["data"]["campaign"] == id);
    let told: BTreeSet<&str> = claims
        .filter_map(|message| message["data"]["user"].as_str())
        .collect();
    assert_eq!(
        told.len() as u64,
        admitted,
        "a claim exists if and only if its message does"
    );
    for user in users {
        assert!(told.contains(user.as_str()), "{user}");
    }
    if let Some(user) = users.first() {
        let path = format!("/api/campaigns/{id}/claims");
        let again = gateway
            .post(&path)
            .header("x-user-id", user)
            .send()
            .await
            .expect(409)
            .json();
        assert_eq!(again["type"], "urn:tollgate:problem:already-claimed");
    }
    admitted
}

pub async fn a_backup_beside_claims_is_restored_with_every_claim_acknowledged_before(host: Host) {
    let gateway = Arc::new(Gateway::start(host, "").await);
    let id = gateway.campaign(STOCK, json!({})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let claiming: Vec<_> = (0..16)
        .map(|task| {
            let (gateway, stop, id, acknowledged) = (
                Arc::clone(&gateway),
                Arc::clone(&stop),
                id.clone(),
                Arc::clone(&acknowledged),
            );
            tokio::spawn(async move {
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let user = format!("user-{task}-{round}");
                    let path = format!("/api/campaigns/{id}/claims");
                    gateway
                        .post(&path)
                        .header("x-user-id", &user)
                        .send()
                        .await
                        .expect(201);
                    acknowledged.lock().unwrap().insert(user);
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let before = acknowledged.lock().unwrap().clone();
    let (file, ended) = backup(&gateway, "a.backup").await;
    let after = acknowledged.lock().unwrap().len();
    assert!(
        after > before.len() && !before.is_empty(),
        "claims went on meanwhile"
    );
    stop.store(true, Ordering::Relaxed);
    for task in claiming {
        task.await.expect("no panic");
    }
    assert!(
        ended.json()[0]["messages"].as_u64() >= Some(before.len() as u64),
        "{}",
        ended.out
    );
    // Not over a file, and not into a store in use.
    let over = run(on(&gateway, &["backup"], &file)).await.expect(1);
    assert!(over.err.contains("--force"), "{}", over.err);
    let in_use = run(on(&gateway, &["restore", "--force"], &file)).await.expect(1);
    assert!(in_use.err.contains("in use"), "{}", in_use.err);
    let all = check(&gateway, &id, &BTreeSet::new()).await;
    gateway.stop().await;
    let there = run(on(&gateway, &["restore"], &file)).await.expect(1);
    assert!(there.err.contains("--force"), "{}", there.err);
    run(on(&gateway, &["restore", "--force"], &file)).await.expect(0);
    gateway.restart().await;
    let kept = check(&gateway, &id, &before).await;
    assert!(kept < all, "it is the store of then");
    // And of a gateway that is not running.
    gateway.stop().await;
    let (_, ended) = backup(&gateway, "b.backup").await;
    assert_eq!(ended.json()[0]["journal"], 0, "{}", ended.out);
}

pub async fn a_restore_that_is_killed_leaves_the_old_store_or_the_new_one(host: Host) {
    let gateway = Gateway::start(host, "").await;
    // Some bytes, so that a restore takes a while.
    let body = "x".repeat(60_000);
    for _ in 0..300 {
        let call = gateway.post("/api/topics/ballast/messages").key(ADMIN_KEY);
        call.header("content-type", "text/plain")
            .body(body.clone())
            .send()
            .await
            .expect(202);
    }
    gateway.link("old-link").await;
    let (file, _) = backup(&gateway, "old.backup").await;
    gateway.link("new-link").await;
    gateway.stop().await;
    let mut old = 0;
    for round in 0..KILLS {
        let mut restoring = on(&gateway, &["restore", "--force"], &file);
        let mut restoring = restoring.stdout(Stdio::null()).spawn().expect("it runs");
        let after = Duration::from_millis(4 * round * round);
        if tokio::time::timeout(after, restoring.wait()).await.is_err() {
            restoring.kill().await.expect("it is ours");
        }
        gateway.restart().await;
        let status = async |code: &str| {
            let path = format!("/api/links/{code}");
            gateway.get(&path).key(ADMIN_KEY).send().await.status
        };
        assert_eq!(status("old-link").await, 200);
        match status("new-link").await {
            // The backup's store: the next round begins with the other one again.
            404 => gateway.link("new-link").await,
            _ => old += 1,
        }
        let ballast = gateway
            .get("/api/topics/ballast")
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200);
        assert_eq!(ballast.json()["depth"], Value::from(300));
        gateway.stop().await;
    }
    assert!(old > 0, "none was killed before it was decided");
    run(on(&gateway, &["restore", "--force"], &file)).await.expect(0);
}

pub async fn what_cannot_be_backed_up_is_said(host: Host) {
    let gateway = Gateway::shared(host).await;
    let nowhere = gateway.directory().join("nowhere");
    let mut missing = tollgate(&["backup"]);
    missing
        .arg(gateway.directory().join("x.backup"))
        .arg("--data")
        .arg(&nowhere);
    let ended = run(missing).await.expect(1);
    assert!(
        ended.err.contains("nowhere") && !nowhere.exists(),
        "{}",
        ended.err
    );
    let settings = gateway.directory().join("memory.toml");
    std::fs::write(&settings, "[store]\nengine = \"memory\"\n").expect("it is ours");
    let mut memory = tollgate(&["backup", "x.backup", "--config"]);
    memory.arg(&settings);
    assert!(run(memory).await.expect(1).err.contains("memory"));
}
