//! The ports of a rule that the machine runs.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{Call, Exchange, Memory, Near, Reply, Taken};
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::plan::coalescer::Note;
use tollgate_store::ports::{Buckets, Outbound, Store, one_level};

/// The result of a rule if it needs no waiting.
pub(super) fn poll_once<T>(rule: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(rule).poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// The ports on a [`Memory`]: a call that would have to wait never answers.
pub(super) struct Immediate<M>(pub(super) Near<M>);

impl<M: Memory> Store for Immediate<M> {
    async fn commit(&self, _: Commit) -> Result<Outcome, StoreError> {
        pending().await
    }

    fn defer(&self, commit: Commit) {
        self.0.defer(commit, None, None);
    }

    fn defer_repeatable(&self, commit: Commit, mark: u64, note: Option<Note>) {
        self.0.defer(commit, Some(mark), note);
    }

    fn defer_again(&self, partition: &str, mark: u64) -> bool {
        self.0.defer_again(partition, mark)
    }

    fn takes_notes(&self) -> bool {
        self.0.takes_notes.get()
    }

    async fn settle(&self) -> Result<(), StoreError> {
        pending().await
    }

    async fn get(&self, _: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        match self.0.get(keys) {
            Some(entries) => Ok(entries),
            None => pending().await,
        }
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: u32) -> Result<Vec<Item>, StoreError> {
        pending().await
    }

    async fn read(&self, _: &str, _: u64, _: u32, _: u32) -> Result<Vec<Message>, StoreError> {
        pending().await
    }

    async fn topics(&self, _: Option<&str>, _: u32) -> Result<Vec<Topic>, StoreError> {
        pending().await
    }
}

impl<M: Memory> Buckets for Immediate<M> {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        match self.0.memory.take(buckets) {
            Taken::Decided(taken) => taken,
            Taken::Elsewhere(_) => pending().await,
        }
    }

    async fn take_one(&self, bucket: Bucket) -> Result<Level, TakeError> {
        match self.0.memory.take_one(bucket) {
            Taken::Decided(taken) => taken,
            Taken::Elsewhere(_) => pending().await,
        }
    }
}

impl<M> Outbound for Immediate<M> {
    async fn post(&self, _: &str, _: String) -> Result<Vec<u8>, String> {
        pending().await
    }
}

/// The ports on a [`Memory`]: a call that has to wait is passed to the machine's caller.
pub(super) struct Asking<M> {
    pub(super) near: Near<M>,
    pub(super) exchange: Rc<RefCell<Exchange>>,
}

impl<M> Asking<M> {
    pub(super) async fn ask(&self, call: Call) -> Reply {
        self.exchange.replace(Exchange::Asked(call));
        poll_fn(|_| match self.exchange.take() {
            Exchange::Replied(reply) => Poll::Ready(reply),
            other => {
                self.exchange.replace(other);
                Poll::Pending
            }
        })
        .await
    }
}

impl<M> Asking<M> {
    async fn take_elsewhere(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        match self.ask(Call::Take(buckets)).await {
            Reply::Take(taken) => taken,
            _ => Err(TakeError::Unavailable(
                "the reply is not to what was asked".into(),
            )),
        }
    }
}

/// The error for a reply of another kind than its call.
fn mismatch<T>() -> Result<T, StoreError> {
    Err(StoreError::Unknown("the reply is not to what was asked".into()))
}

impl<M: Memory> Store for Asking<M> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        match self.ask(Call::Commit(commit)).await {
            Reply::Commit(outcome) => outcome,
            _ => mismatch(),
        }
    }

    async fn commit_each(&self, commits: Vec<Commit>) -> Vec<Result<Outcome, StoreError>> {
        let count = commits.len();
        match self.ask(Call::Commits(commits)).await {
            Reply::Commits(outcomes) if outcomes.len() == count => outcomes,
            _ => std::iter::repeat_with(mismatch).take(count).collect(),
        }
    }

    fn defer(&self, commit: Commit) {
        self.near.defer(commit, None, None);
    }

    fn defer_repeatable(&self, commit: Commit, mark: u64, note: Option<Note>) {
        self.near.defer(commit, Some(mark), note);
    }

    fn takes_notes(&self) -> bool {
        self.near.takes_notes.get()
    }

    async fn settle(&self) -> Result<(), StoreError> {
        match self.ask(Call::Settle).await {
            Reply::Settle(settled) => settled,
            _ => mismatch(),
        }
    }

    fn defer_again(&self, partition: &str, mark: u64) -> bool {
        self.near.defer_again(partition, mark)
    }

    async fn get(&self, _: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        if let Some(entries) = self.near.get(keys) {
            return Ok(entries);
        }
        match self.ask(Call::Get(keys.to_vec())).await {
            Reply::Get(entries) => entries,
            _ => mismatch(),
        }
    }

    async fn get_each(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        match self.near.get_each(keys) {
            Some(entries) => Ok(entries),
            None => self.get(partition, keys).await,
        }
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        match self.ask(Call::Scan { prefix, after, limit }).await {
            Reply::Scan(items) => items,
            _ => mismatch(),
        }
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let topic = topic.to_owned();
        let call = Call::Read {
            topic,
            after,
            limit,
            wait,
        };
        match self.ask(call).await {
            Reply::Read(messages) => messages,
            _ => mismatch(),
        }
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        let after = after.map(str::to_owned);
        match self.ask(Call::Topics { after, limit }).await {
            Reply::Topics(topics) => topics,
            _ => mismatch(),
        }
    }
}

impl<M: Memory> Buckets for Asking<M> {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        match self.near.memory.take(buckets) {
            Taken::Decided(taken) => taken,
            Taken::Elsewhere(buckets) => self.take_elsewhere(buckets).await,
        }
    }

    async fn take_one(&self, bucket: Bucket) -> Result<Level, TakeError> {
        match self.near.memory.take_one(bucket) {
            Taken::Decided(taken) => taken,
            Taken::Elsewhere(bucket) => one_level(&self.take_elsewhere(vec![bucket]).await?),
        }
    }
}

impl<M> Outbound for Asking<M> {
    async fn post(&self, url: &str, form: String) -> Result<Vec<u8>, String> {
        let url = url.to_owned();
        match self.ask(Call::Post { url, form }).await {
            Reply::Post(answer) => answer,
            _ => Err("the reply is not to what was asked".to_owned()),
        }
    }
}
