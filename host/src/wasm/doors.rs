//! How the two kinds of component are started and called.

use super::bindings::{filter, gate, types};
use super::instance::Door;
use super::ports::Guest;
use wasmtime::Store;
use wasmtime::component::{Accessor, Component, Linker};

/// The limiter's typed door.
pub struct FilterDoor(filter::HostFilterPre<Guest>);

/// The typed door of shortener, coupon, forward and admin.
pub struct GateDoor(gate::HostGatePre<Guest>);

impl FilterDoor {
    /// Imports that no typed call reaches (the Spin door's) become traps.
    pub fn new(linker: &Linker<Guest>, component: &Component) -> anyhow::Result<Self> {
        let mut linker = linker.clone();
        linker.define_unknown_imports_as_traps(component)?;
        Ok(Self(filter::HostFilterPre::new(linker.instantiate_pre(component)?)?))
    }
}

impl GateDoor {
    /// Imports that no typed call reaches (the Spin door's) become traps.
    pub fn new(linker: &Linker<Guest>, component: &Component) -> anyhow::Result<Self> {
        let mut linker = linker.clone();
        linker.define_unknown_imports_as_traps(component)?;
        Ok(Self(gate::HostGatePre::new(linker.instantiate_pre(component)?)?))
    }
}

impl Door for FilterDoor {
    type Input = types::Request;
    type Output = filter::exports::tollgate::edge::filter::Verdict;
    type Instance = filter::HostFilter;

    async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Self::Instance> {
        self.0.instantiate_async(store).await
    }

    async fn call(
        instance: &Self::Instance,
        accessor: &Accessor<Guest>,
        input: Self::Input,
    ) -> wasmtime::Result<Self::Output> {
        instance.tollgate_edge_filter().call_check(accessor, input).await
    }
}

impl Door for GateDoor {
    type Input = types::Request;
    type Output = types::Response;
    type Instance = gate::HostGate;

    async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Self::Instance> {
        self.0.instantiate_async(store).await
    }

    async fn call(
        instance: &Self::Instance,
        accessor: &Accessor<Guest>,
        input: Self::Input,
    ) -> wasmtime::Result<Self::Output> {
        instance.tollgate_edge_gate().call_handle(accessor, input).await
    }
}
