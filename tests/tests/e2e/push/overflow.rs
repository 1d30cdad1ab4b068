//! A topic that is full, whose oldest messages go.

use std::time::Duration;

use super::subscribed;
use super::under_spin::SHORT;
use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, eventually, unique};

/// What the topic may take, bytes, and the messages that are posted, of a kilobyte each.
const BACKLOG: u64 = 16 << 10;
const POSTED: usize = 60;

pub async fn a_full_topic_drops_its_oldest_where_it_is_told_to(host: Host) {
    let origin = Origin::start().await;
    origin.answer(503);
    let full = "[topics.signup]\nmax_bytes = \"4KiB\"\nmax_backlog = \"16KiB\"\noverflow = \"drop-oldest\"\n";
    let gateway = Gateway::start(host, &[full, &subscribed(&origin, SHORT)].concat()).await;
    let mut ids = Vec::new();
    while ids.len() < POSTED {
        let post = gateway.post("/signup").client(&unique("c"));
        let answer = post.body(vec![b'x'; 1_024]).send().await;
        match answer.status {
            202 => ids.push(answer.json()["id"].as_str().expect("it has one").to_owned()),
            // Until the next sweep of the store.
            _ => {
                answer.problem(503, "backlog-full");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    eventually("the topic takes what it may", async || {
        let topic = gateway.get("/api/topics/signup").key(ADMIN_KEY).send().await;
        let topic = topic.expect(200).json();
        (topic["bytes"].as_u64() <= Some(BACKLOG)).then_some(())
    })
    .await;
    // What a relay has in memory it still delivers; the next one knows the topic alone.
    gateway.kill();
    origin.answer(204);
    gateway.restart().await;
    let taken = eventually("the newest is delivered", async || {
        // Under Spin nothing runs before a request.
        gateway.get("/health/ready").send().await.expect(200);
        let taken = origin.taken();
        let newest = ids.last().map(String::as_str);
        let is_there = taken.iter().any(|delivery| Some(delivery.id()) == newest);
        is_there.then_some(taken)
    })
    .await;
    let dropped = &ids[..POSTED - BACKLOG as usize / 1_024];
    assert!(
        taken
            .iter()
            .all(|delivery| dropped.iter().all(|id| id != delivery.id())),
        "a message was delivered that had to go"
    );
    let read = gateway.messages("signup").await;
    assert!(read.len() < POSTED && read.last().is_some_and(|last| last["sequence"] == POSTED));
}
