//! Native engines behind the ports.

pub mod buckets;
pub mod sqlite;

pub use sqlite::{OpenError, Options, SqliteStore};
