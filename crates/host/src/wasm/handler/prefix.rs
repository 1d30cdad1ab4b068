//! A component's own part of the store: names get a prefix on their way in, and lose it on their way out.

use std::sync::Arc;
use tollgate_store::commit::{Commit, Condition, Mutation};

/// The prefix of every name.
#[derive(Clone, Debug)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// May be empty.
    pub fn new(prefix: &str) -> Self {
        Self(prefix.into())
    }

    /// The prefix itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name as the store knows it.
    pub fn put(&self, name: String) -> String {
        match self.0.is_empty() {
            true => name,
            false => [&*self.0, &name].concat(),
        }
    }

    /// A name as its owner knows it, if it is one of its own.
    pub fn take(&self, name: String) -> Option<String> {
        match self.0.is_empty() {
            true => Some(name),
            false => name.strip_prefix(&*self.0).map(str::to_owned),
        }
    }

    /// A commit, with all of its names.
    pub fn put_all(&self, commit: Commit) -> Commit {
        if self.0.is_empty() {
            return commit;
        }
        let Commit {
            partition,
            idempotence,
            conditions,
            mutations,
            appends,
        } = commit;
        Commit {
            partition: self.put(partition),
            idempotence: idempotence.map(|mut once| {
                once.id = self.put(once.id);
                once
            }),
            conditions: conditions.into_iter().map(|one| self.condition(one)).collect(),
            mutations: mutations.into_iter().map(|one| self.mutation(one)).collect(),
            appends: appends
                .into_iter()
                .map(|mut append| {
                    append.topic = self.put(append.topic);
                    append
                })
                .collect(),
        }
    }

    fn condition(&self, condition: Condition) -> Condition {
        match condition {
            Condition::Absent(key) => Condition::Absent(self.put(key)),
            Condition::Version { key, version } => Condition::Version {
                key: self.put(key),
                version,
            },
            Condition::NowIn { start, end } => Condition::NowIn { start, end },
            Condition::TopicBelow { topic, bytes } => Condition::TopicBelow {
                topic: self.put(topic),
                bytes,
            },
        }
    }

    fn mutation(&self, mutation: Mutation) -> Mutation {
        match mutation {
            Mutation::Set { key, value, expires } => Mutation::Set {
                key: self.put(key),
                value,
                expires,
            },
            Mutation::Delete { key } => Mutation::Delete { key: self.put(key) },
            Mutation::Add { key, delta, min, max } => Mutation::Add {
                key: self.put(key),
                delta,
                min,
                max,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_store::commit::{Append, Idempotence, literal};

    #[test]
    fn every_name_of_a_commit_is_below_the_prefix() {
        let commit = Commit {
            partition: "secret-p".into(),
            idempotence: Some(Idempotence {
                id: "secret-i".into(),
                fingerprint: Vec::new(),
                answer: Vec::new(),
                ttl: 1,
            }),
            conditions: vec![
                Condition::Absent("secret-a".into()),
                Condition::Version {
                    key: "secret-b".into(),
                    version: 1,
                },
                Condition::NowIn {
                    start: None,
                    end: None,
                },
                Condition::TopicBelow {
                    topic: "secret-t".into(),
                    bytes: 1,
                },
            ],
            mutations: vec![
                Mutation::Set {
                    key: "secret-c".into(),
                    value: literal("v"),
                    expires: None,
                },
                Mutation::Delete {
                    key: "secret-d".into(),
                },
                Mutation::Add {
                    key: "secret-e".into(),
                    delta: 1,
                    min: None,
                    max: None,
                },
            ],
            appends: vec![Append {
                topic: "secret-u".into(),
                id: "m".into(),
                key: "k".into(),
                kind: "t".into(),
                content_type: "c".into(),
                attributes: Vec::new(),
                payload: literal("p"),
            }],
        };
        let put = format!("{:?}", Prefix::new("app/x/").put_all(commit.clone()));
        assert_eq!(put.matches("app/x/secret-").count(), 9);
        assert_eq!(put.matches("secret-").count(), 9);
        assert_eq!(Prefix::new("").put_all(commit.clone()), commit);
    }

    #[test]
    fn what_is_not_below_the_prefix_is_nobodys() {
        let prefix = Prefix::new("app/x/");
        assert_eq!(prefix.put("k".into()), "app/x/k");
        assert_eq!(prefix.take("app/x/k".into()), Some("k".into()));
        assert_eq!(prefix.take("app/xy/k".into()), None);
        assert_eq!(prefix.take("link/k".into()), None);
        assert_eq!(Prefix::new("").take("link/k".into()), Some("link/k".into()));
    }
}
