//! Pools of instances: a few per component and worker thread. A call goes to the least busy one; an instance that
//! ended, or whose call timed out, is replaced while its neighbours go on.

pub mod runtime;

#[cfg(test)]
mod models;

use super::instance::{self, Call, Door, Load, MAX_CALLS, UnderWay};
use super::ports::{Engines, Guest};
use runtime::{AbortHandle, sleep, spawn_local, timeout};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use wasmtime::Engine;

/// Instances per component and worker thread.
pub const INSTANCES: usize = 2;

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Every instance has as many calls as it may have.
    Busy,
    /// The instance ended during the call.
    Ended,
    /// The call took longer than it may.
    TimedOut,
}

/// The instances of one component on one worker thread.
pub struct Pool<D: Door> {
    engine: Engine,
    engines: Engines,
    door: Rc<D>,
    name: &'static str,
    timeout: Duration,
    slots: RefCell<Vec<Slot<D>>>,
}

struct Slot<D: Door> {
    calls: mpsc::Sender<Call<D>>,
    load: Rc<Load>,
    task: AbortHandle,
    serial: u64,
}

impl<D: Door> Pool<D> {
    /// A pool whose instances are started at once. `timeout`: how long one call may take.
    pub fn new(
        engine: Engine,
        engines: Engines,
        door: Rc<D>,
        name: &'static str,
        timeout: Duration,
    ) -> Rc<Self> {
        let pool = Rc::new(Self {
            engine,
            engines,
            door,
            name,
            timeout,
            slots: RefCell::default(),
        });
        for serial in 0..INSTANCES {
            let slot = pool.start(serial as u64);
            pool.slots.borrow_mut().push(slot);
        }
        pool
    }

    /// Calls the least busy instance. Whoever drops the future leaves the call to itself.
    pub async fn call(&self, input: D::Input) -> Result<D::Output, CallError> {
        let (reply, answer) = oneshot::channel();
        let (index, serial) = self.send(input, reply)?;
        match timeout(self.timeout, answer).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(_)) => {
                self.replace(index, serial);
                Err(CallError::Ended)
            }
            Err(_) => {
                self.replace(index, serial);
                Err(CallError::TimedOut)
            }
        }
    }

    fn send(&self, input: D::Input, reply: oneshot::Sender<D::Output>) -> Result<(usize, u64), CallError> {
        let mut slots = self.slots.borrow_mut();
        for (index, slot) in slots.iter_mut().enumerate() {
            // Whoever waits for a call sees that it takes too long. A caller that has gone does not: its call would keep
            // its place in the instance for ever.
            if slot.calls.is_closed() || slot.load.oldest() > self.timeout {
                self.replace_in(index, slot);
            }
        }
        let free = slots.iter().enumerate().min_by_key(|(_, slot)| slot.load.calls());
        let (index, slot) = free.ok_or(CallError::Busy)?;
        let under_way = UnderWay::new(&slot.load);
        let call = Call {
            input,
            reply,
            under_way,
        };
        slot.calls.try_send(call).map_err(|_| CallError::Busy)?;
        Ok((index, slot.serial))
    }

    /// Replaces the instance in a slot, unless somebody did so already.
    fn replace(&self, index: usize, serial: u64) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(index).filter(|slot| slot.serial == serial) {
            self.replace_in(index, slot);
        }
    }

    /// The old instance may finish the calls it has, for as long as a call may take.
    fn replace_in(&self, index: usize, slot: &mut Slot<D>) {
        tracing::warn!(
            component = self.name,
            index,
            "replacing an instance that ended or did not answer"
        );
        let old = std::mem::replace(slot, self.start(slot.serial + 1));
        let grace = sleep(self.timeout);
        spawn_local(async move {
            drop(old.calls);
            grace.await;
            old.task.abort();
        });
    }

    fn start(&self, serial: u64) -> Slot<D> {
        let (calls, incoming) = mpsc::channel(MAX_CALLS);
        let load = Rc::default();
        let (engine, guest) = (self.engine.clone(), Guest::new(self.engines.clone(), self.name));
        let (door, name) = (Rc::clone(&self.door), self.name);
        let task = spawn_local(async move {
            if let Err(error) = instance::run(&engine, guest, &*door, incoming).await {
                tracing::error!(
                    component = name,
                    error = format!("{error:#}"),
                    "an instance ended"
                );
            }
        });
        Slot {
            calls,
            load,
            task: task.abort_handle(),
            serial,
        }
    }
}
