//! Between the shapes generated from the WIT and those of `tollgate-core`: field by field, nothing decided here.

use super::{wit, wit_buckets};
use tollgate_core::bucket::{Bucket, Level, TakeError};
use tollgate_core::commit as core;

fn template(parts: Vec<wit::Part>) -> core::Template {
    let part = |part| match part {
        wit::Part::Bytes(bytes) => core::Part::Bytes(bytes),
        wit::Part::Sum(index) => core::Part::Sum(index),
        wit::Part::Sequence(index) => core::Part::Sequence(index),
        wit::Part::Time => core::Part::Time,
    };
    parts.into_iter().map(part).collect()
}

impl From<wit::Condition> for core::Condition {
    fn from(condition: wit::Condition) -> Self {
        match condition {
            wit::Condition::Absent(key) => Self::Absent(key),
            wit::Condition::Version(wanted) => Self::Version {
                key: wanted.key,
                version: wanted.version,
            },
            wit::Condition::NowIn(window) => Self::NowIn {
                start: window.start,
                end: window.end,
            },
        }
    }
}

impl From<wit::Mutation> for core::Mutation {
    fn from(mutation: wit::Mutation) -> Self {
        match mutation {
            wit::Mutation::Set(set) => Self::Set {
                key: set.key,
                value: template(set.value),
                expires: set.expires,
            },
            wit::Mutation::Delete(key) => Self::Delete { key },
            wit::Mutation::Add(add) => Self::Add {
                key: add.key,
                delta: add.delta,
                min: add.min,
                max: add.max,
            },
        }
    }
}

impl From<wit::Append> for core::Append {
    fn from(append: wit::Append) -> Self {
        Self {
            topic: append.topic,
            id: append.id,
            key: append.key,
            kind: append.type_,
            content_type: append.content_type,
            payload: template(append.payload),
        }
    }
}

impl From<wit::Transaction> for core::Commit {
    fn from(transaction: wit::Transaction) -> Self {
        Self {
            partition: transaction.partition,
            idempotence: transaction.idempotence.map(|wanted| core::Idempotence {
                id: wanted.id,
                fingerprint: wanted.fingerprint,
                answer: template(wanted.answer),
                ttl: wanted.ttl,
            }),
            conditions: transaction.conditions.into_iter().map(Into::into).collect(),
            mutations: transaction.mutations.into_iter().map(Into::into).collect(),
            appends: transaction.appends.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<core::Outcome> for wit::Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Committed(done) => Self::Committed(wit::Committed {
                version: done.version,
                sums: done.sums,
                sequences: done.sequences,
                time: done.time,
            }),
            core::Outcome::Replayed(answer) => Self::Replayed(answer),
            core::Outcome::Conflict => Self::Conflict,
            core::Outcome::Refused(core::Refusal::Condition(index)) => {
                Self::Refused(wit::Refusal::Condition(index))
            }
            core::Outcome::Refused(core::Refusal::Mutation(index)) => {
                Self::Refused(wit::Refusal::Mutation(index))
            }
        }
    }
}

impl From<core::StoreError> for wit::StoreError {
    fn from(error: core::StoreError) -> Self {
        match error {
            core::StoreError::Unavailable(why) => Self::Unavailable(why),
            core::StoreError::Unknown(why) => Self::Unknown(why),
            core::StoreError::Invalid(why) => Self::Invalid(why),
        }
    }
}

impl From<core::Entry> for wit::Entry {
    fn from(entry: core::Entry) -> Self {
        Self {
            value: entry.value,
            version: entry.version,
            expires: entry.expires,
        }
    }
}

impl From<core::Item> for wit::Item {
    fn from(item: core::Item) -> Self {
        Self {
            key: item.key,
            entry: item.entry.into(),
        }
    }
}

impl From<core::Message> for wit::Message {
    fn from(message: core::Message) -> Self {
        Self {
            topic: message.topic,
            sequence: message.sequence,
            id: message.id,
            key: message.key,
            type_: message.kind,
            content_type: message.content_type,
            time: message.time,
            payload: message.payload,
        }
    }
}

impl From<core::Topic> for wit::Topic {
    fn from(topic: core::Topic) -> Self {
        Self {
            name: topic.name,
            first: topic.first,
            last: topic.last,
            first_time: topic.first_time,
            last_time: topic.last_time,
        }
    }
}

impl From<wit_buckets::Bucket> for Bucket {
    fn from(bucket: wit_buckets::Bucket) -> Self {
        Self {
            key: bucket.key,
            capacity: bucket.capacity,
            refill: bucket.refill,
            interval_ns: bucket.interval_ns,
            cost: bucket.cost,
        }
    }
}

impl From<Level> for wit_buckets::Level {
    fn from(level: Level) -> Self {
        Self {
            remaining: level.remaining,
            next_ns: level.next_ns,
            full_ns: level.full_ns,
        }
    }
}

impl From<TakeError> for wit_buckets::TakeError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Refused { index, levels } => Self::Refused(wit_buckets::Refusal {
                index,
                levels: levels.into_iter().map(Into::into).collect(),
            }),
            TakeError::Unavailable(why) => Self::Unavailable(why),
            TakeError::Invalid(why) => Self::Invalid(why),
        }
    }
}
