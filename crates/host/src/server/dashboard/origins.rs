//! What the dashboard shows of the `[[origins]]`: all of it is in memory already, so nothing is asked of anybody.

use super::super::Shared;
use crate::proxy::cache::{Cache, Use};
use crate::proxy::counts::Outcome;
use crate::proxy::origin::{Address, Origin};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// All of them, in the order of the file.
pub fn told(shared: &Shared) -> Vec<u8> {
    let generation = shared.current.get();
    let all = generation.origins.iter().flat_map(|origins| origins.all());
    let all: Vec<Value> = all.map(|origin| one(origin)).collect();
    json!({ "origins": all }).to_string().into_bytes()
}

fn one(origin: &Origin) -> Value {
    let (settings, counts) = (origin.settings(), &origin.counts);
    let outcomes = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome.name().to_owned(), counts.of(outcome).into()));
    let outcomes: Map<String, Value> = outcomes.collect();
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let addresses: Vec<Value> = origin.addresses().iter().map(address).collect();
    json!({
        "name": settings.name,
        "underWay": origin.under_way(),
        "max": settings.max_concurrent,
        "waiting": origin.waiting(),
        "outcomes": outcomes,
        "retries": count(&counts.retries),
        "cut": count(&counts.cut),
        "connections": count(&counts.connections),
        "websockets": count(&counts.tunnels),
        "cache": origin.cache.as_deref().map(|cache| kept(cache, settings.cache_memory.0)),
        "checked": settings.health.is_some(),
        "addresses": addresses,
    })
}

fn address(address: &Address) -> Value {
    json!({
        "url": address.url,
        "healthy": address.is_well(),
        "breaker": address.breaker(),
        "underWay": address.under_way(),
    })
}

/// `max`: the room that it has, bytes.
fn kept(cache: &Cache, max: u64) -> Value {
    let uses = Use::ALL
        .into_iter()
        .map(|how| (how.name().to_owned(), cache.uses(how).into()));
    let mut told: Map<String, Value> = uses.collect();
    told.insert("bytes".to_owned(), cache.weight().into());
    told.insert("max".to_owned(), max.into());
    Value::Object(told)
}
