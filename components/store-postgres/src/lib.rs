//! The ports `tollgate:edge/store`, `tollgate:edge/buckets` and `tollgate:edge/upkeep` on `spin:postgres`: what the components of a
//! Spin application are composed with where several `spin up`, and gateways of a fleet, share one Postgres. The tables are those of the
//! fleet (`crates/engines/src/postgres`).
//!
//! Spin hands a connection on without a rollback, so no transaction spans two calls: a commit is one statement, a call of a function
//! in PL/pgSQL ([`sql`]), with the locks and the fence of the fleet's own writers. Whoever finds the functions missing makes them.
//!
//! Everything here but `plug` is plain Rust over a small trait, [`database::Database`], and is tested natively.

pub mod buckets;
pub mod database;
#[cfg(target_family = "wasm")]
mod plug;
pub mod sql;
pub mod store;
