//! Messages and topics.

use tollgate_store::commit::{
    Append, Condition, MESSAGE_OVERHEAD, Message, Mutation, Outcome, Refusal, Topic, literal, weight,
};
use tollgate_store::deleted;
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::conditions::refused_at;
use crate::shapes::*;

pub async fn sequences_are_dense_from_one_in_each_topic(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for wanted in 1..=3 {
        let step = commit().append(append("t", &format!("t{wanted}")));
        assert_eq!(done(&store, step).await.sequences, [wanted]);
    }
    assert_eq!(
        done(&store, commit().append(append("u", "u1"))).await.sequences,
        [1]
    );
}

pub async fn several_appends_of_one_commit_follow_each_other(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = commit()
        .append(append("t", "a"))
        .append(append("u", "b"))
        .append(append("t", "c"));
    assert_eq!(done(&store, step).await.sequences, [1, 1, 2]);
    let ids: Vec<_> = store
        .read("t", 0, 10, 0)
        .await
        .unwrap()
        .into_iter()
        .map(|m| (m.sequence, m.id))
        .collect();
    assert_eq!(ids, [(1, "a".to_owned()), (2, "c".to_owned())]);
    let mut many = commit();
    for index in 0..64 {
        many = many.append(append("t", &format!("m{index}")));
    }
    assert_eq!(done(&store, many).await.sequences, (3..67).collect::<Vec<_>>());
}

pub async fn a_refused_commit_leaves_no_gap(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().append(append("t", "a"))).await;
    let refused = commit()
        .then(bounded("n", -1, Some(0), None))
        .append(append("t", "b"));
    assert_eq!(
        store.commit(refused).await,
        Ok(Outcome::Refused(Refusal::Mutation(0)))
    );
    assert_eq!(
        done(&store, commit().append(append("t", "c"))).await.sequences,
        [2]
    );
}

pub async fn a_message_holds_what_was_appended(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let payload: Vec<u8> = (0..=255).collect();
    let appended = Append {
        topic: "orders.pläced".into(),
        id: "id'1".into(),
        key: String::new(),
        kind: "order.placed".into(),
        content_type: "application/json; charset=\"utf-8\"".into(),
        attributes: b"{\"any\":\"bytes\"}\0".into(),
        payload: literal(payload.clone()),
    };
    let committed = done(&store, commit().append(appended)).await;
    let wanted = Message {
        topic: "orders.pläced".into(),
        sequence: 1,
        id: "id'1".into(),
        key: String::new(),
        kind: "order.placed".into(),
        content_type: "application/json; charset=\"utf-8\"".into(),
        time: committed.time,
        attributes: b"{\"any\":\"bytes\"}\0".into(),
        payload,
    };
    assert_eq!(store.read("orders.pläced", 0, 10, 0).await.unwrap(), [wanted]);
}

pub async fn topics_are_listed_by_name(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    assert_eq!(store.topics(None, 10).await.unwrap(), []);
    for name in ["b", "a", "c", "a.b"] {
        done(&store, commit().append(append(name, "m"))).await;
    }
    let names = async |after, limit| -> Vec<String> {
        store
            .topics(after, limit)
            .await
            .unwrap()
            .into_iter()
            .map(|topic| topic.name)
            .collect()
    };
    assert_eq!(names(None, 10).await, ["a", "a.b", "b", "c"]);
    assert_eq!(names(None, 2).await, ["a", "a.b"]);
    assert_eq!(names(Some("a.b"), 10).await, ["b", "c"]);
    assert_eq!(names(Some("bb"), 10).await, ["c"]);
    assert_eq!(names(Some("c"), 10).await, [""; 0]);
}

pub async fn a_topic_tells_its_extent(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let first = done(&store, commit().append(append("t", "a"))).await.time;
    harness.pass(&store, 5).await;
    let last = done(&store, commit().append(append("t", "b"))).await.time;
    assert!(last > first);
    let messages = store.read("t", 0, 10, 0).await.unwrap();
    let wanted = Topic {
        name: "t".into(),
        first: 1,
        last: 2,
        first_time: Some(first),
        last_time: Some(last),
        bytes: messages.iter().map(weight).sum(),
    };
    assert_eq!(store.topics(None, 10).await.unwrap(), [wanted]);
}

pub async fn a_deleted_topic_shows_nothing_of_before_and_goes_on(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for id in ["a", "b", "c"] {
        done(&store, commit().append(append("t", id))).await;
        done(&store, commit().append(append("tt", id))).await;
    }
    let delete = |through: &str| {
        let mut commit = commit();
        commit.partition = deleted::PARTITION.into();
        commit.mutations.push(Mutation::Set {
            key: deleted::key("t"),
            value: literal(through.as_bytes()),
            expires: None,
        });
        commit
    };
    let ids = async |after| -> Vec<String> {
        let found = store.read("t", after, 10, 0).await.unwrap();
        found.into_iter().map(|message| message.id).collect()
    };
    // A message came between the look at the topic and its deletion: it stays.
    done(&store, delete("2")).await;
    assert_eq!(ids(0).await, ["c"]);
    assert_eq!(ids(1).await, ["c"]);
    let topic = store.topics(None, 1).await.unwrap().remove(0);
    assert_eq!((topic.first, topic.last), (3, 3));
    assert!(
        topic.first_time.is_some() && topic.first_time == topic.last_time,
        "{topic:?}"
    );
    assert!(!deleted::is_deleted(&store, &topic).await.unwrap());
    done(&store, delete("3")).await;
    assert_eq!(ids(0).await, [""; 0]);
    let wanted = Topic {
        name: "t".into(),
        first: 4,
        last: 3,
        first_time: None,
        last_time: None,
        bytes: 0,
    };
    let topics = store.topics(None, 10).await.unwrap();
    assert_eq!(topics[0], wanted);
    assert_eq!(
        (topics[1].first, topics[1].last),
        (1, 3),
        "another one is left alone"
    );
    assert!(deleted::is_deleted(&store, &wanted).await.unwrap());
    let living = deleted::without_deleted(&store, topics).await.unwrap();
    assert_eq!(
        living.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(),
        ["tt"]
    );
    let next = done(&store, commit().append(append("t", "d"))).await;
    assert_eq!(next.sequences, [4]);
    assert_eq!(ids(0).await, ["d"]);
    assert_eq!(ids(4).await, [""; 0]);
    let topic = store.topics(None, 1).await.unwrap().remove(0);
    assert_eq!(
        (topic.first, topic.last, topic.first_time),
        (4, 4, Some(next.time))
    );
    assert!(!deleted::is_deleted(&store, &topic).await.unwrap());
}

pub async fn a_topic_is_as_heavy_as_its_messages(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let below = |bytes| {
        commit().when(Condition::TopicBelow {
            topic: "tópic".into(),
            bytes,
        })
    };
    refused_at(&store, below(0), 0).await;
    done(&store, below(1)).await;
    let mut heavy = append("tópic", "id-1");
    heavy.key = "ké".into();
    heavy.kind = "kind".into();
    heavy.content_type = "text/plain".into();
    heavy.attributes = vec![0; 7];
    let mut weight = 0;
    let mut appended = commit();
    // Several of one commit, and of several.
    for payload in ["", "pay", "load"] {
        let mut one = heavy.clone();
        one.payload = literal(payload);
        weight += MESSAGE_OVERHEAD + (6 + 4 + 3 + 4 + 10 + 7 + payload.len()) as u64;
        appended = appended.append(one);
    }
    done(&store, appended.clone()).await;
    done(&store, appended.append(append("other", "m"))).await;
    refused_at(&store, below(2 * weight), 0).await;
    done(&store, below(2 * weight + 1)).await;
    done(&store, below(u64::MAX)).await;
}
