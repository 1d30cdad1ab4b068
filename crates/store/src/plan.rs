//! The decision of a commit: what it answers and what it writes, given what is there. Pure, so that the native
//! engine, the in-memory store and simulation decide alike. The order is the one that `interface store` in
//! `wit/edge.wit` promises: idempotence, conditions, mutations, appends.

use std::borrow::Borrow;

use crate::commit::{
    Append, Commit, Committed, Condition, Entry, Idempotence, Message, Mutation, Outcome, Part, Refusal,
    StoreError, Template,
};
use crate::template;

pub mod asked;
pub mod coalescer;
pub mod group;
pub mod page;
mod validate;

pub use validate::{measure, measure_deferred, validate};

/// The latest time and the largest version a store holds: what a signed 64-bit column can.
pub const MAX_STORED: u64 = i64::MAX as u64;

/// What the store holds, as a commit is decided against it.
pub trait Lookup {
    /// An entry, owned or shared.
    type Found: Borrow<Entry>;

    /// The key's entry, expired or not: the planner looks at the time itself.
    fn entry(&mut self, key: &str) -> Result<Option<Self::Found>, StoreError>;
    /// How far the topic goes.
    fn topic(&mut self, topic: &str) -> Result<Extent, StoreError>;
    /// The record kept for an idempotence id, expired or not.
    fn idempotence(&mut self, id: &str) -> Result<Option<Record>, StoreError>;
}

/// How far a topic goes. Nothing before its first message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The newest sequence given out.
    pub last: u64,
    /// What the messages that are kept weigh, bytes; see [`crate::commit::weight`].
    pub bytes: u64,
}

/// The record that is kept of a repeatable commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The idempotence id.
    pub id: String,
    /// What a repetition must match.
    pub fingerprint: Vec<u8>,
    /// What a repetition is given.
    pub answer: Vec<u8>,
    /// Unix milliseconds from which the id is forgotten.
    pub expires: u64,
}

/// The changes of a commit, all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Per mutated key what it then holds; `None` removes it. No key comes twice.
    pub entries: Vec<(String, Option<Entry>)>,
    /// New messages, in the order of their sequences per topic.
    pub messages: Vec<Message>,
    /// The record that makes the commit repeatable.
    pub record: Option<Record>,
}

/// The answer to a commit, and its writes: `None` unless the outcome is [`Outcome::Committed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the caller is told once the writes are durable.
    pub outcome: Outcome,
    /// What is to be written.
    pub writes: Option<Writes>,
}

impl Plan {
    fn nothing(outcome: Outcome) -> Self {
        Self {
            outcome,
            writes: None,
        }
    }
}

/// Whether the entry still exists at `now`: it ceases to at the very millisecond it expires.
pub fn is_live(entry: &Entry, now: u64) -> bool {
    entry.expires.is_none_or(|expires| now < expires)
}

/// The integer that a counter's value holds. Only the canonical decimal form counts (no sign `+`, no leading
/// zeros, no spaces), so that every engine, SQL ones too, agrees on what a counter is.
pub fn counter(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = text == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
    if canonical { text.parse().ok() } else { None }
}

/// Decides a commit that has passed [`validate`]. `now` is the store's time, `version` the one that the commit gets
/// if it happens; both greater than or equal to those of every commit before.
///
/// Errors are those of `lookup`, and `Invalid` where an `Add` meets an entry that is no counter; nothing is to be
/// written then.
pub fn plan<L: Lookup>(commit: Commit, now: u64, version: u64, lookup: &mut L) -> Result<Plan, StoreError> {
    let Commit {
        partition: _,
        idempotence,
        conditions,
        mutations,
        appends,
    } = commit;
    if let Some(wanted) = &idempotence
        && let Some(outcome) = repetition(wanted, now, lookup)?
    {
        return Ok(Plan::nothing(outcome));
    }
    for (index, condition) in conditions.iter().enumerate() {
        if !holds(condition, now, lookup)? {
            return Ok(Plan::nothing(Outcome::Refused(Refusal::Condition(index as u32))));
        }
    }
    let mut numbers = Committed {
        version,
        sums: Vec::with_capacity(mutations.len()),
        sequences: Vec::with_capacity(appends.len()),
        time: now,
    };
    let mut kept_expiries = Vec::with_capacity(mutations.len());
    for (index, mutation) in mutations.iter().enumerate() {
        match sum(mutation, now, lookup)? {
            Some((sum, expires)) => {
                numbers.sums.push(sum);
                kept_expiries.push(expires);
            }
            None => return Ok(Plan::nothing(Outcome::Refused(Refusal::Mutation(index as u32)))),
        }
    }
    number_appends(&appends, &mut numbers.sequences, lookup)?;
    let writes = write(idempotence, mutations, appends, &kept_expiries, &numbers);
    Ok(Plan {
        outcome: Outcome::Committed(numbers),
        writes: Some(writes),
    })
}

fn repetition<L: Lookup>(
    wanted: &Idempotence,
    now: u64,
    lookup: &mut L,
) -> Result<Option<Outcome>, StoreError> {
    let Some(record) = lookup.idempotence(&wanted.id)? else {
        return Ok(None);
    };
    if record.expires <= now {
        return Ok(None);
    }
    let same = record.fingerprint == wanted.fingerprint;
    Ok(Some(if same {
        Outcome::Replayed(record.answer)
    } else {
        Outcome::Conflict
    }))
}

fn holds<L: Lookup>(condition: &Condition, now: u64, lookup: &mut L) -> Result<bool, StoreError> {
    Ok(match condition {
        Condition::Absent(key) => live(lookup.entry(key)?, now).is_none(),
        Condition::Version { key, version } => {
            live(lookup.entry(key)?, now).is_some_and(|entry| entry.borrow().version == *version)
        }
        Condition::NowIn { start, end } => {
            start.is_none_or(|start| start <= now) && end.is_none_or(|end| now < end)
        }
        Condition::TopicBelow { topic, bytes } => lookup.topic(topic)?.bytes < *bytes,
    })
}

fn live<F: Borrow<Entry>>(found: Option<F>, now: u64) -> Option<F> {
    found.filter(|entry| is_live(entry.borrow(), now))
}

/// An `Add`'s result and the expiry it keeps; zero and nothing for other mutations; `None` if it is refused.
fn sum<L: Lookup>(
    mutation: &Mutation,
    now: u64,
    lookup: &mut L,
) -> Result<Option<(i64, Option<u64>)>, StoreError> {
    let Mutation::Add { key, delta, min, max } = mutation else {
        return Ok(Some((0, None)));
    };
    let (before, expires) = match live(lookup.entry(key)?, now) {
        None => (0, None),
        Some(entry) => {
            let entry = entry.borrow();
            let before = counter(&entry.value)
                .ok_or_else(|| StoreError::Invalid(format!("the entry {key:?} is not a counter")))?;
            (before, entry.expires)
        }
    };
    let within = |after: &i64| min.is_none_or(|min| min <= *after) && max.is_none_or(|max| *after <= max);
    Ok(before
        .checked_add(*delta)
        .filter(within)
        .map(|after| (after, expires)))
}

fn number_appends<L: Lookup>(
    appends: &[Append],
    sequences: &mut Vec<u64>,
    lookup: &mut L,
) -> Result<(), StoreError> {
    for (index, append) in appends.iter().enumerate() {
        // The topic's last append before this one in the same commit, else what the store knows.
        let before = match appends[..index]
            .iter()
            .rposition(|earlier| earlier.topic == append.topic)
        {
            Some(earlier) => sequences[earlier],
            None => lookup.topic(&append.topic)?.last,
        };
        sequences.push(before + 1);
    }
    Ok(())
}

fn write(
    idempotence: Option<Idempotence>,
    mutations: Vec<Mutation>,
    appends: Vec<Append>,
    kept_expiries: &[Option<u64>],
    numbers: &Committed,
) -> Writes {
    let version = numbers.version;
    let entries = mutations
        .into_iter()
        .enumerate()
        .map(|(index, mutation)| match mutation {
            Mutation::Set { key, value, expires } => (
                key,
                Some(Entry {
                    value: render(value, numbers),
                    version,
                    expires,
                }),
            ),
            Mutation::Delete { key } => (key, None),
            Mutation::Add { key, .. } => {
                let value = itoa::Buffer::new()
                    .format(numbers.sums[index])
                    .as_bytes()
                    .to_vec();
                (
                    key,
                    Some(Entry {
                        value,
                        version,
                        expires: kept_expiries[index],
                    }),
                )
            }
        });
    let entries = entries.collect();
    let messages = appends
        .into_iter()
        .zip(&numbers.sequences)
        .map(|(append, &sequence)| Message {
            topic: append.topic,
            sequence,
            id: append.id,
            key: append.key,
            kind: append.kind,
            content_type: append.content_type,
            time: numbers.time,
            attributes: append.attributes,
            payload: render(append.payload, numbers),
        });
    let messages = messages.collect();
    let record = idempotence.map(|wanted| Record {
        id: wanted.id,
        fingerprint: wanted.fingerprint,
        answer: render(wanted.answer, numbers),
        expires: numbers.time.saturating_add(wanted.ttl).min(MAX_STORED),
    });
    Writes {
        entries,
        messages,
        record,
    }
}

/// Fills the numbers in. An index that [`validate`] would have refused renders as nothing.
fn render(mut template: Template, numbers: &Committed) -> Vec<u8> {
    match template.as_mut_slice() {
        [Part::Bytes(whole)] => std::mem::take(whole),
        parts => template::fill(parts, numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_decimals_are_counters() {
        for (text, value) in [("0", 0), ("7", 7), ("-7", -7), ("9223372036854775807", i64::MAX)] {
            assert_eq!(counter(text.as_bytes()), Some(value), "{text}");
        }
        assert_eq!(counter(b"-9223372036854775808"), Some(i64::MIN));
        for text in [
            "",
            "-",
            "+7",
            "07",
            "-0",
            "-07",
            "00",
            " 7",
            "7 ",
            "1.0",
            "1e3",
            "9223372036854775808",
        ] {
            assert_eq!(counter(text.as_bytes()), None, "{text}");
        }
        assert_eq!(counter(&[0xff]), None);
    }
}
