//! A store that other requests get in the way of.

use std::cell::RefCell;

use super::Gateway;
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::ports::Store;

/// Another request.
pub(super) type Meddler<'a> = Box<dyn Fn(&Gateway) + 'a>;

/// The store in memory, which does something else just before a commit to a partition.
pub(super) struct Meddled<'a> {
    gateway: &'a Gateway,
    partition: &'static str,
    /// Run once each, in turn.
    pub(super) meddlers: RefCell<Vec<Meddler<'a>>>,
    /// Run once, before the second read.
    pub(super) between_reads: RefCell<Option<Meddler<'a>>>,
    /// The keys of every read, in order.
    pub(super) reads: RefCell<Vec<Vec<String>>>,
}

impl<'a> Meddled<'a> {
    pub(super) fn new(gateway: &'a Gateway, partition: &'static str, meddlers: Vec<Meddler<'a>>) -> Self {
        Self {
            gateway,
            partition,
            meddlers: RefCell::new(meddlers),
            between_reads: RefCell::default(),
            reads: RefCell::default(),
        }
    }
}

impl Store for Meddled<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        if commit.partition == self.partition {
            let meddler = self.meddlers.borrow_mut().pop();
            if let Some(meddler) = meddler {
                meddler(self.gateway);
            }
        }
        self.gateway.store.commit(commit).await
    }
    fn defer(&self, commit: Commit) {
        self.gateway.store.defer(commit);
    }
    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.reads.borrow_mut().push(keys.to_vec());
        let between = self
            .between_reads
            .borrow_mut()
            .take_if(|_| self.reads.borrow().len() == 2);
        if let Some(meddler) = between {
            meddler(self.gateway);
        }
        self.gateway.store.get(partition, keys).await
    }
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.gateway.store.scan(prefix, after, limit).await
    }
    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.gateway.store.read(topic, after, limit, wait).await
    }
    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.gateway.store.topics(after, limit).await
    }
}
