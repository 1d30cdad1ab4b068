//! What was there before is known, whether the filter of keys is not in use yet, being filled, or in use.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tollgate_core::commit::Outcome;
use tollgate_engine::SqliteStore;

mod support;
use support::{STOCK, check_claims, claim, get, open, run, scratch, stock};

/// Several times as many as are read at once.
const USERS: usize = 20_000;

/// Whether each of the users gets a unit now.
fn claim_all(store: &Arc<SqliteStore>, users: impl Iterator<Item = usize>) -> Vec<bool> {
    let claims = users.map(|user| store.commit(claim(&user.to_string())));
    let outcomes = run(join_all(claims));
    let committed = |outcome| matches!(outcome, Outcome::Committed(_));
    outcomes
        .into_iter()
        .map(|outcome| committed(outcome.unwrap()))
        .collect()
}

#[test]
fn claims_from_before_are_known_while_the_keys_are_read_and_afterwards() {
    let directory = scratch();
    let store = open(directory.path());
    assert!(store.stats().filters, "there was nothing to read");
    run(store.commit(stock(STOCK as u64))).unwrap();
    assert!(claim_all(&store, 0..USERS).into_iter().all(|claimed| claimed));
    drop(store);

    let store = open(directory.path());
    assert!(!store.stats().filters, "there are more than are read on opening");
    let (mut next, until) = (USERS, Instant::now() + Duration::from_secs(60));
    while !store.stats().filters {
        assert!(Instant::now() < until, "the keys were never read");
        // By turns one from before, from all over the table, and a new one.
        let round = (0..50).flat_map(|nth| [(next + nth) * 7_919 % next, next + nth]);
        let claimed = claim_all(&store, round);
        assert!(claimed.chunks(2).all(|pair| pair == [false, true]));
        next += 50;
    }
    // The keys that are read last come first.
    let mut users: Vec<usize> = (0..next).collect();
    users.sort_by_key(|user| std::cmp::Reverse(user.to_string()));
    let again = claim_all(&store, users.into_iter());
    assert!(!again.into_iter().any(|claimed| claimed));
    assert!(
        claim_all(&store, next..next + 100)
            .into_iter()
            .all(|claimed| claimed)
    );
    assert_eq!(get(&store, "claim/nobody"), None);
    assert_eq!(check_claims(&store).len(), next + 100);
}

#[test]
fn a_store_can_be_closed_while_its_keys_are_read() {
    let directory = scratch();
    let store = open(directory.path());
    run(store.commit(stock(STOCK as u64))).unwrap();
    claim_all(&store, 0..USERS);
    drop(store);
    let store = open(directory.path());
    // Enough that are not there: the reading begins.
    claim_all(&store, USERS..USERS + 1_100);
    drop(store);
    let store = open(directory.path());
    assert_eq!(check_claims(&store).len(), USERS + 1_100);
}
