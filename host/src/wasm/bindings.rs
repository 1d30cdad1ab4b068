//! All host-side bindings of `wit/edge.wit`, generated in one place.
#![allow(missing_docs, clippy::all, reason = "generated")]

/// The limiter's world.
pub mod filter {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "host-filter",
        require_store_data_send: true,
    });
}

/// The world of shortener, coupon, forward and admin.
pub mod gate {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "host-gate",
        require_store_data_send: true,
        with: {
            "tollgate:edge/types": super::filter::tollgate::edge::types,
            "tollgate:edge/buckets": super::filter::tollgate::edge::buckets,
            "tollgate:edge/store": super::filter::tollgate::edge::store,
        },
    });
}

/// The world of the fast path.
pub mod fast_path {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "host-fast-path",
        require_store_data_send: true,
        with: {
            "tollgate:edge/buckets": super::filter::tollgate::edge::buckets,
            "tollgate:edge/store": super::filter::tollgate::edge::store,
        },
    });
}

pub use fast_path::tollgate::edge::memory;
pub use filter::tollgate::edge::{buckets, store, types};
