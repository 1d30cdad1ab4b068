//! A commit as the script reads it: a flat list, in the order in which it is judged.
//!
//! ```text
//! id [fingerprint ttl template]     an empty id: none of these
//! count ("absent" key | "version" key version | "now" start end | "topic" topic bytes)…
//! count ("set" key expires template | "delete" key | "add" key delta min max)…
//! count (topic weight head template)…
//! template: count part…; a part is "b" and bytes, "s" and the index of an add, "q" and the index of an append, or "t"
//! ```
//!
//! Numbers are decimals, and what is missing is an empty text.

use tollgate_store::commit::{Append, Commit, Condition, MESSAGE_OVERHEAD, Mutation, Part};

use crate::message::head;

/// The list of a commit that was validated.
pub fn arguments(commit: &Commit) -> Vec<Vec<u8>> {
    let mut list = List(Vec::new());
    match &commit.idempotence {
        None => list.bytes(b""),
        Some(wanted) => {
            list.bytes(wanted.id.as_bytes());
            list.bytes(&wanted.fingerprint);
            list.number(wanted.ttl);
            list.template(&wanted.answer);
        }
    }
    list.number(commit.conditions.len());
    for condition in &commit.conditions {
        list.condition(condition);
    }
    list.number(commit.mutations.len());
    for mutation in &commit.mutations {
        list.mutation(mutation);
    }
    list.number(commit.appends.len());
    for append in &commit.appends {
        list.append(append);
    }
    list.0
}

struct List(Vec<Vec<u8>>);

impl List {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.push(bytes.to_vec());
    }

    fn number(&mut self, number: impl itoa::Integer) {
        self.bytes(itoa::Buffer::new().format(number).as_bytes());
    }

    fn optional(&mut self, number: Option<impl itoa::Integer>) {
        match number {
            Some(number) => self.number(number),
            None => self.bytes(b""),
        }
    }

    fn condition(&mut self, condition: &Condition) {
        match condition {
            Condition::Absent(key) => {
                self.bytes(b"absent");
                self.bytes(key.as_bytes());
            }
            Condition::Version { key, version } => {
                self.bytes(b"version");
                self.bytes(key.as_bytes());
                self.number(*version);
            }
            Condition::NowIn { start, end } => {
                self.bytes(b"now");
                self.optional(*start);
                self.optional(*end);
            }
            Condition::TopicBelow { topic, bytes } => {
                self.bytes(b"topic");
                self.bytes(topic.as_bytes());
                self.number(*bytes);
            }
        }
    }

    fn mutation(&mut self, mutation: &Mutation) {
        let kind: &[u8] = match mutation {
            Mutation::Set { .. } => b"set",
            Mutation::Delete { .. } => b"delete",
            Mutation::Add { .. } => b"add",
        };
        self.bytes(kind);
        self.bytes(mutation.key().as_bytes());
        match mutation {
            Mutation::Set { value, expires, .. } => {
                self.optional(*expires);
                self.template(value);
            }
            Mutation::Delete { .. } => {}
            Mutation::Add { delta, min, max, .. } => {
                self.number(*delta);
                self.optional(*min);
                self.optional(*max);
            }
        }
    }

    fn append(&mut self, append: &Append) {
        let texts = [
            &append.topic,
            &append.id,
            &append.key,
            &append.kind,
            &append.content_type,
        ];
        let parts = texts.iter().map(|text| text.len()).sum::<usize>() + append.attributes.len();
        self.bytes(append.topic.as_bytes());
        self.number(MESSAGE_OVERHEAD + parts as u64);
        self.0.push(head(append));
        self.template(&append.payload);
    }

    /// Literals that follow each other are one part.
    fn template(&mut self, template: &[Part]) {
        let at = self.0.len();
        self.0.push(Vec::new());
        let mut after_bytes = false;
        for part in template {
            let (kind, index) = match part {
                Part::Bytes(bytes) => {
                    match self.0.last_mut().filter(|_| after_bytes) {
                        Some(before) => before.extend_from_slice(bytes),
                        None => self.0.push([b"b", &**bytes].concat()),
                    }
                    after_bytes = true;
                    continue;
                }
                Part::Sum(index) => (b's', Some(*index)),
                Part::Sequence(index) => (b'q', Some(*index)),
                Part::Time => (b't', None),
            };
            after_bytes = false;
            let mut text = vec![kind];
            if let Some(index) = index {
                text.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
            }
            self.0.push(text);
        }
        let count = self.0.len() - at - 1;
        if let Some(place) = self.0.get_mut(at) {
            *place = itoa::Buffer::new().format(count).as_bytes().to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_store::commit::literal;

    #[test]
    fn literals_that_follow_each_other_are_one_part() {
        let mut list = List(Vec::new());
        list.template(&[
            Part::Bytes(b"a".into()),
            Part::Bytes(b"b".into()),
            Part::Sum(63),
            Part::Bytes(Vec::new()),
            Part::Time,
        ]);
        assert_eq!(list.0, [&b"4"[..], b"bab", b"s63", b"b", b"t"]);
        let mut list = List(Vec::new());
        list.template(&literal(""));
        list.template(&[]);
        assert_eq!(list.0, [&b"1"[..], b"b", b"0"]);
    }
}
