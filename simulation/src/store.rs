//! The store of a simulated gateway: embedded, or one that gateways share.

use std::rc::Rc;

use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::plan::coalescer::Note;
use tollgate_store::ports::{Outbound, Store};

use crate::engine::Engine;
use crate::front::Front;
use crate::postgres::Gateway;

/// Either store.
pub enum AnyStore {
    Embedded(Box<Engine>),
    Shared(Rc<Gateway>),
}

impl AnyStore {
    /// What requests defer.
    pub fn front(&self) -> &Front {
        match self {
            Self::Embedded(engine) => &engine.front,
            Self::Shared(gateway) => &gateway.front,
        }
    }

    /// By how much an answer to a request that began then may be late, microseconds.
    pub fn late_since(&self, began: u64) -> u64 {
        match self {
            Self::Embedded(_) => 0,
            Self::Shared(gateway) => gateway.late_since(began),
        }
    }
}

macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Embedded($store) => $call,
            Self::Shared($store) => $call,
        }
    };
}

/// Nobody is asked.
impl Outbound for AnyStore {}

impl Store for AnyStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        each!(self, store => store.commit(commit).await)
    }

    fn defer(&self, commit: Commit) {
        each!(self, store => store.defer(commit));
    }

    fn defer_repeatable(&self, commit: Commit, mark: u64, note: Option<Note>) {
        each!(self, store => store.defer_repeatable(commit, mark, note));
    }

    fn defer_again(&self, partition: &str, mark: u64) -> bool {
        each!(self, store => store.defer_again(partition, mark))
    }

    async fn settle(&self) -> Result<(), StoreError> {
        each!(self, store => store.settle().await)
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        each!(self, store => store.get(partition, keys).await)
    }

    async fn get_each(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        each!(self, store => store.get_each(partition, keys).await)
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        each!(self, store => store.scan(prefix, after, limit).await)
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        each!(self, store => store.read(topic, after, limit, wait).await)
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        each!(self, store => store.topics(after, limit).await)
    }
}
