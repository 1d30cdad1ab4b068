//! The engine as the rules see it.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::plan;
use tollgate_store::plan::coalescer::Note;
use tollgate_store::plan::page;
use tollgate_store::ports::{Outbound, Store};

use super::{Engine, Job, unavailable};
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::disk::State;
use crate::executor::{Home, Parcel};
use crate::front::FLUSH;
use crate::store::AnyStore;

impl Engine {
    /// [`State::gone`], unless the bug shows what went.
    fn gone(&self, state: &State, topic: &str) -> u64 {
        match self.sim.has(Bug::ShowDeleted) {
            true => 0,
            false => state.gone(topic),
        }
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
        self.front.again(&self.sim, partition, mark)
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
        Ok(self.state.borrow().scan(prefix, after, limit, now))
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
        Ok(state.read(topic, after.max(self.gone(&state, topic)), limit))
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.reading().await?;
        let state = self.state.borrow();
        Ok(state.topics(after, limit, |topic| self.gone(&state, topic)))
    }
}
