//! A campaign through power cuts: never more than N, and nothing that was acknowledged is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{announced, assert_announced, assert_dense, campaign, claims, state};
use crate::harness::{Gateway, Host, crowd};

const USERS: usize = 10_000;
const QUANTITY: u64 = 3_000;
const CONNECTIONS: usize = 64;
/// Acknowledged claims after which the gateway is killed.
const KILLS: [usize; 3] = [300, 1_200, 2_400];
/// How long a client waits before it asks again, when nobody answered.
const PAUSE: Duration = Duration::from_millis(20);

/// What the clients know: acknowledged claims by user.
type Journal = Arc<Mutex<BTreeMap<String, Value>>>;

/// One user's claim, asked for until there is an answer. A user who was admitted but did not hear of it is told so.
async fn insist(gateway: Arc<Gateway>, path: String, user: String, journal: Journal) {
    loop {
        let Ok(answer) = gateway.post(&path).user(&user).json(&json!({})).attempt().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match answer.status {
            201 => drop(
                journal
                    .lock()
                    .unwrap()
                    .insert(user, answer.json()["claim"].clone()),
            ),
            409 => {
                let claim = answer.problem(409, "already-claimed")["claim"].clone();
                journal.lock().unwrap().insert(user, claim);
            }
            // Stopping, or the store was gone for a moment: not an answer yet.
            503 => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            _ => drop(answer.problem(410, "sold-out")),
        }
        return;
    }
}

pub async fn kill_nine_in_the_middle_of_ten_thousand_claims(host: Host) {
    let gateway = Arc::new(Gateway::start(host, "").await);
    let campaign = campaign(&gateway, QUANTITY, json!({})).await;
    let (journal, path) = (Journal::default(), claims(&campaign));
    let killed = AtomicUsize::new(0);
    let killer = async {
        for threshold in KILLS {
            while journal.lock().unwrap().len() < threshold {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            gateway.kill();
            gateway.restart().await;
            killed.fetch_add(1, Ordering::Relaxed);
        }
    };
    let clients = crowd(CONNECTIONS, 0..USERS, |n| {
        insist(
            Arc::clone(&gateway),
            path.clone(),
            format!("user-{n}"),
            Arc::clone(&journal),
        )
    });
    tokio::join!(killer, clients);
    assert_eq!(killed.load(Ordering::Relaxed), KILLS.len());
    // Once more, so that what is read below was on disk.
    gateway.kill();
    gateway.restart().await;
    let journal = journal.lock().unwrap().clone();
    assert_eq!(
        journal.len() as u64,
        QUANTITY,
        "everybody was answered, and N were admitted"
    );
    assert_dense(journal.values().map(|claim| &claim["sequence"]), QUANTITY);
    assert_announced(&announced(&gateway, "coupon", &campaign).await, &journal);
    let state = state(&gateway, &campaign).await;
    assert_eq!(
        (&state["admitted"], &state["remaining"]),
        (&json!(QUANTITY), &json!(0))
    );
    let kept = crowd(CONNECTIONS, journal.keys().cloned(), |user| {
        gateway.get(&format!("{path}/{user}")).user(&user).send()
    })
    .await;
    for (answer, claim) in kept.into_iter().zip(journal.values()) {
        let claims = answer.expect(200).json()["claims"].clone();
        assert_eq!(claims.as_array().map(Vec::len), Some(1), "{claims}");
        assert_eq!(
            (&claims[0]["id"], &claims[0]["sequence"]),
            (&claim["id"], &claim["sequence"])
        );
    }
}
