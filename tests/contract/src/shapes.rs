//! Commits, written short.

use tollgate_store::commit::{
    Append, Commit, Committed, Condition, Entry, Idempotence, Mutation, Outcome, Part, Template, literal,
};
use tollgate_store::ports::Store;

/// The partition that the cases work in.
pub const PARTITION: &str = "contract";

pub fn commit() -> Commit {
    Commit {
        partition: PARTITION.into(),
        ..Commit::default()
    }
}

/// Grows a commit step by step.
pub trait Grow {
    fn when(self, condition: Condition) -> Self;
    fn then(self, mutation: Mutation) -> Self;
    fn append(self, append: Append) -> Self;
    fn once(self, id: &str, fingerprint: &str, answer: Template, ttl: u64) -> Self;
}

impl Grow for Commit {
    fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    fn then(mut self, mutation: Mutation) -> Self {
        self.mutations.push(mutation);
        self
    }

    fn append(mut self, append: Append) -> Self {
        self.appends.push(append);
        self
    }

    fn once(mut self, id: &str, fingerprint: &str, answer: Template, ttl: u64) -> Self {
        let (id, fingerprint) = (id.into(), fingerprint.into());
        self.idempotence = Some(Idempotence {
            id,
            fingerprint,
            answer,
            ttl,
        });
        self
    }
}

pub fn absent(key: &str) -> Condition {
    Condition::Absent(key.into())
}

pub fn version(key: &str, version: u64) -> Condition {
    Condition::Version {
        key: key.into(),
        version,
    }
}

pub fn now_in(start: Option<u64>, end: Option<u64>) -> Condition {
    Condition::NowIn { start, end }
}

pub fn set(key: &str, value: &str) -> Mutation {
    set_parts(key, literal(value))
}

pub fn set_parts(key: &str, value: Template) -> Mutation {
    Mutation::Set {
        key: key.into(),
        value,
        expires: None,
    }
}

pub fn set_until(key: &str, value: &str, expires: u64) -> Mutation {
    Mutation::Set {
        key: key.into(),
        value: literal(value),
        expires: Some(expires),
    }
}

pub fn delete(key: &str) -> Mutation {
    Mutation::Delete { key: key.into() }
}

pub fn add(key: &str, delta: i64) -> Mutation {
    bounded(key, delta, None, None)
}

pub fn bounded(key: &str, delta: i64, min: Option<i64>, max: Option<i64>) -> Mutation {
    Mutation::Add {
        key: key.into(),
        delta,
        min,
        max,
    }
}

pub fn append(topic: &str, id: &str) -> Append {
    append_parts(topic, id, literal(format!("payload of {id}")))
}

pub fn append_parts(topic: &str, id: &str, payload: Template) -> Append {
    Append {
        topic: topic.into(),
        id: id.into(),
        key: "some key".into(),
        kind: "test.happened".into(),
        content_type: "text/plain".into(),
        attributes: Vec::new(),
        payload,
    }
}

pub fn text(text: &str) -> Part {
    Part::Bytes(text.into())
}

/// Commits what must be carried out.
pub async fn done<S: Store>(store: &S, commit: Commit) -> Committed {
    match store.commit(commit).await {
        Ok(Outcome::Committed(committed)) => committed,
        other => panic!("was not committed: {other:?}"),
    }
}

/// The store's time.
pub async fn now<S: Store>(store: &S) -> u64 {
    done(store, commit()).await.time
}

pub async fn entry<S: Store>(store: &S, key: &str) -> Option<Entry> {
    let mut found = store.get(PARTITION, &[key.to_owned()]).await.unwrap();
    assert_eq!(found.len(), 1, "one answer per key");
    found.remove(0)
}

/// The value of the key's entry, as text.
pub async fn value<S: Store>(store: &S, key: &str) -> Option<String> {
    entry(store, key)
        .await
        .map(|entry| String::from_utf8(entry.value).unwrap())
}

/// Asserts that the commit was carried out nowhere: none of its keys, none of its topics.
pub async fn assert_untouched<S: Store>(store: &S, keys: &[&str], topics: &[&str]) {
    for key in keys {
        assert_eq!(entry(store, key).await, None, "{key} was written");
    }
    for topic in topics {
        assert_eq!(
            store.read(topic, 0, 1, 0).await.unwrap(),
            [],
            "{topic} was appended to"
        );
    }
}
