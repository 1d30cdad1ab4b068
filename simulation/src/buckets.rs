//! The limiter's buckets: the arithmetic of the rules, held against a second one that is as plain as can be.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tollgate_store::bucket::{Bucket, Level, State, TakeError, take_all};
use tollgate_store::ports::Buckets;

use crate::bug::Bug;
use crate::coverage::Seen;
use crate::postgres::Gateway;
use crate::postgres::debts::is_shared;
use crate::world::Sim;

/// Admissions of a bucket that are looked back upon.
const REMEMBERED: usize = 48;

/// The plain one: tokens times the interval, so that nothing is rounded.
#[derive(Default)]
struct Plain {
    level: u128,
    last: u64,
    /// Time and tokens of what was admitted.
    admitted: Vec<(u64, u64)>,
}

/// The limiter's buckets in a simulated world, compared with a second, plain computation.
pub struct SimBuckets {
    sim: Rc<Sim>,
    /// With whom some are shared.
    shared: Option<Rc<Gateway>>,
    states: RefCell<BTreeMap<String, State>>,
    plain: RefCell<BTreeMap<String, Plain>>,
    seen: Cell<u64>,
    passed: Cell<u64>,
}

impl SimBuckets {
    pub fn new(sim: Rc<Sim>, shared: Option<Rc<Gateway>>) -> Self {
        Self {
            sim,
            shared,
            states: RefCell::default(),
            plain: RefCell::default(),
            seen: Cell::default(),
            passed: Cell::default(),
        }
    }

    fn take_now(&self, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        let now = self.sim.bucket_ns();
        let mut held = self.states.borrow_mut();
        let mut states: Vec<Option<State>> = buckets.iter().map(|b| held.get(&b.key).copied()).collect();
        let taken = take_all(&mut states, buckets, self.clock(now));
        if taken.is_err() {
            match self.sim.bug {
                Some(Bug::RefillOnRefusal) => states.iter_mut().for_each(|state| *state = None),
                Some(Bug::TakeOnRefusal) => {
                    for (state, bucket) in states.iter_mut().zip(buckets) {
                        _ = take_all(std::slice::from_mut(state), std::slice::from_ref(bucket), now);
                    }
                }
                _ => {}
            }
        }
        for (bucket, state) in buckets.iter().zip(states) {
            match state {
                Some(state) => held.insert(bucket.key.clone(), state),
                None => held.remove(&bucket.key),
            };
        }
        drop(held);
        self.compare(buckets, now, &taken);
        taken
    }

    /// As `crates/engines/src/buckets/shared.rs` does: looks at those that are shared, takes from the others, then from the shared.
    fn take_together(&self, gateway: &Gateway, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        let (mut others, mut looked) = (Vec::new(), Vec::new());
        for bucket in buckets {
            let found = match is_shared(bucket) {
                true => gateway.look_shared(bucket)?,
                false => None,
            };
            if found.is_none() {
                others.push(match is_shared(bucket) {
                    true => gateway.share_of(bucket)?,
                    false => bucket.clone(),
                });
            }
            looked.push(found);
        }
        // The levels of all, in their places.
        let merged = |levels: Vec<Level>| {
            let mut levels = levels.into_iter();
            let all = looked.iter().map(|found| match found {
                Some((_, level)) => Some(*level),
                None => levels.next(),
            });
            all.flatten().collect::<Vec<Level>>()
        };
        if let Some(lacking) = looked.iter().position(|found| found.is_some_and(|(has, _)| !has)) {
            self.sim.saw(Seen::SharedRefused);
            others.iter_mut().for_each(|bucket| bucket.cost = 0);
            let levels = merged(self.take_now(&others)?);
            let index = u32::try_from(lacking).unwrap_or(u32::MAX);
            return Err(TakeError::Refused { index, levels });
        }
        let taken = self.take_now(&others);
        let levels = match taken {
            Err(TakeError::Refused { index, levels }) => {
                let mut place = looked.iter().enumerate().filter(|(_, found)| found.is_none());
                let index = place.nth(index as usize).map_or(0, |(at, _)| at as u32);
                let levels = merged(levels);
                return Err(TakeError::Refused { index, levels });
            }
            other => other?,
        };
        let mut levels = levels.into_iter();
        let all = buckets.iter().zip(&looked).map(|(bucket, found)| {
            let own = if found.is_none() { levels.next() } else { None };
            let charged = is_shared(bucket).then(|| gateway.take_shared(bucket)).flatten();
            own.or(charged)
                .ok_or_else(|| TakeError::Unavailable("no level was told".into()))
        });
        all.collect()
    }

    /// What the rules are given for the time: with a bug, one that counts a step back as a step forward.
    fn clock(&self, now: u64) -> u64 {
        if !self.sim.has(Bug::BucketTimeRunsBack) {
            return now;
        }
        let passed = self.passed.get() + now.abs_diff(self.seen.replace(now));
        self.passed.set(passed);
        passed
    }

    fn compare(&self, buckets: &[Bucket], now: u64, taken: &Result<Vec<Level>, TakeError>) {
        let mut plain = self.plain.borrow_mut();
        let mut after = Vec::with_capacity(buckets.len());
        let mut enough = true;
        for bucket in buckets {
            let full = u128::from(bucket.capacity) * u128::from(bucket.interval_ns);
            let cost = u128::from(bucket.cost) * u128::from(bucket.interval_ns);
            let (level, last) = plain.get(&bucket.key).map_or((full, now), |known| {
                // Time never runs backwards; a clock that steps back stands still.
                let elapsed = now.saturating_sub(known.last);
                let gained = u128::from(elapsed) * u128::from(bucket.refill);
                (full.min(known.level + gained), known.last + elapsed)
            });
            enough &= level >= cost;
            after.push((level.saturating_sub(cost), last));
        }
        self.sim.ensure(taken.is_ok() == enough, || {
            format!("a take was answered {taken:?}, and the buckets had enough: {enough}")
        });
        let Ok(levels) = taken else {
            self.sim.saw(Seen::TakesRefused);
            return;
        };
        for ((bucket, level), (left, now)) in buckets.iter().zip(levels).zip(after) {
            let known = plain.entry(bucket.key.clone()).or_default();
            (known.level, known.last) = (left, now);
            let interval = u128::from(bucket.interval_ns);
            self.sim
                .ensure(left / interval == u128::from(level.remaining), || {
                    format!(
                        "{} has {} tokens, not {}",
                        bucket.key,
                        left / interval,
                        level.remaining
                    )
                });
            known.admitted.push((now, bucket.cost));
            if known.admitted.len() > REMEMBERED {
                known.admitted.remove(0);
            }
            let mut tokens = 0;
            for (since, cost) in known.admitted.iter().rev() {
                tokens += u128::from(*cost);
                let gained = u128::from(bucket.refill) * u128::from(now - since);
                let most = u128::from(bucket.capacity) * interval + gained;
                self.sim.ensure(tokens * interval <= most, || {
                    format!("{} admitted {tokens} tokens in {} ns", bucket.key, now - since)
                });
            }
        }
    }
}

impl Buckets for SimBuckets {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        if self.sim.one_of(50) {
            self.sim.executor.give_way().await;
        }
        match &self.shared {
            Some(gateway) if buckets.iter().any(is_shared) => self.take_together(gateway, &buckets),
            _ => self.take_now(&buckets),
        }
    }
}
