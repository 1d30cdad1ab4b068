//! Quotas that count by outcome: a request is counted before it goes on, and what it was counted for is kept beside, as a reservation. When its
//! answer is known, the reservation ends, and the counters whose status it has not get theirs back, in the same commit: so each is
//! given back once, whoever else tries. One that nobody ends (a crash, a caller that has gone) ends by itself, and gives all back.
//!
//! A reservation is the key `quota-held/<when it ends>/<sixteen random bytes>`.

use serde::{Deserialize, Serialize};

use super::{PARTITION, SWEPT};
use tollgate_api::ids::hex;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, Part, Refusal, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The header in which the limiter tells its host which reservation to end. It is in no answer: the host takes it out.
pub const HEADER: &str = "x-tollgate-held";
const PREFIX: &str = "quota-held/";
/// How much longer than a request may take a reservation is kept, milliseconds.
pub(super) const GRACE_MS: u64 = 60_000;

/// What a reservation holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) counters: Vec<Held>,
}

/// A counter that a request was counted at, and the statuses with which it stays so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) key: String,
    pub(super) from: u16,
    pub(super) to: u16,
}

pub(super) fn key(until: u64, fresh: [u8; 16]) -> String {
    format!("{PREFIX}{until:015}/{}", hex(&fresh))
}

pub(super) fn set(key: &str, record: &Record) -> Mutation {
    Mutation::Set {
        key: key.to_owned(),
        // Texts and numbers always can be written.
        value: vec![Part::Bytes(serde_json::to_vec(record).unwrap_or_default())],
        expires: None,
    }
}

/// Ends a reservation: counters that do not count this status get theirs back. `None`: there is no answer, so all do. One that has ended
/// is left alone.
///
/// # Errors
/// The store could not be asked. What is left of it ends by itself.
pub async fn settle<S: Store>(store: &S, key: &str, status: Option<u16>) -> Result<(), StoreError> {
    let found = store.get(PARTITION, &[key.to_owned()]).await?;
    let Some(entry) = found.into_iter().flatten().next() else {
        return Ok(());
    };
    let record: Record = stored::decode("reservation of a quota", &entry)?;
    let stays = |held: &Held| status.is_some_and(|status| (held.from..=held.to).contains(&status));
    let mut back: Vec<String> = record
        .counters
        .into_iter()
        .filter(|held| !stays(held))
        .map(|held| held.key)
        .collect();
    // A counter that an operator let begin anew has nothing to give back: it is left out.
    for _ in 0..=back.len() {
        let add = |key: &String| Mutation::Add {
            key: key.clone(),
            delta: -1,
            min: Some(0),
            max: None,
        };
        let mut mutations: Vec<Mutation> = back.iter().map(add).collect();
        mutations.push(Mutation::Delete { key: key.to_owned() });
        let commit = Commit {
            partition: PARTITION.to_owned(),
            conditions: vec![Condition::Version {
                key: key.to_owned(),
                version: entry.version,
            }],
            mutations,
            ..Commit::default()
        };
        match store.commit(commit).await? {
            Outcome::Refused(Refusal::Mutation(index)) => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                if index >= back.len() {
                    break;
                }
                back.remove(index);
            }
            // Done, or by somebody else.
            _ => return Ok(()),
        }
    }
    Err(StoreError::Unknown("a reservation did not end".to_owned()))
}

/// Ends reservations that nobody has ended, one batch. Returns whether there may be more.
///
/// # Errors
/// The store cannot be asked.
pub(super) async fn end<S: Store>(store: &S, now: u64) -> Result<bool, StoreError> {
    let items = store.scan(PREFIX, None, SWEPT).await?;
    let found = items.len();
    let is_over = |key: &str| {
        let until = key
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('/').next()?.parse::<u64>().ok());
        until.is_some_and(|until| until <= now)
    };
    let over: Vec<String> = items
        .into_iter()
        .map(|item| item.key)
        .take_while(|key| is_over(key))
        .collect();
    for key in &over {
        settle(store, key, None).await?;
    }
    Ok(over.len() == found && found == SWEPT as usize)
}
