//! Buckets that gateways share exactly: every take is decided by the engine, which all of them ask.
//!
//! What waits at a gateway goes together, in a [`Batch`]: one [`Want`] for each bucket. The engine grants what is there, in whole
//! requests, and the gateway hands it out in the order of the takes. What one of several buckets granted in vain is given back with
//! the next batch, less what the bucket has gained since: while it was away, others may have found the bucket full. So what is there,
//! with all that may still come back, never exceeds the capacity, and in any window `W` all gateways together admit at most
//! `capacity + refill · W`.
//!
//! A batch is sent once. What it took is lost with its answer: then fewer are admitted, never more.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use super::debt::Account;
use super::{Bucket, Level, Scale, TakeError, gcd};

/// Nanoseconds of a microsecond.
const MICRO: u64 = 1_000;

/// What a batch wants of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The bucket's parameters; its cost counts for nothing.
    pub scale: Scale,
    /// Tokens that all takes want together.
    pub tokens: u64,
    /// They are granted in multiples of this.
    pub step: u64,
    /// Tokens that are given back first.
    pub back: u64,
    /// When the first of those were granted; see [`Granted::at`].
    pub back_at: u64,
}

/// What the engine says to a [`Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What is left, in units of the want's scale; it may be below zero where the bucket had debts.
    pub level: i64,
    /// Tokens.
    pub tokens: u64,
    /// When, microseconds of the engine's clock.
    pub at: u64,
}

/// What was taken, and when: see [`Granted::at`].
pub type Taken = (Vec<Level>, u64);

/// Tokens to give back to a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    /// Which bucket.
    pub key: String,
    /// Its parameters when they were granted.
    pub scale: Scale,
    /// How many.
    pub tokens: u64,
    /// When they were granted; see [`Granted::at`].
    pub at: u64,
}

impl Want {
    fn none(scale: Scale) -> Self {
        Self {
            scale: Scale { cost: 0, ..scale },
            tokens: 0,
            step: 0,
            back: 0,
            back_at: u64::MAX,
        }
    }

    /// Grants out of `account` at `now`, nanoseconds of the engine's clock. Engines do the same in languages of their own.
    pub fn apply(&self, account: &mut Option<Account>, now: u64) -> Granted {
        let token = i128::from(self.scale.token);
        let at = now / MICRO;
        // A clock that has stepped back gives nothing back.
        let gained = at.checked_sub(self.back_at).map_or(i128::MAX, |passed| {
            i128::from(passed * MICRO) * i128::from(self.scale.rate)
        });
        let back = (i128::from(self.back) * token).saturating_sub(gained).max(0);
        let mut after = Account::advanced(*account, &self.scale, now, back);
        let step = i128::from(self.step.max(1));
        let there = after.there() / (token * step) * step;
        let tokens = there.min(i128::from(self.tokens));
        let level = after.take(tokens * token);
        *account = Some(after);
        Granted {
            level,
            tokens: u64::try_from(tokens).unwrap_or(0),
            at,
        }
    }
}

/// Takes that are asked for together. `T`: to whom the answer goes.
#[derive(Debug)]
pub struct Batch<T> {
    takes: Vec<(Vec<Bucket>, T)>,
    wants: BTreeMap<String, Want>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self {
            takes: Vec::new(),
            wants: BTreeMap::new(),
        }
    }
}

/// The answers of a batch, and what is to be given back after it.
pub type Answers<T> = (Vec<(T, Result<Taken, TakeError>)>, Vec<Back>);

impl<T> Batch<T> {
    /// What the engine is asked, in the order of the keys.
    pub fn wants(&self) -> &BTreeMap<String, Want> {
        &self.wants
    }

    /// How many takes there are.
    pub fn len(&self) -> usize {
        self.takes.len()
    }

    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Whether a take of these has its place here: the parameters of a bucket are the same within a batch.
    pub fn fits(&self, buckets: &[Bucket]) -> bool {
        buckets.iter().all(|bucket| {
            let known = self.wants.get(&bucket.key);
            known.is_none_or(|want| bucket.check().is_ok_and(|scale| is_same(&want.scale, &scale)))
        })
    }

    /// Adds a take that [fits](Self::fits), of valid buckets.
    pub fn add(&mut self, buckets: Vec<Bucket>, to: T) {
        for bucket in &buckets {
            let Ok(scale) = bucket.check() else { continue };
            let want = self.wants.entry(bucket.key.clone());
            let want = want.or_insert_with(|| Want::none(scale));
            want.tokens = want.tokens.saturating_add(bucket.cost);
            want.step = gcd(want.step, bucket.cost);
        }
        self.takes.push((buckets, to));
    }

    /// Gives back with this batch, before anything is added to it. Where the parameters have changed since, nothing is.
    pub fn give_back(&mut self, back: Back) {
        let want = self.wants.entry(back.key);
        let want = want.or_insert_with(|| Want::none(back.scale));
        if is_same(&want.scale, &back.scale) {
            want.back = want.back.saturating_add(back.tokens);
            want.back_at = want.back_at.min(back.at);
        }
    }

    /// Hands out what was granted, in the order of the takes.
    pub fn answer(self, granted: &HashMap<String, Granted>) -> Answers<T> {
        let mut hands: HashMap<&str, Hand> = HashMap::with_capacity(self.wants.len());
        for (key, want) in &self.wants {
            if let Some(granted) = granted.get(key) {
                hands.insert(key, Hand::new(want, *granted));
            }
        }
        let mut answers = Vec::with_capacity(self.takes.len());
        for (buckets, to) in self.takes {
            answers.push((to, hand_out(&mut hands, &buckets)));
        }
        let left = hands.into_iter().filter(|(_, hand)| hand.granted > 0);
        let backs = left.map(|(key, hand)| Back {
            key: key.to_owned(),
            scale: hand.scale,
            tokens: hand.granted,
            at: hand.at,
        });
        (answers, backs.collect())
    }

    /// To whom the answers would go, and cannot.
    pub fn into_waiting(self) -> impl Iterator<Item = T> {
        self.takes.into_iter().map(|(_, to)| to)
    }
}

fn is_same(one: &Scale, other: &Scale) -> bool {
    (one.token, one.rate, one.full) == (other.token, other.rate, other.full)
}

/// What is left of a bucket to hand out.
struct Hand {
    scale: Scale,
    /// Tokens.
    granted: u64,
    /// Units that are there, those that were granted too.
    there: i128,
    at: u64,
}

impl Hand {
    fn new(want: &Want, granted: Granted) -> Self {
        let taken = i128::from(granted.tokens) * i128::from(want.scale.token);
        Self {
            scale: want.scale,
            granted: granted.tokens,
            there: i128::from(granted.level) + taken,
            at: granted.at,
        }
    }

    /// `lacks`: tokens that a take misses.
    fn level(&self, lacks: Option<u64>) -> Level {
        let units = u64::try_from(self.there).unwrap_or(0);
        let rate = self.scale.rate.max(1);
        let needed = lacks.map(|tokens| i128::from(tokens) * i128::from(self.scale.token) - self.there);
        let needed = needed.map(|units| u64::try_from(units).unwrap_or(0).div_ceil(rate));
        Level {
            remaining: units / self.scale.token.max(1),
            // What lacks is never there now.
            next_ns: needed.map_or(0, |needed| needed.max(1)),
            full_ns: self.scale.full.saturating_sub(units).div_ceil(rate),
        }
    }
}

fn hand_out(hands: &mut HashMap<&str, Hand>, buckets: &[Bucket]) -> Result<Taken, TakeError> {
    // A key that occurs more than once is charged with the sum.
    let needed = |until: usize| {
        let key = buckets.get(until).map(|bucket| &bucket.key);
        let same = buckets.iter().take(until + 1).filter(|one| Some(&one.key) == key);
        same.fold(0_u64, |sum, one| sum.saturating_add(one.cost))
    };
    let missing = || TakeError::Unavailable("a bucket was not answered".to_owned());
    let mut lacking = None;
    for (index, bucket) in buckets.iter().enumerate() {
        let hand = hands.get(bucket.key.as_str()).ok_or_else(missing)?;
        if bucket.cost > 0 && hand.granted < needed(index) {
            lacking = lacking.or(Some(index));
        }
    }
    if lacking.is_none() {
        for bucket in buckets {
            if let Some(hand) = hands.get_mut(bucket.key.as_str()) {
                hand.granted = hand.granted.saturating_sub(bucket.cost);
                hand.there -= i128::from(bucket.cost) * i128::from(hand.scale.token);
            }
        }
    }
    let mut levels = Vec::with_capacity(buckets.len());
    let mut at = u64::MAX;
    for (index, bucket) in buckets.iter().enumerate() {
        let hand = hands.get(bucket.key.as_str()).ok_or_else(missing)?;
        at = at.min(hand.at);
        let needed = needed(index);
        let lacks = lacking.is_some() && bucket.cost > 0 && hand.granted < needed;
        levels.push(hand.level(lacks.then_some(needed)));
    }
    match lacking {
        None => Ok((levels, at)),
        Some(index) => Err(TakeError::Refused {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            levels,
        }),
    }
}
