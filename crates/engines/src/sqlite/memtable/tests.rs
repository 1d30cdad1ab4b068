//! The memtable over a map, against a map.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const NOW: u64 = 100;

#[derive(Clone, Debug)]
enum Step {
    /// Keys, and whether each is set or deleted; one that has expired counts as deleted.
    Group(Vec<(u8, Option<bool>)>),
    Flush(usize),
    Early,
    All,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..24u8, proptest::option::weighted(0.7, any::<bool>()));
    let step = prop_oneof![
        4 => proptest::collection::vec(change, 1..6).prop_map(Step::Group),
        4 => (1..5usize).prop_map(Step::Flush),
        1 => Just(Step::Early),
        1 => Just(Step::All),
    ];
    proptest::collection::vec(step, 0..60)
}

fn key(number: u8) -> String {
    format!("{}/{:02}", ["a", "b"][usize::from(number % 2)], number / 2)
}

type Map = BTreeMap<String, Arc<Entry>>;

fn put(map: &mut Map, key: &str, entry: Option<&Entry>) {
    match entry {
        Some(entry) => map.insert(key.to_owned(), Arc::new(entry.clone())),
        None => map.remove(key),
    };
}

/// All live entries of a prefix, page by page, the database's under the memtable's.
fn scan(memtable: &Memtable, database: &Map, prefix: &str, most: usize) -> Vec<(String, u64)> {
    let (mut items, mut after) = (BTreeMap::new(), None::<String>);
    loop {
        let from = Range {
            prefix,
            after: after.as_deref(),
        };
        let (Segment { entries, end }, unchanged) = memtable.segment(from, most);
        drop(unchanged);
        assert!(end.is_none() || end.as_ref() == entries.last().map(|(key, _)| key));
        let stored = database.range::<str, _>((from.start(), Bound::Unbounded));
        let stored = stored.take_while(|(key, _)| {
            key.starts_with(prefix) && end.as_ref().is_none_or(|end| key.as_str() <= &**end)
        });
        items.extend(stored.map(|(key, entry)| (key.clone(), Some(Arc::clone(entry)))));
        items.extend(entries.into_iter().map(|(key, found)| (key.to_string(), found)));
        if end.is_none() {
            break;
        }
        after = end.map(String::from);
    }
    let live = items.into_iter().filter_map(|(key, found)| {
        let entry = found.filter(|entry| tollgate_store::plan::is_live(entry, NOW))?;
        Some((key, entry.version))
    });
    live.collect()
}

proptest! {
    #[test]
    fn it_and_the_database_hold_what_was_committed(steps in steps(), most in 1..9usize, filters in any::<bool>()) {
        let memtable = Memtable::new(6, 1 << 20, Filter::new(64));
        if filters {
            memtable.filter().complete();
        }
        let (mut database, mut journal, mut expected) = (Map::new(), Vec::new(), Map::new());
        let mut revision = 0;
        for step in steps {
            match step {
                Step::Group(changes) => {
                    revision += 1;
                    let mut group = BTreeMap::new();
                    for (number, change) in changes {
                        let found = change.map(|expired| Arc::new(Entry {
                            value: vec![number],
                            version: revision,
                            expires: expired.then_some(NOW),
                        }));
                        group.insert(key(number), found);
                    }
                    for (key, found) in &group {
                        put(&mut expected, key, alive(found, NOW));
                    }
                    memtable.insert(group.iter().map(|(key, found)| (key.as_str(), found.clone())), revision);
                    journal.push((revision, group));
                    memtable.begin_flush(false);
                }
                Step::Flush(most) => {
                    let flushed = memtable.flush(most, NOW, |key, entry| {
                        put(&mut database, key, entry);
                        Ok::<_, Infallible>(())
                    });
                    if let Some(flushed) = flushed.unwrap() {
                        if let Some(upto) = flushed.revision {
                            journal.retain(|(revision, _)| *revision > upto);
                        }
                        memtable.forget(flushed);
                    }
                }
                Step::Early => prop_assert_eq!(memtable.begin_flush(true), !memtable.is_empty()),
                Step::All => {
                    let write = |key: &str, entry: Option<&Entry>| {
                        put(&mut database, key, entry);
                        Ok::<_, Infallible>(())
                    };
                    memtable.flush_all(NOW, write).unwrap();
                    memtable.clear();
                    journal.clear();
                }
            }
            prop_assert_eq!(memtable.is_empty(), journal.is_empty());
            for number in 0..24 {
                let key = key(number);
                let found = memtable.get(&key).unwrap_or_else(|| database.get(&key).cloned());
                prop_assert_eq!(alive(&found, NOW), expected.get(&key).map(|entry| &**entry));
            }
            for prefix in ["", "a/", "b/1", "c"] {
                let begins = expected.iter().filter(|(key, _)| key.starts_with(prefix));
                let begins: Vec<_> = begins.map(|(key, entry)| (key.clone(), entry.version)).collect();
                prop_assert_eq!(scan(&memtable, &database, prefix, most), begins);
            }
            // A crash now: what is left of the journal, over what is in the database.
            let mut recovered = database.clone();
            for (key, found) in journal.iter().flat_map(|(_, group)| group) {
                put(&mut recovered, key, alive(found, NOW));
            }
            prop_assert_eq!(&recovered, &expected);
        }
    }
}

#[test]
fn it_holds_at_most_twice_its_bound_and_a_group() {
    let memtable = Memtable::new(100, 100 * (8 + OVERHEAD_BYTES), Filter::new(64));
    let mut database = Map::new();
    for group in 0..1_000u64 {
        let keys: Vec<_> = (0..10).map(|nth| format!("{:08}", group * 10 + nth)).collect();
        let flushed = memtable.flush(1, NOW, |key, entry| {
            put(&mut database, key, entry);
            Ok::<_, Infallible>(())
        });
        let entry = Arc::new(Entry {
            value: Vec::new(),
            version: 1,
            expires: None,
        });
        let entries = keys.iter().map(|key| (key.as_str(), Some(Arc::clone(&entry))));
        memtable.insert(entries, group);
        if let Some(flushed) = flushed.unwrap() {
            memtable.forget(flushed);
        }
        memtable.begin_flush(false);
        assert!(memtable.room().entries <= 210, "{:?}", memtable.room());
    }
    assert!(database.len() >= 9_790, "{}", database.len());
}
