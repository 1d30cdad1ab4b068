//! A bucket that gateways share, as one of them sees it: it admits at once, and tells the engine afterwards.
//!
//! Each of at most `N` gateways may have admitted `f` tokens that the engine has not charged yet, its [`credit`]. The engine
//! charges what it is told, also below zero, and answers the level. A gateway has credit again while that level is
//! positive. So in any window `W` all of them together admit at most `capacity + refill · W + N · f`: what is left truly (the
//! level less all that is not charged yet) never exceeds the capacity, and falls to `-N · f` at most, since credit is given
//! out of a positive level only. A gateway that dies without a report is one more of them.
//!
//! One report is under way at a time; it is repeated as it was until it is answered, and the engine charges it once.

#[cfg(test)]
mod tests;

use super::{Bucket, Level, MAX_UNITS, Scale, TakeError};

/// How gateways share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The most gateways at once.
    pub gateways: u32,
    /// How many per cent of a capacity all of them may have admitted without having told it.
    pub debt_percent: u32,
}

/// Tokens that a gateway may have admitted and not told: its share of the debt, and at least one request's cost.
pub fn credit(capacity: u64, cost: u64, sharing: Sharing) -> u64 {
    let of_all = u128::from(capacity) * u128::from(sharing.debt_percent) / 100;
    let share = of_all / u128::from(sharing.gateways.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).max(cost).max(1)
}

/// What a report says of one bucket: parameters in units (see [`Scale`]), and the units to charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Units of one token.
    pub token: u64,
    /// Units gained every nanosecond.
    pub rate: u64,
    /// Units of a full bucket.
    pub full: u64,
    /// Units to charge; at most [`MAX_UNITS`].
    pub units: u64,
}

/// What an engine keeps of a shared bucket; without it the bucket is full. Kept in SQL by the engines, here for simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    units: i128,
    token: u64,
    at: u64,
}

impl Account {
    /// The account as it is at `now`, with units that are given back: never more than a full bucket.
    pub(super) fn advanced(account: Option<Self>, scale: &Scale, now: u64, back: i128) -> Self {
        let full = i128::from(scale.full);
        let (units, at) = match account {
            None => (full, now),
            Some(Self { units, token, at }) => {
                let now = now.max(at);
                let exact = (units * i128::from(scale.token)).div_euclid(i128::from(token.max(1)));
                let gained = i128::from(now - at) * i128::from(scale.rate);
                ((exact + gained + back).min(full), now)
            }
        };
        Self {
            units,
            token: scale.token,
            at,
        }
    }

    /// Takes so many units, also below zero. The level, in units.
    pub(super) fn take(&mut self, units: i128) -> i64 {
        self.units = (self.units - units).max(-i128::from(MAX_UNITS));
        i64::try_from(self.units).unwrap_or(i64::MIN)
    }

    /// Units that are there.
    pub(super) fn there(&self) -> i128 {
        self.units.max(0)
    }
}

impl Charge {
    /// Charges `account` at `now`, nanoseconds of the engine's clock. The level, in units.
    pub fn apply(&self, account: &mut Option<Account>, now: u64) -> i64 {
        let scale = Scale {
            token: self.token,
            rate: self.rate,
            full: self.full,
            cost: 0,
        };
        let mut after = Account::advanced(*account, &scale, now, 0);
        let level = after.take(i128::from(self.units));
        *account = Some(after);
        level
    }
}

/// A shared bucket, as a gateway knows it. Times are nanoseconds of the gateway's own clock.
#[derive(Clone, Debug)]
pub struct Debt {
    scale: Scale,
    /// Tokens that may be admitted and not charged.
    most: u64,
    /// As it is: of the last level.
    credit: u64,
    /// Tokens admitted since the last report.
    admitted: u64,
    /// Tokens in the report under way.
    sent: u64,
    /// Units at `at`, less what was admitted.
    told: i64,
    at: u64,
    /// Whether it is to be filled.
    fills: bool,
    filling: bool,
}

impl Debt {
    /// One that was not asked for before: full, as far as is known.
    pub fn new(bucket: &Bucket, scale: &Scale, sharing: Sharing, now: u64) -> Self {
        let most = credit(bucket.capacity, bucket.cost, sharing);
        Self {
            scale: *scale,
            most,
            credit: most,
            admitted: 0,
            sent: 0,
            told: signed(scale.full),
            at: now,
            fills: false,
            filling: false,
        }
    }

    /// Under these parameters from now on.
    pub fn fit(&mut self, bucket: &Bucket, scale: &Scale, sharing: Sharing) {
        let same =
            (scale.token, scale.rate, scale.full) == (self.scale.token, self.scale.rate, self.scale.full);
        let most = credit(bucket.capacity, bucket.cost, sharing);
        if !same {
            let exact = i128::from(self.told) * i128::from(scale.token) / i128::from(self.scale.token.max(1));
            self.told = i64::try_from(exact).unwrap_or(i64::MAX).min(signed(scale.full));
            self.scale = *scale;
        }
        if !same || most > self.most {
            self.most = most;
            self.credit = self
                .credit
                .min(most)
                .max(tokens(self.told, scale.token).min(most));
        }
    }

    /// Whether it has so many tokens for a request. Nothing changes.
    pub fn has(&self, cost: u64) -> bool {
        let owed = self.admitted.saturating_add(self.sent);
        owed.saturating_add(cost) <= self.credit
    }

    /// Admits them, though the engine cannot be asked, or since it [has](Self::has) them.
    pub fn admit(&mut self, cost: u64) {
        self.admitted = self.admitted.saturating_add(cost);
    }

    /// It is full again, whatever was admitted: an operator's wish.
    pub fn fill(&mut self, now: u64) {
        (self.fills, self.admitted) = (true, 0);
        (self.told, self.at, self.credit) = (signed(self.scale.full), now, self.most);
    }

    /// Whether the engine is better told at once.
    pub fn is_urgent(&self) -> bool {
        self.admitted > self.most / 2
    }

    /// Units that are there for all gateways, as far as is known here.
    fn estimate(&self, now: u64) -> i64 {
        let gained = u128::from(now.saturating_sub(self.at)) * u128::from(self.scale.rate);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        let owed = i128::from(self.admitted.saturating_add(self.sent)) * i128::from(self.scale.token);
        let there = i128::from(self.told.saturating_add(gained).min(signed(self.scale.full))) - owed;
        i64::try_from(there).unwrap_or(i64::MIN)
    }

    /// Its level, as far as is known here. `cost`: the tokens that must be there for `next_ns` to be 0; `wait`: how long the next
    /// report may take, where only credit is missing.
    pub fn level(&self, cost: u64, now: u64, wait: u64) -> Level {
        let there = self.estimate(now);
        let units = u64::try_from(there).unwrap_or(0);
        let needed = i128::from(cost) * i128::from(self.scale.token) - i128::from(there);
        let needed = u64::try_from(needed)
            .unwrap_or(0)
            .div_ceil(self.scale.rate.max(1));
        Level {
            remaining: units / self.scale.token.max(1),
            next_ns: match self.has(cost) {
                true => 0,
                false => needed.max(wait),
            },
            full_ns: (self.scale.full.saturating_sub(units)).div_ceil(self.scale.rate.max(1)),
        }
    }

    /// What the next report says of it; what was admitted until now is under way with it.
    pub fn report(&mut self) -> Charge {
        let scale = self.scale;
        (self.filling, self.fills) = (std::mem::take(&mut self.fills), false);
        self.sent = self.sent.saturating_add(std::mem::take(&mut self.admitted));
        let units = self.sent.saturating_mul(scale.token).min(MAX_UNITS);
        match self.filling {
            // One that gains all that it holds every nanosecond.
            true => Charge {
                token: scale.token,
                rate: scale.full,
                full: scale.full,
                units: 0,
            },
            false => Charge {
                token: scale.token,
                rate: scale.rate,
                full: scale.full,
                units,
            },
        }
    }

    /// The answer to the report that was sent at `sent_at`: the level in units of the charge. When it is worth asking again, if
    /// there is no credit now: a time of this gateway's clock.
    pub fn answered(&mut self, charge: &Charge, level: i64, sent_at: u64) -> Option<u64> {
        (self.sent, self.filling) = (0, false);
        let exact = i128::from(level) * i128::from(self.scale.token) / i128::from(charge.token.max(1));
        self.told = i64::try_from(exact)
            .unwrap_or(i64::MIN)
            .min(signed(self.scale.full));
        self.at = sent_at;
        self.credit = tokens(self.told, self.scale.token).min(self.most);
        if self.credit >= self.most.min(self.full_tokens()) {
            return None;
        }
        let missing = i128::from(self.most.min(self.full_tokens())) * i128::from(self.scale.token)
            - i128::from(self.told);
        let wait = u64::try_from(missing)
            .unwrap_or(0)
            .div_ceil(self.scale.rate.max(1));
        // As soon as there is one token, if there is none.
        let first = i128::from(self.scale.token) - i128::from(self.told);
        let first = u64::try_from(first).unwrap_or(0).div_ceil(self.scale.rate.max(1));
        Some(sent_at.saturating_add(if self.credit == 0 { first } else { wait }))
    }

    fn full_tokens(&self) -> u64 {
        self.scale.full / self.scale.token.max(1)
    }

    /// Whether nothing is lost when it is forgotten: it owes nothing, and is full as far as is known.
    pub fn may_go(&self, now: u64) -> bool {
        self.admitted == 0
            && self.sent == 0
            && !self.fills
            && !self.filling
            && self.credit == self.most
            && self.estimate(now) >= signed(self.scale.full)
    }

    /// Whether it owes something, or is to be filled.
    pub fn owes(&self) -> bool {
        self.admitted > 0 || self.fills
    }
}

/// What a bucket becomes for one gateway while the engine cannot be asked: its share.
pub fn share(bucket: &Bucket, gateways: u32) -> Result<Bucket, TakeError> {
    let gateways = u64::from(gateways.max(1));
    let shared = Bucket {
        key: bucket.key.clone(),
        capacity: (bucket.capacity / gateways).max(bucket.cost).max(1),
        refill: bucket.refill,
        interval_ns: bucket.interval_ns.saturating_mul(gateways),
        cost: bucket.cost,
    };
    match shared.check() {
        Ok(_) => Ok(shared),
        // A share that cannot be counted exactly: a token at a time, rarely enough.
        Err(TakeError::Invalid(_)) => Ok(Bucket {
            capacity: bucket.cost.max(1),
            refill: 1,
            interval_ns: (bucket.interval_ns / bucket.refill.max(1))
                .max(1)
                .saturating_mul(gateways),
            ..shared
        }),
        Err(error) => Err(error),
    }
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

fn tokens(units: i64, token: u64) -> u64 {
    u64::try_from(units).unwrap_or(0) / token.max(1)
}
