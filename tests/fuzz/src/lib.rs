//! Properties that hold for any input: one function per fuzz target. Each takes any bytes and asserts
//! properties; a broken one is a panic. `fuzz/` hands these functions to libFuzzer, `tests/replay.rs` the
//! kept inputs and mutations of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "all of this crate is test code"
)]

mod batch;
mod bodies;
mod config;
mod fields;
mod forwarded;
mod gateway;
mod routing;
mod text;
mod webhook;

pub use batch::batch;
pub use bodies::bodies;
pub use config::config;
pub use fields::fields;
pub use forwarded::forwarded;
pub use routing::routing;
pub use webhook::webhook;

/// A target: its name, which is also that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("routing", routing),
    ("forwarded", forwarded),
    ("fields", fields),
    ("config", config),
    ("bodies", bodies),
    ("webhook", webhook),
    ("batch", batch),
];
