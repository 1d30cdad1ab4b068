//! The shared buckets of one gateway: admitted at once, told to the engine in batches. See [`tollgate_store::bucket::debt`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tollgate_store::bucket::debt::{Charge, Debt, Sharing};
use tollgate_store::bucket::{Bucket, Level, Scale, TakeError};

use crate::sync::plain::{Mutex, MutexGuard};

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;
/// Between two reports, unless one is urgent.
pub const REPORT: Duration = Duration::from_millis(50);
/// The most buckets of a report.
pub const BATCH: usize = 500;
/// How long the engine may leave a report unanswered before each gateway counts by its share.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Shard {
    debts: HashMap<String, Known>,
    /// Keys that the next report is about.
    touched: Vec<String>,
    /// When to ask again for keys that have no credit.
    again: BinaryHeap<Reverse<(u64, String)>>,
}

struct Known {
    debt: Debt,
    is_touched: bool,
    /// When the engine is asked for it again: its only entry in [`Shard::again`] that counts; 0: not by itself.
    again: u64,
}

impl Shard {
    fn touch(&mut self, key: &str) -> bool {
        let Some(known) = self.debts.get_mut(key) else {
            return false;
        };
        let first = !std::mem::replace(&mut known.is_touched, true);
        if first {
            self.touched.push(key.to_owned());
        }
        first
    }
}

/// What is told to the engine. The same until it is answered.
#[derive(Debug)]
pub struct Report {
    /// In the order of the keys: so two gateways do not wait for each other.
    pub charges: Vec<(String, Charge)>,
    sent_at: u64,
}

/// The shared buckets of a gateway.
pub struct Debts {
    sharing: Sharing,
    max_keys: usize,
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    base: Instant,
    due: Notify,
    urgent: Notify,
    /// Nanoseconds at which the report that is not answered yet was made; 0: there is none.
    unanswered: AtomicU64,
    is_away: AtomicBool,
    reports: AtomicU64,
}

impl std::fmt::Debug for Debts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Debts")
            .field("sharing", &self.sharing)
            .finish_non_exhaustive()
    }
}

/// The shards of a take, locked in their order.
pub struct Locked<'d> {
    debts: &'d Debts,
    guards: Vec<(usize, MutexGuard<'d, Shard>)>,
    now: u64,
}

impl Debts {
    /// At most `max_keys` buckets.
    pub fn new(sharing: Sharing, max_keys: usize) -> Self {
        Self {
            sharing,
            max_keys: (max_keys / SHARDS).max(1),
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            hasher: RandomState::new(),
            base: Instant::now(),
            due: Notify::new(),
            urgent: Notify::new(),
            unanswered: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
            reports: AtomicU64::new(0),
        }
    }

    /// How gateways share.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Buckets that are known here, reports that were answered, and whether each gateway counts by its share.
    pub fn counts(&self) -> (u64, u64, bool) {
        let known = self
            .shards
            .iter()
            .map(|shard| shard.lock().debts.len() as u64)
            .sum();
        (known, self.reports.load(Ordering::Relaxed), self.is_away())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn shard_of(&self, key: &str) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0)
    }

    fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// Locks what these keys need.
    pub fn lock<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Locked<'_> {
        let mut order: Vec<usize> = keys.map(|key| self.shard_of(key)).collect();
        order.sort_unstable();
        order.dedup();
        Locked {
            debts: self,
            guards: order
                .into_iter()
                .filter_map(|at| Some((at, self.shards.get(at)?.lock())))
                .collect(),
            now: self.now(),
        }
    }

    /// Waits until something is to be told, and then for as long as others may join.
    pub async fn wait(&self) {
        loop {
            let now = self.now();
            let next = self
                .shards
                .iter()
                .filter_map(|shard| shard.lock().again.peek().map(|Reverse((at, _))| *at))
                .min();
            let Some(next) = next else {
                self.due.notified().await;
                return self.others_join().await;
            };
            if next <= now {
                return;
            }
            tokio::select! {
                () = self.due.notified() => return self.others_join().await,
                () = tokio::time::sleep(Duration::from_nanos(next - now)) => {}
            }
        }
    }

    async fn others_join(&self) {
        tokio::select! {
            () = tokio::time::sleep(REPORT) => {}
            () = self.urgent.notified() => {}
        }
    }

    /// The next report, if there is something to tell. It is under way until it is [answered](Self::answered).
    pub fn report(&self) -> Option<Report> {
        let now = self.now();
        let mut charges = Vec::new();
        for shard in &self.shards {
            let shard = &mut *shard.lock();
            while shard.again.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                let Some(Reverse((at, key))) = shard.again.pop() else {
                    break;
                };
                let known = shard.debts.get_mut(&key).filter(|known| known.again == at);
                if let Some(known) = known {
                    known.again = 0;
                    shard.touch(&key);
                }
            }
            while charges.len() < BATCH
                && let Some(key) = shard.touched.pop()
            {
                if let Some(known) = shard.debts.get_mut(&key) {
                    known.is_touched = false;
                    charges.push((key, known.debt.report()));
                }
            }
            if !shard.touched.is_empty() {
                self.due.notify_one();
                self.urgent.notify_one();
            }
        }
        charges.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let has_some = !charges.is_empty();
        if has_some {
            self.unanswered.store(now, Ordering::Relaxed);
        }
        has_some.then_some(Report {
            charges,
            sent_at: now,
        })
    }

    /// The engine could not be asked.
    pub fn not_answered(&self) {
        let since = self.unanswered.load(Ordering::Relaxed);
        let patience = u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
        if since > 0
            && self.now().saturating_sub(since) > patience
            && !self.is_away.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("shared limits cannot be told to the database: this gateway counts by its share");
        }
    }

    /// The levels of a report's buckets, in its order.
    pub fn answered(&self, report: &Report, levels: &HashMap<String, i64>) {
        self.unanswered.store(0, Ordering::Relaxed);
        self.reports.fetch_add(1, Ordering::Relaxed);
        if self.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!("shared limits are told to the database again");
        }
        for (key, charge) in &report.charges {
            let shard = &mut *self.shards[self.shard_of(key)].lock();
            let (Some(known), Some(level)) = (shard.debts.get_mut(key), levels.get(key)) else {
                continue;
            };
            let again = known.debt.answered(charge, *level, report.sent_at);
            // Touched meanwhile: it is told, and asked for, anyway.
            let again = again.filter(|again| !known.is_touched && (known.again == 0 || *again < known.again));
            if let Some(again) = again {
                known.again = again;
                shard.again.push(Reverse((again, key.clone())));
            }
        }
    }

    /// Forgets buckets that are full, of which nothing is owed.
    pub fn sweep(&self) {
        let now = self.now();
        for shard in &self.shards {
            let shard = &mut *shard.lock();
            shard
                .debts
                .retain(|_, known| known.is_touched || !known.debt.may_go(now));
        }
    }
}

impl Locked<'_> {
    fn shard(&mut self, key: &str) -> Option<&mut Shard> {
        let at = self.debts.shard_of(key);
        let found = self.guards.iter_mut().find(|(index, _)| *index == at);
        found.map(|(_, shard)| &mut **shard)
    }

    /// Whether the bucket has its cost, and its level without it. Nothing is taken. `None`: it is not decided here, but by the
    /// gateway's share, since the engine cannot be asked or there is no room.
    ///
    /// # Errors
    /// It is out of bounds.
    pub fn look(&mut self, bucket: &Bucket) -> Result<Option<(bool, Level)>, TakeError> {
        let scale = bucket.check()?;
        let (sharing, now, max) = (self.debts.sharing, self.now, self.debts.max_keys);
        let is_away = self.debts.is_away();
        let Some(shard) = self.shard(&bucket.key) else {
            return Ok(None);
        };
        if !shard.debts.contains_key(&bucket.key) {
            if shard.debts.len() >= max {
                return Ok(None);
            }
            let debt = Debt::new(bucket, &scale, sharing, now);
            let known = Known {
                debt,
                is_touched: false,
                again: 0,
            };
            shard.debts.insert(bucket.key.clone(), known);
        }
        let Some(known) = shard.debts.get_mut(&bucket.key) else {
            return Ok(None);
        };
        if is_filled(&scale) {
            known.debt.fill(now);
            let level = known.debt.level(0, now, 0);
            self.tell(&bucket.key, true);
            return Ok(Some((true, level)));
        }
        if is_away {
            return Ok(None);
        }
        known.debt.fit(bucket, &scale, sharing);
        let has = known.debt.has(bucket.cost);
        let wait = u64::try_from(REPORT.as_nanos()).unwrap_or(0);
        let level = known.debt.level(bucket.cost, now, wait);
        if !has && level.next_ns <= wait {
            // The fleet may have it: the engine is asked at once.
            self.tell(&bucket.key, false);
        }
        Ok(Some((has, level)))
    }

    /// Charges a bucket that was looked at. Its level now.
    pub fn take(&mut self, bucket: &Bucket) -> Option<Level> {
        let now = self.now;
        let known = self.shard(&bucket.key)?.debts.get_mut(&bucket.key)?;
        if !bucket.check().is_ok_and(|scale| is_filled(&scale)) {
            known.debt.admit(bucket.cost);
        }
        let level = known.debt.level(bucket.cost, now, 0);
        let urgent = known.debt.is_urgent();
        if bucket.cost > 0 {
            self.tell(&bucket.key, urgent);
        }
        Some(level)
    }

    /// What was admitted by the gateway's share is told when the engine can be asked again.
    pub fn owe(&mut self, bucket: &Bucket) {
        if let Some(shard) = self.shard(&bucket.key)
            && let Some(known) = shard.debts.get_mut(&bucket.key)
        {
            known.debt.admit(bucket.cost);
            self.tell(&bucket.key, false);
        }
    }

    fn tell(&mut self, key: &str, urgent: bool) {
        let first = self.shard(key).is_some_and(|shard| shard.touch(key));
        if urgent {
            self.debts.urgent.notify_one();
        }
        if first {
            self.debts.due.notify_one();
        }
    }
}

/// One that gains all that it holds every nanosecond is full by now: how an operator fills a bucket.
fn is_filled(scale: &Scale) -> bool {
    scale.rate >= scale.full
}
