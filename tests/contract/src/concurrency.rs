//! Many callers at once.

use futures::future::join_all;
use tollgate_store::commit::{Entry, Outcome, Part, Refusal, literal};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

const CALLERS: usize = 100;

pub async fn a_stock_of_n_admits_exactly_n(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("remaining", "50"))).await;
    // Each of 100 users asks twice.
    let claims = (0..2 * CALLERS).map(|caller| {
        let user = format!("user {}", caller % CALLERS);
        let claim = commit()
            .when(absent(&user))
            .then(bounded("remaining", -1, Some(0), None))
            .then(add("sequence", 1))
            .then(set_parts(&user, vec![Part::Sum(1)]))
            .append(append_parts(
                "claimed",
                &format!("claim {caller}"),
                vec![Part::Sum(1)],
            ));
        store.commit(claim)
    });
    let outcomes = join_all(claims).await;
    let admitted = outcomes
        .iter()
        .filter(|o| matches!(o, Ok(Outcome::Committed(_))))
        .count();
    assert_eq!(admitted, 50);
    let sold_out = outcomes
        .iter()
        .filter(|o| **o == Ok(Outcome::Refused(Refusal::Mutation(0))))
        .count();
    let duplicate = outcomes
        .iter()
        .filter(|o| **o == Ok(Outcome::Refused(Refusal::Condition(0))))
        .count();
    assert_eq!(admitted + sold_out + duplicate, 2 * CALLERS);
    assert_eq!(value(&store, "remaining").await.as_deref(), Some("0"));
    assert_eq!(store.scan("user ", None, 1_000).await.unwrap().len(), 50);
    let messages = store.read("claimed", 0, 1_000, 0).await.unwrap();
    let numbers: Vec<_> = messages.iter().map(|m| (m.sequence, m.payload.clone())).collect();
    assert_eq!(
        numbers,
        (1..=50u64)
            .map(|n| (n, n.to_string().into_bytes()))
            .collect::<Vec<_>>()
    );
}

pub async fn one_key_is_created_once(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let outcomes = join_all(
        (0..CALLERS)
            .map(|caller| store.commit(commit().when(absent("a")).then(set("a", &caller.to_string())))),
    )
    .await;
    let winners: Vec<_> = (0..CALLERS)
        .filter(|&caller| matches!(outcomes[caller], Ok(Outcome::Committed(_))))
        .collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(value(&store, "a").await, Some(winners[0].to_string()));
}

pub async fn concurrent_additions_all_count(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let committed = join_all((0..CALLERS).map(|_| done(&store, commit().then(add("n", 1))))).await;
    let mut sums: Vec<_> = committed.iter().map(|c| c.sums[0]).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=CALLERS as i64).collect::<Vec<_>>());
    let mut versions: Vec<_> = committed.iter().map(|c| c.version).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), CALLERS, "every commit has its own version");
}

pub async fn concurrent_appends_are_dense(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let appends =
        (0..CALLERS).map(|caller| done(&store, commit().append(append("t", &format!("m{caller}")))));
    let mut given: Vec<_> = join_all(appends).await.iter().map(|c| c.sequences[0]).collect();
    given.sort_unstable();
    assert_eq!(given, (1..=CALLERS as u64).collect::<Vec<_>>());
    let kept: Vec<_> = store
        .read("t", 0, 1_000, 0)
        .await
        .unwrap()
        .iter()
        .map(|m| m.sequence)
        .collect();
    assert_eq!(kept, given);
}

pub async fn one_id_is_carried_out_once(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = || {
        commit()
            .once("id", "f", vec![Part::Sum(0)], 3_600_000)
            .then(add("n", 1))
    };
    let outcomes = join_all((0..CALLERS).map(|_| store.commit(step()))).await;
    let first = outcomes
        .iter()
        .filter(|o| matches!(o, Ok(Outcome::Committed(_))))
        .count();
    let replayed = outcomes
        .iter()
        .filter(|o| **o == Ok(Outcome::Replayed(b"1".to_vec())))
        .count();
    assert_eq!((first, replayed), (1, CALLERS - 1));
    let conflict = store.commit(commit().once("id", "g", literal(""), 1)).await;
    assert_eq!(conflict, Ok(Outcome::Conflict));
}

/// A repeated request may choose another partition each time: the code of a new link, for one.
pub async fn one_id_is_carried_out_once_whatever_its_partition(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for round in 0..10 {
        let step = |caller: usize| {
            let key = format!("{round}/{caller}");
            let mut step = commit()
                .once(&format!("id {round}"), "f", literal(&*key), 3_600_000)
                .then(set(&key, "made"));
            step.partition = key;
            step
        };
        let outcomes = join_all((0..CALLERS / 5).map(|caller| store.commit(step(caller)))).await;
        let first: Vec<_> = (0..CALLERS / 5)
            .filter(|&caller| matches!(outcomes[caller], Ok(Outcome::Committed(_))))
            .collect();
        assert_eq!(first.len(), 1, "{outcomes:?}");
        let answer = format!("{round}/{}", first[0]).into_bytes();
        let replayed = outcomes
            .iter()
            .filter(|outcome| **outcome == Ok(Outcome::Replayed(answer.clone())));
        assert_eq!(replayed.count(), CALLERS / 5 - 1);
        let made = store.scan(&format!("{round}/"), None, 100).await.unwrap();
        assert_eq!(made.len(), 1);
    }
}

pub async fn several_keys_are_read_at_one_moment<H: StoreHarness>(harness: &H) {
    const READS: usize = 400;
    // One at a time where their order would not be known.
    let at_once = if H::ALONE { 4 } else { 1 };
    let store = harness.fresh().await;
    let ending = std::cell::Cell::new(false);
    let write = async {
        let mut n = 0_u64;
        while !ending.get() {
            // Two counters that are always alike, a pair of keys of which each commit has its own, and one
            // that comes and goes. Several commits run at once, so that the engine may take them together.
            let commits = (0..at_once).map(|_| {
                n += 1;
                let flag = if n.is_multiple_of(2) {
                    set("flag", "")
                } else {
                    delete("flag")
                };
                let text = n.to_string();
                commit()
                    .then(add("a", 1))
                    .then(set(&format!("new/{n}/1"), &text))
                    .then(add("z", 1))
                    .then(set(&format!("new/{n}/2"), &text))
                    .then(flag)
            });
            let commits: Vec<_> = commits.collect();
            join_all(commits.into_iter().map(|commit| done(&store, commit))).await;
            give_way().await;
        }
    };
    let read = async {
        for _ in 0..READS {
            give_way().await;
            let n = value(&store, "a").await.map_or(0, |n| n.parse::<u64>().unwrap());
            // What is about to be written, so that it is in no cache.
            let mut keys = vec!["a".to_owned(), "z".to_owned(), "flag".to_owned()];
            keys.extend((n + 1..n + 6).flat_map(|n| [format!("new/{n}/1"), format!("new/{n}/2")]));
            let found = store.get("", &keys).await.unwrap();
            let count = |index: usize| {
                let entry: Option<&Entry> = found[index].as_ref();
                entry.map_or(0, |entry| {
                    String::from_utf8_lossy(&entry.value).parse::<u64>().unwrap()
                })
            };
            assert_eq!(count(0), count(1), "two counters of the same commits");
            for (index, pair) in found[3..].chunks(2).enumerate() {
                assert_eq!(pair[0].is_some(), pair[1].is_some(), "both of a commit, or none");
                let number = n + 1 + index as u64;
                assert_eq!(pair[0].is_some(), number <= count(0), "{number} at {}", count(0));
            }
            let wanted = count(0) > 0 && count(0).is_multiple_of(2);
            assert_eq!(found[2].is_some(), wanted, "of the newest commit");
        }
        ending.set(true);
    };
    futures::future::join(write, read).await;
}

/// Lets the other one go on, also where the store never waits.
async fn give_way() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
