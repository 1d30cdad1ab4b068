//! Quotas: how many requests a calendar window takes, of a client, a user, an address. Durable and exact, unlike token buckets: each
//! request that one matches is a commit, in which all quotas that match count it, or none.
//!
//! A counter is the key `quota/<end of the window>/<quota>|<who>`. The end is Unix milliseconds in fixed width, so that what is over comes first in a
//! scan, and is swept in bounded batches. The time zone database is compiled in: a window is the same on every machine, and under Spin.

mod held;
#[cfg(test)]
mod tests;
mod window;

pub use held::{HEADER as HELD, settle};

pub use window::Zone;

use crate::config::{QuotaCount, QuotaSettings, QuotaWindow};
use crate::limiter::refused_by;
use crate::policies::{Caller, Decision, MAX_INTEGER, Policy, string};
use held::{Held, Record};
use tollgate_api::http::{Header, Response};
use tollgate_api::pattern::Pattern;
use tollgate_api::problem::Problem;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, Refusal, StoreError};
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
    count: QuotaCount,
}

/// A counter of a quota now: its key, and when its window ends, Unix milliseconds.
pub(crate) struct Counter {
    pub(crate) key: String,
    pub(crate) end: u64,
}

impl Quota {
    /// `zone`: of its time zone. Whether the rest keeps the rules is for [`crate::settings`] to say.
    pub(crate) fn new(quota: &QuotaSettings, pattern: Pattern, zone: Zone) -> Self {
        Self {
            by: Policy::counting(&quota.name, &quota.methods, &quota.per, pattern),
            limit: quota.limit,
            window: quota.window,
            zone,
            count: quota.count,
        }
    }

    pub(crate) fn by(&self) -> &Policy {
        &self.by
    }

    /// Whether it counts by what a request is answered.
    pub(crate) fn is_by_outcome(&self) -> bool {
        self.count != QuotaCount::Admitted
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
    /// It is counted.
    Yes(Done),
    /// One of them is used up.
    No(Response),
}

/// A request that is counted.
pub(crate) struct Done {
    /// The counters, but for those by outcome.
    keys: Vec<String>,
    /// The reservation of those.
    pub(crate) held: Option<String>,
    /// What tells what is left, if the caller is told.
    pub(crate) headers: Vec<Header>,
}

fn seconds_until(end: u64, now: u64) -> u64 {
    end.saturating_sub(now).div_ceil(1_000).max(1)
}

/// Counts a request under the quotas that match it, all or none. To be asked after everything that may refuse it without a commit.
///
/// A caller may make up names as it likes, each of which would be a counter of its own. So the first request of a name in a window is counted
/// for its address too, and beyond `clients.max_quota_names` new names of an address share one counter: that of the address.
///
/// # Errors
/// The store could not be asked. Whether it was counted may not be known; it is not let through.
pub(crate) async fn count<S: Store>(
    store: &S,
    matching: &[&Quota],
    caller: &Caller<'_>,
    held: Option<String>,
) -> Result<Counted, StoreError> {
    let by_outcome = |quota: &Quota| held.is_some() && quota.is_by_outcome();
    let held = held
        .clone()
        .filter(|_| matching.iter().any(|quota| by_outcome(quota)));
    let mut counters = counters(store, matching, caller).await?;
    // Each round but the last finds a name that is no longer new, or takes one away.
    for _ in 0..=2 * matching.len() {
        match store
            .commit(commit_of(matching, &counters, caller, held.as_deref()))
            .await?
        {
            Outcome::Committed(done) => {
                let headers = match caller.is_told {
                    true => told(matching, &counters, &done.sums, caller.now),
                    false => Vec::new(),
                };
                let both = matching.iter().zip(counters);
                let admitted = both.filter(|(quota, _)| !by_outcome(quota));
                let keys = admitted.map(|(_, one)| one.counter.key).collect();
                return Ok(Counted::Yes(Done { keys, held, headers }));
            }
            Outcome::Refused(Refusal::Condition(index)) => {
                // Another request brought this name at the same time.
                let mut new = counters.iter_mut().filter(|one| one.names.is_some());
                if let Some(one) = new.nth(usize::try_from(index).unwrap_or(usize::MAX)) {
                    one.names = None;
                }
            }
            Outcome::Refused(Refusal::Mutation(index)) => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                if let (Some(quota), Some(one)) = (matching.get(index), counters.get(index)) {
                    quota.by.decide(Decision::Refused);
                    return Ok(Counted::No(refusal(quota, one.counter.end, caller.now)));
                }
                let mut new = counters.iter_mut().zip(matching);
                let is_meant = new
                    .by_ref()
                    .filter(|(one, _)| one.names.is_some())
                    .nth(index.saturating_sub(matching.len()));
                if let Some((one, quota)) = is_meant {
                    one.names = None;
                    one.counter = quota.counter(&quota.by.key_of_address(caller), caller.now);
                }
            }
            _ => break,
        }
    }
    Err(StoreError::Unknown("a counter was not counted".to_owned()))
}

/// A counter that a request adds to.
struct Counting {
    counter: Counter,
    /// The counter of the names of its address, where it is a new name.
    names: Option<String>,
}

async fn counters<S: Store>(
    store: &S,
    matching: &[&Quota],
    caller: &Caller<'_>,
) -> Result<Vec<Counting>, StoreError> {
    let count = |quota: &&Quota| Counting {
        counter: quota.counter(&quota.by.key(caller), caller.now),
        names: None,
    };
    let mut counters: Vec<Counting> = matching.iter().map(count).collect();
    let mut both = matching.iter().zip(&mut counters);
    let mut made_up: Vec<_> = both
        .by_ref()
        .filter(|(quota, _)| quota.by.is_made_up(caller))
        .collect();
    if made_up.is_empty() {
        return Ok(counters);
    }
    let keys: Vec<String> = made_up.iter().map(|(_, one)| one.counter.key.clone()).collect();
    let found = store.get(PARTITION, &keys).await?;
    for ((quota, one), found) in made_up.iter_mut().zip(found) {
        if found.is_none() {
            one.names = Some(names_key(quota, one.counter.end, caller));
        }
    }
    Ok(counters)
}

/// How many names an address has brought in a window. It stands among the counters, and is swept with them; no quota's name begins with
/// a space.
fn names_key(quota: &Quota, end: u64, caller: &Caller<'_>) -> String {
    format!("{PREFIX}{end:015}/ {}", quota.by.key_of_address(caller))
}

/// All counters, then those of the names of addresses; each new name is one that nobody else has brought meanwhile.
fn commit_of(matching: &[&Quota], counters: &[Counting], caller: &Caller<'_>, held: Option<&str>) -> Commit {
    let add = |key: &str, max: u64| Mutation::Add {
        key: key.to_owned(),
        delta: 1,
        min: None,
        max: Some(i64::try_from(max).unwrap_or(i64::MAX)),
    };
    let both = matching.iter().zip(counters);
    let mut mutations: Vec<Mutation> = both
        .map(|(quota, one)| add(&one.counter.key, quota.limit))
        .collect();
    let new = || counters.iter().filter_map(|one| Some((one, one.names.as_ref()?)));
    let most = caller.settings.config.clients.max_quota_names;
    mutations.extend(new().map(|(_, names)| add(names, most)));
    if let Some(key) = held {
        let both = matching.iter().zip(counters);
        let counters = both.filter_map(|(quota, one)| match quota.count {
            QuotaCount::Admitted => None,
            QuotaCount::Status(from, to) => Some(Held {
                key: one.counter.key.clone(),
                from,
                to,
            }),
        });
        let counters = counters.collect();
        mutations.push(held::set(key, &Record { counters }));
    }
    Commit {
        partition: PARTITION.to_owned(),
        conditions: new()
            .map(|(one, _)| Condition::Absent(one.counter.key.clone()))
            .collect(),
        mutations,
        ..Commit::default()
    }
}

/// `RateLimit-Policy` and `RateLimit`.
fn told(matching: &[&Quota], counters: &[Counting], sums: &[i64], now: u64) -> Vec<Header> {
    let mut fields = [String::new(), String::new()];
    for ((quota, one), sum) in matching.iter().zip(counters).zip(sums) {
        let left = quota.limit.saturating_sub(u64::try_from(*sum).unwrap_or(0));
        let told = quota.fields(left, seconds_until(one.counter.end, now), now);
        for (field, member) in fields.iter_mut().zip(told) {
            if !field.is_empty() {
                field.push_str(", ");
            }
            field.push_str(&member);
        }
    }
    let names = ["ratelimit-policy", "ratelimit"];
    let headers = names.into_iter().zip(fields);
    headers.map(|(name, field)| Header::new(name, field)).collect()
}

fn refusal(quota: &Quota, end: u64, now: u64) -> Response {
    let seconds = seconds_until(end, now);
    let mut problem: Problem = refused_by(vec![quota.by.name.as_str()], seconds);
    let [policy, limit] = quota.fields(0, seconds, now);
    problem.headers.push(Header::new("ratelimit-policy", policy));
    problem.headers.push(Header::new("ratelimit", limit));
    problem.into_response()
}

/// The key of a reservation that begins now, for a request that may take so long, milliseconds.
pub(crate) fn reservation(now: u64, time_ms: u64, fresh: [u8; 16]) -> String {
    held::key(now.saturating_add(time_ms).saturating_add(held::GRACE_MS), fresh)
}

/// Undoes a [`count`]. A counter that began anew meanwhile stays as it is where it has nothing to give.
///
/// # Errors
/// The store could not be asked: some may stay counted.
pub(crate) async fn give_back<S: Store>(store: &S, done: Done) -> Result<(), StoreError> {
    if let Some(held) = &done.held {
        settle(store, held, None).await?;
    }
    for key in done.keys {
        let commit = Commit {
            partition: PARTITION.to_owned(),
            mutations: vec![Mutation::Add {
                key,
                delta: -1,
                min: Some(0),
                max: None,
            }],
            ..Commit::default()
        };
        store.commit(commit).await?;
    }
    Ok(())
}

/// Ends reservations that nobody has ended, and removes counters of windows that ended a day ago: one batch of each. Returns whether there may be more.
///
/// # Errors
/// The store cannot be asked.
pub async fn maintain<S: Store>(store: &S, now: u64) -> Result<bool, StoreError> {
    let has_more = held::end(store, now).await?;
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
    Ok(has_more || count == found && found == SWEPT as usize)
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
