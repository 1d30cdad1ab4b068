//! Native engines behind the ports.

pub mod buckets;
pub mod sqlite;

pub use buckets::MemoryBuckets;
pub use sqlite::{OpenError, Options, Retention, SqliteStore};
