//! The engine as the rules see it.

use std::future::poll_fn;
use std::ops::Bound;
use std::rc::Rc;
use std::task::Poll;

use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic, weight};
use tollgate_store::deleted;
use tollgate_store::plan;
use tollgate_store::plan::coalescer::Note;
use tollgate_store::plan::page::{self, Page};
use tollgate_store::ports::{Outbound, Store};

use super::{Engine, Job, unavailable};
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::disk::State;
use crate::executor::{Home, Parcel};
use crate::front::FLUSH;
use crate::store::AnyStore;

impl Engine {
    /// The sequence up to which messages went with a topic that was deleted.
    fn gone(&self, state: &State, topic: &str) -> u64 {
        if self.sim.has(Bug::ShowDeleted) {
            return 0;
        }
        let entry = state.entries.get(deleted::key(topic).as_str());
        deleted::through(entry.map(|entry| &**entry))
    }

    fn submit_marked(&self, commit: Commit, mark: Option<u64>, note: Option<Note>) {
        if plan::measure_deferred(&commit).is_err() || self.poisoned.get() || self.is_full() {
            self.sim.model.borrow_mut().not_taken(&commit);
            return;
        }
        self.sim.model.borrow_mut().clicked(&commit);
        self.sim.model.borrow_mut().deferred(&commit);
        if self.sim.has(Bug::DropDeferred) && self.sim.one_of(100) {
            return;
        }
        let (handed_on, is_first) = self.front.add(self.distorted(commit), mark, note);
        self.hand_on(handed_on);
        if is_first {
            let (sim, micros) = (Rc::clone(&self.sim), self.sim.between(1, FLUSH));
            self.sim.executor.spawn(Home::Process(0), async move {
                sim.executor.sleep(micros).await;
                // The process is this one: others' tasks have ended with them.
                if let Some(server) = sim.server(0)
                    && let AnyStore::Embedded(engine) = &server.store
                {
                    engine.hand_on(engine.front.flush());
                }
            });
        }
    }
}

/// Nobody is asked.
impl Outbound for Engine {}

impl Store for Engine {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.sim.model.borrow_mut().clicked(&commit);
        let commit = self.distorted(commit);
        plan::measure(&commit)?;
        if self.poisoned.get() {
            return Err(unavailable("the store has stopped"));
        }
        if self.is_full() {
            self.sim.saw(Seen::QueueFull);
            return Err(unavailable("too many commits are waiting"));
        }
        if self.sim.fault(8) {
            self.sim.saw(Seen::StoreRequestsLost);
            return Err(StoreError::Unknown("the request was lost".into()));
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

    fn defer(&self, commit: Commit) {
        self.submit_marked(commit, None, None);
    }

    fn defer_repeatable(&self, commit: Commit, mark: u64, note: Option<Note>) {
        self.submit_marked(commit, Some(mark), note);
    }

    fn defer_again(&self, partition: &str, mark: u64) -> bool {
        let again = self.front.again(partition, mark);
        if again {
            let code = partition.trim_start_matches("link/");
            self.sim.model.borrow_mut().clicked_again(code);
        }
        again
    }

    /// As the host does: redirects that are under way are seen off, then what was combined is handed on.
    async fn settle(&self) -> Result<(), StoreError> {
        if self.sim.has(Bug::SkipSettle) {
            return Ok(());
        }
        self.front.see_off(&self.sim).await;
        self.flush();
        Ok(())
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        self.reading().await?;
        let entry = |key: &String| self.live(key).map(|entry| Entry::clone(&entry));
        let entries = keys.iter().map(entry).collect();
        // The answer is on its way.
        if self.sim.one_of(30) {
            self.sim.executor.sleep(self.sim.between(20, 2_000)).await;
        }
        Ok(entries)
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
        let after = after.max(self.gone(&state, topic));
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
            bytes: log.iter().map(|message| weight(message)).sum::<u64>(),
        });
        let topics = topics.map(|mut topic| {
            let gone = self.gone(&state, &topic.name);
            deleted::clamp(&mut topic, gone);
            topic
        });
        Ok(topics.collect())
    }
}
