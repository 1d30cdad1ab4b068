//! The state of one instance.

use super::compiled::MAX_INSTANCE_MEMORY;
use super::guest_log::GuestLog;
use super::ports::Engines;
use wasmtime::component::ResourceTable;
use wasmtime::{StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// The most resources (streams, fields, …) that one instance may hold.
const MAX_RESOURCES: usize = 4_096;
/// The most tables and memories' instances that one component may have.
const MAX_PARTS: usize = 32;

/// The state of one instance.
pub struct Guest {
    /// The engines that its ports reach.
    pub engines: Engines,
    wasi: WasiCtx,
    table: ResourceTable,
    /// Memory and table bounds.
    pub limits: StoreLimits,
    /// Epochs that the call under way has run through.
    pub busy_epochs: u32,
}

impl Guest {
    /// State for a new instance of the component. It gets clocks, randomness and our log; no files, no network.
    pub fn new(engines: Engines, component: &'static str) -> Self {
        let log = GuestLog::of(component);
        let wasi = WasiCtxBuilder::new().stdout(log.clone()).stderr(log).build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let limits = StoreLimitsBuilder::new()
            .memory_size(MAX_INSTANCE_MEMORY)
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
