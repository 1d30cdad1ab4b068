//! The component of all rules, called as a plain function on the thread that owns it. No task, no channel, no
//! fiber: it imports nothing async, so its engine and its stores need none of that machinery. Where a rule
//! has to wait, [`crate::server::runner`] waits for it.

use super::bindings::{RulesComponent, RulesComponentPre, memory, rules};
use super::guest::Guest;
use super::poll_once;
use super::ports::{Engines, Ports};
use crate::metrics::count::Rules as Counters;
use crate::server::generation::Generation;
use crate::server::runner::Steps;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tollgate_rules::machine::{Reply, Stage, Step};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, UpdateDeadline};

/// The name of the component.
pub const NAME: &str = "rules";

tollgate_rules::wit_rules!(crate::wasm::bindings::rules);

/// The group that an instance belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The hot path, on the threads that have connections.
    Crowd,
    /// Everything else, on threads of its own.
    Rest,
}

impl Group {
    /// Its name in the log and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crowd => "crowd",
            Self::Rest => "rest",
        }
    }

    /// Epochs in which a call may run: it has nothing to wait for, so beyond them it is stuck.
    const fn max_epochs(self) -> u32 {
        match self {
            Self::Crowd => 20,
            Self::Rest => 100,
        }
    }
}

/// One thread's instance of the component.
pub struct Instance {
    engine: Engine,
    engines: Engines,
    component: RulesComponentPre<Guest>,
    group: Group,
    counters: Arc<Counters>,
    /// The text of the settings that requests are judged by.
    settings: RefCell<Arc<str>>,
    /// What is set over the API.
    run_time: RefCell<Arc<[u8]>>,
    running: RefCell<Option<(Store<Guest>, RulesComponent)>>,
}

impl Instance {
    /// Typechecks the component against the world `rules-component`; it starts with the first call.
    pub fn new(
        component: &Component,
        engines: Engines,
        group: Group,
        generation: &Generation,
    ) -> anyhow::Result<Self> {
        let engine = component.engine().clone();
        let mut linker = Linker::<Guest>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        poll_once::replace_streams(&mut linker)?;
        memory::add_to_linker::<_, Ports>(&mut linker, |guest: &mut Guest| &mut guest.engines)?;
        let component = RulesComponentPre::new(linker.instantiate_pre(component)?)?;
        let counters = engines.counted.rules(group);
        let engines = Engines {
            refused: Arc::clone(&counters.refused),
            ..engines
        };
        Ok(Self {
            engine,
            counters,
            engines,
            component,
            group,
            settings: RefCell::new(Arc::clone(&generation.text)),
            run_time: RefCell::new(Arc::clone(&generation.run_time)),
            running: RefCell::default(),
        })
    }

    /// Calls the instance, on this thread, now. One that traps is replaced with the next call.
    fn call<T>(
        &self,
        function: impl FnOnce(&mut Store<Guest>, &rules::Guest) -> wasmtime::Result<T>,
    ) -> Option<T> {
        let mut running = self.running.borrow_mut();
        // What of WASI is not in `poll_once` (sockets, files, polling) panics where it would have to wait for the runtime that
        // this thread drives. A guest that gets there has ended, not the thread.
        let called = catch_unwind(AssertUnwindSafe(|| self.on(&mut running, function)));
        let error = match called {
            Ok(Ok(result)) => return Some(result),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it called what would have to wait".to_owned(),
        };
        tracing::error!(
            component = NAME,
            group = self.group.name(),
            error,
            "an instance ended"
        );
        self.counters.traps.add(1);
        *running = None;
        None
    }

    fn on<T>(
        &self,
        running: &mut Option<(Store<Guest>, RulesComponent)>,
        function: impl FnOnce(&mut Store<Guest>, &rules::Guest) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let (store, instance) = match running {
            Some(running) => running,
            None => running.insert(self.begin()?),
        };
        store.data_mut().busy_epochs = 0;
        store.set_epoch_deadline(1);
        function(store, instance.tollgate_edge_rules())
    }

    fn begin(&self) -> wasmtime::Result<(Store<Guest>, RulesComponent)> {
        let max_epochs = self.group.max_epochs();
        let mut store = Store::new(&self.engine, Guest::new(self.engines.clone(), NAME));
        store.limiter(|guest| &mut guest.limits);
        store.set_epoch_deadline(1);
        // One by one: while this thread waits for a core, epochs pass that the guest has not run in.
        store.epoch_deadline_callback(move |mut store| {
            let guest = store.data_mut();
            guest.busy_epochs += 1;
            match guest.busy_epochs > max_epochs {
                true => Err(wasmtime::format_err!("the call ran for too long")),
                false => Ok(UpdateDeadline::Continue(1)),
            }
        });
        let instance = self.component.instantiate(&mut store)?;
        self.counters.starts.add(1);
        self.configured(&mut store, instance.tollgate_edge_rules())?;
        self.set_run_time(&mut store, instance.tollgate_edge_rules())?;
        Ok((store, instance))
    }

    /// Gives an instance what is set over the API.
    fn set_run_time(&self, store: &mut Store<Guest>, rules: &rules::Guest) -> wasmtime::Result<()> {
        let record = Arc::clone(&self.run_time.borrow());
        rules
            .call_set_run_time(store, &record)?
            .map_err(|why| wasmtime::format_err!("what is set at run time: {why}"))
    }

    /// Gives an instance its settings.
    fn configured(&self, store: &mut Store<Guest>, rules: &rules::Guest) -> wasmtime::Result<()> {
        let settings = Arc::clone(&self.settings.borrow());
        rules
            .call_configure(store, &settings)?
            .map_err(|why| wasmtime::format_err!("its settings: {why}"))
    }
}

impl Steps for Instance {
    fn configure(&self, generation: &Generation) -> Option<()> {
        let before = self.settings.replace(Arc::clone(&generation.text));
        let record = self.run_time.replace(Arc::clone(&generation.run_time));
        // One that is yet to begin has them from the start.
        if self.running.borrow().is_none() {
            return Some(());
        }
        // Either may have changed alone: to read the settings takes much longer than the record.
        self.call(|store, rules| {
            if !Arc::ptr_eq(&before, &generation.text) {
                self.configured(store, rules)?;
            }
            if !Arc::ptr_eq(&record, &generation.run_time) {
                self.set_run_time(store, rules)?;
            }
            Ok(())
        })
    }

    fn start(&self, head: &[u8], now: u64, body_follows: bool, stage: Stage) -> Option<Step> {
        let step = self.call(|store, rules| rules.call_start(store, head, now, body_follows, stage.into()));
        step.map(Into::into)
    }

    fn resume(&self, task: u32, reply: Reply) -> Option<Step> {
        let step = self.call(|store, rules| rules.call_resume(store, task, &reply.into()));
        step.map(Into::into)
    }

    fn cancel(&self, task: u32) -> Option<()> {
        self.call(|store, rules| rules.call_cancel(store, task))
    }

    fn flush(&self) -> Option<Vec<u64>> {
        self.call(|store, rules| rules.call_flush(store))
    }
}
