//! The component: the exports of `store-plug`, answered on `spin:postgres`.

mod spin;

use std::rc::Rc;

use tollgate_store::ports::Upkeep as _;

use crate::buckets::PostgresBuckets;
use crate::store::PostgresStore;
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
    static STORE: Rc<PostgresStore<Spin>> = Rc::new(PostgresStore::new(DATABASE.with(Rc::clone)));
    static BUCKETS: Rc<PostgresBuckets<Spin>> = Rc::new(PostgresBuckets::new(DATABASE.with(Rc::clone)));
}

fn store() -> Rc<PostgresStore<Spin>> {
    STORE.with(Rc::clone)
}

fn buckets() -> Rc<PostgresBuckets<Spin>> {
    BUCKETS.with(Rc::clone)
}

/// Goes on after the call has returned: nobody waits for it.
fn afterwards(version: Option<u64>) {
    let store = store();
    let is_due = version.is_some_and(PostgresStore::<Spin>::is_due);
    if !is_due && !store.has_work() {
        return;
    }
    wit_bindgen::spawn(async move {
        store.work().await;
        if is_due {
            // What is left is left to the next turn.
            let _ = store.expire().await;
        }
    });
}

fn taken() {
    let buckets = buckets();
    if buckets.is_due() {
        wit_bindgen::spawn(async move { buckets.maintain().await });
    }
}
