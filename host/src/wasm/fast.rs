//! Calls that do not wait: a link in the cache and a bucket in memory need no task and no channel, only a call on this
//! very thread. What would have to wait says so, and goes to the [`super::pool`].

use super::bindings::types;
use super::instance::Door;
use super::ports::{Engines, Guest};
use futures::FutureExt as _;
use std::cell::RefCell;
use std::rc::Rc;
use wasmtime::{Engine, Store};

/// Epochs after which such a call is ended: it has nothing to wait for, so it is stuck.
const MAX_EPOCHS: u64 = 20;

/// A door that can be called without waiting.
pub trait FastDoor: Door {
    /// What a call gives, if it need not wait.
    type Verdict;

    /// One call. The future is ready when it is first polled: no import that such a call reaches suspends.
    fn call_now(
        instance: &Self::Instance,
        store: &mut Store<Guest>,
        input: &types::Request,
    ) -> impl Future<Output = wasmtime::Result<Option<Self::Verdict>>>;
}

/// One instance of a component, for this thread's calls that do not wait.
pub struct Fast<D: FastDoor> {
    engine: Engine,
    engines: Engines,
    door: Rc<D>,
    name: &'static str,
    running: RefCell<Option<(Store<Guest>, D::Instance)>>,
}

/// The instance trapped; it is replaced with the next call.
#[derive(Clone, Copy, Debug)]
pub struct Ended;

impl<D: FastDoor> Fast<D> {
    /// Starts with the first call.
    pub fn new(engine: Engine, engines: Engines, door: Rc<D>, name: &'static str) -> Self {
        Self {
            engine,
            engines,
            door,
            name,
            running: RefCell::new(None),
        }
    }

    /// Calls the instance, on this thread, now. `None`: it would have to wait, and nothing was done.
    pub fn call(&self, input: &types::Request) -> Result<Option<D::Verdict>, Ended> {
        let mut running = self.running.borrow_mut();
        let result = self.call_running(&mut running, input);
        result.map_err(|error| {
            tracing::error!(
                component = self.name,
                error = format!("{error:#}"),
                "an instance ended"
            );
            *running = None;
            Ended
        })
    }

    fn call_running(
        &self,
        running: &mut Option<(Store<Guest>, D::Instance)>,
        input: &types::Request,
    ) -> wasmtime::Result<Option<D::Verdict>> {
        let (store, instance) = match running {
            Some(running) => running,
            None => running.insert(self.start()?),
        };
        store.set_epoch_deadline(MAX_EPOCHS);
        at_once(D::call_now(instance, store, input))
    }

    fn start(&self) -> wasmtime::Result<(Store<Guest>, D::Instance)> {
        let mut store = Store::new(&self.engine, Guest::new(self.engines.clone()));
        store.limiter(|guest| &mut guest.limits);
        store.set_epoch_deadline(MAX_EPOCHS);
        let instance = at_once(self.door.instantiate(&mut store))?;
        Ok((store, instance))
    }
}

/// The result of a call that must not suspend.
fn at_once<T>(call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    call.now_or_never()
        .unwrap_or_else(|| Err(wasmtime::format_err!("a call that must not wait did")))
}
