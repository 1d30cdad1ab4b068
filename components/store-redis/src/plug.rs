//! The component: the exports of `store-plug`, answered on `spin:redis`.

mod spin;

use std::cell::Cell;
use std::rc::Rc;

use tollgate_store::ports::Upkeep as _;

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

tollgate_store::wit_buckets!(crate::plug::bindings::exports::tollgate::edge::buckets);
tollgate_store::wit_store!(crate::plug::bindings::exports::tollgate::edge::store);
tollgate_store::wit_upkeep!(crate::plug::bindings::exports::tollgate::edge::upkeep);
tollgate_store::wit_plug!(
    Plug,
    bindings::exports::tollgate::edge,
    store,
    buckets,
    afterwards,
    taken
);

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

fn buckets() -> Rc<RedisBuckets<Spin>> {
    BUCKETS.with(Rc::clone)
}

/// Goes on after the call has returned: nobody waits for it.
fn afterwards(version: Option<u64>) {
    let store = store();
    let is_due = version.is_some_and(RedisStore::<Spin>::is_due);
    let looks = !LOOKED.replace(true);
    if !is_due && !looks && !store.has_work() {
        return;
    }
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

/// Redis forgets buckets by itself.
fn taken() {}
