//! Between the shapes of `tollgate-core` and those generated from the WIT: field by field, nothing decided here.

use crate::bindings::tollgate::edge::{buckets as wit_buckets, store as wit, types as wit_http};
use tollgate_core::bucket::{Bucket, Level, TakeError};
use tollgate_core::commit as core;
use tollgate_core::http::{Header, Request, Response};

/// A request from a typed door.
pub fn request_from_wit(request: wit_http::Request) -> Request {
    Request {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: request
            .headers
            .into_iter()
            .map(|h| Header {
                name: h.name,
                value: h.value,
            })
            .collect(),
        body: request.body,
        peer: request.peer,
    }
}

fn headers_into_wit(headers: Vec<Header>) -> Vec<wit_http::Header> {
    headers
        .into_iter()
        .map(|h| wit_http::Header {
            name: h.name,
            value: h.value,
        })
        .collect()
}

/// A response for a typed door.
pub fn response_into_wit(response: Response) -> wit_http::Response {
    wit_http::Response {
        status: response.status,
        headers: headers_into_wit(response.headers),
        body: response.body,
    }
}

/// The limiter's verdict for a typed door: headers to add, or the answer.
pub fn verdict_into_wit(
    verdict: tollgate_core::limiter::Verdict,
) -> Result<Vec<wit_http::Header>, wit_http::Response> {
    match verdict {
        tollgate_core::limiter::Verdict::Admit(headers) => Ok(headers_into_wit(headers)),
        tollgate_core::limiter::Verdict::Answer(response) => Err(response_into_wit(response)),
    }
}

fn template(parts: core::Template) -> Vec<wit::Part> {
    let part = |part| match part {
        core::Part::Bytes(bytes) => wit::Part::Bytes(bytes),
        core::Part::Sum(index) => wit::Part::Sum(index),
        core::Part::Sequence(index) => wit::Part::Sequence(index),
        core::Part::Time => wit::Part::Time,
    };
    parts.into_iter().map(part).collect()
}

impl From<core::Condition> for wit::Condition {
    fn from(condition: core::Condition) -> Self {
        match condition {
            core::Condition::Absent(key) => Self::Absent(key),
            core::Condition::Version { key, version } => Self::Version(wit::KeyVersion { key, version }),
            core::Condition::NowIn { start, end } => Self::NowIn(wit::Window { start, end }),
        }
    }
}

impl From<core::Mutation> for wit::Mutation {
    fn from(mutation: core::Mutation) -> Self {
        match mutation {
            core::Mutation::Set { key, value, expires } => Self::Set(wit::Set {
                key,
                value: template(value),
                expires,
            }),
            core::Mutation::Delete { key } => Self::Delete(key),
            core::Mutation::Add { key, delta, min, max } => Self::Add(wit::Add { key, delta, min, max }),
        }
    }
}

impl From<core::Append> for wit::Append {
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

impl From<core::Commit> for wit::Transaction {
    fn from(commit: core::Commit) -> Self {
        Self {
            partition: commit.partition,
            idempotence: commit.idempotence.map(|i| wit::Idempotence {
                id: i.id,
                fingerprint: i.fingerprint,
                answer: template(i.answer),
                ttl: i.ttl,
            }),
            conditions: commit.conditions.into_iter().map(Into::into).collect(),
            mutations: commit.mutations.into_iter().map(Into::into).collect(),
            appends: commit.appends.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<wit::Outcome> for core::Outcome {
    fn from(outcome: wit::Outcome) -> Self {
        match outcome {
            wit::Outcome::Committed(c) => Self::Committed(core::Committed {
                version: c.version,
                sums: c.sums,
                sequences: c.sequences,
                time: c.time,
            }),
            wit::Outcome::Replayed(answer) => Self::Replayed(answer),
            wit::Outcome::Conflict => Self::Conflict,
            wit::Outcome::Refused(wit::Refusal::Condition(i)) => Self::Refused(core::Refusal::Condition(i)),
            wit::Outcome::Refused(wit::Refusal::Mutation(i)) => Self::Refused(core::Refusal::Mutation(i)),
        }
    }
}

impl From<wit::StoreError> for core::StoreError {
    fn from(error: wit::StoreError) -> Self {
        match error {
            wit::StoreError::Unavailable(why) => Self::Unavailable(why),
            wit::StoreError::Unknown(why) => Self::Unknown(why),
            wit::StoreError::Invalid(why) => Self::Invalid(why),
        }
    }
}

impl From<wit::Entry> for core::Entry {
    fn from(entry: wit::Entry) -> Self {
        Self {
            value: entry.value,
            version: entry.version,
            expires: entry.expires,
        }
    }
}

impl From<wit::Item> for core::Item {
    fn from(item: wit::Item) -> Self {
        Self {
            key: item.key,
            entry: item.entry.into(),
        }
    }
}

impl From<wit::Message> for core::Message {
    fn from(message: wit::Message) -> Self {
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

impl From<wit::Topic> for core::Topic {
    fn from(topic: wit::Topic) -> Self {
        Self {
            name: topic.name,
            first: topic.first,
            last: topic.last,
            first_time: topic.first_time,
            last_time: topic.last_time,
        }
    }
}

impl From<Bucket> for wit_buckets::Bucket {
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

impl From<wit_buckets::Level> for Level {
    fn from(level: wit_buckets::Level) -> Self {
        Self {
            remaining: level.remaining,
            next_ns: level.next_ns,
            full_ns: level.full_ns,
        }
    }
}

impl From<wit_buckets::TakeError> for TakeError {
    fn from(error: wit_buckets::TakeError) -> Self {
        match error {
            wit_buckets::TakeError::Refused(refusal) => Self::Refused {
                index: refusal.index,
                levels: refusal.levels.into_iter().map(Into::into).collect(),
            },
            wit_buckets::TakeError::Unavailable(why) => Self::Unavailable(why),
            wit_buckets::TakeError::Invalid(why) => Self::Invalid(why),
        }
    }
}
