//! One running instance: a task that owns its store and lets calls overlap. A trap, or a call that never ends,
//! ends the instance; its pool starts another.

use super::pool::runtime::Instant;
use super::ports::Guest;
use anyhow::Result;
use futures::stream::{FuturesUnordered, StreamExt as _};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::Accessor;
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline};

/// Calls of one instance that may be under way at once.
pub const MAX_CALLS: usize = 128;
/// Epochs that a guest may run without any call ending, before it counts as stuck: 1 s.
const MAX_BUSY_EPOCHS: u32 = 100;

/// Starts an instance in a fresh store, and how it is called.
pub trait Door: 'static {
    /// What a call takes.
    type Input: 'static;
    /// What a call gives.
    type Output: 'static;
    /// The instantiated world.
    type Instance: 'static;

    /// A new instance.
    fn instantiate(&self, store: &mut Store<Guest>)
    -> impl Future<Output = wasmtime::Result<Self::Instance>>;
    /// One call.
    fn call(
        instance: &Self::Instance,
        accessor: &Accessor<Guest>,
        input: Self::Input,
    ) -> impl Future<Output = wasmtime::Result<Self::Output>>;
}

/// A call on its way to an instance.
pub struct Call<D: Door> {
    /// What it is called with.
    pub input: D::Input,
    /// Dropped without an answer when the instance ends first.
    pub reply: oneshot::Sender<D::Output>,
    /// Given back when the call ends, however it does.
    pub under_way: UnderWay,
}

/// The calls that an instance was given and has not ended, by when each was given. (The room in its channel says nothing
/// about those it has taken out.)
#[derive(Default)]
pub struct Load {
    calls: RefCell<BTreeMap<u64, Instant>>,
    given: Cell<u64>,
}

impl Load {
    /// How many there are.
    pub fn calls(&self) -> usize {
        self.calls.borrow().len()
    }

    /// How long the oldest has taken so far; zero if there is none.
    pub fn oldest(&self) -> Duration {
        let calls = self.calls.borrow();
        calls.values().next().map_or(Duration::ZERO, Instant::elapsed)
    }
}

/// One of the calls of a [`Load`], for as long as it lives.
pub struct UnderWay {
    load: Rc<Load>,
    number: u64,
}

impl UnderWay {
    /// One more.
    pub fn new(load: &Rc<Load>) -> Self {
        let number = load.given.replace(load.given.get() + 1);
        load.calls.borrow_mut().insert(number, Instant::now());
        Self {
            load: Rc::clone(load),
            number,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.load.calls.borrow_mut().remove(&self.number);
    }
}

/// Runs one instance until its channel closes (all calls are then finished first) or a call fails.
pub async fn run<D: Door>(
    engine: &Engine,
    guest: Guest,
    door: &D,
    calls: mpsc::Receiver<Call<D>>,
) -> Result<()> {
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limits);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store: StoreContextMut<'_, Guest>| {
        let guest = store.data_mut();
        guest.busy_epochs += 1;
        if guest.busy_epochs > MAX_BUSY_EPOCHS {
            return Err(wasmtime::format_err!(
                "the component ran for too long without finishing a call"
            ));
        }
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    let instance = door.instantiate(&mut store).await?;
    let failed = store
        .run_concurrent(async |accessor| serve::<D>(accessor, &instance, calls).await)
        .await?;
    Ok(failed?)
}

/// Takes calls as they come and polls those under way; ends with the first failure.
async fn serve<D: Door>(
    accessor: &Accessor<Guest>,
    instance: &D::Instance,
    mut calls: mpsc::Receiver<Call<D>>,
) -> wasmtime::Result<()> {
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        let room = open && under_way.len() < MAX_CALLS;
        tokio::select! {
            biased;
            Some(ended) = under_way.next(), if !under_way.is_empty() => ended?,
            call = calls.recv(), if room => match call {
                Some(call) => under_way.push(one::<D>(accessor, instance, call)),
                None => open = false,
            },
        }
    }
    Ok(())
}

async fn one<D: Door>(
    accessor: &Accessor<Guest>,
    instance: &D::Instance,
    call: Call<D>,
) -> wasmtime::Result<()> {
    let Call {
        input,
        reply,
        under_way,
    } = call;
    let output = D::call(instance, accessor, input).await?;
    accessor.with(|mut access| access.data_mut().busy_epochs = 0);
    // Before the answer: who calls again at once finds it less busy.
    drop(under_way);
    // The caller may have given up; that is its right.
    let _ = reply.send(output);
    Ok(())
}
