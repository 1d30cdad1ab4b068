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

/// Spin's key-value stores: what its components import of them.
pub mod key_value {
    wasmtime::component::bindgen!({
        inline: "
            package spin:key-value@3.0.0;
            interface key-value {
                variant error { store-table-full, no-such-store, access-denied, other(string) }
                resource store {
                    open: static async func(label: string) -> result<store, error>;
                    get: async func(key: string) -> result<option<list<u8>>, error>;
                    set: async func(key: string, value: list<u8>) -> result<_, error>;
                }
            }
            world importer { import key-value; }
        ",
        world: "importer",
        require_store_data_send: true,
        with: { "spin:key-value/key-value.store": crate::wasm::bindings::NoStore },
    });
    pub use spin::key_value::key_value::*;
}

/// There is none.
#[derive(Debug)]
pub enum NoStore {}

pub use exports::tollgate::edge::rules;
pub use tollgate::edge::{buckets, memory, store};
