//! The wasmtime side of the host: compiling components ahead of time ([`compiled`], carried by the program ([`carried`]) or kept in
//! a [`cache`]), what they import ([`ports`], and of WASI what needs no waiting, [`poll_once`]), the state of an instance
//! ([`guest`]), what it writes ([`guest_log`]), the component of all rules ([`rules`]), and the operator's own
//! components ([`handler`]).

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
