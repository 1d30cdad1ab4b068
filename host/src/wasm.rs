//! The wasmtime side of the host: compiling components ahead of time ([`compiled`]), the ports they import
//! ([`ports`]), the typed doors ([`doors`]), calls that do not wait ([`fast`]), one running instance ([`instance`]) and pools of them ([`pool`]).

pub mod bindings;
pub mod compiled;
pub mod doors;
pub mod fast;
pub mod instance;
pub mod pool;
pub mod ports;
