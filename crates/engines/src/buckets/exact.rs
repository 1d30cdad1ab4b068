//! Takes that the engine decides: those of this gateway wait here, and go to it together. See [`tollgate_store::bucket::exact`].
//!
//! One batch is under way at a time. Whoever comes meanwhile goes with the next: a take waits for at most one flight before its own,
//! unless more than [`BATCH`] wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;
use tollgate_store::bucket::exact::{Back, Batch, Granted, Taken, Want};
use tollgate_store::bucket::{Asked, Bucket, TakeError};

use crate::sync::plain::Mutex;

/// The most takes of a batch.
pub const BATCH: usize = 1_000;
/// The most takes that wait; more are told that it is busy.
pub const MAX_WAITING: usize = 16_384;
/// Between two attempts to reach an engine that is away, and how long one may take.
const RECONNECT: Duration = Duration::from_millis(250);
const CONNECT: Duration = Duration::from_secs(3);

type Answer = Result<Taken, TakeError>;

struct Waiting {
    buckets: Vec<Bucket>,
    since: Instant,
    to: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    backs: Vec<Back>,
}

/// The takes of a gateway that wait for the engine.
pub struct Exact {
    queue: Mutex<Queue>,
    due: Notify,
    /// How long a take may wait for its flight, and a flight for its answer.
    patience: Duration,
    is_away: AtomicBool,
    takes: AtomicU64,
    flights: AtomicU64,
    failed: AtomicU64,
}

impl std::fmt::Debug for Exact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exact")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// What became of the takes that were decided by the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactCounts {
    /// Takes that were answered.
    pub takes: u64,
    /// Batches that were answered.
    pub flights: u64,
    /// Takes that could not be.
    pub failed: u64,
    /// Whether the engine cannot be asked now.
    pub is_away: bool,
}

/// Why a batch has no answer.
#[derive(Debug)]
pub enum Failure {
    /// The engine works, and others held the buckets for too long. Nothing was taken.
    Busy(String),
    /// Whether something was taken is not known.
    Unavailable(String),
}

/// An engine that decides batches.
pub(crate) trait Ledger {
    /// Whether it can be asked, as far as is known.
    fn is_open(&self) -> bool;
    /// Connects, once more.
    async fn open(&mut self) -> Result<(), String>;
    /// Decides each want on its own, as [`Want::apply`] does.
    async fn decide(&mut self, wants: &BTreeMap<String, Want>) -> Result<HashMap<String, Granted>, Failure>;
    /// Something failed: what is open may be out of step.
    fn close(&mut self);
}

impl Exact {
    /// `patience`: how long a take may wait for its flight, and a flight for its answer.
    pub fn new(patience: Duration) -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            due: Notify::new(),
            patience,
            is_away: AtomicBool::new(false),
            takes: AtomicU64::new(0),
            flights: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// What became of takes so far.
    pub fn counts(&self) -> ExactCounts {
        let count = |one: &AtomicU64| one.load(Ordering::Relaxed);
        ExactCounts {
            takes: count(&self.takes),
            flights: count(&self.flights),
            failed: count(&self.failed),
            is_away: self.is_away.load(Ordering::Relaxed),
        }
    }

    /// Takes every cost or none, by the engine's decision. Takes at most twice the patience.
    ///
    /// # Errors
    /// One lacks its cost or is out of bounds; the engine cannot be asked; too many wait.
    pub async fn take(&self, buckets: Vec<Bucket>) -> Result<Taken, TakeError> {
        Asked::check(&buckets)?;
        if self.is_away.load(Ordering::Relaxed) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err(TakeError::Unavailable("the buckets' engine is away".into()));
        }
        let (to, answer) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.waiting.len() >= MAX_WAITING {
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Err(TakeError::Busy("too many takes are waiting".into()));
            }
            let since = Instant::now();
            queue.waiting.push_back(Waiting { buckets, since, to });
        }
        self.due.notify_one();
        // Who answers looks at the time itself; this is for one that has ended.
        match timeout(self.patience * 3 + CONNECT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(TakeError::Unavailable("nobody asks the buckets' engine".into())),
        }
    }

    /// Gives back what these cost: they were granted in vain, `at` that time.
    pub fn give_back(&self, buckets: &[Bucket], at: u64) {
        let backs = buckets.iter().filter_map(|bucket| {
            let scale = bucket.check().ok()?;
            let (key, tokens) = (bucket.key.clone(), bucket.cost);
            (tokens > 0).then_some(Back {
                key,
                scale,
                tokens,
                at,
            })
        });
        let mut queue = self.queue.lock();
        queue.backs.extend(backs.take(MAX_WAITING));
        if queue.backs.len() > MAX_WAITING {
            // They stay taken: fewer are admitted.
            queue.backs.truncate(MAX_WAITING);
        }
        drop(queue);
        self.due.notify_one();
    }

    /// What goes with the next flight. Who has waited for too long is told that it is busy.
    fn batch(&self) -> Batch<oneshot::Sender<Answer>> {
        let mut batch = Batch::default();
        let mut queue = self.queue.lock();
        let now = Instant::now();
        let backs = queue.backs.len().min(BATCH);
        queue.backs.drain(..backs).for_each(|back| batch.give_back(back));
        while batch.len() < BATCH
            && let Some(next) = queue.waiting.pop_front()
        {
            if now.duration_since(next.since) > self.patience {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let late = TakeError::Busy("others waited for as long as may be".into());
                _ = next.to.send(Err(late));
            } else if next.to.is_closed() {
                // Whoever asked has gone.
            } else if batch.fits(&next.buckets) {
                batch.add(next.buckets, next.to);
            } else {
                queue.waiting.push_front(next);
                break;
            }
        }
        if !queue.waiting.is_empty() || !queue.backs.is_empty() {
            self.due.notify_one();
        }
        batch
    }

    fn answered(&self, batch: Batch<oneshot::Sender<Answer>>, granted: &HashMap<String, Granted>) {
        self.takes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.flights.fetch_add(1, Ordering::Relaxed);
        let (answers, backs) = batch.answer(granted);
        if !backs.is_empty() {
            self.queue.lock().backs.extend(backs);
            self.due.notify_one();
        }
        for (to, answer) in answers {
            // Who has gone has been charged, as with every other bucket.
            _ = to.send(answer);
        }
    }

    fn failed(&self, batch: Batch<oneshot::Sender<Answer>>, failure: Failure) {
        let (error, others) = match failure {
            Failure::Busy(why) => (TakeError::Busy(why), VecDeque::new()),
            Failure::Unavailable(why) => {
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        why,
                        "exact limits cannot be counted: their on_store_failure decides"
                    );
                }
                let others = std::mem::take(&mut self.queue.lock().waiting);
                (TakeError::Unavailable(why), others)
            }
        };
        let others = others.into_iter().map(|waiting| waiting.to);
        for to in batch.into_waiting().chain(others) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            _ = to.send(Err(error.clone()));
        }
    }
}

/// Asks the engine until it is told to end.
pub(crate) async fn run(exact: Arc<Exact>, mut ledger: impl Ledger, mut end: watch::Receiver<bool>) {
    while !*end.borrow() {
        tokio::select! {
            () = exact.due.notified() => {}
            _ = end.changed() => break,
        }
        let batch = exact.batch();
        if batch.is_empty() {
            continue;
        }
        match fly(&exact, &mut ledger, &batch).await {
            Ok(granted) => exact.answered(batch, &granted),
            Err(failure) => {
                let is_away = matches!(failure, Failure::Unavailable(_));
                exact.failed(batch, failure);
                if is_away {
                    ledger.close();
                    tokio::select! {
                        () = back(&exact, &mut ledger) => {}
                        _ = end.changed() => break,
                    }
                }
            }
        }
    }
}

async fn fly(
    exact: &Exact,
    ledger: &mut impl Ledger,
    batch: &Batch<oneshot::Sender<Answer>>,
) -> Result<HashMap<String, Granted>, Failure> {
    let late = |_| Failure::Unavailable("there is no answer in time".into());
    if !ledger.is_open() {
        let opened = timeout(exact.patience, ledger.open()).await.map_err(late)?;
        opened.map_err(Failure::Unavailable)?;
    }
    timeout(exact.patience, ledger.decide(batch.wants()))
        .await
        .map_err(late)?
}

/// Returns when the engine can be asked again.
async fn back(exact: &Exact, ledger: &mut impl Ledger) {
    loop {
        if matches!(timeout(CONNECT, ledger.open()).await, Ok(Ok(()))) {
            exact.is_away.store(false, Ordering::Relaxed);
            tracing::info!("exact limits are counted again");
            return;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}
