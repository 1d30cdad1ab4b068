//! Calls that do not wait: a link in the cache and a bucket in memory need no task, no channel and no fiber, only a
//! function call on this very thread. What would have to wait says so, and goes to the [`super::pool`].

use super::bindings::types;
use super::ports::{Engines, Guest};
use std::cell::RefCell;
use wasmtime::{Engine, Store};

/// Epochs after which such a call is ended: it has nothing to wait for, so it is stuck.
const MAX_EPOCHS: u64 = 20;

/// How such an instance is started and called.
pub trait FastDoor: 'static {
    /// What a call gives.
    type Output;
    /// The instantiated world.
    type Instance;

    /// A new instance.
    fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Self::Instance>;
    /// One call.
    fn call(
        instance: &Self::Instance,
        store: &mut Store<Guest>,
        input: &types::Request,
    ) -> wasmtime::Result<Self::Output>;
}

/// One instance of a component, for this thread's calls that do not wait.
pub struct Fast<D: FastDoor> {
    engine: Engine,
    engines: Engines,
    door: D,
    name: &'static str,
    running: RefCell<Option<(Store<Guest>, D::Instance)>>,
}

/// The instance trapped; it is replaced with the next call.
#[derive(Clone, Copy, Debug)]
pub struct Ended;

impl<D: FastDoor> Fast<D> {
    /// Starts with the first call.
    pub fn new(engine: Engine, engines: Engines, door: D, name: &'static str) -> Self {
        Self { engine, engines, door, name, running: RefCell::new(None) }
    }

    /// Calls the instance, on this thread, now.
    pub fn call(&self, input: &types::Request) -> Result<D::Output, Ended> {
        let mut running = self.running.borrow_mut();
        let result = match &mut *running {
            Some((store, instance)) => Self::one(store, instance, input),
            None => self.start().and_then(|(store, instance)| {
                let (store, instance) = running.insert((store, instance));
                Self::one(store, instance, input)
            }),
        };
        result.map_err(|error| {
            tracing::error!(component = self.name, error = format!("{error:#}"), "an instance ended");
            *running = None;
            Ended
        })
    }

    fn one(store: &mut Store<Guest>, instance: &D::Instance, input: &types::Request) -> wasmtime::Result<D::Output> {
        store.set_epoch_deadline(MAX_EPOCHS);
        D::call(instance, store, input)
    }

    fn start(&self) -> wasmtime::Result<(Store<Guest>, D::Instance)> {
        let mut store = Store::new(&self.engine, Guest::new(self.engines.clone()));
        store.limiter(|guest| &mut guest.limits);
        store.set_epoch_deadline(MAX_EPOCHS);
        let instance = self.door.instantiate(&mut store)?;
        Ok((store, instance))
    }
}
