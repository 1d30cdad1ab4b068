//! The ports of `tollgate-rules`, answered by whatever the component was linked with.

use crate::bindings::tollgate::edge::{buckets as wit_buckets, store as wit, upkeep as wit_upkeep};
use crate::deferred;
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::plan::coalescer::Note;
use tollgate_store::ports::{Buckets, Outbound, Store, Upkeep};
use tollgate_store::retention::Retention;

/// The imports `tollgate:edge/store`, `tollgate:edge/buckets` and `tollgate:edge/upkeep`.
pub struct Port;

impl Store for Port {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let appends = !commit.appends.is_empty();
        let outcome = wit::commit(commit.into())
            .await
            .map(Into::into)
            .map_err(Into::into);
        if appends && matches!(outcome, Ok(Outcome::Committed(_))) {
            crate::relay::appended();
        }
        outcome
    }

    fn defer(&self, commit: Commit) {
        deferred::add(commit, None, None);
    }

    fn defer_repeatable(&self, commit: Commit, mark: u64, note: Option<Note>) {
        deferred::add(commit, Some(mark), note);
    }

    fn defer_again(&self, partition: &str, mark: u64) -> bool {
        deferred::again(partition, mark)
    }

    fn takes_notes(&self) -> bool {
        crate::relay::takes_notes()
    }

    async fn settle(&self) -> Result<(), StoreError> {
        deferred::flush();
        Ok(wit::settle().await?)
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        let entries = wit::get(partition.to_owned(), keys.to_vec()).await?;
        Ok(entries.into_iter().map(|entry| entry.map(Into::into)).collect())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let items = wit::scan(prefix.to_owned(), after.map(str::to_owned), limit).await?;
        Ok(items.into_iter().map(Into::into).collect())
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let messages = wit::read(topic.to_owned(), after, limit, wait).await?;
        Ok(messages.into_iter().map(Into::into).collect())
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        let topics = wit::topics(after.map(str::to_owned), limit).await?;
        Ok(topics.into_iter().map(Into::into).collect())
    }
}

impl Upkeep for Port {
    async fn expire(&self) -> Result<bool, StoreError> {
        Ok(wit_upkeep::expire().await?)
    }

    async fn trim(&self, topic: &str, retention: Retention, needed: u64) -> Result<bool, StoreError> {
        Ok(wit_upkeep::trim(topic.to_owned(), retention.into(), needed).await?)
    }
}

impl Buckets for Port {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let buckets = buckets.into_iter().map(Into::into).collect();
        let levels = wit_buckets::take(buckets).await?;
        Ok(levels.into_iter().map(Into::into).collect())
    }
}

impl Outbound for Port {
    async fn post(&self, url: &str, form: String) -> Result<Vec<u8>, String> {
        crate::outbound::post(url, form).await
    }
}
