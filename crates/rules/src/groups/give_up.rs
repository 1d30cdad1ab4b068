//! Messages that were leased as often as they may be become dead letters, when somebody looks.

use std::collections::BTreeMap;

use crate::world::World;
use tollgate_delivery::groups::State;
use tollgate_delivery::groups::window::Held;
use tollgate_delivery::relay::record::{DeadLetter, Keys, StoredMessage, Waiting};
use tollgate_store::commit::{Commit, Condition, Message, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// Dead letters of one commit, and their bytes.
const BATCH: (usize, usize) = (16, 700 << 10);

/// What became of a commit that depends on what was read, and on the time.
pub(super) enum Done {
    Committed,
    /// Others changed what was read.
    Conflict,
    /// By the store's clock it is too early, or too late.
    NotNow,
}

impl Done {
    /// `time`: the index of the condition on the time.
    pub(super) fn refused(refusal: Refusal, time: usize) -> Self {
        match refusal {
            Refusal::Condition(index) if index as usize == time => Self::NotNow,
            Refusal::Condition(_) | Refusal::Mutation(_) => Self::Conflict,
        }
    }
}

/// Makes dead letters of some of the messages `spent`. Changes `state`, which is not to be used after it.
pub(super) async fn give_up<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    keys: &Keys,
    mut state: State,
    spent: &[u64],
) -> Result<(Done, u64), StoreError> {
    let (most, most_bytes) = BATCH;
    let (mut letters, mut bytes, mut due) = (Vec::new(), 0, 0);
    let mut deleted = Vec::new();
    let spent = spent.get(..most.min(spent.len())).unwrap_or_default();
    let mut carried = carried(world.store, keys, &state, spent).await?;
    for &sequence in spent {
        let Some(held) = state.windows.get(sequence).copied() else {
            continue;
        };
        let message = match carried.remove(&sequence) {
            Some(message) => Some(message),
            None => message(world.store, topic, sequence)
                .await?
                .as_ref()
                .map(Embedded::of),
        };
        // Retention took it, or somebody removed the topic.
        if let Some(message) = message {
            let value = letter(&held, sequence, message, world.now);
            if !letters.is_empty() && bytes + value.len() > most_bytes {
                break;
            }
            bytes += value.len();
            letters.push(Mutation::Set {
                key: keys.dead(sequence),
                value: literal(value),
                expires: None,
            });
        }
        if held.carried {
            deleted.push(Mutation::Delete {
                key: keys.retry(sequence),
            });
        }
        due = due.max(held.due());
        state.windows.remove(sequence);
    }
    let mut commit = Commit {
        partition: keys.partition().to_owned(),
        conditions: vec![Condition::NowIn {
            start: Some(due),
            end: None,
        }],
        ..Commit::default()
    };
    state.windows.write(keys, &mut commit);
    if !letters.is_empty() {
        commit.mutations.push(Mutation::Add {
            key: keys.deaths(),
            delta: i64::try_from(letters.len()).unwrap_or(i64::MAX),
            min: None,
            max: None,
        });
    }
    commit.mutations.extend(letters);
    commit.mutations.extend(deleted);
    let done = match world.store.commit(commit).await? {
        Outcome::Committed(_) => Done::Committed,
        Outcome::Refused(refusal) => Done::refused(refusal, 0),
        Outcome::Replayed(_) | Outcome::Conflict => Done::Conflict,
    };
    Ok((done, due))
}

/// A message as its dead letter has it.
pub(super) struct Embedded {
    id: String,
    message: Option<StoredMessage>,
}

impl Embedded {
    fn of(message: &Message) -> Self {
        Self {
            id: message.id.clone(),
            message: StoredMessage::of(message),
        }
    }
}

/// The messages of those among `sequences` that carry one.
async fn carried<S: Store>(
    store: &S,
    keys: &Keys,
    state: &State,
    sequences: &[u64],
) -> Result<BTreeMap<u64, Embedded>, StoreError> {
    let is_carried = |sequence: &&u64| state.windows.get(**sequence).is_some_and(|held| held.carried);
    let carried: Vec<u64> = sequences.iter().filter(is_carried).copied().collect();
    let mut found = BTreeMap::new();
    for (sequence, waiting) in carried_entries(store, keys, &carried).await? {
        if let Some(message) = waiting.message {
            let id = message.id().to_owned();
            found.insert(
                sequence,
                Embedded {
                    id,
                    message: Some(message),
                },
            );
        }
    }
    Ok(found)
}

/// The entries of redriven messages.
pub(super) async fn carried_entries<S: Store>(
    store: &S,
    keys: &Keys,
    sequences: &[u64],
) -> Result<Vec<(u64, Waiting)>, StoreError> {
    if sequences.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<String> = sequences.iter().map(|sequence| keys.retry(*sequence)).collect();
    let entries = store.get(keys.partition(), &wanted).await?;
    let mut found = Vec::new();
    for (sequence, entry) in sequences.iter().zip(entries) {
        if let Some(entry) = entry {
            found.push((*sequence, stored::decode("message that was redriven", &entry)?));
        }
    }
    Ok(found)
}

/// The message with this sequence, if it is kept.
pub(super) async fn message<S: Store>(
    store: &S,
    topic: &str,
    sequence: u64,
) -> Result<Option<Message>, StoreError> {
    let found = store.read(topic, sequence.saturating_sub(1), 1, 0).await?;
    Ok(found.into_iter().find(|message| message.sequence == sequence))
}

fn letter(held: &Held, sequence: u64, embedded: Embedded, now: u64) -> Vec<u8> {
    let why = match held.lease {
        0 => "the consumer gave it back",
        _ => "its lease ran out",
    };
    let letter = DeadLetter {
        id: embedded.id,
        sequence,
        attempts: held.attempts,
        last_error: why.to_owned(),
        first_at: held.first.known().unwrap_or(now),
        died_at: now,
        message: embedded.message,
    };
    serde_json::to_vec(&letter).expect("a struct of plain fields serialises")
}
