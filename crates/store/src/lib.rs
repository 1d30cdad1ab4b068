//! The store: what a [`commit`] is and does, the [`ports`] that an engine implements, and the engine in
//! [`memory`]. Pure but for that memory: time comes in as an argument. The suite that every engine passes is
//! `tests/contract`.

pub mod bucket;
pub mod cache;
pub mod commit;
pub mod deleted;
pub mod encoded;
pub mod extent;
pub mod lane;
pub mod memory;
pub mod packed;
pub mod plan;
pub mod ports;
mod problem;
pub mod retention;
pub mod schema;
pub mod settings;
pub mod stored;
pub mod template;
mod wit;
