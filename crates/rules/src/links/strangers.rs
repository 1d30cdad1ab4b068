//! Bounds on the links of callers without a key. Their links end by idleness. One address (IPv6 by /64)
//! creates a bounded number in a day (UTC), and the store holds a bounded number in all. A client id does not
//! matter here: anybody can make up another one.
//!
//! `links/anonymous` counts the links, `links/day/<day>/<address>` the creations; one commit charges both. A
//! creation that failed is given back at once, and a link that the sweep removed is given back once. After a
//! crash between two commits, the counters are too high, never too low.
//!
//! `links/token/<digest>` holds the code that a manage token leads to, for [`super::claim`]. It is written by the
//! commit that charges, before the link, and removed by the one that gives back, after it. Whoever follows it
//! looks whether the link still has that token.

use super::record::{MAX_RACES, Record};
use crate::codes;
use crate::config::Config;
use crate::world::World;
use tollgate_api::http::Request;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{
    Commit, Condition, Idempotence, Mutation, Outcome, Refusal, StoreError, key_part, literal,
};
use tollgate_store::ports::Store;

/// The partition of all keys here.
pub(super) const PARTITION: &str = "links/anonymous";
/// The number of anonymous links in the store.
const TOTAL: &str = "links/anonymous";
const DAY_MS: u64 = 86_400_000;
/// How long it is remembered that a link was given back: longer than the sweep may take to notice that.
const GIVEN_BACK_MS: u64 = 7 * DAY_MS;
/// Seconds after which trying again may help where all places are taken.
const FULL_RETRY_SECONDS: u64 = 3_600;

fn most(number: u64) -> Option<i64> {
    Some(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Adds to the number of anonymous links in the store.
pub(super) fn add(delta: i64) -> Mutation {
    Mutation::Add {
        key: TOTAL.to_owned(),
        delta,
        min: Some(0),
        max: None,
    }
}

fn token_key(digest: &str) -> String {
    format!("links/token/{digest}")
}

/// The mutation that lets a token lead to a code.
pub(super) fn named(digest: &str, code: &str) -> Mutation {
    Mutation::Set {
        key: token_key(digest),
        value: literal(code),
        expires: None,
    }
}

/// Lets the token of this digest lead to another code.
pub(super) async fn name<S: Store>(store: &S, digest: &str, code: &str) -> Result<(), StoreError> {
    let commit = Commit {
        partition: PARTITION.to_owned(),
        mutations: vec![named(digest, code)],
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}

/// The code that the token of this digest leads to. Its link may have gone, or belong to somebody else by now.
pub(super) async fn code_of<S: Store>(store: &S, digest: &str) -> Result<Option<String>, StoreError> {
    let found = store.get(PARTITION, &[token_key(digest)]).await?;
    let code = found.into_iter().next().flatten().map(|entry| entry.value);
    let code = code.and_then(|code| String::from_utf8(code).ok());
    Ok(code.filter(|code| codes::is_name(code)))
}

fn day_key<S>(world: &World<'_, S>, request: &Request) -> String {
    let address = world.settings.proxies.client_ip(request);
    format!("links/day/{}/{}", world.now / DAY_MS, key_part(&address))
}

/// Bounds the idle time of an anonymous link: it ends after at most `links.anonymous_idle` without a visit.
pub(super) fn limit_idleness(config: &Config, record: &mut Record) -> Result<(), Problem> {
    let longest = config.links.anonymous_idle.as_millis() / 1_000;
    record.idle_imposed = record.limits.expire_after_idle.is_none();
    match record.limits.expire_after_idle {
        Some(seconds) if seconds > longest => Err(Problem::field(
            "#/expireAfterIdle",
            format!("must be at most {longest} seconds for a link without an API key"),
        )),
        Some(_) => Ok(()),
        None => {
            record.limits.expire_after_idle = Some(longest);
            Ok(())
        }
    }
}

/// Counts a link that is about to be created under `code`; the token of this digest leads there. 429 beyond what the address
/// may create, 503 beyond what all may hold.
pub(super) async fn charge<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    digest: &str,
    code: &str,
) -> Result<(), Problem> {
    let settings = &world.settings.config.links;
    let day = day_key(world, request);
    let total = Mutation::Add {
        key: TOTAL.to_owned(),
        delta: 1,
        min: None,
        max: most(settings.anonymous_max),
    };
    for _ in 0..MAX_RACES {
        let found = world.store.get(PARTITION, std::slice::from_ref(&day)).await?;
        let (conditions, daily) = match found.first() {
            Some(Some(_)) => {
                let add = Mutation::Add {
                    key: day.clone(),
                    delta: 1,
                    min: None,
                    max: most(settings.anonymous_per_day),
                };
                (Vec::new(), add)
            }
            _ => {
                let first = Mutation::Set {
                    key: day.clone(),
                    value: literal("1"),
                    // A clock of ours and the store's may differ.
                    expires: Some(world.now.saturating_add(2 * DAY_MS)),
                };
                (vec![Condition::Absent(day.clone())], first)
            }
        };
        let commit = Commit {
            partition: PARTITION.to_owned(),
            conditions,
            mutations: vec![daily, total.clone(), named(digest, code)],
            ..Commit::default()
        };
        match world.store.commit(commit).await? {
            Outcome::Committed(_) => return Ok(()),
            Outcome::Refused(Refusal::Mutation(0)) => return Err(too_many(world)),
            Outcome::Refused(Refusal::Mutation(_)) => return Err(full(settings.anonymous_max)),
            Outcome::Refused(Refusal::Condition(_)) | Outcome::Replayed(_) | Outcome::Conflict => {}
        }
    }
    Err(Problem::new(
        Kind::Unavailable,
        "Too many create links at this moment; try again.",
    )
    .with_retry_after(1))
}

fn too_many<S>(world: &World<'_, S>) -> Problem {
    let detail = format!(
        "An address may create {} links a day without an API key.",
        world.settings.config.links.anonymous_per_day
    );
    let left = DAY_MS - world.now % DAY_MS;
    Problem::new(Kind::QuotaExceeded, detail)
        .with_member("violated-policies", serde_json::json!(["anonymous-links"]))
        .with_retry_after(left.div_ceil(1_000))
}

fn full(most: u64) -> Problem {
    let detail = format!("The gateway holds {most} links without an API key, and may not hold more.");
    Problem::new(Kind::Unavailable, detail).with_retry_after(FULL_RETRY_SECONDS)
}

/// Gives back the charge for a link that was not created. A charge that cannot be given back stays counted.
pub(super) async fn refund<S: Store>(world: &World<'_, S>, request: &Request, record: &Record) {
    let daily = Mutation::Add {
        key: day_key(world, request),
        delta: -1,
        min: Some(0),
        max: None,
    };
    let commit = Commit {
        partition: PARTITION.to_owned(),
        mutations: [daily, add(-1)].into_iter().chain(unnamed(record)).collect(),
        ..Commit::default()
    };
    let _ = world.store.commit(commit).await;
}

/// The mutation after which the link's token leads nowhere.
fn unnamed(record: &Record) -> Option<Mutation> {
    let digest = record.manage.as_deref()?;
    Some(Mutation::Delete {
        key: token_key(digest),
    })
}

/// Gives the place of a link back that was removed or is a member's now, however often it is called.
pub(super) async fn release<S: Store>(store: &S, record: &Record) -> Result<(), StoreError> {
    let unnamed = Commit {
        partition: PARTITION.to_owned(),
        mutations: unnamed(record).into_iter().collect(),
        ..Commit::default()
    };
    store.commit(unnamed).await?;
    let commit = Commit {
        partition: PARTITION.to_owned(),
        idempotence: Some(Idempotence {
            id: format!("{TOTAL}/{}", record.id),
            fingerprint: Vec::new(),
            answer: Vec::new(),
            ttl: GIVEN_BACK_MS,
        }),
        mutations: vec![add(-1)],
        ..Commit::default()
    };
    // Refused: none is counted, which a link of an earlier version may be before the repair has come to it.
    store.commit(commit).await.map(drop)
}
