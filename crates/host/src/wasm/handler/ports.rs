//! The ports of `wit/edge.wit` for a component of the operator's own: the native engines, below a prefix.

use super::guest::Guest;
use super::prefix::Prefix;
use crate::wasm::bindings::ports::{buckets, store, upkeep};
use crate::wasm::bindings::{NoStore, key_value, variables};
use crate::wasm::ports::Engines;
use std::collections::BTreeMap;
use std::sync::Arc;
use tollgate_store::bucket::Bucket;
use tollgate_store::commit::{MAX_PAGE, Topic};
use tollgate_store::ports::Store as _;
use wasmtime::component::{Accessor, HasData, Linker, Resource};

/// The engines that its ports reach.
#[derive(Clone)]
pub struct Ports {
    engines: Engines,
    prefix: Prefix,
    variables: Arc<BTreeMap<String, String>>,
}

impl Ports {
    /// Everything below the prefix. `variables`: its environment.
    pub fn new(engines: Engines, prefix: &str, variables: BTreeMap<String, String>) -> Self {
        Self {
            engines,
            prefix: Prefix::new(prefix),
            variables: Arc::new(variables),
        }
    }

    /// Its environment.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }
}

/// Names the data that the ports work on.
struct HasPorts;

impl HasData for HasPorts {
    type Data<'a> = &'a mut Ports;
}

/// The ports, what Spin calls variables, and its key-value stores, of which there is none: the components that we compose for Spin import them.
pub fn add_to_linker(
    linker: &mut Linker<Guest>,
    ports: fn(&mut Guest) -> &mut Ports,
) -> wasmtime::Result<()> {
    buckets::add_to_linker::<_, HasPorts>(linker, ports)?;
    store::add_to_linker::<_, HasPorts>(linker, ports)?;
    upkeep::add_to_linker::<_, HasPorts>(linker, ports)?;
    key_value::add_to_linker::<_, HasPorts>(linker, ports)?;
    variables::add_to_linker::<_, HasPorts>(linker, ports)
}

fn ports<T: 'static>(accessor: &Accessor<T, HasPorts>) -> Ports {
    accessor.with(|mut access| access.get().clone())
}

tollgate_store::wit_buckets!(crate::wasm::bindings::ports::buckets);
tollgate_store::wit_store!(crate::wasm::bindings::ports::store);

impl buckets::Host for Ports {}

impl<T: Send + 'static> buckets::HostWithStore<T> for HasPorts {
    async fn take(
        accessor: &Accessor<T, Self>,
        wanted: Vec<buckets::Bucket>,
    ) -> Result<Vec<buckets::Level>, buckets::TakeError> {
        let ports = ports(accessor);
        let wanted = wanted.into_iter().map(Bucket::from).map(|bucket| Bucket {
            key: ports.prefix.put(bucket.key),
            ..bucket
        });
        let levels = ports
            .engines
            .buckets
            .take_exact(&wanted.collect::<Vec<_>>())
            .await?;
        Ok(levels.into_iter().map(Into::into).collect())
    }
}

impl store::Host for Ports {
    fn defer(&mut self, commit: store::Transaction) {
        self.engines.store.defer(self.prefix.put_all(commit.into()));
    }
}

impl<T: Send + 'static> store::HostWithStore<T> for HasPorts {
    async fn commit(
        accessor: &Accessor<T, Self>,
        commit: store::Transaction,
    ) -> Result<store::Outcome, store::StoreError> {
        let ports = ports(accessor);
        let commit = ports.prefix.put_all(commit.into());
        Ok(ports.engines.store.commit(commit).await?.into())
    }

    async fn settle(accessor: &Accessor<T, Self>) -> Result<(), store::StoreError> {
        ports(accessor).engines.settling.settle().await;
        Ok(())
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        partition: String,
        keys: Vec<String>,
    ) -> Result<Vec<Option<store::Entry>>, store::StoreError> {
        let ports = ports(accessor);
        let partition = ports.prefix.put(partition);
        let keys: Vec<_> = keys.into_iter().map(|key| ports.prefix.put(key)).collect();
        let entries = ports.engines.store.get(&partition, &keys).await?;
        Ok(entries.into_iter().map(|entry| entry.map(Into::into)).collect())
    }

    async fn scan(
        accessor: &Accessor<T, Self>,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<store::Item>, store::StoreError> {
        let ports = ports(accessor);
        let own = &ports.prefix;
        let (prefix, after) = (own.put(prefix), after.map(|after| own.put(after)));
        let items = ports.engines.store.scan(&prefix, after.as_deref(), limit).await?;
        let items = items.into_iter().filter_map(|item| {
            Some(store::Item {
                key: own.take(item.key)?,
                entry: item.entry.into(),
            })
        });
        Ok(items.collect())
    }

    async fn read(
        accessor: &Accessor<T, Self>,
        topic: String,
        after: u64,
        limit: u32,
        wait: u32,
    ) -> Result<Vec<store::Message>, store::StoreError> {
        let ports = ports(accessor);
        let named = ports.prefix.put(topic.clone());
        let messages = ports.engines.store.read(&named, after, limit, wait).await?;
        let messages = messages.into_iter().map(|mut message| {
            message.topic.clone_from(&topic);
            message.into()
        });
        Ok(messages.collect())
    }

    async fn topics(
        accessor: &Accessor<T, Self>,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<store::Topic>, store::StoreError> {
        let ports = ports(accessor);
        let own = &ports.prefix;
        // In the order of their names, those below the prefix follow it.
        let after = match after {
            Some(after) => Some(own.put(after)),
            None => Some(own.as_str().to_owned()).filter(|prefix| !prefix.is_empty()),
        };
        let topics = ports
            .engines
            .store
            .topics(after.as_deref(), limit.min(MAX_PAGE))
            .await?;
        let topics = topics.into_iter().filter_map(|topic| {
            let name = own.take(topic.name)?;
            Some(Topic { name, ..topic }.into())
        });
        Ok(topics.collect())
    }
}

impl upkeep::Host for Ports {
    /// What is deferred goes to the engine's own queue.
    fn is_behind(&mut self) -> bool {
        false
    }
}

/// The engines of this host remove by themselves, by the retention of the gateway: there is nothing to be asked for.
impl<T: Send + 'static> upkeep::HostWithStore<T> for HasPorts {
    async fn expire(_: &Accessor<T, Self>) -> Result<bool, store::StoreError> {
        Ok(false)
    }

    async fn trim(
        _: &Accessor<T, Self>,
        _topic: String,
        _retention: upkeep::Retention,
        _needed: u64,
    ) -> Result<bool, store::StoreError> {
        Ok(false)
    }

    async fn catch_up(_: &Accessor<T, Self>) {}
}

impl variables::Host for Ports {}

impl<T: Send + 'static> variables::HostWithStore<T> for HasPorts {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> Result<String, variables::Error> {
        let found = ports(accessor).variables.get(&name).cloned();
        found.ok_or(variables::Error::Undefined(name))
    }
}

impl key_value::Host for Ports {}

/// There are no stores of Spin's here, and so nothing that was opened.
impl key_value::HostStore for Ports {
    fn drop(&mut self, _: Resource<NoStore>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl<T: Send + 'static> key_value::HostStoreWithStore<T> for HasPorts {
    async fn open(_: &Accessor<T, Self>, _label: String) -> Result<Resource<NoStore>, key_value::Error> {
        Err(key_value::Error::AccessDenied)
    }

    async fn get(
        _: &Accessor<T, Self>,
        _: Resource<NoStore>,
        _key: String,
    ) -> Result<Option<Vec<u8>>, key_value::Error> {
        Err(key_value::Error::AccessDenied)
    }

    async fn set(
        _: &Accessor<T, Self>,
        _: Resource<NoStore>,
        _key: String,
        _value: Vec<u8>,
    ) -> Result<(), key_value::Error> {
        Err(key_value::Error::AccessDenied)
    }
}
