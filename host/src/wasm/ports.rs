//! The ports of `wit/edge.wit`, answered by the native engines. Glue only: shapes in, shapes out.

use super::bindings::{buckets, store, types};
use super::said::Said;
use crate::server::settle::Settling;
use std::sync::Arc;
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
    /// The workers, for clicks that they hold back.
    pub settling: Settling,
}

/// The state of one instance.
pub struct Guest {
    pub(super) engines: Engines,
    wasi: WasiCtx,
    table: ResourceTable,
    /// Memory and table bounds.
    pub limits: StoreLimits,
    /// Epochs since a call of this instance last ended, while it was running.
    pub busy_epochs: u32,
}

impl Guest {
    /// State for a new instance of the component. It gets the configuration, clocks, randomness and our log; no files,
    /// no network.
    pub fn new(engines: Engines, component: &'static str) -> Self {
        let said = Said::by(component);
        let wasi = WasiCtxBuilder::new()
            .env("TOLLGATE_CONFIG", &*engines.settings)
            .stdout(said.clone())
            .stderr(said)
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

tollgate_core::wit_types!(crate::wasm::bindings::types);
tollgate_core::wit_buckets!(crate::wasm::bindings::buckets);
tollgate_core::wit_store!(crate::wasm::bindings::store);

impl buckets::Host for Engines {}

impl<T: Send + 'static> buckets::HostWithStore<T> for Ports {
    async fn take(
        accessor: &Accessor<T, Self>,
        wanted: Vec<buckets::Bucket>,
    ) -> Result<Vec<buckets::Level>, buckets::TakeError> {
        let buckets = accessor.with(|mut access| access.get().buckets.clone());
        let wanted: Vec<_> = wanted.into_iter().map(Into::into).collect();
        let levels = buckets.take_now(&wanted)?;
        Ok(levels.into_iter().map(Into::into).collect())
    }
}

impl store::Host for Engines {
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

    async fn settle(accessor: &Accessor<T, Self>) -> Result<(), store::StoreError> {
        engines(accessor).settling.settle().await;
        Ok(())
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
