//! One relay of a subscription at a time, where several processes share a store: a lease and a fence, by ordinary commits.
//!
//! | entry | holds |
//! |---|---|
//! | `…/lease` | whose it is, for how long, and the store's time when it was taken or renewed; absent is free |
//! | `…/epoch` | a counter of takeovers. Renewals leave it alone, so its version is the holder's fence |
//!
//! * **Taken** if there is none, or if the store's time is past its end. The store judges both, so no two machines' clocks
//!   are compared. A clock of the store that is set forward ends a lease early, which the fence makes harmless.
//! * **Fenced**: that the epoch has the holder's version is condition 0 of each commit of its progress, of each renewal and of
//!   the release. Whoever was overtaken learns it with its next commit, and changes nothing.
//! * **Trusted** by its holder for the TTL, by a clock that never jumps, from before the renewal was sent. No attempt begins
//!   that could outlast it ([`Trust::covers`]). A process that is stopped within an attempt may still send what it began:
//!   deliveries are at least once.

use serde::{Deserialize, Serialize};

use crate::relay::record::Keys;
use tollgate_store::commit::{
    Commit, Condition, Entry, Mutation, Outcome, Part, Refusal, StoreError, literal,
};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// What a lease lasts longer than an attempt may take, milliseconds.
pub const SLACK_MS: u64 = 5_000;
/// What must be left of the trust beyond an attempt, for that attempt to begin, milliseconds.
pub const MARGIN_MS: u64 = 1_000;
/// The longest between two renewals, milliseconds: attempts can begin all the while.
pub const MAX_RENEWAL_MS: u64 = (SLACK_MS - MARGIN_MS) / 2;
/// How long after a lease has ended another holder looks for it at the latest, milliseconds.
pub const LOOK_MS: u64 = 1_000;
/// The longest name of an owner that is kept, bytes.
const MAX_OWNER_BYTES: usize = 64;

/// How long leases last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The longest that an attempt takes, milliseconds.
    pub attempt_ms: u64,
}

impl Terms {
    /// How long a lease lasts, milliseconds: after the death of a holder nobody delivers for so long.
    pub fn ttl_ms(self) -> u64 {
        self.attempt_ms.saturating_add(SLACK_MS)
    }

    /// Between two renewals, milliseconds.
    pub fn renewal_ms(self) -> u64 {
        (self.ttl_ms() / 3).min(MAX_RENEWAL_MS)
    }
}

/// The record `…/lease`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// For people; nothing depends on it.
    owner: String,
    /// The store's time when it was taken or renewed, Unix milliseconds.
    at: u64,
    ttl_ms: u64,
}

/// A lease as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `None`: it is free. Else the version of its entry.
    version: Option<u64>,
    /// When it ends by the store's clock, Unix milliseconds; 0 for a free one.
    pub ends: u64,
}

/// Reads the lease of a subscription.
///
/// # Errors
/// Those of the store; a damaged record.
pub async fn look<S: Store>(store: &S, keys: &Keys) -> Result<Found, StoreError> {
    let entries = store.get(keys.partition(), &[keys.lease()]).await?;
    let Some(entry) = entries.into_iter().next().flatten() else {
        return Ok(Found {
            version: None,
            ends: 0,
        });
    };
    let Record { at, ttl_ms, .. } = read(&entry)?;
    Ok(Found {
        version: Some(entry.version),
        ends: at.saturating_add(ttl_ms),
    })
}

fn read(entry: &Entry) -> Result<Record, StoreError> {
    stored::decode("lease of a relay", entry)
}

/// A lease that is ours until somebody else has taken it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    epoch: u64,
}

/// Takes a lease that was found free, or ended by the store's clock. `None`: it is somebody else's.
///
/// # Errors
/// Those of the store. If the outcome is not known, the lease is free again after its TTL.
pub async fn take<S: Store>(
    store: &S,
    keys: &Keys,
    owner: &str,
    terms: Terms,
    found: &Found,
) -> Result<Option<Held>, StoreError> {
    let conditions = match found.version {
        None => vec![Condition::Absent(keys.lease())],
        Some(version) => vec![
            Condition::Version {
                key: keys.lease(),
                version,
            },
            Condition::NowIn {
                start: Some(found.ends),
                end: None,
            },
        ],
    };
    let takeover = Mutation::Add {
        key: keys.epoch(),
        delta: 1,
        min: None,
        max: None,
    };
    let commit = Commit {
        partition: keys.partition().to_owned(),
        conditions,
        mutations: vec![lease(keys, owner, terms), takeover],
        ..Commit::default()
    };
    Ok(match store.commit(commit).await? {
        Outcome::Committed(done) => Some(Held { epoch: done.version }),
        Outcome::Refused(_) | Outcome::Replayed(_) | Outcome::Conflict => None,
    })
}

impl Held {
    /// Makes a commit of this subscription's partition one that only the holder can make: the fence becomes condition 0.
    pub fn fence(&self, keys: &Keys, commit: &mut Commit) {
        commit.conditions.insert(0, self.condition(keys));
    }

    /// Whether a commit that was fenced was refused because somebody else has the lease.
    pub fn is_lost_by(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Refused(Refusal::Condition(0)))
    }

    /// Renews it; `false`: it is somebody else's. What was true of the time before the call is true of the trust: see
    /// [`Trust::renewed`].
    ///
    /// # Errors
    /// Those of the store: it may be ours for the rest of its time.
    pub async fn renew<S: Store>(
        &self,
        store: &S,
        keys: &Keys,
        owner: &str,
        terms: Terms,
    ) -> Result<bool, StoreError> {
        let renewed = self.change(keys, lease(keys, owner, terms));
        Ok(matches!(store.commit(renewed).await?, Outcome::Committed(_)))
    }

    /// Gives it back, so that others need not wait for its end. Nothing is to be under way any more.
    ///
    /// # Errors
    /// Those of the store: it ends by itself.
    pub async fn release<S: Store>(self, store: &S, keys: &Keys) -> Result<(), StoreError> {
        let freed = self.change(keys, Mutation::Delete { key: keys.lease() });
        store.commit(freed).await.map(drop)
    }

    fn condition(&self, keys: &Keys) -> Condition {
        Condition::Version {
            key: keys.epoch(),
            version: self.epoch,
        }
    }

    fn change(&self, keys: &Keys, mutation: Mutation) -> Commit {
        Commit {
            partition: keys.partition().to_owned(),
            conditions: vec![self.condition(keys)],
            mutations: vec![mutation],
            ..Commit::default()
        }
    }
}

/// Writes the lease, with the time of the commit in it.
fn lease(keys: &Keys, owner: &str, terms: Terms) -> Mutation {
    let end = owner.floor_char_boundary(MAX_OWNER_BYTES);
    let owner = serde_json::to_string(owner.get(..end).unwrap_or_default()).unwrap_or_default();
    let mut value = literal(format!("{{\"owner\":{owner},\"at\":"));
    value.push(Part::Time);
    value.extend(literal(format!(",\"ttlMs\":{}}}", terms.ttl_ms())));
    Mutation::Set {
        key: keys.lease(),
        value,
        expires: None,
    }
}

/// For how long a holder may act on its lease. Times are milliseconds of one clock that never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    terms: Terms,
    since: u64,
}

impl Trust {
    /// Since before the lease was asked for.
    pub fn new(terms: Terms, asked_at: u64) -> Self {
        Self {
            terms,
            since: asked_at,
        }
    }

    /// It was renewed by what was sent after `asked_at`.
    pub fn renewed(&mut self, asked_at: u64) {
        self.since = self.since.max(asked_at);
    }

    /// Whether an attempt that begins now ends while the lease is ours for certain.
    pub fn covers(&self, now: u64) -> bool {
        now.saturating_add(self.terms.attempt_ms)
            .saturating_add(MARGIN_MS)
            <= self.ends()
    }

    /// Whether it is time to renew the lease. This is looked at by and by: rather early than late.
    pub fn is_due(&self, now: u64) -> bool {
        now.saturating_sub(self.since).saturating_mul(4) >= self.terms.renewal_ms().saturating_mul(3)
    }

    /// Whether it is over: somebody else may have the lease.
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.ends()
    }

    fn ends(&self) -> u64 {
        self.since.saturating_add(self.terms.ttl_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use tollgate_store::memory::InMemoryStore;

    const TERMS: Terms = Terms { attempt_ms: 10_000 };

    fn keys() -> Keys {
        Keys::new("t", "s")
    }

    /// Looks, and takes what can be taken.
    async fn tried(store: &InMemoryStore, owner: &str) -> Option<Held> {
        let found = look(store, &keys()).await.unwrap();
        take(store, &keys(), owner, TERMS, &found).await.unwrap()
    }

    fn progress(held: &Held, value: &str) -> Commit {
        let mut commit = Commit {
            partition: keys().partition().to_owned(),
            mutations: vec![Mutation::Set {
                key: keys().progress(),
                value: literal(value),
                expires: None,
            }],
            ..Commit::default()
        };
        held.fence(&keys(), &mut commit);
        commit
    }

    #[test]
    fn one_holds_it_until_it_ends_by_the_clock_of_the_store() {
        let store = InMemoryStore::new();
        let start = store.now();
        block_on(async {
            let first = tried(&store, "a").await.expect("it was free");
            store.set_now(start + TERMS.ttl_ms() - 1);
            assert_eq!(tried(&store, "b").await, None);
            assert!(first.renew(&store, &keys(), "a", TERMS).await.unwrap());
            store.set_now(start + 2 * TERMS.ttl_ms() - 2);
            assert_eq!(tried(&store, "b").await, None, "it was renewed");
            store.set_now(start + 2 * TERMS.ttl_ms());
            let second = tried(&store, "b").await.expect("it has ended");
            let lost = store.commit(progress(&first, "a")).await.unwrap();
            assert!(Held::is_lost_by(&lost), "{lost:?}");
            assert!(!first.renew(&store, &keys(), "a", TERMS).await.unwrap());
            let done = store.commit(progress(&second, "b")).await.unwrap();
            assert!(matches!(done, Outcome::Committed(_)) && !Held::is_lost_by(&done));
            // Whoever was overtaken frees nothing.
            first.release(&store, &keys()).await.unwrap();
            assert_eq!(tried(&store, "c").await, None);
            second.release(&store, &keys()).await.unwrap();
            assert!(tried(&store, "c").await.is_some());
        });
    }

    #[test]
    fn of_two_that_saw_it_free_or_ended_one_has_it() {
        let store = InMemoryStore::new();
        let start = store.now();
        block_on(async {
            let free = look(&store, &keys()).await.unwrap();
            let taken = take(&store, &keys(), "a", TERMS, &free).await.unwrap();
            assert!(taken.is_some());
            assert_eq!(take(&store, &keys(), "b", TERMS, &free).await.unwrap(), None);
            store.set_now(start + TERMS.ttl_ms());
            let ended = look(&store, &keys()).await.unwrap();
            assert!(take(&store, &keys(), "b", TERMS, &ended).await.unwrap().is_some());
            assert_eq!(take(&store, &keys(), "c", TERMS, &ended).await.unwrap(), None);
            // The holder before may renew between a look and a take.
            store.set_now(start + 2 * TERMS.ttl_ms());
            let ended = look(&store, &keys()).await.unwrap();
            let held = take(&store, &keys(), "b", TERMS, &ended).await.unwrap().unwrap();
            store.set_now(start + 3 * TERMS.ttl_ms());
            let ended = look(&store, &keys()).await.unwrap();
            assert!(held.renew(&store, &keys(), "b", TERMS).await.unwrap());
            assert_eq!(take(&store, &keys(), "c", TERMS, &ended).await.unwrap(), None);
        });
    }

    #[test]
    fn trust_ends_no_later_than_the_lease_and_covers_attempts_between_renewals() {
        for attempt_ms in [0, 100, 10_000, 60_000] {
            let terms = Terms { attempt_ms };
            let mut trust = Trust::new(terms, 7_000);
            assert!(trust.covers(7_000 + terms.renewal_ms()));
            let last = 7_000 + SLACK_MS - MARGIN_MS;
            assert!(trust.covers(last) && !trust.covers(last + 1));
            assert!(!trust.is_over(7_000 + terms.ttl_ms() - 1) && trust.is_over(7_000 + terms.ttl_ms()));
            trust.renewed(8_000);
            trust.renewed(7_500);
            assert!(trust.covers(last + 1_000) && !trust.covers(last + 1_001));
        }
        let forever = Trust::new(Terms { attempt_ms: u64::MAX }, 0);
        assert!(!forever.is_over(u64::MAX - 1));
    }

    #[test]
    fn an_owner_is_kept_as_text_whatever_it_is() {
        let store = InMemoryStore::new();
        let owner = format!("\"}},{{é{}", "x".repeat(100));
        block_on(async {
            assert!(tried(&store, &owner).await.is_some());
            let entries = store.get(keys().partition(), &[keys().lease()]).await.unwrap();
            let record = read(entries[0].as_ref().unwrap()).unwrap();
            assert!(owner.starts_with(&record.owner) && record.owner.len() <= MAX_OWNER_BYTES);
            assert_eq!(record.ttl_ms, TERMS.ttl_ms());
        });
    }
}
