//! Between the shapes of `tollgate-core` and those generated from the WIT: field by field, nothing decided here.

use tollgate_core::bucket::{Bucket, Level, TakeError};
use tollgate_core::commit as core;

use crate::bindings::{buckets, store};

fn template(parts: core::Template) -> Vec<store::Part> {
    let part = |part| match part {
        core::Part::Bytes(bytes) => store::Part::Bytes(bytes),
        core::Part::Sum(index) => store::Part::Sum(index),
        core::Part::Sequence(index) => store::Part::Sequence(index),
        core::Part::Time => store::Part::Time,
    };
    parts.into_iter().map(part).collect()
}

impl From<core::Commit> for store::Transaction {
    fn from(commit: core::Commit) -> Self {
        Self {
            partition: commit.partition,
            idempotence: commit.idempotence.map(|once| store::Idempotence {
                id: once.id,
                fingerprint: once.fingerprint,
                answer: template(once.answer),
                ttl: once.ttl,
            }),
            conditions: commit.conditions.into_iter().map(Into::into).collect(),
            mutations: commit.mutations.into_iter().map(Into::into).collect(),
            appends: commit.appends.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<core::Condition> for store::Condition {
    fn from(condition: core::Condition) -> Self {
        match condition {
            core::Condition::Absent(key) => Self::Absent(key),
            core::Condition::Version { key, version } => Self::Version(store::KeyVersion { key, version }),
            core::Condition::NowIn { start, end } => Self::NowIn(store::Window { start, end }),
        }
    }
}

impl From<core::Mutation> for store::Mutation {
    fn from(mutation: core::Mutation) -> Self {
        match mutation {
            core::Mutation::Set { key, value, expires } => Self::Set(store::Set {
                key,
                value: template(value),
                expires,
            }),
            core::Mutation::Delete { key } => Self::Delete(key),
            core::Mutation::Add { key, delta, min, max } => Self::Add(store::Add { key, delta, min, max }),
        }
    }
}

impl From<core::Append> for store::Append {
    fn from(append: core::Append) -> Self {
        Self {
            topic: append.topic,
            id: append.id,
            key: append.key,
            type_: append.kind,
            content_type: append.content_type,
            payload: template(append.payload),
        }
    }
}

impl From<store::Outcome> for core::Outcome {
    fn from(outcome: store::Outcome) -> Self {
        match outcome {
            store::Outcome::Committed(done) => Self::Committed(core::Committed {
                version: done.version,
                sums: done.sums,
                sequences: done.sequences,
                time: done.time,
            }),
            store::Outcome::Replayed(answer) => Self::Replayed(answer),
            store::Outcome::Conflict => Self::Conflict,
            store::Outcome::Refused(store::Refusal::Condition(at)) => {
                Self::Refused(core::Refusal::Condition(at))
            }
            store::Outcome::Refused(store::Refusal::Mutation(at)) => {
                Self::Refused(core::Refusal::Mutation(at))
            }
        }
    }
}

impl From<store::StoreError> for core::StoreError {
    fn from(error: store::StoreError) -> Self {
        match error {
            store::StoreError::Unavailable(why) => Self::Unavailable(why),
            store::StoreError::Unknown(why) => Self::Unknown(why),
            store::StoreError::Invalid(why) => Self::Invalid(why),
        }
    }
}

impl From<store::Entry> for core::Entry {
    fn from(entry: store::Entry) -> Self {
        Self {
            value: entry.value,
            version: entry.version,
            expires: entry.expires,
        }
    }
}

impl From<store::Item> for core::Item {
    fn from(item: store::Item) -> Self {
        Self {
            key: item.key,
            entry: item.entry.into(),
        }
    }
}

impl From<store::Message> for core::Message {
    fn from(message: store::Message) -> Self {
        Self {
            topic: message.topic,
            sequence: message.sequence,
            id: message.id,
            key: message.key,
            kind: message.type_,
            content_type: message.content_type,
            time: message.time,
            payload: message.payload,
        }
    }
}

impl From<store::Topic> for core::Topic {
    fn from(topic: store::Topic) -> Self {
        Self {
            name: topic.name,
            first: topic.first,
            last: topic.last,
            first_time: topic.first_time,
            last_time: topic.last_time,
        }
    }
}

impl From<Bucket> for buckets::Bucket {
    fn from(bucket: Bucket) -> Self {
        Self {
            key: bucket.key,
            capacity: bucket.capacity,
            refill: bucket.refill,
            interval_ns: bucket.interval_ns,
            cost: bucket.cost,
        }
    }
}

impl From<buckets::Level> for Level {
    fn from(level: buckets::Level) -> Self {
        Self {
            remaining: level.remaining,
            next_ns: level.next_ns,
            full_ns: level.full_ns,
        }
    }
}

impl From<buckets::TakeError> for TakeError {
    fn from(error: buckets::TakeError) -> Self {
        match error {
            buckets::TakeError::Refused(refusal) => Self::Refused {
                index: refusal.index,
                levels: refusal.levels.into_iter().map(Into::into).collect(),
            },
            buckets::TakeError::Unavailable(why) => Self::Unavailable(why),
            buckets::TakeError::Invalid(why) => Self::Invalid(why),
        }
    }
}
