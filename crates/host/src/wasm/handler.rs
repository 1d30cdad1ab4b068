//! Components of the operator's own (`[[components]]`), which export `wasi:http/handler` or
//! `wasi:http/incoming-handler`. They run on threads of their own, each request in an instance of its own.
//! Waiting requests, instances, memory and time all have bounds.

mod guest;
mod instances;
mod ports;
mod prefix;

use super::compiled::{self, Library};
use super::ports::Engines;
use anyhow::{Context as _, Result, anyhow};
use instances::{Instances, NoInstance};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tollgate_rules::config::ComponentSettings;
use tollgate_rules::settings::{ComponentRoute, Settings};
use wasmtime::Engine;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::{ExpirationError, InstantiationError, ProxyHandler};

/// Requests that may wait for a place, of one component.
const MAX_WAITING: usize = 512;
/// How often a request that has a place and no instance is tried.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The fewest threads: if a guest occupies one, another is left.
const MIN_THREADS: usize = 2;

/// All of the `[[components]]`, running.
pub struct Handlers {
    /// `Some` until this is dropped.
    runtime: Option<Runtime>,
    handlers: Vec<Handler>,
}

/// One of the `[[components]]`, running.
pub struct Handler {
    name: Arc<str>,
    strip_prefix: String,
    timeout: Duration,
    proxy: ProxyHandler<Instances>,
    concurrency: usize,
    places: Arc<Semaphore>,
    waiting: Semaphore,
    failures: Failures,
    runtime: tokio::runtime::Handle,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// As many wait as may, or no instance could be had.
    Busy,
    /// The instance trapped, ended, or answered with an error.
    Ended,
    /// It took longer than it may.
    TimedOut,
}

/// How many requests had no answer, by reason; see [`Failed`]. All workers count here: such requests are rare.
#[derive(Default)]
struct Failures {
    busy: AtomicU64,
    ended: AtomicU64,
    timed_out: AtomicU64,
}

/// The answer of a component. It keeps its place until the body has ended.
pub struct Answered {
    /// The head, and a body that is still to come.
    pub response: http::Response<WasiBody>,
    /// The place of its request among those that are under way.
    pub place: OwnedSemaphorePermit,
}

/// Whether all of the `[[components]]` can be served. Compiles them, and keeps nothing.
///
/// # Errors
/// As [`Handlers::start`].
pub fn check(settings: &Settings) -> Result<()> {
    if settings.config.components.is_empty() {
        return Ok(());
    }
    let engine = compiled::concurrent_engine()?;
    for (_, component) in settings.components() {
        let load = || {
            let file = Path::new(&component.source);
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let code =
                wasmtime::component::Component::new(&engine, bytes).map_err(|error| anyhow!("{error:#}"))?;
            guest::linked(&engine, &code).map(drop)
        };
        load().map_err(|error| cannot(component, &error))?;
    }
    Ok(())
}

/// An error in one sentence, with what to do about it.
fn cannot(component: &ComponentSettings, error: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "the component {} ({}) cannot be served: {error:#}. It must be a component that exports wasi:http/handler@0.3 or \
         wasi:http/incoming-handler@0.2 (a core module becomes one with `wasm-tools component new`)",
        component.name,
        component.source,
    )
}

impl Handlers {
    /// Loads and starts them, on so many threads and at least [`MIN_THREADS`]; `None` if there are none. May take seconds
    /// where one was never compiled.
    ///
    /// # Errors
    /// A file cannot be read, holds no component, or one that exports or imports something else.
    pub fn start(
        settings: &Settings,
        library: &Library,
        engines: &Engines,
        threads: usize,
    ) -> Result<Option<Self>> {
        if settings.config.components.is_empty() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(MIN_THREADS))
            .thread_name("component")
            .enable_all()
            .build()?;
        let engine = compiled::concurrent_engine()?;
        let load = |(route, component): (&ComponentRoute, &ComponentSettings)| {
            Handler::load(&engine, library, engines, (route, component), runtime.handle())
                .map_err(|error| cannot(component, &error))
        };
        let handlers = settings.components().map(load).collect::<Result<_>>()?;
        Ok(Some(Self {
            runtime: Some(runtime),
            handlers,
        }))
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> &[Handler] {
        &self.handlers
    }

    /// The component at this index of the configuration.
    pub fn get(&self, index: usize) -> Option<&Handler> {
        self.handlers.get(index)
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        // Nobody waits any more for what still runs.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Handler {
    fn load(
        engine: &Engine,
        library: &Library,
        engines: &Engines,
        (route, settings): (&ComponentRoute, &ComponentSettings),
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self> {
        let code = library.load_file(engine, &settings.name, Path::new(&settings.source))?;
        let linked = guest::linked(engine, &code)?;
        let instances = Instances::new(linked, engine, engines.clone(), route, settings);
        Ok(Self {
            name: settings.name.as_str().into(),
            strip_prefix: settings.strip_prefix.clone(),
            timeout: Duration::from_nanos(settings.timeout.0),
            proxy: ProxyHandler::new(instances),
            concurrency: settings.concurrency as usize,
            places: Arc::new(Semaphore::new(settings.concurrency as usize)),
            waiting: Semaphore::new(MAX_WAITING),
            failures: Failures::default(),
            runtime: runtime.clone(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Requests that have a place.
    pub fn under_way(&self) -> usize {
        self.concurrency.saturating_sub(self.places.available_permits())
    }

    /// Requests that wait for one.
    pub fn waiting(&self) -> usize {
        MAX_WAITING.saturating_sub(self.waiting.available_permits())
    }

    /// Requests that had no answer, by reason.
    pub fn failures(&self) -> [(&'static str, u64); 3] {
        let Failures {
            busy,
            ended,
            timed_out,
        } = &self.failures;
        [("busy", busy), ("ended", ended), ("timed_out", timed_out)]
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    /// The path as the component sees it.
    pub fn path<'a>(&self, path: &'a str) -> &'a str {
        if self.strip_prefix.is_empty() {
            return path;
        }
        // Patterns do not count slashes in front.
        let slashes = path.len() - path.trim_start_matches('/').len();
        let one_slash = path.get(slashes.saturating_sub(1)..).unwrap_or(path);
        match one_slash.strip_prefix(self.strip_prefix.as_str()) {
            Some("") => "/",
            Some(rest) => rest,
            None => path,
        }
    }

    /// When a request that has come now must have been answered, to the end.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// The answer to a request, once there is a place for it.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn answer(
        &self,
        request: http::Request<WasiBody>,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        let answered = self.answered(request, deadline).await;
        let Failures {
            busy,
            ended,
            timed_out,
        } = &self.failures;
        let count = match &answered {
            Ok(_) => return answered,
            Err(Failed::Busy) => busy,
            Err(Failed::Ended) => ended,
            Err(Failed::TimedOut) => timed_out,
        };
        count.fetch_add(1, Ordering::Relaxed);
        answered
    }

    async fn answered(
        &self,
        request: http::Request<WasiBody>,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _waits = self.waiting.try_acquire().map_err(|_| Failed::Busy)?;
                let place = timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await;
                place.map_err(|_| Failed::Busy)?.map_err(|_| Failed::Ended)?
            }
        };
        let proxy = self.proxy.clone();
        // A client that goes away is not waited for. The guest's work ends with its time.
        let handling = AbortOnDropHandle::new(
            self.runtime
                .spawn(async move { once_there_is_room(&proxy, deadline, request).await }),
        );
        let handled = timeout_at(deadline, handling)
            .await
            .map_err(|_| Failed::TimedOut)?;
        match handled.map_err(|_| Failed::Ended)? {
            Ok(response) => Ok(Answered { response, place }),
            Err(error) => Err(self.failed(&error, deadline)),
        }
    }

    fn failed(&self, error: &wasmtime::Error, deadline: Instant) -> Failed {
        let failed = match error.downcast_ref::<InstantiationError<Instant>>() {
            Some(InstantiationError { error, .. }) if error.is::<NoInstance>() => Failed::Busy,
            // Near its end, what an instance is stopped by is time.
            _ if error.is::<ExpirationError>() || deadline <= Instant::now() => Failed::TimedOut,
            _ => Failed::Ended,
        };
        tracing::warn!(
            component = &*self.name,
            error = format!("{error:#}"),
            "a component did not answer"
        );
        failed
    }
}

/// Hands a request over. Tries again while instances that have answered still finish their work, and no
/// further one may be made.
async fn once_there_is_room(
    proxy: &ProxyHandler<Instances>,
    deadline: Instant,
    mut request: http::Request<WasiBody>,
) -> wasmtime::Result<http::Response<WasiBody>> {
    loop {
        let error = match proxy.handle(deadline, request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let no_room = error
            .downcast_ref::<InstantiationError<Instant>>()
            .is_some_and(|failed| failed.error.is::<NoInstance>());
        if !no_room || deadline <= Instant::now() + LOOK_AGAIN {
            return Err(error);
        }
        let failed: InstantiationError<Instant> = error.downcast()?;
        request = failed
            .request
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
