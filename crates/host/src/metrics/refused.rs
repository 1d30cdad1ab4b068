//! Who is refused most, as far as bounded counts tell. Each thread that runs rules counts the buckets that lacked their cost, in a
//! sketch that it alone writes ("space saving": Metwally, Agrawal, El Abbadi, ICDT 2005): a new bucket takes the place of the one
//! with the fewest, and its count, which may be too high by that much. So what is refused more often than one in [`SLOTS`] is
//! there, whoever else is refused.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Buckets that a thread counts at once.
const SLOTS: usize = 64;
/// What was counted is forgotten after one to two of these.
pub const HALF: Duration = Duration::from_secs(300);
/// The most that are told.
const MOST: usize = 20;

/// What one thread has counted lately. Its thread takes the lock with each refusal, and never waits for whoever looks.
#[derive(Debug)]
pub struct Refused {
    hasher: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    began: Instant,
    now: Sketch,
    before: Sketch,
}

/// The counts beside what they belong to: what is looked through with each refusal is close together.
#[derive(Debug, Default)]
struct Sketch {
    hashes: Vec<u64>,
    counts: Vec<u64>,
    slots: Vec<Slot>,
    /// Whether a bucket has lost its place.
    is_full: bool,
}

#[derive(Debug)]
struct Slot {
    key: String,
    /// How much too high the count may be.
    error: u64,
}

/// How often a bucket lacked its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The bucket's key; see [`tollgate_rules::policies::parts`].
    pub key: String,
    /// So many times, or more where [`Count::is_least`] says so.
    pub refused: u64,
    /// Whether it may have been more.
    pub is_least: bool,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            counts: Mutex::new(Counts {
                began: Instant::now(),
                now: Sketch::default(),
                before: Sketch::default(),
            }),
        }
    }
}

impl Refused {
    /// One more, unless somebody looks at this very moment. A hash, an uncontended lock, and a look through [`SLOTS`] numbers or
    /// two; see `a_refusal_costs_little_more`.
    pub fn add(&self, key: &str) {
        let hash = self.hasher.hash_one(key);
        if let Ok(mut counts) = self.counts.try_lock() {
            counts.now.add(hash, key);
        }
    }

    /// Forgets what is old. To be called now and then by the thread that counts.
    pub fn turn(&self, now: Instant) {
        if let Ok(mut counts) = self.counts.try_lock() {
            counts.turn(now);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // No code that runs under the lock panics.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that all threads together have counted most often; the most first.
    pub fn most<'a>(threads: impl Iterator<Item = &'a Self>, now: Instant) -> Vec<Count> {
        let (mut sums, mut is_least) = (HashMap::<String, u64>::new(), false);
        for thread in threads {
            let mut counts = thread.counts();
            counts.turn(now);
            for sketch in [&counts.now, &counts.before] {
                is_least |= sketch.is_full;
                for (slot, count) in sketch.slots.iter().zip(&sketch.counts) {
                    let least = count - slot.error;
                    match sums.get_mut(&slot.key) {
                        Some(sum) => *sum += least,
                        None => drop(sums.insert(slot.key.clone(), least)),
                    }
                }
            }
        }
        let mut most: Vec<Count> = sums
            .into_iter()
            .map(|(key, refused)| Count {
                key,
                refused,
                is_least,
            })
            .collect();
        most.sort_by(|a, b| b.refused.cmp(&a.refused).then_with(|| a.key.cmp(&b.key)));
        most.truncate(MOST);
        most
    }
}

impl Counts {
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age < HALF {
            return;
        }
        self.before = take(&mut self.now);
        if age >= 2 * HALF {
            self.before = Sketch::default();
        }
        self.began = now;
    }
}

impl Sketch {
    fn add(&mut self, hash: u64, key: &str) {
        let mut same = self.hashes.iter().zip(&self.slots);
        if let Some(at) = same.position(|(other, slot)| *other == hash && slot.key == key) {
            if let Some(count) = self.counts.get_mut(at) {
                *count += 1;
            }
            return;
        }
        if self.slots.len() < SLOTS {
            self.hashes.push(hash);
            self.counts.push(1);
            self.slots.push(Slot {
                key: key.to_owned(),
                error: 0,
            });
            return;
        }
        let fewest = self
            .counts
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, count)| **count);
        let Some((at, count)) = fewest else { return };
        if let (Some(slot), Some(place)) = (self.slots.get_mut(at), self.hashes.get_mut(at)) {
            self.is_full = true;
            slot.error = *count;
            slot.key.clear();
            slot.key.push_str(key);
            *count += 1;
            *place = hash;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_engines::MemoryBuckets;
    use tollgate_store::bucket::Bucket;

    fn told(threads: &[Refused], now: Instant) -> Vec<(String, u64, bool)> {
        let most = Refused::most(threads.iter(), now).into_iter();
        most.map(|one| (one.key, one.refused, one.is_least)).collect()
    }

    #[test]
    fn what_several_threads_have_counted_is_summed_and_exact_while_there_is_room() {
        let threads = [Refused::default(), Refused::default()];
        for (thread, key, times) in [(0, "p|a", 3), (1, "p|a", 4), (1, "p|b", 9), (0, "p", 1)] {
            for _ in 0..times {
                threads[thread].add(key);
            }
        }
        let expected = [("p|b", 9), ("p|a", 7), ("p", 1)].map(|(key, times)| (key.to_owned(), times, false));
        assert_eq!(told(&threads, Instant::now()), expected);
    }

    #[test]
    fn who_is_refused_often_is_found_among_any_crowd_and_never_told_too_high() {
        let thread = Refused::default();
        for round in 0..10_000 {
            thread.add(&format!("p|stranger {round}"));
            if round % 10 == 0 {
                thread.add("p|flood");
            }
        }
        let found = told(&[thread], Instant::now());
        assert_eq!(found[0].0, "p|flood");
        assert!(found[0].2 && (500..=1_000).contains(&found[0].1), "{found:?}");
        assert!(
            found[1..].iter().all(|(_, refused, _)| *refused <= 1),
            "{found:?}"
        );
        assert_eq!(found.len(), MOST);
    }

    #[test]
    fn what_was_refused_long_ago_is_forgotten() {
        let thread = Refused::default();
        let began = thread.counts().began;
        thread.add("old");
        thread.turn(began + HALF);
        thread.add("new");
        let names = |now| {
            let most = Refused::most(std::iter::once(&thread), now).into_iter();
            most.map(|one| one.key).collect::<Vec<_>>()
        };
        assert_eq!(names(began + HALF + HALF / 2), ["new", "old"]);
        assert_eq!(names(began + 2 * HALF), ["new"]);
        assert!(names(began + 4 * HALF).is_empty());
    }

    /// Beside the take that refuses; the request around it costs tens of times as much. Run by
    /// `cargo test --release -p tollgate refusal_costs -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures"]
    fn a_refusal_costs_little_more() {
        const TIMES: u32 = 200_000;
        let buckets = MemoryBuckets::new(100_000);
        let bucket = |key: String| Bucket {
            key,
            capacity: 1,
            refill: 1,
            interval_ns: u64::MAX >> 8,
            cost: 1,
        };
        for crowd in [1, SLOTS, 50_000] {
            let all: Vec<Bucket> = (0..crowd)
                .map(|n| bucket(format!("default|id:client-{n}")))
                .collect();
            all.iter().for_each(|one| drop(buckets.take_one_now(one)));
            let refused = Refused::default();
            let timed = |counts: bool| {
                let began = Instant::now();
                for one in all.iter().cycle().take(TIMES as usize) {
                    let taken = buckets.take_one_now(std::hint::black_box(one));
                    if taken.is_err() && counts {
                        refused.add(&one.key);
                    }
                }
                began.elapsed() / TIMES
            };
            let mut extra: Vec<_> = (0..9)
                .map(|_| {
                    let without = timed(false);
                    timed(true).saturating_sub(without)
                })
                .collect();
            extra.sort();
            println!("{crowd} clients: {:?} more for a refusal", extra[4]);
        }
    }
}
