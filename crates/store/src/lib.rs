//! What a store is: a [`commit`] and what it does, the [`ports`] that an engine stands behind, and the one in
//! [`memory`]. Pure but for that memory: time comes in as an argument. The suite that every engine passes is `tests/contract`.

pub mod bucket;
pub mod commit;
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
