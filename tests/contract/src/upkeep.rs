//! What a store removes when it is asked to.

use futures::future::join_all;
use tollgate_store::commit::{Topic, literal, record_key, weight};
use tollgate_store::deleted;
use tollgate_store::ports::{Store, Upkeep};
use tollgate_store::retention::{self, Cursor, Keeping, Retention};

use crate::StoreHarness;
use crate::shapes::*;

/// Nothing needs a message.
const NOBODY: u64 = u64::MAX;

fn by_age(age: u64) -> Retention {
    Retention {
        age_ms: Some(age),
        ..Retention::default()
    }
}

fn by_bytes(bytes: u64) -> Retention {
    Retention {
        max_bytes: Some(bytes),
        ..Retention::default()
    }
}

/// Appends so many messages, each with an entry that goes with it.
async fn filled(store: &impl Store, topic: &str, count: usize) {
    for n in 0..count {
        let id = format!("{topic}-{n}");
        let step = commit()
            .append(append(topic, &id))
            .then(set(&record_key(&id), "about it"));
        done(store, step).await;
    }
}

async fn extent(store: &impl Store, topic: &str) -> Topic {
    let all = store.topics(None, 1_000).await.unwrap();
    all.into_iter().find(|found| found.name == topic).unwrap()
}

/// Trims until there is no more.
async fn trimmed(store: &impl Upkeep, topic: &str, retention: Retention, needed: u64) {
    while store.trim(topic, retention, needed).await.unwrap() {}
}

pub async fn what_lives_is_not_expired(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("lives", "1"))).await;
    done(
        &store,
        commit().then(set_until("ends", "1", now(&store).await + 10)),
    )
    .await;
    harness.pass(&store, 20).await;
    while store.expire().await.unwrap() {}
    let found = store
        .get(PARTITION, &["lives".into(), "ends".into()])
        .await
        .unwrap();
    assert!(found[0].is_some() && found[1].is_none());
}

pub async fn messages_of_a_deleted_topic_are_removed_whoever_needs_them(
    harness: &impl StoreHarness<Store: Upkeep>,
) {
    let store = harness.fresh().await;
    filled(&store, "t", 2_100).await;
    filled(&store, "tt", 3).await;
    let mut delete = commit().then(set(&deleted::key("t"), "2099"));
    delete.partition = deleted::PARTITION.to_owned();
    done(&store, delete).await;
    while store.expire().await.unwrap() {}
    let keys = [0, 2_098, 2_099].map(|n| record_key(&format!("t-{n}")));
    let found = store.get(PARTITION, &keys).await.unwrap();
    let are_there: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert_eq!(are_there, [false, false, true]);
    let left = store.read("t", 0, 10, 0).await.unwrap();
    assert_eq!(left.iter().map(|one| one.sequence).collect::<Vec<_>>(), [2_100]);
    let topic = extent(&store, "t").await;
    assert_eq!((topic.first, topic.last), (2_100, 2_100));
    assert_eq!(topic.bytes, weight(&left[0]), "the room is free again");
    assert_eq!(extent(&store, "tt").await.first, 1, "another one is left alone");
    assert_eq!(store.read("tt", 0, 10, 0).await.unwrap().len(), 3);
}

pub async fn messages_go_by_age(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    filled(&store, "t", 3).await;
    harness.pass(&store, 1_000).await;
    filled(&store, "t", 2).await;
    trimmed(&store, "t", by_age(500), NOBODY).await;
    let extent = extent(&store, "t").await;
    assert_eq!((extent.first, extent.last), (4, 5));
    assert_eq!(store.read("t", 0, 10, 0).await.unwrap().len(), 2);
}

pub async fn messages_go_by_bytes(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    filled(&store, "t", 10).await;
    let all = extent(&store, "t").await.bytes;
    trimmed(&store, "t", by_bytes(all), NOBODY).await;
    assert_eq!(extent(&store, "t").await.first, 1, "it is within its bound");
    trimmed(&store, "t", by_bytes(all / 2), NOBODY).await;
    assert_eq!(extent(&store, "t").await.first, 6);
    trimmed(&store, "t", by_bytes(0), NOBODY).await;
    let empty = extent(&store, "t").await;
    assert_eq!((empty.first, empty.last, empty.bytes), (11, 10, 0));
    assert_eq!(
        done(&store, commit().append(append("t", "next"))).await.sequences,
        [11],
        "sequences go on"
    );
}

pub async fn messages_that_are_needed_stay(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    filled(&store, "t", 5).await;
    trimmed(&store, "t", by_bytes(0), 4).await;
    assert_eq!(extent(&store, "t").await.first, 4);
}

pub async fn beyond_a_bound_even_those_go_that_are_needed(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    filled(&store, "t", 10).await;
    let all = extent(&store, "t").await.bytes;
    let retention = Retention {
        drop_beyond: Some(all / 2),
        ..Retention::default()
    };
    trimmed(&store, "t", retention, 1).await;
    let left = extent(&store, "t").await;
    assert!(left.first == 6 && left.bytes <= all / 2, "{left:?}");
}

pub async fn an_entry_goes_with_its_message(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    filled(&store, "t", 3).await;
    filled(&store, "u", 1).await;
    trimmed(&store, "t", by_bytes(0), 3).await;
    let keys: Vec<_> = ["t-0", "t-1", "t-2", "u-0"].map(record_key).into();
    let found = store.get(PARTITION, &keys).await.unwrap();
    let there: Vec<_> = found.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, false, true, true]);
}

pub async fn a_trimmed_topic_is_as_heavy_as_what_is_left(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    for n in 0..6 {
        let mut message = append("t", &format!("m{n}"));
        message.payload = literal(vec![7; 100 * n]);
        done(&store, commit().append(message)).await;
    }
    trimmed(&store, "t", by_bytes(0), 4).await;
    let left = store.read("t", 0, 10, 0).await.unwrap();
    assert_eq!(left.len(), 3);
    assert_eq!(
        extent(&store, "t").await.bytes,
        left.iter().map(weight).sum::<u64>()
    );
}

pub async fn a_large_part_goes_in_bounded_steps(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    for batch in 0..20 {
        let mut step = commit();
        for n in 0..64 {
            step = step.append(append("t", &format!("m{batch}-{n}")));
        }
        done(&store, step).await;
    }
    trimmed(&store, "t", by_bytes(0), 1_281).await;
    let empty = extent(&store, "t").await;
    assert_eq!((empty.first, empty.last, empty.bytes), (1_281, 1_280, 0));
}

pub async fn trims_at_once_remove_each_message_once(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    filled(&store, "t", 10).await;
    let all = extent(&store, "t").await.bytes;
    for done in join_all((0..8).map(|_| store.trim("t", by_bytes(all / 2), NOBODY))).await {
        done.unwrap();
    }
    let left = extent(&store, "t").await;
    assert_eq!(left.first, 6);
    assert_eq!(
        left.bytes,
        store
            .read("t", 0, 100, 0)
            .await
            .unwrap()
            .iter()
            .map(weight)
            .sum::<u64>()
    );
}

pub async fn topics_are_trimmed_in_turn(harness: &impl StoreHarness<Store: Upkeep>) {
    let store = harness.fresh().await;
    // More than one step looks at.
    for n in 0..100 {
        let topic = format!("t{n:03}");
        let step = commit().append(append(&topic, "a")).append(append(&topic, "b"));
        done(&store, step).await;
    }
    let mut keeping = Keeping {
        default: Some(by_bytes(0)),
        ..Keeping::default()
    };
    keeping.retention.insert("t007".into(), by_bytes(1 << 20));
    keeping.low_water.insert("t099".into(), 2);
    let (mut cursor, mut steps) = (Cursor::default(), 0);
    while retention::step(&store, &keeping, u64::MAX, &mut cursor)
        .await
        .unwrap()
    {
        steps += 1;
        assert!(steps < 10, "it ends");
    }
    assert!(steps >= 1, "more than one step");
    for topic in store.topics(None, 1_000).await.unwrap() {
        let first = match &*topic.name {
            "t007" => 1,
            "t099" => 2,
            _ => 3,
        };
        assert_eq!(topic.first, first, "{topic:?}");
    }
}
