//! The seam between a host and the engine that keeps its state.

use std::sync::Arc;
use std::time::Duration;

use tollgate_store::commit::Entry;
use tollgate_store::ports::Store;
use tollgate_store::retention::Retention;

use crate::batcher::CommitBatcher;
use crate::stats::Stats;
use crate::tails::Tail;

/// A store that a host runs on: shared by its threads, watched, swept, and closed in order.
pub trait Engine: Store + Send + Sync + 'static {
    /// Takes the commits of one thread.
    type Batcher: CommitBatcher;

    /// The key's entry, if it is known without waiting: `Some(None)` is a key known to be absent.
    fn get_now(&self, key: &str) -> Option<Option<Arc<Entry>>>;

    /// The same of several keys, at one moment; `None` if any of them is not known.
    fn get_all_now(&self, keys: &[impl AsRef<str>]) -> Option<Vec<Option<Arc<Entry>>>>;

    /// For the commits of one thread, whose callers wait no longer than `patience`, or an eighth more.
    fn batcher(&self, patience: Duration) -> Self::Batcher;

    /// Follows the end of a topic: subscribe, read what is there, wait for [`Tail::moved`], read on.
    fn subscribe(&self, topic: &str) -> Tail;

    /// Begins to remove old messages: of the topics that are named, as said there, and of all others by `default`. Before
    /// the first call, none is removed. Call it after [`Engine::set_low_water`] was called for every subscription.
    fn set_retention(&self, default: Retention, named: impl IntoIterator<Item = (String, Retention)>);

    /// Keeps the topic's messages from `sequence` on, whatever its retention: a subscription still needs them. With
    /// several subscriptions, the least of what they need.
    fn set_low_water(&self, topic: &str, sequence: u64);

    /// Whether this process removes what has expired, and old messages: it does until it is told otherwise. Where several
    /// share a store, one of them is enough; it would be right if all did. An engine that shares nothing always does.
    fn set_sweeps(&self, _sweeps: bool) {}

    /// The store's time: Unix milliseconds, never running backwards.
    fn now(&self) -> u64;

    /// `Err` with the reason while commits are refused: for good, when only a restart helps, or until there is room.
    fn health(&self) -> Result<(), String>;

    /// The counters so far.
    fn stats(&self) -> Stats;

    /// Takes no more commits, finishes those that wait, and lets go of what only one process may hold. Blocks until that
    /// is done. Reads go on.
    fn close(&self);
}
