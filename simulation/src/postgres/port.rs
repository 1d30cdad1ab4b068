//! The shared store as the rules see it. What is answered from memory must have been true within the bound, and never be older than
//! what this gateway itself has shown.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::plan;
use tollgate_store::plan::coalescer::Note;
use tollgate_store::plan::group::Found;
use tollgate_store::plan::page;
use tollgate_store::ports::Store;

use super::{Gateway, unavailable};
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::executor::Parcel;
use crate::front::FLUSH;
use crate::store::AnyStore;

fn away() -> StoreError {
    unavailable("the database does not answer")
}

impl Gateway {
    /// What memory knows of all keys: each at a moment of its own, or `together`.
    fn known(&self, keys: &[String], together: bool) -> Option<Vec<Found>> {
        let oldest = self.oldest();
        let known: Option<Vec<_>> = keys.iter().map(|key| self.cache.get(key, oldest)).collect();
        let known = known?;
        if together && known.windows(2).any(|pair| pair[0].1.number != pair[1].1.number) {
            return None;
        }
        self.sim.saw_times(Seen::FromMemory, keys.len() as u64);
        let now = self.sim.executor.now();
        let since = now.saturating_sub(self.late_since(now));
        for (key, (found, _)) in keys.iter().zip(&known) {
            self.was_so(key, found, since);
        }
        Some(known.into_iter().map(|(found, _)| found).collect())
    }

    /// What is answered was true then, or later, and is not older than what was shown.
    fn was_so(&self, key: &str, found: &Found, since: u64) {
        let version = found.as_ref().map_or(0, |entry| entry.version);
        let since = since.max(self.shown.borrow().get(key).copied().unwrap_or(0));
        let holds = self.sim.database.history.was_so(key, version, since);
        self.sim.ensure(holds, || {
            format!(
                "gateway {} answers {key} by version {version}, which was over before {since} us",
                self.place
            )
        });
    }

    /// A group of this gateway has found or written this.
    pub(super) fn showed(&self, key: &str, found: &Found) {
        let version = found.as_ref().map_or(0, |entry| entry.version);
        if let Some(at) = self.sim.database.history.since(key, version) {
            let mut shown = self.shown.borrow_mut();
            let known = shown.entry(key.to_owned()).or_default();
            *known = at.max(*known);
        }
    }

    fn living(&self, found: Vec<Found>) -> Vec<Option<Entry>> {
        let now = self.now();
        let living = found
            .into_iter()
            .map(|found| found.filter(|entry| plan::is_live(entry, now)));
        living
            .map(|found| found.map(|entry| Entry::clone(&entry)))
            .collect()
    }

    async fn read_anew(&self, keys: &[String]) -> Result<Vec<Found>, StoreError> {
        let (sim, began) = (&self.sim, self.sim.executor.now());
        let shown: Vec<u64> = {
            let shown = self.shown.borrow();
            keys.iter()
                .map(|key| shown.get(key).copied().unwrap_or(0))
                .collect()
        };
        let mut generations: Vec<_> = keys.iter().map(|key| self.cache.generation(key)).collect();
        // Before the question: what it shows is not older.
        let mut moment = self.moment();
        let read = self.ask_for(|database| {
            database.with(|state| {
                let found = keys.iter().map(|key| state.entries.get(key.as_str()).cloned());
                found.collect::<Vec<Found>>()
            })
        });
        let found = read.await.ok_or_else(away)?;
        if sim.has(Bug::FillByOlderRead) {
            generations = keys.iter().map(|key| self.cache.generation(key)).collect();
        }
        if sim.has(Bug::MomentAfterRead) {
            moment = self.moment();
        }
        for (((key, found), generation), shown) in keys.iter().zip(&found).zip(generations).zip(shown) {
            let version = found.as_ref().map_or(0, |entry| entry.version);
            sim.ensure(
                sim.database.history.was_so(key, version, began.max(shown)),
                || format!("{key} was read anew, and is older than the read"),
            );
            self.cache.fill(key, found.clone(), generation, moment);
        }
        Ok(found)
    }

    pub(super) fn wake_tails(&self) {
        for task in self.tails.take() {
            self.sim.executor.wake(task);
        }
    }

    fn submit(&self, commit: Commit, mark: Option<u64>, note: Option<Note>) {
        let mut model = self.sim.model.borrow_mut();
        if plan::measure_deferred(&commit).is_err() {
            return model.not_taken(&commit);
        }
        model.clicked(&commit);
        model.deferred(&commit);
        drop(model);
        let (handed_on, is_first) = self.front.add(commit, mark, note);
        self.hand_on(handed_on);
        if is_first {
            let (sim, place, micros) = (Rc::clone(&self.sim), self.place, self.sim.between(1, FLUSH));
            let executor = &Rc::clone(&sim).executor;
            executor.spawn(crate::executor::Home::Process(place), async move {
                sim.executor.sleep(micros).await;
                if let Some(server) = sim.server(place)
                    && let AnyStore::Shared(gateway) = &server.store
                {
                    gateway.hand_on(gateway.front.flush());
                }
            });
        }
    }

    fn hand_on(&self, commits: Vec<Commit>) {
        for commit in commits {
            let mutations = commit.mutations.clone();
            if self.push(commit, None).is_err() {
                let mut model = self.sim.model.borrow_mut();
                model.is_lossy = true;
                model.dropped(&mutations);
            }
        }
    }
}

impl Store for Gateway {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.sim.model.borrow_mut().clicked(&commit);
        plan::measure(&commit)?;
        let reply = Parcel::new();
        self.push(commit, Some(Rc::clone(&reply)))?;
        reply.receive(&self.sim.executor).await
    }

    fn defer(&self, commit: Commit) {
        self.submit(commit, None, None);
    }

    fn defer_repeatable(&self, commit: Commit, mark: u64, note: Option<Note>) {
        self.submit(commit, Some(mark), note);
    }

    fn defer_again(&self, partition: &str, mark: u64) -> bool {
        self.front.again(&self.sim, partition, mark)
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.front.see_off(&self.sim).await;
        self.hand_on(self.front.take());
        Ok(())
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        let found = match self.known(keys, true) {
            Some(found) => found,
            None => self.read_anew(keys).await?,
        };
        Ok(self.living(found))
    }

    async fn get_each(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        let found = match self.known(keys, false) {
            Some(found) => found,
            None => self.read_anew(keys).await?,
        };
        Ok(self.living(found))
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let now = self.now();
        let scanned = self.ask_for(|database| database.with(|state| state.scan(prefix, after, limit, now)));
        scanned.await.ok_or_else(away)
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let until = self.sim.executor.now() + u64::from(wait) * 1_000;
        loop {
            let read = self.ask_for(|database| {
                database.with(|state| state.read(topic, after.max(state.gone(topic)), limit))
            });
            let messages = read.await.ok_or_else(away)?;
            if !messages.is_empty() || self.sim.executor.now() >= until {
                return Ok(messages);
            }
            // Woken by what this gateway wrote, and by the look at what others did.
            self.sim.executor.wake_at(until);
            let mut has_waited = false;
            poll_fn(|_| {
                if std::mem::replace(&mut has_waited, true) {
                    return Poll::Ready(());
                }
                self.tails.borrow_mut().push(self.sim.executor.current());
                Poll::Pending
            })
            .await;
        }
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        let read = self
            .ask_for(|database| database.with(|state| state.topics(after, limit, |topic| state.gone(topic))));
        read.await.ok_or_else(away)
    }
}
