//! A commit as one statement of SQL reads it (`store-sqlite`'s trigger, `store-postgres`' function): a JSON document, and all binary
//! values end to end, which the document points into. So bytes are copied once, and need no escaping.
//!
//! ```text
//! { "id": [id, fingerprint offset, length, ttl, template] or null,
//!   "conditions": [["absent", key] | ["version", key, version] | ["now", start, end] | ["topic", topic, bytes]],
//!   "mutations": [["set", key, template, expires] | ["delete", key] | ["add", key, delta, min, max]],
//!   "topics": [[topic, its appends]],
//!   "appends": [[topic, later appends of the topic, id, key, type, content type, attributes, template]] }
//! attributes: [offset, length]
//! template: [offset, length] | [[offset, length] | ["sum", key] | ["sequence", topic, later appends] | ["time"]]
//! ```
//!
//! Offsets are from 1, as in `substr`. Sums are told by their key and sequences by their distance from the topic's
//! end, so that SQL looks both up where it has just written them.

use serde_json::{Value as Json, json};

use crate::commit::{Append, Commit, Condition, Mutation, Part, Template};

/// The document and the values of a commit that was validated.
pub fn encode(commit: &Commit) -> (String, Vec<u8>) {
    let distances = distances(&commit.appends);
    // Not empty: `substr` of no bytes at all is NULL.
    let mut encoder = Encoder {
        commit,
        distances: &distances,
        bytes: vec![0],
    };
    let id = match &commit.idempotence {
        None => Json::Null,
        Some(wanted) => {
            let fingerprint = encoder.literal(&wanted.fingerprint);
            json!([
                wanted.id,
                fingerprint.0,
                fingerprint.1,
                integer(wanted.ttl),
                encoder.template(&wanted.answer)
            ])
        }
    };
    let mutations: Vec<_> = commit
        .mutations
        .iter()
        .map(|mutation| encoder.mutation(mutation))
        .collect();
    let appends: Vec<_> = commit
        .appends
        .iter()
        .zip(&distances)
        .map(|(a, d)| encoder.append(a, *d))
        .collect();
    let body = json!({
        "id": id,
        "conditions": commit.conditions.iter().map(condition).collect::<Vec<_>>(),
        "mutations": mutations,
        "topics": topics(&commit.appends, &distances),
        "appends": appends,
    });
    (body.to_string(), encoder.bytes)
}

/// Per append, how many of its topic come after it.
fn distances(appends: &[Append]) -> Vec<usize> {
    let later = |(index, append): (usize, &Append)| {
        appends
            .iter()
            .skip(index + 1)
            .filter(|later| later.topic == append.topic)
            .count()
    };
    appends.iter().enumerate().map(later).collect()
}

/// Each topic once, with the number of its appends.
fn topics(appends: &[Append], distances: &[usize]) -> Vec<Json> {
    let last = appends
        .iter()
        .zip(distances)
        .filter(|(_, distance)| **distance == 0);
    last.map(|(append, _)| {
        let count = appends.iter().filter(|other| other.topic == append.topic).count();
        json!([append.topic, count])
    })
    .collect()
}

fn condition(condition: &Condition) -> Json {
    match condition {
        Condition::Absent(key) => json!(["absent", key]),
        // No entry has a version beyond the integers of SQL, nor a negative one.
        Condition::Version { key, version } => json!(["version", key, i64::try_from(*version).unwrap_or(-1)]),
        Condition::NowIn { start, end } => json!(["now", start.map(integer), end.map(integer)]),
        Condition::TopicBelow { topic, bytes } => json!(["topic", topic, integer(*bytes)]),
    }
}

struct Encoder<'a> {
    commit: &'a Commit,
    distances: &'a [usize],
    bytes: Vec<u8>,
}

impl Encoder<'_> {
    fn literal(&mut self, bytes: &[u8]) -> (usize, usize) {
        let offset = self.bytes.len() + 1;
        self.bytes.extend_from_slice(bytes);
        (offset, bytes.len())
    }

    fn template(&mut self, template: &Template) -> Json {
        match template.as_slice() {
            [Part::Bytes(bytes)] => json!(self.literal(bytes)),
            parts => parts.iter().map(|part| self.part(part)).collect(),
        }
    }

    /// Indices were validated: what they would otherwise render is nothing.
    fn part(&mut self, part: &Part) -> Json {
        match part {
            Part::Bytes(bytes) => json!(self.literal(bytes)),
            Part::Sum(index) => {
                json!([
                    "sum",
                    self.commit.mutations.get(*index as usize).map(Mutation::key)
                ])
            }
            Part::Sequence(index) => {
                let index = *index as usize;
                let topic = self.commit.appends.get(index).map(|append| &append.topic);
                json!(["sequence", topic, self.distances.get(index)])
            }
            Part::Time => json!(["time"]),
        }
    }

    fn mutation(&mut self, mutation: &Mutation) -> Json {
        match mutation {
            Mutation::Set { key, value, expires } => {
                json!(["set", key, self.template(value), expires.map(integer)])
            }
            Mutation::Delete { key } => json!(["delete", key]),
            Mutation::Add { key, delta, min, max } => json!(["add", key, delta, min, max]),
        }
    }

    fn append(&mut self, append: &Append, distance: usize) -> Json {
        let attributes = self.literal(&append.attributes);
        let payload = self.template(&append.payload);
        json!([
            append.topic,
            distance,
            append.id,
            append.key,
            append.kind,
            append.content_type,
            attributes,
            payload
        ])
    }
}

/// The same number in SQL, or the greatest one it has.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
