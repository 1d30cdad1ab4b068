//! The host's bindings of `wit/edge.wit`, generated in one place.
#![allow(missing_docs, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "rules-component",
    require_store_data_send: true,
});

/// The interfaces of ours that a component of the operator's own may import.
pub mod ports {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "guest",
        require_store_data_send: true,
    });
    pub use tollgate::edge::{buckets, store, upkeep};
}

/// Spin's interface of an application's variables.
pub mod variables {
    wasmtime::component::bindgen!({
        inline: "
            package spin:variables@3.0.0;
            interface variables {
                variant error { invalid-name(string), undefined(string), provider(string), other(string) }
                get: async func(name: string) -> result<string, error>;
            }
            world importer { import variables; }
        ",
        world: "importer",
        require_store_data_send: true,
    });
    pub use spin::variables::variables::*;
}

pub use exports::tollgate::edge::rules;
pub use tollgate::edge::{buckets, memory, store};
