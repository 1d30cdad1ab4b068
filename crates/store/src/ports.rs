//! The ports as Rust traits: the same rules run in a component, natively, and in simulation.

use crate::bucket::{Bucket, Level, TakeError};
use crate::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use crate::plan::coalescer::Note;
use crate::retention::Retention;

/// Durable keys and topics; see `interface store` in `wit/edge.wit`.
#[allow(
    async_fn_in_trait,
    reason = "callers are generic and single-threaded; nothing needs Send"
)]
pub trait Store {
    /// Durable when it returns.
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError>;
    /// Commits that do not depend on one another, decided in this order. Each is durable, or failed, on its own; the caller
    /// waits once for all of them. The default waits for each.
    async fn commit_each(&self, commits: Vec<Commit>) -> Vec<Result<Outcome, StoreError>> {
        let mut outcomes = Vec::with_capacity(commits.len());
        for commit in commits {
            outcomes.push(self.commit(commit).await);
        }
        outcomes
    }
    /// Unconditional; durable with the next group; may be lost before it.
    fn defer(&self, commit: Commit);
    /// The same, for callers that defer the same commit for a partition again and again, such as clicks on a
    /// link. `mark` identifies that commit within its partition, and `note` is written down with it each time.
    fn defer_repeatable(&self, mut commit: Commit, _mark: u64, note: Option<Note>) {
        commit.mutations.extend(note.map(Note::alone));
        self.defer(commit);
    }
    /// Defers once more the commit that was deferred for the partition with that mark, and its note, if it is remembered.
    /// Otherwise does nothing and returns `false`.
    fn defer_again(&self, _partition: &str, _mark: u64) -> bool {
        false
    }
    /// Whether there is room for notes: `false` while too many wait for whoever reads them. Then a caller leaves them out.
    fn takes_notes(&self) -> bool {
        true
    }
    /// Returns when every commit from now on is decided after two kinds of deferred changes. These are the
    /// ones that anybody deferred so far, and the ones that requests under way at the call have yet to
    /// defer. The default is for a store that decides what is deferred before `defer` returns, or in the
    /// order of the calls.
    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Entries in the order of `keys`, all of one partition, and all at one moment.
    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError>;
    /// The same, but each entry at a moment of its own. Cheaper where entries are in memory: nothing that is being written is waited for.
    async fn get_each(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.get(partition, keys).await
    }
    /// Entries by prefix, in byte order, after a key.
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError>;
    /// Messages after a sequence; waits up to `wait` milliseconds for the first.
    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError>;
    /// The topics that ever had a message, by name.
    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError>;
}

/// What rules ask of somebody else, whom the settings name.
#[allow(
    async_fn_in_trait,
    reason = "callers are generic and single-threaded; nothing needs Send"
)]
pub trait Outbound {
    /// Posts a form (`application/x-www-form-urlencoded`) and gives the body of the answer, whatever its status says
    /// below 500. The default is for a host that asks nobody.
    ///
    /// # Errors
    /// Why there is no answer: nobody there, none in time, a status of 500 or more, too long a body, or as many are asked as may be.
    async fn post(&self, url: &str, form: String) -> Result<Vec<u8>, String> {
        let _ = (url, form);
        Err("this host asks nobody else".to_owned())
    }
}

/// What a store removes in the background; see `interface upkeep` in `wit/edge.wit`. The native engines do it by themselves.
#[allow(
    async_fn_in_trait,
    reason = "callers are generic and single-threaded; nothing needs Send"
)]
pub trait Upkeep {
    /// Removes some of what has expired; whether there may be more.
    async fn expire(&self) -> Result<bool, StoreError>;
    /// Removes some of the topic's oldest messages, as far as they may go, with the entries that go with them. Those from the
    /// sequence `needed` on are needed. Whether there may be more.
    async fn trim(&self, topic: &str, retention: Retention, needed: u64) -> Result<bool, StoreError>;
}

/// Token buckets; see `interface buckets` in `wit/edge.wit`.
#[allow(
    async_fn_in_trait,
    reason = "callers are generic and single-threaded; nothing needs Send"
)]
pub trait Buckets {
    /// Takes every cost or none.
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError>;
    /// The same of one bucket; refused, it has one level.
    async fn take_one(&self, bucket: Bucket) -> Result<Level, TakeError> {
        one_level(&self.take(vec![bucket]).await?)
    }
}

/// The level of the one bucket that was asked for.
pub fn one_level(levels: &[Level]) -> Result<Level, TakeError> {
    let missing = || TakeError::Unavailable("no level was told".to_owned());
    levels.first().copied().ok_or_else(missing)
}
