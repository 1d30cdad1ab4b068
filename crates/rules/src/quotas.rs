//! Quotas: how many requests a calendar window takes, of a client, a user, an address. Durable and exact, unlike token buckets: each
//! request that one matches is a commit, in which all quotas that match count it, or none.
//!
//! A counter is the key `quota/<end of the window>/<quota>|<who>`. The end is Unix milliseconds in fixed width, so that what is over comes first in a
//! scan, and is swept in bounded batches. The time zone database is compiled in: a window is the same on every machine, and under Spin.

#[cfg(test)]
mod tests;
mod window;

pub use window::Zone;

use crate::config::{Limit, OnStoreFailure, QuotaSettings, QuotaWindow};
use crate::limiter::refused_by;
use crate::policies::{Caller, MAX_INTEGER, Policy, string};
use tollgate_api::http::{Header, Response};
use tollgate_api::pattern::Pattern;
use tollgate_api::problem::Problem;
use tollgate_api::units::Span;
use tollgate_store::commit::{Commit, Mutation, Outcome, Refusal, StoreError};
use tollgate_store::ports::Store;

/// The partition of all counters, and what their keys begin with.
const PARTITION: &str = "quota";
const PREFIX: &str = "quota/";
/// How long a counter is kept after its window, milliseconds: a clock that steps back finds it again.
const GRACE_MS: u64 = 86_400_000;
/// Counters that one step of the sweep removes: as many as a commit has room for.
const SWEPT: u32 = 64;

/// A quota, compiled.
#[derive(Clone, Debug)]
pub struct Quota {
    /// How it tells callers apart, and which requests it matches.
    by: Policy,
    limit: u64,
    window: QuotaWindow,
    zone: Zone,
}

/// A counter of a quota now: its key, and when its window ends, Unix milliseconds.
pub(crate) struct Counter {
    pub(crate) key: String,
    pub(crate) end: u64,
}

impl Quota {
    /// `zone`: of its time zone. Whether the rest keeps the rules is for [`crate::settings`] to say.
    pub(crate) fn new(quota: &QuotaSettings, pattern: Pattern, zone: Zone) -> Self {
        let limit = Limit {
            name: quota.name.clone(),
            path: quota.path.clone(),
            methods: quota.methods.clone(),
            per: quota.per.clone(),
            capacity: 1,
            refill: 1,
            interval: Span::from_secs(1),
            cost: 1,
            shadow: false,
            on_store_failure: OnStoreFailure::Deny,
        };
        Self {
            by: Policy::new(&limit, pattern),
            limit: quota.limit,
            window: quota.window,
            zone,
        }
    }

    pub(crate) fn by(&self) -> &Policy {
        &self.by
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The counter of who has this key under the quota's policy.
    pub(crate) fn counter(&self, who: &str, now: u64) -> Counter {
        let (_, end) = self.zone.window(self.window, now);
        let key = format!("{PREFIX}{end:015}/{who}");
        Counter { key, end }
    }

    /// Members of `RateLimit-Policy` and `RateLimit`; `left` requests, and so many seconds until the window ends.
    fn fields(&self, left: u64, seconds: u64, now: u64) -> [String; 2] {
        let (start, end) = self.zone.window(self.window, now);
        let name = string(&self.by.name);
        let (limit, length) = (self.limit.min(MAX_INTEGER), (end - start) / 1_000);
        [
            format!("{name};q={limit};w={length}"),
            format!("{name};r={};t={seconds}", left.min(MAX_INTEGER)),
        ]
    }
}

/// What the quotas say of a request.
pub(crate) enum Counted {
    /// It is counted; headers that tell what is left, if the caller is told.
    Yes(Vec<Header>),
    /// One of them is used up.
    No(Response),
}

fn seconds_until(end: u64, now: u64) -> u64 {
    end.saturating_sub(now).div_ceil(1_000).max(1)
}

/// Counts a request under the quotas that match it, all or none. To be asked after everything that may refuse it without a commit.
///
/// # Errors
/// The store could not be asked. Whether it was counted may not be known; it is not let through.
pub(crate) async fn count<S: Store>(
    store: &S,
    matching: &[&Quota],
    caller: &Caller<'_>,
) -> Result<Counted, StoreError> {
    let now = caller.now;
    let counters: Vec<Counter> = matching
        .iter()
        .map(|quota| quota.counter(&quota.by.charge(caller).1.key, now))
        .collect();
    let add = |(quota, counter): (&&Quota, &Counter)| Mutation::Add {
        key: counter.key.clone(),
        delta: 1,
        min: None,
        max: Some(i64::try_from(quota.limit).unwrap_or(i64::MAX)),
    };
    let commit = Commit {
        partition: PARTITION.to_owned(),
        mutations: matching.iter().zip(&counters).map(add).collect(),
        ..Commit::default()
    };
    match store.commit(commit).await? {
        Outcome::Committed(done) => {
            let mut fields = [String::new(), String::new()];
            if caller.is_told {
                for ((quota, counter), sum) in matching.iter().zip(&counters).zip(&done.sums) {
                    let left = quota.limit.saturating_sub(u64::try_from(*sum).unwrap_or(0));
                    let told = quota.fields(left, seconds_until(counter.end, now), now);
                    for (field, member) in fields.iter_mut().zip(told) {
                        if !field.is_empty() {
                            field.push_str(", ");
                        }
                        field.push_str(&member);
                    }
                }
            }
            let names = ["ratelimit-policy", "ratelimit"];
            let headers = names
                .into_iter()
                .zip(fields)
                .filter(|(_, field)| !field.is_empty());
            Ok(Counted::Yes(
                headers.map(|(name, field)| Header::new(name, field)).collect(),
            ))
        }
        Outcome::Refused(Refusal::Mutation(index)) => {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let (Some(quota), Some(counter)) = (matching.get(index), counters.get(index)) else {
                return Err(StoreError::Invalid(
                    "a refusal of nothing that was asked for".to_owned(),
                ));
            };
            let seconds = seconds_until(counter.end, now);
            let mut problem: Problem = refused_by(vec![quota.by.name.as_str()], seconds);
            let [policy, limit] = quota.fields(0, seconds, now);
            problem.headers.push(Header::new("ratelimit-policy", policy));
            problem.headers.push(Header::new("ratelimit", limit));
            Ok(Counted::No(problem.into_response()))
        }
        _ => Err(StoreError::Unknown("a counter was not counted".to_owned())),
    }
}

/// Removes counters of windows that ended a day ago, one batch. Returns whether there may be more.
///
/// # Errors
/// The store cannot be asked.
pub async fn maintain<S: Store>(store: &S, now: u64) -> Result<bool, StoreError> {
    let items = store.scan(PREFIX, None, SWEPT).await?;
    let found = items.len();
    let over = items.into_iter().map(|item| item.key).take_while(|key| {
        let end = key
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('/').next()?.parse::<u64>().ok());
        end.is_some_and(|end| end.saturating_add(GRACE_MS) <= now)
    });
    let mutations: Vec<Mutation> = over.map(|key| Mutation::Delete { key }).collect();
    let count = mutations.len();
    if count > 0 {
        let commit = Commit {
            partition: PARTITION.to_owned(),
            mutations,
            ..Commit::default()
        };
        store.commit(commit).await?;
    }
    Ok(count == found && found == SWEPT as usize)
}

/// What a counter holds; its partition.
pub(crate) async fn used<S: Store>(store: &S, key: &str) -> Result<u64, StoreError> {
    let found = store.get(PARTITION, &[key.to_owned()]).await?;
    tollgate_store::stored::count("counter of a quota", found.first().and_then(Option::as_ref))
}

/// Counters begin anew.
pub(crate) async fn forget<S: Store>(store: &S, keys: Vec<String>) -> Result<(), StoreError> {
    let commit = Commit {
        partition: PARTITION.to_owned(),
        mutations: keys.into_iter().map(|key| Mutation::Delete { key }).collect(),
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}
