//! Taking from buckets: all of them, or none.

use super::{Bucket, Level, MAX_BUCKETS, Scale, TakeError};

/// What an engine keeps of a bucket. A bucket without a state is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Units held at `last`.
    units: u64,
    /// When it was last taken from, nanoseconds of the engine's clock.
    last: u64,
    /// Units of a token when it was last taken from: parameters may change under a live bucket.
    token: u64,
    /// When it is full, nanoseconds of the engine's clock.
    full_at: u64,
}

impl State {
    /// When the bucket is full, and may be forgotten: nanoseconds of the engine's clock.
    pub fn full_at(&self) -> u64 {
        self.full_at
    }

    fn new(units: u64, now: u64, scale: &Scale) -> Self {
        let full_at = now.saturating_add((scale.full - units).div_ceil(scale.rate));
        Self {
            units,
            last: now,
            token: scale.token,
            full_at,
        }
    }

    /// The state at `now`, or at `last` if the clock stepped back.
    fn advance(self, now: u64, scale: &Scale) -> Self {
        let now = now.max(self.last);
        let mut units = self.units;
        if self.token != scale.token {
            // The parameters changed: the bucket keeps its tokens and their fraction, up to its new capacity,
            // and has gained at its new rate since. Rounding down can admit no more.
            let exact = u128::from(units) * u128::from(scale.token) / u128::from(self.token);
            units = u64::try_from(exact).unwrap_or(u64::MAX);
        }
        let missing = scale.full.saturating_sub(units);
        let elapsed = now - self.last;
        // Elapsed time times rate may overflow, but not before the bucket is full.
        let units = if elapsed >= missing.div_ceil(scale.rate) {
            scale.full
        } else {
            units + elapsed * scale.rate
        };
        Self::new(units, now, scale)
    }

    /// The level of the bucket. `needed`: the units that must be there for `next_ns` to be 0.
    fn level(&self, scale: &Scale, needed: u64) -> Level {
        Level {
            remaining: self.units / scale.token,
            next_ns: needed.saturating_sub(self.units).div_ceil(scale.rate),
            full_ns: (scale.full - self.units).div_ceil(scale.rate),
        }
    }
}

/// Takes from one bucket. `state` is `None` for a bucket that was never seen; it changes only on success.
pub fn take_one(state: &mut Option<State>, bucket: &Bucket, now: u64) -> Result<Level, TakeError> {
    let scale = bucket.check()?;
    let current = current(*state, now, &scale);
    if current.units < scale.cost {
        return Err(TakeError::Refused {
            index: 0,
            levels: vec![current.level(&scale, scale.cost)],
        });
    }
    let after = State::new(current.units - scale.cost, current.last, &scale);
    *state = Some(after);
    Ok(after.level(&scale, scale.cost))
}

/// Takes every cost, or none of them. `states` are those of `buckets`, in their order, `None` for a bucket
/// that was never seen; they change only on success. `now` is in nanoseconds, of a clock that may step back.
///
/// A key that occurs more than once is one bucket, charged with the sum. Its states must be given equal and
/// are left equal. Its parameters must be the same each time.
pub fn take_all(states: &mut [Option<State>], buckets: &[Bucket], now: u64) -> Result<Vec<Level>, TakeError> {
    if let ([state], [bucket]) = (&mut *states, buckets) {
        return take_one(state, bucket, now).map(|level| vec![level]);
    }
    if buckets.len() > MAX_BUCKETS || states.len() != buckets.len() {
        return Err(TakeError::Invalid(format!(
            "a take has 1 to {MAX_BUCKETS} buckets, with a state each"
        )));
    }
    let mut plans: Vec<Plan> = Vec::with_capacity(buckets.len());
    for (index, (bucket, state)) in buckets.iter().zip(states.iter()).enumerate() {
        let scale = bucket.check()?;
        let first = buckets
            .iter()
            .position(|other| other.key == bucket.key)
            .unwrap_or(index);
        // `first < index`: its plan is there already, and holds what the bucket's costs so far add up to.
        let plan = match plans.get_mut(first) {
            None => Plan {
                first,
                scale,
                state: current(*state, now, &scale),
                needed: scale.cost,
            },
            Some(before) => {
                let same = Scale {
                    cost: 0,
                    ..before.scale
                } == Scale { cost: 0, ..scale };
                let needed = before.scale.cost.saturating_add(scale.cost);
                if !same || needed > scale.full {
                    return Err(TakeError::Invalid(
                        "a key that occurs twice needs the same parameters, and costs within the capacity"
                            .to_owned(),
                    ));
                }
                before.scale.cost = needed;
                Plan {
                    first,
                    scale,
                    state: before.state,
                    needed,
                }
            }
        };
        plans.push(plan);
    }
    if let Some(index) = plans.iter().position(|plan| plan.state.units < plan.needed) {
        let levels = plans
            .iter()
            .map(|plan| plan.state.level(&plan.scale, plan.needed))
            .collect();
        return Err(TakeError::Refused {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            levels,
        });
    }
    let mut levels = Vec::with_capacity(buckets.len());
    for index in 0..plans.len() {
        let (Some(plan), Some(slot)) = (plans.get(index), states.get_mut(index)) else {
            break;
        };
        // The plan of a key's first occurrence holds the sum of its costs.
        let total = plans
            .get(plan.first)
            .map_or(plan.needed, |first| first.scale.cost);
        let after = State::new(plan.state.units - total, plan.state.last, &plan.scale);
        *slot = Some(after);
        let own_cost = if plan.first == index {
            plan.needed
        } else {
            plan.scale.cost
        };
        levels.push(after.level(&plan.scale, own_cost));
    }
    Ok(levels)
}

/// The planned change to one bucket of a take.
struct Plan {
    /// The first bucket with the same key.
    first: usize,
    /// Its `cost` is its own, or, in a key's first plan, the sum over the key.
    scale: Scale,
    /// Before anything is taken.
    state: State,
    /// The costs of the key up to and with this bucket, in units.
    needed: u64,
}

fn current(state: Option<State>, now: u64, scale: &Scale) -> State {
    match state {
        Some(state) => state.advance(now, scale),
        None => State::new(scale.full, now, scale),
    }
}
