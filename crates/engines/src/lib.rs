//! Native engines behind the ports.

mod any;
mod batcher;
pub mod buckets;
mod clock;
mod deferred;
mod engine;
mod job;
pub mod memory;
pub mod postgres;
#[cfg(feature = "limits-redis")]
pub mod redis;
mod reply;
pub mod sqlite;
mod stats;
mod sync;
mod tails;

#[cfg(feature = "limits-redis")]
pub use self::redis::{Decider, RedisLimits, RedisOptions};
pub use any::{AnyBatcher, AnyEngine, open};
pub use batcher::{Answer, Answered, CommitBatcher};
pub use buckets::debts::Debts;
pub use buckets::exact::{Exact, ExactCounts, Failure};
pub use buckets::{GatewayBuckets, MemoryBuckets, SharedLimits, Together};
pub use clock::{Clock, system_clock};
pub use engine::Engine;
pub use memory::InMemoryEngine;
pub use postgres::{PostgresOptions, PostgresStore, Takes};
pub use sqlite::{OpenError, Options, SqliteStore};
pub use stats::{GROUP_COMMITS, Observed, Room, SYNC_MICROS, Stats};
pub use tails::Tail;
pub use tollgate_store::retention::Retention;
