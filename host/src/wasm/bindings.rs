//! The host's bindings of `wit/edge.wit`, generated in one place.
#![allow(missing_docs, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "rules-component",
    require_store_data_send: true,
});

pub use exports::tollgate::edge::rules;
pub use tollgate::edge::{buckets, memory, store};
