//! The component of the fast path, called as a plain function on the worker's own thread. No task, no channel, no fiber:
//! it imports nothing async, so its engine and its stores need none of that machinery. See [`crate::server::fast`] for
//! who waits where a rule has to.

use super::at_once;
use super::bindings::fast_path::{self, exports::tollgate::edge::fast_path as door};
use super::bindings::memory;
use super::ports::{Engines, Guest, Ports};
use crate::server::fast::Steps;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tollgate_core::bucket::TakeError;
use tollgate_core::fast_path::{Memory, Reply, Step};
use tollgate_core::packed;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, UpdateDeadline};

/// The name of the component.
pub const NAME: &str = "fast-path";
/// Epochs in which a call may run: it has nothing to wait for, so beyond them it is stuck.
const MAX_EPOCHS: u32 = 20;

tollgate_core::wit_fast_path!(crate::wasm::bindings::fast_path::exports::tollgate::edge::fast_path);

/// One thread's instance of the component.
pub struct Instance {
    engine: Engine,
    engines: Engines,
    component: fast_path::HostFastPathPre<Guest>,
    running: RefCell<Option<(Store<Guest>, fast_path::HostFastPath)>>,
}

impl Instance {
    /// Typechecks the component against the world `host-fast-path`; it starts with the first call.
    pub fn new(component: &Component, engines: Engines) -> anyhow::Result<Self> {
        let engine = component.engine().clone();
        let mut linker = Linker::<Guest>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        at_once::replace_streams(&mut linker)?;
        memory::add_to_linker::<_, Ports>(&mut linker, |guest: &mut Guest| &mut guest.engines)?;
        let component = fast_path::HostFastPathPre::new(linker.instantiate_pre(component)?)?;
        Ok(Self {
            engine,
            engines,
            component,
            running: RefCell::default(),
        })
    }

    /// Calls the instance, on this thread, now. One that traps is replaced with the next call.
    fn call<T>(
        &self,
        function: impl FnOnce(&mut Store<Guest>, &door::Guest) -> wasmtime::Result<T>,
    ) -> Option<T> {
        let mut running = self.running.borrow_mut();
        // What of WASI is not in `at_once` (sockets, files, polling) panics where it would have to wait for the runtime that
        // this thread drives. A guest that gets there has ended, not the thread.
        let called = catch_unwind(AssertUnwindSafe(|| self.on(&mut running, function)));
        let error = match called {
            Ok(Ok(result)) => return Some(result),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it called what would have to wait".to_owned(),
        };
        tracing::error!(component = NAME, error, "an instance ended");
        *running = None;
        None
    }

    fn on<T>(
        &self,
        running: &mut Option<(Store<Guest>, fast_path::HostFastPath)>,
        function: impl FnOnce(&mut Store<Guest>, &door::Guest) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let (store, instance) = match running {
            Some(running) => running,
            None => running.insert(self.begin()?),
        };
        store.data_mut().busy_epochs = 0;
        store.set_epoch_deadline(1);
        function(store, instance.tollgate_edge_fast_path())
    }

    fn begin(&self) -> wasmtime::Result<(Store<Guest>, fast_path::HostFastPath)> {
        let mut store = Store::new(&self.engine, Guest::new(self.engines.clone(), NAME));
        store.limiter(|guest| &mut guest.limits);
        store.set_epoch_deadline(1);
        // One by one: while this thread waits for a core, epochs pass that the guest has not run in.
        store.epoch_deadline_callback(|mut store| {
            let guest = store.data_mut();
            guest.busy_epochs += 1;
            match guest.busy_epochs > MAX_EPOCHS {
                true => Err(wasmtime::format_err!("the call ran for too long")),
                false => Ok(UpdateDeadline::Continue(1)),
            }
        });
        let instance = self.component.instantiate(&mut store)?;
        Ok((store, instance))
    }
}

impl Steps for Instance {
    fn start(&self, head: &[u8], now: u64, body_follows: bool) -> Option<Step> {
        let step = self.call(|store, door| door.call_start(store, head, now, body_follows));
        step.map(Into::into)
    }

    fn resume(&self, task: u32, reply: Reply) -> Option<Step> {
        let step = self.call(|store, door| door.call_resume(store, task, &reply.into()));
        step.map(Into::into)
    }

    fn cancel(&self, task: u32) -> Option<()> {
        self.call(|store, door| door.call_cancel(store, task))
    }

    fn flush(&self) -> Option<()> {
        self.call(|store, door| door.call_flush(store))
    }
}

impl memory::Host for Engines {
    fn take(&mut self, wanted: Vec<memory::Bucket>) -> Result<Vec<memory::Level>, memory::TakeError> {
        let levels = Memory::take(self, wanted.into_iter().map(Into::into).collect())?;
        Ok(levels.into_iter().map(Into::into).collect())
    }

    fn take_one(&mut self, wanted: memory::Bucket) -> memory::Taken {
        match Memory::take_one(self, wanted.into()) {
            Ok(level) => memory::Taken::Taken(level.into()),
            Err(TakeError::Refused { levels, .. }) if levels.len() == 1 => {
                memory::Taken::Refused(levels[0].into())
            }
            Err(error) => memory::Taken::Failed(error.into()),
        }
    }

    fn get(&mut self, key: String) -> Option<Option<memory::Entry>> {
        Memory::get(self, &key).map(|found| found.map(Into::into))
    }

    fn get_all(&mut self, keys: Vec<String>) -> Option<Vec<Option<memory::Entry>>> {
        let found = Memory::get_all(self, &keys)?;
        Some(found.into_iter().map(|entry| entry.map(Into::into)).collect())
    }

    fn submit(&mut self, packed: Vec<u8>) {
        match packed::unpack(&packed) {
            Some(commits) => Memory::submit(self, commits),
            None => tracing::error!(component = NAME, "what it submitted is not a list of commits"),
        }
    }
}
