//! The rules of Tollgate: pure functions and state machines that take values and return values. No clock, no
//! randomness, no I/O, no wasm: those come in as arguments or through [`ports`]. The same code runs inside the
//! WebAssembly components, natively in the host, and in tests.

pub mod admin;
pub mod attributes;
#[cfg(test)]
mod authorization;
pub mod breaker;
pub mod bucket;
pub mod campaigns;
pub mod codes;
pub mod commit;
pub mod config;
mod failure;
pub mod forward;
pub mod idempotency;
pub mod identity;
pub mod keys;
pub mod limiter;
pub mod links;
pub mod machine;
pub mod memory;
pub mod messages;
pub mod own_address;
pub mod packed;
pub mod plan;
pub mod policies;
pub mod ports;
pub mod relay;
pub mod retention;
pub mod retry;
pub mod schema;
pub mod settings;
mod stored;
pub mod subscriptions;
pub mod template;
pub mod topics;
pub mod webhook;
pub mod wit;
pub mod world;
