//! What the component exports, from `wit/edge.wit`, and what it imports of Spin.
#![allow(clippy::all, reason = "generated")]

pub mod edge {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "host-store",
        require_store_data_send: true,
        // Called beside others, like the rest.
        exports: { "tollgate:edge/store.defer": async | store },
    });
}

pub mod spin {
    // The part of the interface that the component uses.
    wasmtime::component::bindgen!({
        inline: "
            package spin:sqlite@3.1.0;

            interface sqlite {
                variant error { no-such-database, access-denied, invalid-connection, database-full, io(string) }
                variant value { integer(s64), real(f64), text(string), blob(list<u8>), null }
                record row-result { values: list<value> }
                record query-result { columns: list<string>, rows: list<row-result> }
                resource connection {
                    open-async: static async func(database: string) -> result<connection, error>;
                    execute: func(statement: string, parameters: list<value>) -> result<query-result, error>;
                    execute-async: async func(statement: string, parameters: list<value>)
                        -> result<tuple<list<string>, stream<row-result>, future<result<_, error>>>, error>;
                }
            }

            world host { import sqlite; }
        ",
        require_store_data_send: true,
        // On a fiber: the instance waits, the thread does not.
        imports: { "spin:sqlite/sqlite.[method]connection.execute": async },
        with: { "spin:sqlite/sqlite.connection": crate::sqlite::Connection },
    });
}

pub use edge::exports::tollgate::edge::{buckets, store, upkeep};
pub use spin::spin::sqlite::sqlite;
