//! The engine as the rules see it.

use std::future::poll_fn;
use std::ops::Bound;
use std::rc::Rc;
use std::task::Poll;

use tollgate_core::commit::{Commit, Entry, Item, Message, Mutation, Outcome, StoreError, Topic};
use tollgate_core::plan;
use tollgate_core::plan::page::{self, Page};
use tollgate_core::ports::Store;

use super::{Engine, Job, unavailable};
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::executor::Parcel;

impl Store for Engine {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let commit = self.distorted(commit);
        plan::measure(&commit)?;
        if self.poisoned.get() {
            return Err(unavailable("the store has stopped"));
        }
        if self.is_full() {
            self.sim.saw(Seen::QueueFull);
            return Err(unavailable("too many commits are waiting"));
        }
        let reply = Parcel::new();
        self.queue.borrow_mut().jobs.push_back(Job {
            commit,
            reply: Some(Rc::clone(&reply)),
        });
        self.wake_writer();
        let outcome = reply.receive(&self.sim.executor).await;
        if outcome.is_ok() && self.sim.fault(15) {
            self.sim.saw(Seen::StoreRepliesLost);
            return Err(StoreError::Unknown("the reply was lost".into()));
        }
        outcome
    }

    fn submit(&self, commit: Commit) {
        if plan::measure_submitted(&commit).is_err() || self.poisoned.get() || self.is_full() {
            return;
        }
        self.sim.model.borrow_mut().submitted(&commit);
        if self.sim.has(Bug::DropSubmitted) && self.sim.one_of(100) {
            return;
        }
        let mut queue = self.queue.borrow_mut();
        for new in commit.mutations {
            match (queue.submitted.get_mut(new.key()), &new) {
                (Some(Mutation::Add { delta, .. }), Mutation::Add { delta: more, .. }) => *delta += more,
                _ => drop(queue.submitted.insert(new.key().to_owned(), new)),
            }
        }
        if queue.since.is_none() {
            queue.since = Some(self.sim.executor.now());
            drop(queue);
            self.wake_writer();
        }
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        self.reading().await?;
        let entry = |key: &String| self.live(key).map(|entry| Entry::clone(&entry));
        Ok(keys.iter().map(entry).collect())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.reading().await?;
        let now = self.now();
        let state = self.state.borrow();
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = Page::new(limit);
        let from_start = state.entries.range::<str, _>((start, Bound::Unbounded));
        let found = from_start
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, entry)| plan::is_live(entry, now));
        for (key, entry) in found {
            let (key, entry) = (key.to_string(), Entry::clone(entry));
            let item = Item { key, entry };
            let bytes = page::item_bytes(&item);
            if !page.push(item, bytes) {
                break;
            }
        }
        Ok(page.into_items())
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let until = self.sim.executor.now() + u64::from(wait) * 1_000;
        self.sim.executor.wake_at(until);
        poll_fn(|_| {
            let there = self.state.borrow().last_sequence(topic) > after;
            if there || self.sim.executor.now() >= until {
                return Poll::Ready(());
            }
            self.tails.borrow_mut().push(self.sim.executor.current());
            Poll::Pending
        })
        .await;
        self.reading().await?;
        let state = self.state.borrow();
        let mut page = Page::new(limit);
        let log = state.topics.get(topic).map_or(&[][..], Vec::as_slice);
        for message in log.iter().skip(after as usize) {
            if !page.push(Message::clone(message), page::message_bytes(message)) {
                break;
            }
        }
        Ok(page.into_items())
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.reading().await?;
        let state = self.state.borrow();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let named = state.topics.range::<str, _>((start, Bound::Unbounded));
        let topics = named.take(page::limit(limit) as usize).map(|(name, log)| Topic {
            name: name.clone(),
            first: 1,
            last: log.len() as u64,
            first_time: log.first().map(|message| message.time),
            last_time: log.last().map(|message| message.time),
        });
        Ok(topics.collect())
    }
}
