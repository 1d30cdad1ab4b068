//! What operators set over the API while the gateway runs, beside the file: overrides of limits, access lists, and waiting rooms. It is one record, read whole, so that
//! whoever judges requests knows at one look whether there is anything, and has it in force with one compilation.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::AccessList;
use crate::config::{AccessSettings, RoomSettings};
use crate::policies::{Policies, Policy, Terms};
use crate::rooms::{Room, Rooms};
use crate::settings::Settings;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::time;
use tollgate_store::bucket::Bucket;
use tollgate_store::commit::{Commit, Condition, Entry, Mutation, Outcome, Part, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The key of the record, and its partition.
pub const KEY: &str = "run-time";
/// The most overrides. Each takes some 250 bytes of the record, which every thread reads when it changes.
pub const MAX_OVERRIDES: usize = 1_000;
/// How often a change that another overtook is tried again.
const ATTEMPTS: usize = 8;
/// The most bytes of the record: every thread reads it when it changes, and a commit has room for 1 MiB.
const MAX_BYTES: usize = 512 << 10;

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// In the order in which they were made.
    #[serde(default)]
    pub(crate) overrides: Vec<OverrideRecord>,
    /// In the order in which they were made.
    #[serde(default)]
    pub(crate) access: Vec<AccessSettings>,
    /// In the order in which they were made.
    #[serde(default)]
    pub(crate) rooms: Vec<RoomSettings>,
}

/// What one client is granted in place of a policy's own terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OverrideRecord {
    /// The client id, or `user:<id>`.
    pub(crate) client: String,
    /// The name of the policy.
    pub(crate) policy: String,
    pub(crate) capacity: u64,
    pub(crate) refill: u64,
    pub(crate) interval_ns: u64,
    /// Unix milliseconds; from then on the policy's own terms count again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<u64>,
    /// Unix milliseconds.
    pub(crate) created_at: u64,
}

impl OverrideRecord {
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// The bucket without its key, which still has to be checked. The cost is the policy's.
    pub(crate) fn bucket(&self, policy: &Policy) -> Bucket {
        Bucket {
            key: String::new(),
            capacity: self.capacity,
            refill: self.refill,
            interval_ns: self.interval_ns,
            cost: policy.terms.bucket.cost,
        }
    }
}

/// An override, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    pub(crate) terms: Terms,
    until: Option<u64>,
}

impl Override {
    pub(crate) fn is_in_force(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The record, compiled against the policies in force. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RunTime(Arc<Compiled>);

#[derive(Debug, Default)]
struct Compiled {
    document: Document,
    /// By policy, then by client.
    overrides: HashMap<String, HashMap<String, Override>>,
    access: Vec<AccessList>,
    rooms: Rooms,
}

impl RunTime {
    fn compile(document: Document, policies: &Policies) -> Self {
        let mut overrides: HashMap<String, HashMap<String, Override>> = HashMap::new();
        for one in &document.overrides {
            // A policy may be gone from the file, or cost more than it did: its override rests until the policy fits again.
            let Some(policy) = policies.iter().find(|policy| policy.name == one.policy) else {
                continue;
            };
            let bucket = one.bucket(policy);
            if bucket.check().is_err() {
                continue;
            }
            let compiled = Override {
                terms: Terms::new(&policy.quoted, bucket),
                until: one.until,
            };
            let of_policy = overrides.entry(one.policy.clone()).or_default();
            of_policy.insert(one.client.clone(), compiled);
        }
        // Each was compiled before it was stored.
        let access = document.access.iter();
        let access = access.filter_map(|list| AccessList::compile(list).ok()).collect();
        let rooms = document.rooms.iter();
        let rooms = rooms.filter_map(|room| Room::compile(room, false).ok());
        Self(Arc::new(Compiled {
            rooms: Rooms::new(rooms.collect()),
            document,
            overrides,
            access,
        }))
    }

    /// The access lists.
    pub(crate) fn access(&self) -> &[AccessList] {
        &self.0.access
    }

    /// The waiting rooms.
    pub(crate) fn rooms(&self) -> &Rooms {
        &self.0.rooms
    }

    /// The overrides of a policy by client, if it has any.
    pub(crate) fn overrides_of(&self, policy: &str) -> Option<&HashMap<String, Override>> {
        match self.0.overrides.is_empty() {
            true => None,
            false => self.0.overrides.get(policy),
        }
    }
}

impl Settings {
    /// What is set over the API from now on: the text of the record, empty for none.
    ///
    /// # Errors
    /// It is damaged.
    pub fn set_run_time(&mut self, record: &[u8]) -> Result<(), String> {
        let document = match record.is_empty() {
            true => Document::default(),
            false => serde_json::from_slice(record).map_err(|error| error.to_string())?,
        };
        self.run_time = RunTime::compile(document, &self.policies);
        Ok(())
    }

    /// Goes on with what is set over the API under the settings before.
    pub fn keep_run_time(&mut self, before: &Self) {
        self.run_time = RunTime::compile(before.run_time.0.document.clone(), &self.policies);
    }
}

/// The entry of the record.
///
/// # Errors
/// The store cannot be asked.
pub async fn entry<S: Store>(store: &S) -> Result<Option<Entry>, StoreError> {
    let found = store.get(KEY, &[KEY.to_owned()]).await?;
    Ok(found.into_iter().flatten().next())
}

/// The record.
///
/// # Errors
/// The store cannot be asked, or the record is damaged.
pub(crate) async fn read<S: Store>(store: &S) -> Result<(Document, Option<u64>), StoreError> {
    Ok(match entry(store).await? {
        None => (Document::default(), None),
        Some(entry) => (
            stored::decode("record of run-time settings", &entry)?,
            Some(entry.version),
        ),
    })
}

/// Changes the record. `change` is called again on the newest one where another change came between; where it gives `false`, nothing
/// is to be changed. Overrides that are over are left out of what is written.
///
/// # Errors
/// What `change` says, or the store; 409 where others changed it all the time.
pub(crate) async fn change<S: Store>(
    store: &S,
    now: u64,
    mut change: impl FnMut(&mut Document) -> Result<bool, Problem>,
) -> Result<(), Problem> {
    for _ in 0..ATTEMPTS {
        let (mut document, version) = read(store).await?;
        document.overrides.retain(|one| !one.is_over(now));
        if !change(&mut document)? {
            return Ok(());
        }
        let key = KEY.to_owned();
        let value = serde_json::to_vec(&document)
            .map_err(|_| Problem::new(Kind::Internal, "The record cannot be written."))?;
        if value.len() > MAX_BYTES {
            return Err(Problem::new(
                Kind::Conflict,
                "Overrides, access lists and rooms take 512 KiB together, as much as they may: remove some.",
            ));
        }
        let commit = Commit {
            partition: KEY.to_owned(),
            conditions: vec![Condition::unchanged(key.clone(), version)],
            mutations: vec![Mutation::Set {
                key,
                value: vec![Part::Bytes(value)],
                expires: None,
            }],
            ..Commit::default()
        };
        if let Outcome::Committed(_) = store.commit(commit).await? {
            return Ok(());
        }
    }
    Err(Problem::new(
        Kind::Conflict,
        "Others change what is set at run time all the time; try again.",
    ))
}

/// A number of seconds, whole wherever it can be.
pub(crate) fn seconds(nanos: u64) -> serde_json::Number {
    const NANOS: u64 = 1_000_000_000;
    match nanos.is_multiple_of(NANOS) {
        true => (nanos / NANOS).into(),
        false => serde_json::Number::from_f64(std::time::Duration::from_nanos(nanos).as_secs_f64())
            .unwrap_or_else(|| 0.into()),
    }
}

/// A time of the contract.
pub(crate) fn told(at: Option<u64>) -> Option<String> {
    at.map(time::format)
}
