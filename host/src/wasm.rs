//! The wasmtime side of the host: compiling components ahead of time ([`compiled`], carried by the
//! program ([`carried`]) or kept in a [`cache`]), the ports they import
//! ([`ports`]), the typed doors ([`doors`]), calls that do not wait ([`fast`], [`at_once`]), one running instance ([`instance`]), what
//! it says ([`said`]), and pools of them ([`pool`]).

pub mod at_once;
pub mod bindings;
mod cache;
mod carried;
pub mod compiled;
pub mod doors;
pub mod fast;
pub mod instance;
pub mod pool;
pub mod ports;
pub mod said;
