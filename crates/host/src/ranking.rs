//! The links that are visited most in the last hour, day and week, in memory.
//!
//! Threads that run rules hand over what they count ([`Ranking::saw`]), 20 ms after a click, and never wait:
//! they add to a list. A task of its own counts that list ([`Ranking::run`]). A window is a ring of buckets,
//! each a sketch of its frequent items, which is exact for some 750 different links and bounded for more. The
//! buckets that are over are merged once, when the next one begins. What is asked for is ranked, at most once
//! for each count, beside the threads that answer redirects. The buckets are kept in the store as they grow,
//! so that a restart goes on from what was counted a minute ago.

mod ring;
#[cfg(test)]
mod tests;

use crate::clock::now;
use ring::Ring;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tollgate_engines::AnyEngine;
use tollgate_rules::links::top::{MAX_RANKED, Window, visits};
use tollgate_store::commit::{Commit, StoreError};
use tollgate_store::packed;
use tollgate_store::ports::Store;

/// How often what was handed over is counted.
const EVERY: Duration = Duration::from_millis(500);
/// After how many of these the buckets are kept in the store: a minute.
const KEPT_EVERY: u32 = 120;
/// Links with visits that wait to be counted: beyond them, visits are not ranked.
const MAX_WAITING: usize = 65_536;
/// Buckets that are read at once.
const PAGE: u32 = 64;
/// Callers that are answered at once: each reads up to [`MAX_RANKED`] links.
const MAX_ASKING: usize = 4;
/// Streams at once.
pub const MAX_STREAMS: usize = 16;

/// The links of a window with their visits, most first.
pub type Ranked = Arc<Vec<(String, u64)>>;

/// See the module.
pub struct Ranking {
    waiting: Mutex<Vec<(String, u64)>>,
    /// Visits that were not ranked.
    dropped: AtomicU64,
    rings: Mutex<Rings>,
    /// Each window as it was ranked last. Who asks meanwhile waits for the same ranking.
    shown: [tokio::sync::Mutex<Shown>; 3],
    asking: Semaphore,
    streams: Arc<Semaphore>,
}

struct Rings {
    rings: [Ring; 3],
    /// From when visits were counted, Unix milliseconds.
    since: u64,
}

#[derive(Default)]
struct Shown {
    ranked: Ranked,
    /// The ring's [`Ring::changed`] by which it was ranked.
    changed: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ranking {
    /// One that counts from now on (Unix milliseconds).
    pub fn new(now: u64) -> Self {
        let rings = Rings {
            rings: Window::ALL.map(Ring::new),
            since: now,
        };
        Self {
            waiting: Mutex::default(),
            dropped: AtomicU64::new(0),
            rings: Mutex::new(rings),
            shown: Default::default(),
            asking: Semaphore::new(MAX_ASKING),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    /// Takes the visits that these commits count.
    pub fn saw(&self, commits: &[Commit]) {
        let mut waiting = lock(&self.waiting);
        for (name, count) in commits.iter().flat_map(visits) {
            match waiting.len() < MAX_WAITING {
                true => waiting.push((name.to_owned(), count)),
                false => drop(self.dropped.fetch_add(count, Ordering::Relaxed)),
            }
        }
    }

    /// The same of one that is packed.
    pub fn saw_packed(&self, commit: &[u8]) {
        if let Some(commit) = packed::unpack::<Commit>(commit) {
            self.saw(std::slice::from_ref(&commit));
        }
    }

    /// Visits that were not ranked, since too many links were visited at once.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits for a place for a caller. `None`: never, as the semaphore is not closed.
    pub async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.asking.acquire().await.ok()
    }

    /// A place for one more stream, until it is dropped; `None` where there are as many as may be.
    pub fn stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        MAX_STREAMS - self.streams.available_permits()
    }

    /// The links of a window, at most [`MAX_RANKED`], and from when they were counted (Unix milliseconds).
    pub async fn ranked(self: &Arc<Self>, window: Window, now: u64) -> (Ranked, u64) {
        let mut shown = self.shown[window as usize].lock().await;
        let (since, changed) = {
            let rings = lock(&self.rings);
            (rings.since, rings.rings[window as usize].changed())
        };
        if shown.changed != changed {
            let this = Arc::clone(self);
            // Thousands of links are compared: beside this thread, which has redirects to answer.
            let ranked = spawn_blocking(move || this.rank(window)).await;
            if let Ok(ranked) = ranked {
                *shown = ranked;
            }
        }
        (
            Arc::clone(&shown.ranked),
            since.max(now.saturating_sub(window.length())),
        )
    }

    fn rank(&self, window: Window) -> Shown {
        let rings = lock(&self.rings);
        let ring = &rings.rings[window as usize];
        Shown {
            ranked: Arc::new(ring.ranked(MAX_RANKED)),
            changed: ring.changed(),
        }
    }

    /// Counts what waits, and forgets what is too old.
    fn count(&self, now: u64) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for ring in &mut lock(&self.rings).rings {
            ring.turn(now);
            waiting.iter().for_each(|(name, count)| ring.add(name, *count));
        }
    }

    /// Counts, and keeps. Never returns; may be given up at any moment.
    pub async fn run(self: Arc<Self>, store: AnyEngine) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 1_u32.. {
            ticks.tick().await;
            self.count(now());
            if tick.is_multiple_of(KEPT_EVERY) {
                self.keep(&store, now()).await;
            }
        }
    }

    /// Counts what waits, and writes the buckets that have changed to the store. Those that it does not take are written the next
    /// time.
    pub async fn keep<S: Store>(&self, store: &S, now: u64) {
        self.count(now);
        for window in Window::ALL {
            let commits = {
                let mut rings = lock(&self.rings);
                let since = rings.since;
                rings.rings[window as usize].unkept(since)
            };
            for (number, commit) in commits {
                if let Err(error) = store.commit(commit).await {
                    tracing::debug!(%error, "the ranking of links was not kept; it is tried again");
                    lock(&self.rings).rings[window as usize].was_not_kept(number);
                }
            }
        }
    }

    /// Goes on from what was kept.
    ///
    /// # Errors
    /// Those of the store. What is damaged is left out.
    pub async fn resume<S: Store>(&self, store: &S, now: u64) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let items = store.scan(ring::PREFIX, after.as_deref(), PAGE).await?;
            let mut rings = lock(&self.rings);
            for item in &items {
                let kept = rings.rings.iter_mut().find_map(|ring| ring.resume(item, now));
                rings.since = rings.since.min(kept.unwrap_or(rings.since));
            }
            if items.len() < PAGE as usize {
                break;
            }
            after = items.into_iter().last().map(|item| item.key);
        }
        lock(&self.rings).rings.iter_mut().for_each(Ring::merge);
        self.count(now);
        Ok(())
    }
}
