//! A take as one statement of SQL is asked for it: checked, and each key once.

use std::collections::HashMap;

use serde_json::json;

use super::{Bucket, Level, MAX_BUCKETS, Scale, TakeError};

/// The request to one bucket.
#[derive(Debug)]
struct Plan {
    key: String,
    scale: Scale,
    /// The costs of its key up to and with this one, in units.
    needed: u64,
}

/// A take within its bounds. A key that occurs more than once is one bucket, charged with the sum.
#[derive(Debug)]
pub struct Asked {
    plans: Vec<Plan>,
}

impl Asked {
    /// Checks a take.
    ///
    /// # Errors
    /// [`TakeError::Invalid`].
    pub fn check(buckets: &[Bucket]) -> Result<Self, TakeError> {
        if buckets.len() > MAX_BUCKETS {
            return Err(TakeError::Invalid(format!(
                "a take has at most {MAX_BUCKETS} buckets"
            )));
        }
        let mut plans: Vec<Plan> = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let scale = bucket.check()?;
            let mut needed = scale.cost;
            if let Some(before) = plans.iter().rev().find(|plan| plan.key == bucket.key) {
                let same = Scale {
                    cost: scale.cost,
                    ..before.scale
                } == scale;
                needed = before.needed.saturating_add(scale.cost);
                if !same || needed > scale.full {
                    let why =
                        "a key that occurs twice needs the same parameters, and costs within the capacity";
                    return Err(TakeError::Invalid(why.to_owned()));
                }
            }
            plans.push(Plan {
                key: bucket.key.clone(),
                scale,
                needed,
            });
        }
        Ok(Self { plans })
    }

    /// Whether nothing is to be taken.
    pub fn only_reads(&self) -> bool {
        self.plans.iter().all(|plan| plan.scale.cost == 0)
    }

    /// Each key once, with the sum of its costs.
    pub fn distinct(&self) -> impl Iterator<Item = (&str, Scale)> {
        let last = move |(index, plan): &(usize, &Plan)| {
            !self
                .plans
                .iter()
                .skip(index + 1)
                .any(|later| later.key == plan.key)
        };
        self.plans.iter().enumerate().filter(last).map(|(_, plan)| {
            let cost = plan.needed;
            (&*plan.key, Scale { cost, ..plan.scale })
        })
    }

    /// The same as a JSON list of `[key, token, rate, full, cost]`, in units.
    pub fn as_json(&self) -> String {
        let row = |(key, scale): (&str, Scale)| json!([key, scale.token, scale.rate, scale.full, scale.cost]);
        self.distinct()
            .map(row)
            .collect::<serde_json::Value>()
            .to_string()
    }

    /// The first bucket that lacks its cost, given the units that buckets hold.
    pub fn lacking(&self, held: &HashMap<String, u64>) -> Option<u32> {
        let lacks = |plan: &Plan| held.get(&plan.key).is_some_and(|units| *units < plan.needed);
        self.plans
            .iter()
            .position(lacks)
            .and_then(|index| u32::try_from(index).ok())
    }

    /// The levels of the buckets. If `refused`, waiting times are those until all costs of the key so far are
    /// there, else until the bucket's own cost is.
    pub fn levels(&self, held: &HashMap<String, u64>, refused: bool) -> Vec<Level> {
        let level = |plan: &Plan| {
            let scale = &plan.scale;
            let units = held.get(&plan.key).copied().unwrap_or(scale.full).min(scale.full);
            let wanted = if refused { plan.needed } else { scale.cost };
            Level {
                remaining: units / scale.token,
                next_ns: wanted.saturating_sub(units).div_ceil(scale.rate),
                full_ns: (scale.full - units).div_ceil(scale.rate),
            }
        };
        self.plans.iter().map(level).collect()
    }
}
