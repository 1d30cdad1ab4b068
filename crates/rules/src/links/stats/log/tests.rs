//! The log against the store in memory.

use super::*;
use crate::testing::ready;
use std::borrow::Cow;
use tollgate_store::memory::InMemoryStore;

fn seen(n: u64) -> Seen {
    let mut seen = Seen {
        at: n,
        client: n,
        is_bot: false,
        values: std::array::from_fn(|_| Cow::Borrowed("")),
        told: super::super::seen::Told::default(),
    };
    seen.told.agent = format!("agent {}", n % 3);
    seen.told.target = n.to_string();
    seen
}

/// Appends as a fold does.
fn append(store: &InMemoryStore, keep: u32, seen: &[(Seen, u64)]) {
    let found = ready(store.get("", &[head_key("x")])).unwrap();
    let mutations = Head::of(found[0].as_ref()).append("x", keep, seen);
    assert!(mutations.len() <= steps(seen.len()), "{}", mutations.len());
    let commit = Commit {
        mutations,
        ..Commit::default()
    };
    ready(store.commit(commit)).unwrap();
}

fn all(store: &InMemoryStore, keep: u32, limit: usize) -> Vec<u64> {
    let (mut found, mut place) = (Vec::new(), None);
    loop {
        let (visits, next) = ready(read(store, "x", keep, limit, place)).unwrap();
        assert!(visits.len() <= limit);
        found.extend(visits.iter().map(|visit| visit.at));
        place = next;
        if place.is_none() {
            return found;
        }
    }
}

#[test]
fn the_newest_are_kept_and_each_is_on_one_page() {
    for (keep, portion, limit) in [
        (1_000, 37, 100),
        (100, 64, 7),
        (1, 3, 1),
        (64, 500, 64),
        (65, 1, 9),
    ] {
        let store = InMemoryStore::new();
        let mut expected = Vec::new();
        for n in 0..3_000_u64 / portion {
            let rows: Vec<_> = (n * portion..(n + 1) * portion)
                .map(|n| (seen(n), 1 + u64::from(n % 5 == 0)))
                .collect();
            expected.extend(rows.iter().flat_map(|(seen, times)| (0..*times).map(|_| seen.at)));
            append(&store, keep, &rows);
        }
        let from = expected.len() - keep as usize;
        let newest: Vec<_> = expected[from..].iter().rev().copied().collect();
        assert_eq!(all(&store, keep, limit), newest, "{keep} of {portion}");
        let entries = ready(store.scan("log/x/", None, 1_000)).unwrap().len();
        assert!(
            entries <= keep as usize / PAGE_ROWS + 3,
            "{entries} entries for {keep}"
        );
    }
}

#[test]
fn a_page_goes_on_where_it_ended_while_others_come() {
    let store = InMemoryStore::new();
    let rows = |from: u64| (from..from + 50).map(|n| (seen(n), 1)).collect::<Vec<_>>();
    append(&store, 500, &rows(0));
    append(&store, 500, &rows(50));
    let (mut found, mut place, mut from) = (Vec::new(), None, 100);
    loop {
        let (visits, next) = ready(read(&store, "x", 500, 9, place)).unwrap();
        found.extend(visits.iter().map(|visit| visit.at));
        place = next;
        if place.is_none() {
            break;
        }
        append(&store, 500, &rows(from));
        from += 50;
    }
    let (first, last) = (found[0], *found.last().unwrap());
    assert_eq!(first, 99);
    assert_eq!(found, (last..=99).rev().collect::<Vec<_>>());
}

#[test]
fn a_log_that_was_removed_begins_anew_and_old_places_lead_nowhere() {
    let store = InMemoryStore::new();
    let rows = |from: u64| (from..from + 150).map(|n| (seen(n), 1)).collect::<Vec<_>>();
    append(&store, 1_000, &rows(0));
    let (_, place) = ready(read(&store, "x", 1_000, 10, None)).unwrap();
    let before = ready(secret(&store, "x", [1; 16])).unwrap();
    assert_eq!(ready(secret(&store, "x", [2; 16])).unwrap(), before);
    assert_eq!(ready(clear(&store, "x", 1_000)), Ok(150));
    assert_eq!(ready(clear(&store, "x", 1_000)), Ok(0));
    assert_ne!(ready(secret(&store, "x", [2; 16])).unwrap(), before);
    assert!(all(&store, 1_000, 10).is_empty());
    let entries = ready(store.scan("log/x/", None, 10)).unwrap().len();
    assert_eq!(entries, 2, "the head and the secret");
    append(&store, 1_000, &rows(150));
    assert_eq!(all(&store, 1_000, 40), (150..300).rev().collect::<Vec<_>>());
    let (visits, _) = ready(read(&store, "x", 1_000, 10, place)).unwrap();
    assert_eq!(visits, []);
}

#[test]
fn a_usual_visit_takes_little_and_a_full_page_is_bounded() {
    let store = InMemoryStore::new();
    let rows: Vec<_> = (0..1_000).map(|n| (seen(n), 1)).collect();
    append(&store, 1_000, &rows);
    let bytes = |store: &InMemoryStore| -> usize {
        let items = ready(store.scan("log/x/", None, 1_000)).unwrap();
        items.iter().map(|item| item.entry.value.len()).sum()
    };
    assert!(bytes(&store) < 60 * 1_000, "{} bytes", bytes(&store));
}

#[test]
fn a_shorter_log_loses_what_is_too_much() {
    let store = InMemoryStore::new();
    let rows: Vec<_> = (0..1_000).map(|n| (seen(n), 1)).collect();
    append(&store, 1_000, &rows);
    assert_eq!(all(&store, 10, 100), (990..1_000).rev().collect::<Vec<_>>());
    for _ in 0..200 {
        append(&store, 10, &rows[..64]);
    }
    assert!(ready(store.scan("log/x/", None, 1_000)).unwrap().len() <= 3);
}
