//! What was acknowledged survives a power cut at any moment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Gateway, Host, crowd};

const ROUNDS: usize = 4;
const WRITERS: usize = 12;
const STEP: Duration = Duration::from_millis(1);
/// The power goes when so many more claims are acknowledged.
const CLAIMS_PER_ROUND: usize = 60;

#[derive(Default)]
struct Journal {
    links: Vec<Value>,
    messages: Vec<Value>,
    claims: Vec<Value>,
    deleted: Vec<String>,
}

/// Writes what it can until nobody answers any more.
async fn write(gateway: Arc<Gateway>, writer: String, journal: Arc<Mutex<Journal>>) {
    for n in 0.. {
        let user = format!("{writer}-{n}");
        let link = json!({ "url": format!("https://example.com/{user}") });
        let Ok(link) = gateway
            .post("/api/links")
            .key(ADMIN_KEY)
            .json(&link)
            .attempt()
            .await
        else {
            return;
        };
        let link = link.expect(201).json();
        journal.lock().unwrap().links.push(link.clone());
        let sign_up = gateway
            .post("/signup")
            .client(&writer)
            .json(&json!({ "user": user }));
        let Ok(message) = sign_up.attempt().await else {
            return;
        };
        journal.lock().unwrap().messages.push(message.expect(202).json());
        let claim = gateway
            .post("/api/campaigns/durable/claims")
            .user(&user)
            .json(&json!({}));
        let Ok(claim) = claim.attempt().await else { return };
        journal
            .lock()
            .unwrap()
            .claims
            .push(claim.expect(201).json()["claim"].clone());
        if n % 4 == 0 {
            let code = link["code"].as_str().expect("a link has a code").to_owned();
            // From here on, and unless it is answered, nobody knows whether it is there.
            journal
                .lock()
                .unwrap()
                .links
                .retain(|link| link["code"] != code.as_str());
            let Ok(deleted) = gateway
                .delete(&format!("/api/links/{code}"))
                .key(ADMIN_KEY)
                .attempt()
                .await
            else {
                return;
            };
            deleted.expect(204);
            journal.lock().unwrap().deleted.push(code);
        }
    }
}

pub async fn acknowledged_links_messages_and_claims_survive_kill_nine(host: Host) {
    let gateway = Arc::new(Gateway::start(host, "").await);
    let body = json!({ "id": "durable", "quantity": 1_000_000 });
    gateway
        .post("/api/campaigns")
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201);
    let journal = Arc::new(Mutex::new(Journal::default()));
    for round in 0..ROUNDS {
        let writers = crowd(WRITERS, 0..WRITERS, |writer| {
            write(
                Arc::clone(&gateway),
                format!("{round}-{writer}"),
                Arc::clone(&journal),
            )
        });
        let cut = async {
            while journal.lock().unwrap().claims.len() < (round + 1) * CLAIMS_PER_ROUND {
                tokio::time::sleep(STEP).await;
            }
            gateway.kill();
        };
        tokio::join!(writers, cut);
        gateway.restart().await;
    }
    let journal = std::mem::take(&mut *journal.lock().unwrap());
    let found = crowd(32, journal.links.clone(), |link| {
        gateway
            .get(&format!("/{}", link["code"].as_str().unwrap()))
            .send()
    });
    for (answer, link) in found.await.into_iter().zip(&journal.links) {
        assert_eq!(
            answer.expect(302).header("location"),
            link["url"].as_str().unwrap()
        );
    }
    for code in &journal.deleted {
        gateway
            .get(&format!("/{code}"))
            .send()
            .await
            .problem(404, "not-found");
    }
    let messages = gateway.messages("signup").await;
    for message in &journal.messages {
        let kept = messages.iter().find(|kept| kept["id"] == message["id"]);
        assert_eq!(
            kept.map(|kept| &kept["sequence"]),
            Some(&message["sequence"]),
            "{message}"
        );
    }
    let announced = gateway.messages("coupon").await;
    for claim in &journal.claims {
        let kept = announced.iter().find(|kept| kept["data"]["claim"] == claim["id"]);
        assert_eq!(
            kept.map(|kept| &kept["data"]["sequence"]),
            Some(&claim["sequence"]),
            "{claim}"
        );
    }
    // State and queue agree, also about what nobody heard of.
    let state = gateway
        .get("/api/campaigns/durable")
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(state["admitted"], announced.len());
}
