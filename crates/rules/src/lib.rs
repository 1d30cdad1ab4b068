//! The rules of Tollgate: pure functions and state machines that take values and return values. No clock, no
//! randomness, no I/O, no wasm: those come in as arguments or through the ports of `tollgate-store`. The same code runs inside the
//! WebAssembly components, natively in the host, and in tests.

pub mod access;
pub mod admin;
pub mod alerts;
#[cfg(test)]
mod authorization;
pub mod campaigns;
pub mod challenges;
mod clearing;
pub mod codes;
pub mod concurrency;
pub mod config;
pub mod cors;
mod dead_letters;
pub mod docs;
pub mod draws;
mod etag;
pub mod events;
pub mod forward;
pub mod groups;
pub mod heads;
mod html;
pub mod idempotency;
pub mod identity;
pub mod jwt;
pub mod keys;
pub mod limiter;
pub mod links;
pub mod machine;
pub use tollgate_delivery::view as messages;
#[cfg(feature = "schema")]
pub mod openapi;
pub mod own_address;
pub mod policies;
pub mod quotas;
pub mod receipts;
pub mod rooms;
pub mod run_time;
pub mod settings;
mod sigv4;
pub mod subscriptions;
pub mod target;
#[cfg(test)]
mod testing;
pub mod tick;
mod together;
pub mod topics;
pub mod upkeep;
pub mod wit;
pub mod world;
