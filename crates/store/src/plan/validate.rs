//! Whether a commit keeps the rules of the port, whatever the store holds.

use std::collections::HashSet;

use super::MAX_STORED;
use crate::commit::{
    Append, Commit, Condition, Idempotence, MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_STEPS, Mutation, Part,
    StoreError,
};

/// What a number counts towards the size of a commit: the longest one in decimal.
const NUMBER_BYTES: usize = 20;

/// `Ok` if the commit keeps the rules of `interface store`:
/// - at most [`MAX_STEPS`] conditions, mutations and appends each, [`MAX_COMMIT_BYTES`] together;
/// - names (keys, topics, message and idempotence ids) of 1 to [`MAX_KEY_BYTES`] bytes; the other texts (partition,
///   message key, type, media type) may be empty. None holds a NUL, which SQL engines cannot store as text;
/// - no key mutated twice; every [`Part::Sum`] at an `Add`, every [`Part::Sequence`] at an append;
/// - expiries a signed 64-bit integer can hold.
pub fn validate(commit: &Commit) -> Result<(), StoreError> {
    measure(commit).map(|_| ())
}

/// [`validate`], and the commit's size in bytes: at most [`MAX_COMMIT_BYTES`].
pub fn measure(commit: &Commit) -> Result<usize, StoreError> {
    let counts = [
        ("conditions", commit.conditions.len()),
        ("mutations", commit.mutations.len()),
        ("appends", commit.appends.len()),
    ];
    for (what, count) in counts {
        ensure(count <= MAX_STEPS, || {
            format!("a commit takes at most {MAX_STEPS} {what}, not {count}")
        })?;
    }
    let mut check = Check { commit, bytes: 0 };
    check.text("the partition", &commit.partition)?;
    if let Some(idempotence) = &commit.idempotence {
        check.idempotence(idempotence)?;
    }
    for condition in &commit.conditions {
        match condition {
            Condition::Absent(key) | Condition::Version { key, .. } => check.name("a key", key)?,
            Condition::NowIn { .. } => {}
            Condition::TopicBelow { topic, .. } => check.name("a topic", topic)?,
        }
    }
    check.mutations()?;
    for append in &commit.appends {
        check.append(append)?;
    }
    let bytes = check.bytes;
    ensure(bytes <= MAX_COMMIT_BYTES, || {
        format!("a commit takes at most {MAX_COMMIT_BYTES} bytes, not {bytes}")
    })?;
    Ok(bytes)
}

/// [`validate`], and no idempotence id, conditions or bounds: what `defer` takes. Nobody waits for its outcome, so
/// nothing may depend on it.
pub fn measure_deferred(commit: &Commit) -> Result<usize, StoreError> {
    let bytes = measure(commit)?;
    let bounded =
        |m: &Mutation| matches!(m, Mutation::Add { min, max, .. } if min.is_some() || max.is_some());
    let plain = commit.idempotence.is_none() && commit.conditions.is_empty();
    ensure(plain && !commit.mutations.iter().any(bounded), || {
        "a deferred commit has no idempotence id, no conditions and no bounds".to_owned()
    })?;
    Ok(bytes)
}

struct Check<'a> {
    commit: &'a Commit,
    bytes: usize,
}

impl Check<'_> {
    fn name(&mut self, what: &str, name: &str) -> Result<(), StoreError> {
        ensure(!name.is_empty(), || format!("{what} is empty"))?;
        self.text(what, name)
    }

    fn text(&mut self, what: &str, text: &str) -> Result<(), StoreError> {
        self.bytes += text.len();
        let length = text.len();
        ensure(length <= MAX_KEY_BYTES, || {
            format!("{what} has {length} bytes, over {MAX_KEY_BYTES}")
        })?;
        ensure(!text.contains('\0'), || format!("{what} holds a NUL"))
    }

    fn template(&mut self, template: &[Part]) -> Result<(), StoreError> {
        for part in template {
            // An empty part still costs work: it counts as a byte.
            self.bytes += match part {
                Part::Bytes(bytes) => bytes.len().max(1),
                Part::Sum(_) | Part::Sequence(_) | Part::Time => NUMBER_BYTES,
            };
            match *part {
                Part::Bytes(_) | Part::Time => {}
                Part::Sum(index) => {
                    let at = self.commit.mutations.get(index as usize);
                    ensure(matches!(at, Some(Mutation::Add { .. })), || {
                        format!("mutation {index} is not an add")
                    })?;
                }
                Part::Sequence(index) => {
                    let there = (index as usize) < self.commit.appends.len();
                    ensure(there, || format!("there is no append {index}"))?;
                }
            }
        }
        Ok(())
    }

    fn idempotence(&mut self, idempotence: &Idempotence) -> Result<(), StoreError> {
        self.name("the idempotence id", &idempotence.id)?;
        self.bytes += idempotence.fingerprint.len();
        self.template(&idempotence.answer)
    }

    fn mutations(&mut self) -> Result<(), StoreError> {
        let mut seen = HashSet::with_capacity(self.commit.mutations.len());
        for mutation in &self.commit.mutations {
            let key = mutation.key();
            self.name("a key", key)?;
            ensure(seen.insert(key), || format!("the key {key:?} is mutated twice"))?;
            if let Mutation::Set { value, expires, .. } = mutation {
                self.template(value)?;
                ensure(expires.is_none_or(|at| at <= MAX_STORED), || {
                    format!("{key:?} expires too late")
                })?;
            }
        }
        Ok(())
    }

    fn append(&mut self, append: &Append) -> Result<(), StoreError> {
        self.name("a topic", &append.topic)?;
        self.name("a message id", &append.id)?;
        self.text("a message key", &append.key)?;
        self.text("a message type", &append.kind)?;
        self.text("a content type", &append.content_type)?;
        self.bytes += append.attributes.len();
        self.template(&append.payload)
    }
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), StoreError> {
    if holds {
        Ok(())
    } else {
        Err(StoreError::Invalid(why()))
    }
}
