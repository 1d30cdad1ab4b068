//! Consumers of the groups: they lease, and acknowledge in time, late, or never.

use std::rc::Rc;

use serde_json::{Value, json};

use super::request::Wish;
use super::sending::ask;
use crate::world::{GROUP, Sim, TOPICS};

/// The path of a call of the group of a topic.
pub fn path(topic: &str, call: &str) -> String {
    format!("/api/topics/{topic}/groups/{GROUP}/{call}")
}

/// The lease ids of an answer.
fn ids(answer: &[u8]) -> Vec<Value> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let leases = answer["leases"].as_array().into_iter().flatten();
    leases.map(|lease| lease["leaseId"].clone()).collect()
}

/// Leases some messages, and says something of some of them.
pub async fn consume(sim: &Rc<Sim>) {
    let topic = TOPICS[sim.pick(2)];
    let lease = json!({"limit": sim.between(1, 6), "leaseSeconds": sim.between(1, 2)});
    let Some(answer) = ask(sim, Wish::admin("POST", path(topic, "lease"), lease)).await else {
        return;
    };
    let mut left = ids(&answer.body);
    while !left.is_empty() {
        let pause = if sim.one_of(200) { 2_500_000 } else { 20_000 };
        sim.executor.sleep(sim.below(pause)).await;
        let some: Vec<Value> = left.drain(..1 + sim.pick(left.len())).collect();
        let (call, body) = match sim.below(10) {
            0..6 => ("ack", json!({"leaseIds": some})),
            6 | 7 => ("nack", json!({"leaseIds": some, "delaySeconds": sim.below(2)})),
            8 => {
                left.extend(some.iter().cloned());
                (
                    "extend",
                    json!({"leaseIds": some, "leaseSeconds": sim.between(1, 2)}),
                )
            }
            // Forgotten.
            _ => continue,
        };
        ask(sim, Wish::admin("POST", path(topic, call), body)).await;
    }
}

/// When all is calm: leases and acknowledges until nothing is left but dead letters.
pub async fn drain(sim: &Rc<Sim>) {
    for (index, topic) in TOPICS.into_iter().enumerate() {
        let mut rounds = 0;
        loop {
            let lease = json!({"limit": 50, "leaseSeconds": 600});
            let answer = ask(sim, Wish::admin("POST", path(topic, "lease"), lease)).await;
            let ids = answer.map(|answer| ids(&answer.body)).unwrap_or_default();
            if !ids.is_empty() {
                ask(
                    sim,
                    Wish::admin("POST", path(topic, "ack"), json!({"leaseIds": ids})),
                )
                .await;
                continue;
            }
            let is_drained = {
                let model = sim.model.borrow();
                model.groups[index].is_drained(model.mirror.last_sequence(topic))
            };
            if is_drained || sim.is_violated() {
                break;
            }
            rounds += 1;
            // A lease that was answered to nobody lasts ten minutes, and the clock may have stepped back by three.
            if rounds > 2_000 {
                return sim.violated(|| format!("the group of {topic} does not come to an end"));
            }
            sim.executor.sleep(1_000_000).await;
        }
    }
}
