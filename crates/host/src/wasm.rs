//! The wasmtime side of the host:
//!
//! - [`compiled`]: compiles components ahead of time; their code is carried by the program ([`carried`]) or
//!   kept in a [`cache`];
//! - [`ports`]: the interfaces that they import; [`poll_once`]: the part of WASI that need not wait;
//! - [`guest`]: the state of an instance; [`guest_log`]: its output;
//! - [`rules`]: the component of all rules;
//! - [`handler`]: the operator's own components.

pub mod bindings;
mod cache;
mod carried;
pub mod compiled;
pub mod guest;
pub mod guest_log;
pub mod handler;
pub mod poll_once;
pub mod ports;
pub mod rules;
