//! The component: the exports of `store-plug`, answered on `spin:redis`.

mod spin;

use std::cell::Cell;
use std::rc::Rc;

use tollgate_store::commit as ours;
use tollgate_store::ports::{Buckets as _, Store as _, Upkeep as _};

use crate::buckets::RedisBuckets;
use crate::durability;
use crate::store::RedisStore;
use spin::Spin;

/// Generated from `wit/edge.wit`.
#[allow(missing_docs, clippy::all, unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "store-plug" });
    use super::Plug;
    export!(Plug);
}

use bindings::exports::tollgate::edge::{buckets as wit_buckets, store as wit, upkeep as wit_upkeep};

tollgate_store::wit_buckets!(crate::plug::bindings::exports::tollgate::edge::buckets);
tollgate_store::wit_store!(crate::plug::bindings::exports::tollgate::edge::store);
tollgate_store::wit_upkeep!(crate::plug::bindings::exports::tollgate::edge::upkeep);

struct Plug;

thread_local! {
    // Kept for the life of the instance, with the connection.
    static DATABASE: Rc<Spin> = Rc::default();
    static STORE: Rc<RedisStore<Spin>> = Rc::new(RedisStore::new(DATABASE.with(Rc::clone)));
    /// Whether this instance has looked how Redis is configured.
    static LOOKED: Cell<bool> = const { Cell::new(false) };
    static BUCKETS: Rc<RedisBuckets<Spin>> = Rc::new(RedisBuckets::new(DATABASE.with(Rc::clone)));
}

fn store() -> Rc<RedisStore<Spin>> {
    STORE.with(Rc::clone)
}

/// Goes on after the call has returned: nobody waits for it.
fn afterwards(store: &Rc<RedisStore<Spin>>, version: Option<u64>) {
    let is_due = version.is_some_and(RedisStore::<Spin>::is_due);
    let looks = !LOOKED.replace(true);
    if !is_due && !looks && !store.has_work() {
        return;
    }
    let store = Rc::clone(store);
    wit_bindgen::spawn(async move {
        store.work().await;
        if looks && let Some(complaint) = durability::complaint(&*DATABASE.with(Rc::clone)).await {
            // Into the component's log, and onto the terminal of `spin up`.
            eprintln!("WARNING: {complaint}");
        }
        if is_due {
            // What is left is left to the next turn.
            let _ = store.expire().await;
        }
    });
}

impl wit::Guest for Plug {
    async fn commit(transaction: wit::Transaction) -> Result<wit::Outcome, wit::StoreError> {
        let store = store();
        let outcome = store.commit(transaction.into()).await;
        let version = match &outcome {
            Ok(ours::Outcome::Committed(committed)) => Some(committed.version),
            _ => None,
        };
        afterwards(&store, version);
        Ok(outcome?.into())
    }

    fn defer(transaction: wit::Transaction) {
        store().defer(transaction.into());
    }

    async fn settle() -> Result<(), wit::StoreError> {
        Ok(store().settle().await?)
    }

    async fn get(partition: String, keys: Vec<String>) -> Result<Vec<Option<wit::Entry>>, wit::StoreError> {
        let store = store();
        let entries = store.get(&partition, &keys).await;
        afterwards(&store, None);
        Ok(entries?.into_iter().map(|entry| entry.map(Into::into)).collect())
    }

    async fn scan(
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<wit::Item>, wit::StoreError> {
        let items = store().scan(&prefix, after.as_deref(), limit).await?;
        Ok(items.into_iter().map(Into::into).collect())
    }

    async fn read(
        topic: String,
        after: u64,
        limit: u32,
        wait: u32,
    ) -> Result<Vec<wit::Message>, wit::StoreError> {
        let messages = store().read(&topic, after, limit, wait).await?;
        Ok(messages.into_iter().map(Into::into).collect())
    }

    async fn topics(after: Option<String>, limit: u32) -> Result<Vec<wit::Topic>, wit::StoreError> {
        let topics = store().topics(after.as_deref(), limit).await?;
        Ok(topics.into_iter().map(Into::into).collect())
    }
}

impl wit_upkeep::Guest for Plug {
    async fn expire() -> Result<bool, wit::StoreError> {
        Ok(store().expire().await?)
    }

    async fn trim(
        topic: String,
        retention: wit_upkeep::Retention,
        needed: u64,
    ) -> Result<bool, wit::StoreError> {
        Ok(store().trim(&topic, retention.into(), needed).await?)
    }

    fn is_behind() -> bool {
        store().has_work()
    }

    async fn catch_up() {
        store().work().await;
    }
}

impl wit_buckets::Guest for Plug {
    async fn take(
        buckets: Vec<wit_buckets::Bucket>,
    ) -> Result<Vec<wit_buckets::Level>, wit_buckets::TakeError> {
        let engine = BUCKETS.with(Rc::clone);
        let levels = engine.take(buckets.into_iter().map(Into::into).collect()).await;
        Ok(levels?.into_iter().map(Into::into).collect())
    }
}
