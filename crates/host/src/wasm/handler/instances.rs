//! The instances of one component: made when they are needed, reused one request at a time, ended by time.

use super::guest::{Guest, Linked};
use crate::wasm::guest_log::GuestLog;
use crate::wasm::ports::Engines;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tollgate_rules::config::ComponentSettings;
use tollgate_rules::settings::ComponentRoute;
use wasmtime::component::GuestTaskId;
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, Proxy, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

/// How long an instance that idles is kept for the next request.
const IDLE: Duration = Duration::from_secs(10);
/// How much longer than its request an instance may run: by then its caller has been answered.
const GRACE: Duration = Duration::from_millis(100);
/// Requests after which an instance is replaced, because it may keep memory and state.
const MAX_REUSE: usize = 1_000;
/// Instances for each request that may be under way: one that has answered may have something left to do.
const INSTANCES_PER_PLACE: usize = 2;

/// The factory of one component's instances.
pub struct Instances {
    name: Arc<str>,
    engine: Engine,
    linked: Linked,
    blueprint: super::guest::Blueprint,
    timeout: Duration,
    room: Arc<Semaphore>,
}

/// The error for a component that has as many instances as it may.
#[derive(Debug)]
pub struct NoInstance;

impl fmt::Display for NoInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there are as many instances as may be")
    }
}

impl std::error::Error for NoInstance {}

impl Instances {
    /// The instances of a linked component.
    pub fn new(
        linked: Linked,
        engine: &Engine,
        engines: Engines,
        route: &ComponentRoute,
        settings: &ComponentSettings,
    ) -> Self {
        let log = GuestLog::of_handler(&settings.name);
        Self {
            name: settings.name.as_str().into(),
            engine: engine.clone(),
            linked,
            blueprint: super::guest::Blueprint::new(engines, log, route, settings),
            timeout: Duration::from_nanos(settings.timeout.0),
            room: Arc::new(Semaphore::new(
                settings.concurrency as usize * INSTANCES_PER_PLACE,
            )),
        }
    }
}

impl HandlerState for Instances {
    type StoreData = Guest;
    type WorkerExpiration = Expiration;
    type WorkerState = Requests;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Guest, Expiration, Requests>> {
        let place = Arc::clone(&self.room)
            .try_acquire_owned()
            .map_err(|_| wasmtime::Error::new(NoInstance))?;
        let mut store = Store::new(&self.engine, self.blueprint.guest());
        store.limiter(|guest| &mut guest.limits);
        store.set_epoch_deadline(1);
        // A loop lets others run, and is ended from outside when its time is up.
        store.epoch_deadline_async_yield_and_update(1);
        let instantiated = timeout(self.timeout, self.linked.instantiate_async(&mut store)).await;
        let proxy = instantiated.map_err(|_| wasmtime::format_err!("it took too long to start"))??;
        // What speaks 0.2 is written for one request each.
        let max_requests = match proxy {
            Proxy::P3(_) => MAX_REUSE,
            Proxy::P2(_) => 1,
        };
        let deadline = Arc::new(Mutex::new(Instant::now() + self.timeout));
        Ok(Instance {
            store,
            proxy,
            view: Guest::http_view,
            expiration: Expiration {
                deadline: Arc::clone(&deadline),
                timer: Box::pin(sleep_until(Instant::now())),
            },
            state: Requests {
                name: Arc::clone(&self.name),
                deadline,
                max_requests,
                _place: place,
            },
        })
    }
}

/// Ends an instance that is late or idles.
pub struct Expiration {
    deadline: Arc<Mutex<Instant>>,
    timer: Pin<Box<Sleep>>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        state: WorkerStatus,
        start: std::time::Instant,
    ) -> Poll<()> {
        let end = match state {
            WorkerStatus::Idle => Instant::from_std(start) + IDLE,
            // One request at a time: what it still does after its answer belongs to it.
            WorkerStatus::Requests | WorkerStatus::PostReturn => {
                *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) + GRACE
            }
        };
        if self.timer.deadline() != end {
            self.timer.as_mut().reset(end);
        }
        self.timer.as_mut().poll(context)
    }
}

/// The requests of one instance.
pub struct Requests {
    name: Arc<str>,
    /// The deadline of the request that it has.
    deadline: Arc<Mutex<Instant>>,
    max_requests: usize,
    _place: OwnedSemaphorePermit,
}

impl WorkerState for Requests {
    type StoreData = Guest;
    /// Its deadline.
    type RequestData = Instant;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        match (total >= self.max_requests, concurrent) {
            (true, _) => ShouldAccept::Never,
            (false, 0) => ShouldAccept::Yes,
            (false, _) => ShouldAccept::No,
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, Guest>,
        deadline: Instant,
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        Box::pin(sleep_until(deadline))
    }

    fn drop(&self, store: Store<Guest>, result: Result<(), wasmtime::Error>) {
        drop(store);
        if let Err(error) = result {
            let error = format!("{error:#}");
            tracing::warn!(component = &*self.name, error, "an instance ended");
        }
    }
}
