//! The component: the exports of `store-plug`, answered on `spin:sqlite`.

mod spin;

use std::rc::Rc;

use crate::buckets::SqliteBuckets;
use crate::store::SqliteStore;
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
    // Kept for the life of the instance, with the connections.
    static DATABASE: Rc<Spin> = Rc::default();
    static STORE: Rc<SqliteStore<Spin>> = Rc::new(SqliteStore::new(DATABASE.with(Rc::clone)));
    static BUCKETS: Rc<SqliteBuckets<Spin>> = Rc::new(SqliteBuckets::new(DATABASE.with(Rc::clone)));
}

fn store() -> Rc<SqliteStore<Spin>> {
    STORE.with(Rc::clone)
}

fn buckets() -> Rc<SqliteBuckets<Spin>> {
    BUCKETS.with(Rc::clone)
}

/// Goes on after the call has returned: nobody waits for it.
fn afterwards(version: Option<u64>) {
    let store = store();
    let due = version.filter(|version| store.is_due(*version));
    if due.is_none() && !store.has_work() {
        return;
    }
    wit_bindgen::spawn(async move {
        store.work().await;
        if let Some(version) = due {
            store.maintain(version).await;
        }
    });
}

fn taken() {
    let buckets = buckets();
    if buckets.is_due() {
        wit_bindgen::spawn(async move { buckets.maintain().await });
    }
}
