//! The component `store-sqlite` as Spin runs it: inside wasmtime, on `spin:sqlite`, several instances over one database.
//!
//! What Spin offers is written anew in [`sqlite`], as Spin 4.1 behaves, so that the contract suite needs no Spin.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "all of this crate is test code"
)]

mod bindings;
mod instance;
mod plug;
mod sqlite;

tollgate_store::wit_buckets!(crate::bindings::buckets);
tollgate_store::wit_store!(crate::bindings::store);
tollgate_store::wit_upkeep!(crate::bindings::upkeep);

pub use plug::{Plug, run};
