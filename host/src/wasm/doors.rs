//! How the two kinds of component are started and called.

use super::bindings::{filter, gate, types};
use super::instance::Door;
use super::ports::Guest;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Accessor, Component, Linker, ResourceType};

/// The interfaces that only the Spin door uses. No typed call reaches them.
const SPIN_DOOR: &[&str] = &[WASI_HTTP, "spin:", "fermyon:"];
/// That part of them which other hosts know as well.
pub const WASI_HTTP: &str = "wasi:http/";

/// The limiter's typed door.
pub struct FilterDoor(filter::HostFilterPre<Guest>);

/// The typed door of shortener, coupon, forward and admin.
pub struct GateDoor(gate::HostGatePre<Guest>);

impl FilterDoor {
    /// Typechecks the component against the world `host-filter`.
    pub fn new(linker: &Linker<Guest>, component: &Component) -> anyhow::Result<Self> {
        let linker = with_spin_door_shut(linker, component)?;
        Ok(Self(filter::HostFilterPre::new(
            linker.instantiate_pre(component)?,
        )?))
    }
}

impl GateDoor {
    /// Typechecks the component against the world `host-gate`.
    pub fn new(linker: &Linker<Guest>, component: &Component) -> anyhow::Result<Self> {
        let linker = with_spin_door_shut(linker, component)?;
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

fn with_spin_door_shut(linker: &Linker<Guest>, component: &Component) -> anyhow::Result<Linker<Guest>> {
    let mut linker = linker.clone();
    shut_spin_door(&mut linker, component, &[])?;
    Ok(linker)
}

/// Puts traps in place of what only the Spin door imports, but for the `open` interfaces (by how their names begin).
/// (wasmtime's own `define_unknown_imports_as_traps` compares exact names, and so would hide WASI 0.2.x interfaces that the
/// linker has under a later patch version.)
pub fn shut_spin_door<T: 'static>(
    linker: &mut Linker<T>,
    component: &Component,
    open: &[&str],
) -> anyhow::Result<()> {
    let engine = component.engine();
    let ty = component.component_type();
    for (interface, item) in ty.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            continue;
        };
        let is_of = |interfaces: &[&str]| interfaces.iter().any(|prefix| interface.starts_with(prefix));
        if !is_of(SPIN_DOOR) || is_of(open) {
            continue;
        }
        let mut stub = linker.instance(interface)?;
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(function) if function.async_() => {
                    stub.func_new_concurrent(name, |_, _, _, _| Box::pin(async { Err(shut()) }))?;
                }
                ComponentItem::ComponentFunc(_) => stub.func_new(name, |_, _, _, _| Err(shut()))?,
                ComponentItem::Resource(_) => {
                    stub.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn shut() -> wasmtime::Error {
    wasmtime::format_err!(
        "the Spin door is shut in this host: the component was called through its typed door"
    )
}
