//! Native engines behind the ports.

pub mod buckets;
pub mod sqlite;
mod sync;

pub use buckets::MemoryBuckets;
pub use sqlite::{OpenError, Options, Outbox, Retention, SqliteStore};
