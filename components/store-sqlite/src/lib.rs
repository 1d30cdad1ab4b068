//! The ports `tollgate:edge/store` and `tollgate:edge/buckets` on `spin:sqlite`: what every component of a Spin
//! application is composed with. The tables are those of the native engine, so that a database file moves between
//! the two.
//!
//! Spin keeps nothing atomic but a single `execute`. So a commit is one statement: it is inserted, as JSON
//! and bytes, into a view whose trigger decides and applies it ([`sql`]). A refusal is the message that the
//! trigger aborts with. The time is the database's (`unixepoch`, never earlier than that of the last commit),
//! so that all gateways of one database have one clock.
//!
//! Everything here but [`plug`] is plain Rust over a small trait, [`database::Database`], and is tested natively.

pub mod buckets;
pub mod database;
mod maintain;
mod open;
#[cfg(target_family = "wasm")]
mod plug;
pub mod sql;
pub mod store;
mod verdict;

pub use open::{IN_MEMORY, prepare};
