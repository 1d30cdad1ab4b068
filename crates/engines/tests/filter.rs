//! What was there before is known, whether the filter of keys is not in use yet, being filled, or in use.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tollgate_engines::{Engine as _, SqliteStore};
use tollgate_store::commit::{Commit, Idempotence, Outcome, literal};

mod support;
use support::{STOCK, check_claims, claim, get, open, run, scratch, stock};

/// Several times as many as are read at once.
const USERS: usize = 20_000;

/// A claim of a user, by its number.
#[derive(Clone, Copy)]
enum Claim {
    /// With an idempotence id of its own.
    Named(usize),
    /// Without one: a second claim of the user.
    Bare(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Claimed,
    Refused,
    Replayed,
}

impl Claim {
    fn commit(self) -> Commit {
        match self {
            Self::Bare(user) => claim(&user.to_string()),
            Self::Named(user) => Commit {
                idempotence: Some(Idempotence {
                    id: format!("id of {user}"),
                    fingerprint: user.to_string().into(),
                    answer: literal(format!("answer to {user}")),
                    ttl: 3_600_000,
                }),
                ..claim(&user.to_string())
            },
        }
    }

    fn verdict(self, outcome: Outcome) -> Verdict {
        match (self, outcome) {
            (_, Outcome::Committed(_)) => Verdict::Claimed,
            (_, Outcome::Refused(_)) => Verdict::Refused,
            (Self::Named(user), Outcome::Replayed(answer)) => {
                assert_eq!(answer, format!("answer to {user}").into_bytes());
                Verdict::Replayed
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}

/// All at once, so that they share groups.
fn claim_all(store: &Arc<SqliteStore>, claims: impl IntoIterator<Item = Claim>) -> Vec<Verdict> {
    let claims: Vec<Claim> = claims.into_iter().collect();
    let outcomes = run(join_all(claims.iter().map(|claim| store.commit(claim.commit()))));
    let each = claims.iter().zip(outcomes);
    each.map(|(claim, outcome)| claim.verdict(outcome.unwrap()))
        .collect()
}

fn all_are(verdicts: Vec<Verdict>, wanted: Verdict) -> bool {
    verdicts.into_iter().all(|verdict| verdict == wanted)
}

#[test]
fn claims_from_before_are_known_while_the_keys_are_read_and_afterwards() {
    let directory = scratch();
    let store = open(directory.path());
    assert!(store.stats().filters, "there was nothing to read");
    run(store.commit(stock(STOCK as u64))).unwrap();
    assert!(all_are(
        claim_all(&store, (0..USERS).map(Claim::Named)),
        Verdict::Claimed
    ));
    drop(store);

    let store = open(directory.path());
    assert!(!store.stats().filters, "there are more than are read on opening");
    let (mut next, until) = (USERS, Instant::now() + Duration::from_secs(60));
    while !store.stats().filters {
        assert!(Instant::now() < until, "the keys were never read");
        // By turns one from before, from all over the tables, and a new one.
        let round = (next..next + 50).flat_map(|new| {
            let old = new * 7_919 % next;
            [Claim::Named(old), Claim::Bare(old), Claim::Named(new)]
        });
        let verdicts = claim_all(&store, round);
        let expected = [Verdict::Replayed, Verdict::Refused, Verdict::Claimed];
        assert!(verdicts.chunks(3).all(|three| three == expected), "{verdicts:?}");
        next += 50;
    }
    // The keys that are read last come first.
    let mut users: Vec<usize> = (0..next).collect();
    users.sort_by_key(|user| Reverse(user.to_string()));
    let bare = users.iter().map(|user| Claim::Bare(*user));
    assert!(all_are(claim_all(&store, bare), Verdict::Refused));
    let named = users.iter().map(|user| Claim::Named(*user));
    assert!(all_are(claim_all(&store, named), Verdict::Replayed));
    let new = (next..next + 100).map(Claim::Named);
    assert!(all_are(claim_all(&store, new), Verdict::Claimed));
    assert_eq!(get(&store, "claim/nobody"), None);
    assert_eq!(check_claims(&store).len(), next + 100);
}

#[test]
fn a_store_can_be_closed_while_its_keys_are_read() {
    let directory = scratch();
    let store = open(directory.path());
    run(store.commit(stock(STOCK as u64))).unwrap();
    claim_all(&store, (0..USERS).map(Claim::Named));
    drop(store);
    let store = open(directory.path());
    // Enough that are not there: the reading begins.
    claim_all(&store, (USERS..USERS + 1_100).map(Claim::Bare));
    drop(store);
    let store = open(directory.path());
    assert_eq!(check_claims(&store).len(), USERS + 1_100);
}
