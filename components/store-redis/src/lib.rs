//! The ports `tollgate:edge/store`, `tollgate:edge/buckets` and `tollgate:edge/upkeep` on `spin:redis`: what the components of a Spin
//! application are composed with where several `spin up` share one Redis.
//!
//! Whatever is done is one script in Lua ([`script`]): Redis runs one at a time, and shows nothing of it before it has ended. So a commit
//! is whole, and what is read is of one moment. Spin flattens replies, so all of ours are flat lists.
//!
//! Everything here but `plug` is plain Rust over a small trait, [`database::Database`], and is tested natively.

pub mod arguments;
pub mod buckets;
pub mod database;
pub mod durability;
pub mod message;
#[cfg(target_family = "wasm")]
mod plug;
pub mod reply;
pub mod script;
pub mod store;
