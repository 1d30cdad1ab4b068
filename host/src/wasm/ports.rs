//! The ports of `wit/edge.wit`, answered by the native engines. Glue only: shapes in, shapes out.

use super::bindings::{buckets, store, types};
use std::sync::Arc;
use tollgate_core::bucket::{Bucket, Level, TakeError};
use tollgate_core::commit as core;
use tollgate_engine::{MemoryBuckets, SqliteStore};
use wasmtime::component::{Accessor, HasData, Linker, ResourceTable};
use wasmtime::{Engine, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// The most resources (streams, fields, …) that one instance may hold.
const MAX_RESOURCES: usize = 4_096;
/// The most tables and memories' instances that one component may have.
const MAX_PARTS: usize = 32;

/// What the ports reach.
#[derive(Clone)]
pub struct Engines {
    /// Keys and topics.
    pub store: Arc<SqliteStore>,
    /// Token buckets.
    pub buckets: Arc<MemoryBuckets>,
    /// The text of the configuration, without secrets.
    pub settings: Arc<str>,
}

/// The state of one instance.
pub struct Guest {
    engines: Engines,
    wasi: WasiCtx,
    table: ResourceTable,
    /// Memory and table bounds.
    pub limits: StoreLimits,
    /// Epochs since a call of this instance last ended, while it was running.
    pub busy_epochs: u32,
}

impl Guest {
    /// State for a new instance. It gets the configuration, clocks, randomness and stderr; no files, no network.
    pub fn new(engines: Engines) -> Self {
        let wasi = WasiCtxBuilder::new()
            .env("TOLLGATE_CONFIG", &*engines.settings)
            .inherit_stderr()
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let limits = StoreLimitsBuilder::new()
            .memory_size(super::compiled::MAX_INSTANCE_MEMORY)
            .instances(MAX_PARTS)
            .tables(MAX_PARTS)
            .memories(MAX_PARTS)
            .build();
        Self {
            engines,
            wasi,
            table,
            limits,
            busy_epochs: 0,
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Everything a component of ours may import.
pub fn linker(engine: &Engine) -> anyhow::Result<Linker<Guest>> {
    let mut linker = Linker::<Guest>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    buckets::add_to_linker::<_, Ports>(&mut linker, |guest: &mut Guest| &mut guest.engines)?;
    store::add_to_linker::<_, Ports>(&mut linker, |guest: &mut Guest| &mut guest.engines)?;
    Ok(linker)
}

/// Names the data that the ports work on.
pub struct Ports;

impl HasData for Ports {
    type Data<'a> = &'a mut Engines;
}

fn engines<T: 'static>(accessor: &Accessor<T, Ports>) -> Engines {
    accessor.with(|mut access| access.get().clone())
}

impl types::Host for Engines {}

impl buckets::Host for Engines {
    fn take_now(
        &mut self,
        wanted: Vec<buckets::Bucket>,
    ) -> Option<Result<Vec<buckets::Level>, buckets::TakeError>> {
        Some(take(&self.buckets, wanted))
    }
}

fn take(
    engine: &MemoryBuckets,
    wanted: Vec<buckets::Bucket>,
) -> Result<Vec<buckets::Level>, buckets::TakeError> {
    let wanted: Vec<Bucket> = wanted.into_iter().map(Into::into).collect();
    match engine.take_now(&wanted) {
        Ok(levels) => Ok(levels.into_iter().map(Into::into).collect()),
        Err(error) => Err(error.into()),
    }
}

impl<T: Send + 'static> buckets::HostWithStore<T> for Ports {
    async fn take(
        accessor: &Accessor<T, Self>,
        wanted: Vec<buckets::Bucket>,
    ) -> Result<Vec<buckets::Level>, buckets::TakeError> {
        let engine = accessor.with(|mut access| access.get().buckets.clone());
        take(&engine, wanted)
    }
}

impl store::Host for Engines {
    fn get_now(&mut self, _partition: String, keys: Vec<String>) -> Option<Vec<Option<store::Entry>>> {
        let entry = |key: &String| {
            let entry = self.store.get_now(key)?;
            Some(entry.map(|entry| core::Entry::clone(&entry).into()))
        };
        keys.iter().map(entry).collect()
    }

    fn submit(&mut self, commit: store::Transaction) {
        self.store.submit(commit.into());
    }
}

impl<T: Send + 'static> store::HostWithStore<T> for Ports {
    async fn commit(
        accessor: &Accessor<T, Self>,
        commit: store::Transaction,
    ) -> Result<store::Outcome, store::StoreError> {
        let outcome = engines(accessor).store.commit(commit.into()).await?;
        Ok(outcome.into())
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        partition: String,
        keys: Vec<String>,
    ) -> Result<Vec<Option<store::Entry>>, store::StoreError> {
        let entries = engines(accessor).store.get(&partition, &keys).await?;
        Ok(entries.into_iter().map(|entry| entry.map(Into::into)).collect())
    }

    async fn scan(
        accessor: &Accessor<T, Self>,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<store::Item>, store::StoreError> {
        let items = engines(accessor)
            .store
            .scan(&prefix, after.as_deref(), limit)
            .await?;
        Ok(items
            .into_iter()
            .map(|item| store::Item {
                key: item.key,
                entry: item.entry.into(),
            })
            .collect())
    }

    async fn read(
        accessor: &Accessor<T, Self>,
        topic: String,
        after: u64,
        limit: u32,
        wait: u32,
    ) -> Result<Vec<store::Message>, store::StoreError> {
        let messages = engines(accessor).store.read(&topic, after, limit, wait).await?;
        Ok(messages.into_iter().map(Into::into).collect())
    }

    async fn topics(
        accessor: &Accessor<T, Self>,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<store::Topic>, store::StoreError> {
        let topics = engines(accessor).store.topics(after.as_deref(), limit).await?;
        Ok(topics.into_iter().map(Into::into).collect())
    }
}

fn template(parts: Vec<store::Part>) -> core::Template {
    let part = |part| match part {
        store::Part::Bytes(bytes) => core::Part::Bytes(bytes),
        store::Part::Sum(index) => core::Part::Sum(index),
        store::Part::Sequence(index) => core::Part::Sequence(index),
        store::Part::Time => core::Part::Time,
    };
    parts.into_iter().map(part).collect()
}

impl From<store::Transaction> for core::Commit {
    fn from(commit: store::Transaction) -> Self {
        Self {
            partition: commit.partition,
            idempotence: commit.idempotence.map(|i| core::Idempotence {
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

impl From<store::Condition> for core::Condition {
    fn from(condition: store::Condition) -> Self {
        match condition {
            store::Condition::Absent(key) => Self::Absent(key),
            store::Condition::Version(v) => Self::Version {
                key: v.key,
                version: v.version,
            },
            store::Condition::NowIn(window) => Self::NowIn {
                start: window.start,
                end: window.end,
            },
        }
    }
}

impl From<store::Mutation> for core::Mutation {
    fn from(mutation: store::Mutation) -> Self {
        match mutation {
            store::Mutation::Set(set) => Self::Set {
                key: set.key,
                value: template(set.value),
                expires: set.expires,
            },
            store::Mutation::Delete(key) => Self::Delete { key },
            store::Mutation::Add(add) => Self::Add {
                key: add.key,
                delta: add.delta,
                min: add.min,
                max: add.max,
            },
        }
    }
}

impl From<store::Append> for core::Append {
    fn from(append: store::Append) -> Self {
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

impl From<core::Outcome> for store::Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Committed(c) => Self::Committed(store::Committed {
                version: c.version,
                sums: c.sums,
                sequences: c.sequences,
                time: c.time,
            }),
            core::Outcome::Replayed(answer) => Self::Replayed(answer),
            core::Outcome::Conflict => Self::Conflict,
            core::Outcome::Refused(core::Refusal::Condition(i)) => {
                Self::Refused(store::Refusal::Condition(i))
            }
            core::Outcome::Refused(core::Refusal::Mutation(i)) => Self::Refused(store::Refusal::Mutation(i)),
        }
    }
}

impl From<core::StoreError> for store::StoreError {
    fn from(error: core::StoreError) -> Self {
        match error {
            core::StoreError::Unavailable(why) => Self::Unavailable(why),
            core::StoreError::Unknown(why) => Self::Unknown(why),
            core::StoreError::Invalid(why) => Self::Invalid(why),
        }
    }
}

impl From<core::Entry> for store::Entry {
    fn from(entry: core::Entry) -> Self {
        Self {
            value: entry.value,
            version: entry.version,
            expires: entry.expires,
        }
    }
}

impl From<core::Message> for store::Message {
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

impl From<core::Topic> for store::Topic {
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

impl From<buckets::Bucket> for Bucket {
    fn from(bucket: buckets::Bucket) -> Self {
        Self {
            key: bucket.key,
            capacity: bucket.capacity,
            refill: bucket.refill,
            interval_ns: bucket.interval_ns,
            cost: bucket.cost,
        }
    }
}

impl From<Level> for buckets::Level {
    fn from(level: Level) -> Self {
        Self {
            remaining: level.remaining,
            next_ns: level.next_ns,
            full_ns: level.full_ns,
        }
    }
}

impl From<TakeError> for buckets::TakeError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Refused { index, levels } => Self::Refused(buckets::Refusal {
                index,
                levels: levels.into_iter().map(Into::into).collect(),
            }),
            TakeError::Unavailable(why) => Self::Unavailable(why),
            TakeError::Invalid(why) => Self::Invalid(why),
        }
    }
}
