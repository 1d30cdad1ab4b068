//! A rule for each of many items, with their commits made together.
//!
//! Each item's rule runs as if it were alone, on a [`Port`] of its own. One after the other they run until
//! they ask for a commit (or a settling) or end. Then what they asked for goes to the store in one call
//! ([`Store::commit_each`]), in the order of the items, and they go on. So a thousand items wait for a few
//! syncs of the disk, not for a thousand, and every rule stays the one of a single item.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::ports::Store;

/// What a rule asks of the store, and what it is told.
#[derive(Debug, Default)]
enum Exchange {
    /// It runs, or waits for a read.
    #[default]
    Quiet,
    Commit(Box<Commit>),
    Settle,
    Committed(Result<Outcome, StoreError>),
    Settled(Result<(), StoreError>),
}

/// The store of one item's rule.
pub(crate) struct Port<'s, S> {
    store: &'s S,
    exchange: RefCell<Exchange>,
}

/// A port for each of `count` items.
pub(crate) fn ports<S>(store: &S, count: usize) -> Vec<Port<'_, S>> {
    let port = || Port {
        store,
        exchange: RefCell::default(),
    };
    std::iter::repeat_with(port).take(count).collect()
}

/// Runs the rules of all items, each on the port of its index, to their ends. Their results are in the order
/// of the items.
pub(crate) async fn run<S: Store, R>(
    ports: &[Port<'_, S>],
    rules: impl IntoIterator<Item = impl Future<Output = R>>,
) -> Vec<R> {
    let mut rules: Vec<_> = rules.into_iter().map(|rule| Some(Box::pin(rule))).collect();
    let mut results: Vec<Option<R>> = rules.iter().map(|_| None).collect();
    loop {
        for ((rule, result), port) in rules.iter_mut().zip(&mut results).zip(ports) {
            if let Some(running) = rule
                && let Some(ended) = advance(running.as_mut(), port).await
            {
                (*rule, *result) = (None, Some(ended));
            }
        }
        if !answer(ports).await {
            // All have ended: one that has not would have asked.
            return results.into_iter().flatten().collect();
        }
    }
}

/// Runs a rule until it ends (`Some`) or asks. While it reads, nothing else runs: the store beneath is asked one thing at a
/// time.
async fn advance<S, R>(mut rule: Pin<&mut impl Future<Output = R>>, port: &Port<'_, S>) -> Option<R> {
    poll_fn(|context| match rule.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending if port.asks() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Answers everything that was asked. `false`: nothing was.
async fn answer<S: Store>(ports: &[Port<'_, S>]) -> bool {
    let Some(first) = ports.first() else {
        return false;
    };
    let (mut committing, mut commits, mut settling) = (Vec::new(), Vec::new(), Vec::new());
    for port in ports {
        match port.exchange.take() {
            Exchange::Commit(commit) => {
                committing.push(port);
                commits.push(*commit);
            }
            Exchange::Settle => settling.push(port),
            other => drop(port.exchange.replace(other)),
        }
    }
    let asked = !committing.is_empty() || !settling.is_empty();
    if !commits.is_empty() {
        let outcomes = first.store.commit_each(commits).await;
        for (port, outcome) in committing.into_iter().zip(outcomes) {
            port.exchange.replace(Exchange::Committed(outcome));
        }
    }
    if !settling.is_empty() {
        let settled = first.store.settle().await;
        for port in settling {
            port.exchange.replace(Exchange::Settled(settled.clone()));
        }
    }
    asked
}

impl<S> Port<'_, S> {
    fn asks(&self) -> bool {
        matches!(*self.exchange.borrow(), Exchange::Commit(_) | Exchange::Settle)
    }

    async fn ask(&self, call: Exchange) -> Exchange {
        self.exchange.replace(call);
        poll_fn(|_| match self.exchange.take() {
            answer @ (Exchange::Committed(_) | Exchange::Settled(_)) => Poll::Ready(answer),
            other => {
                self.exchange.replace(other);
                Poll::Pending
            }
        })
        .await
    }
}

/// The error for an answer of another kind than was asked for.
fn mismatch<T>() -> Result<T, StoreError> {
    Err(StoreError::Unknown("the answer is not to what was asked".into()))
}

impl<S: Store> Store for Port<'_, S> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        match self.ask(Exchange::Commit(Box::new(commit))).await {
            Exchange::Committed(outcome) => outcome,
            _ => mismatch(),
        }
    }

    fn defer(&self, commit: Commit) {
        self.store.defer(commit);
    }

    async fn settle(&self) -> Result<(), StoreError> {
        match self.ask(Exchange::Settle).await {
            Exchange::Settled(settled) => settled,
            _ => mismatch(),
        }
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.store.get(partition, keys).await
    }

    async fn get_each(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.store.get_each(partition, keys).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.store.scan(prefix, after, limit).await
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.store.read(topic, after, limit, wait).await
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.store.topics(after, limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ready;
    use std::cell::Cell;
    use tollgate_store::commit::{Condition, Mutation, literal};
    use tollgate_store::memory::InMemoryStore;

    /// Counts the calls that wait for the disk.
    struct Counted {
        store: InMemoryStore,
        waits: Cell<u32>,
        settlings: Cell<u32>,
    }

    impl Store for Counted {
        async fn commit(&self, _: Commit) -> Result<Outcome, StoreError> {
            panic!("one by one")
        }

        async fn commit_each(&self, commits: Vec<Commit>) -> Vec<Result<Outcome, StoreError>> {
            self.waits.set(self.waits.get() + 1);
            self.store.commit_each(commits).await
        }

        fn defer(&self, commit: Commit) {
            self.store.defer(commit);
        }

        async fn settle(&self) -> Result<(), StoreError> {
            self.settlings.set(self.settlings.get() + 1);
            Ok(())
        }

        async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
            self.store.get(partition, keys).await
        }

        async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
            self.store.scan(prefix, after, limit).await
        }

        async fn read(&self, _: &str, _: u64, _: u32, _: u32) -> Result<Vec<Message>, StoreError> {
            unreachable!()
        }

        async fn topics(&self, _: Option<&str>, _: u32) -> Result<Vec<Topic>, StoreError> {
            unreachable!()
        }
    }

    fn set(key: &str, value: &str) -> Commit {
        Commit {
            partition: key.into(),
            conditions: vec![Condition::Absent(key.into())],
            mutations: vec![Mutation::Set {
                key: key.into(),
                value: literal(value),
                expires: None,
            }],
            ..Commit::default()
        }
    }

    #[test]
    fn rules_of_different_lengths_share_their_waits_and_are_decided_in_order() {
        let store = Counted {
            store: InMemoryStore::new(),
            waits: Cell::new(0),
            settlings: Cell::new(0),
        };
        let rule = async |store: &Port<'_, Counted>, index: usize| {
            // Two items want the same key: the first gets it. Some settle in between, some commit twice.
            let first = store
                .commit(set(&format!("k{}", index / 2), &index.to_string()))
                .await;
            if index.is_multiple_of(3) {
                store.settle().await.unwrap();
            }
            if index.is_multiple_of(4) {
                store.commit(set(&format!("second{index}"), "x")).await.unwrap();
            }
            matches!(first, Ok(Outcome::Committed(_)))
        };
        let ports = ports(&store, 9);
        let rules = ports.iter().enumerate().map(|(index, port)| rule(port, index));
        let won = ready(run(&ports, rules));
        assert_eq!(won, [true, false, true, false, true, false, true, false, true]);
        // The first commits of all; the second ones of those that did not settle; of those that did.
        assert_eq!((store.waits.get(), store.settlings.get()), (3, 1));
        let second = ready(store.get("second8", &["second8".to_owned()])).unwrap();
        assert!(second[0].is_some());
    }

    #[test]
    fn nothing_to_do_is_nothing_done() {
        let store = InMemoryStore::new();
        let none: Vec<std::future::Ready<u8>> = Vec::new();
        assert!(ready(run(&ports(&store, 0), none)).is_empty());
    }
}
