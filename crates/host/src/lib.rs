//! The gateway as a library, for its program and for benchmarks. Nothing here is an interface for others.

mod access_log;
mod alerts;
pub mod cli;
mod clock;
mod countries;
mod events;
mod key_set;
mod local;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod outbound;
mod proxy;
pub mod ranking;
pub mod reload;
pub mod rls;
mod run_time;
pub mod serve;
pub mod server;
mod tenure;
pub mod tls;
mod traces;
mod upkeep;
pub mod wasm;
