//! A worker thread: a single-threaded runtime with its own connections and its own instances of every component.

use super::Shared;
use super::connection::{self, Accepted};
use super::fast::Fast;
use super::service::Gateway;
use super::watch::Watch;
use crate::wasm::compiled::{self, Library};
use crate::wasm::doors::{FilterDoor, GateDoor};
use crate::wasm::fast;
use crate::wasm::{pool::Pool, ports};
use anyhow::{Context as _, Result};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::LocalSet;
use tollgate_core::router::Component as Name;
use wasmtime::Engine;
use wasmtime::component::Component;

/// The compiled components.
pub struct Components {
    limiter: Component,
    gates: Vec<(Name, Component)>,
    #[cfg_attr(
        feature = "native-rules",
        allow(dead_code, reason = "the rules are compiled in")
    )]
    fast: Option<Component>,
}

impl Components {
    /// Loads all of them; see [`Library::load`]. A directory of other components may leave the fast path out: then every
    /// request takes the ordinary way, through them.
    pub fn load(engines: &compiled::Engines, library: &Library) -> Result<Self> {
        let load = |name| library.load(&engines.waiting, name);
        let gates = Name::ALL.iter().map(|name| Ok((*name, load(name.name())?)));
        Ok(Self {
            limiter: load("limiter")?,
            gates: gates.collect::<Result<_>>()?,
            fast: match library.components.is_none() || library.has(fast::NAME) {
                true => Some(library.load(&engines.fast, fast::NAME)?),
                false => None,
            },
        })
    }
}

/// A handle to a worker thread.
pub struct Worker {
    incoming: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
    crowded: Arc<Notify>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread and its instances.
    pub fn start(
        index: usize,
        engine: &Engine,
        components: Arc<Components>,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        // Unbounded as a channel, bounded by the place that every accepted connection holds.
        let (incoming, accepted) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let load = Arc::new(AtomicUsize::new(0));
        let crowded = Arc::<Notify>::default();
        let (engine, own_load, own_crowded) = (engine.clone(), Arc::clone(&load), Arc::clone(&crowded));
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                // Made here: a runtime may not be dropped in another, as it would be where there is no thread.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(error.into()))),
                };
                LocalSet::new().block_on(&runtime, async move {
                    match gateway(&engine, &components, shared) {
                        Ok(gateway) => {
                            let _ = started.send(Ok(()));
                            serve(gateway, accepted, own_load, own_crowded, stopped).await;
                        }
                        Err(error) => drop(started.send(Err(error))),
                    }
                });
            });
        let thread = thread.context("cannot start a worker thread")?;
        starting
            .recv()
            .context("a worker ended before it had started")??;
        Ok(Self {
            incoming,
            load,
            crowded,
            stop,
            thread,
        })
    }

    /// Connections that this worker has.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Gives it a connection.
    pub fn take(&self, connection: Accepted) {
        self.load.fetch_add(1, Ordering::Relaxed);
        if self.incoming.send(connection).is_err() {
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends connections that idle: newcomers find no place.
    pub fn make_room(&self) {
        self.crowded.notify_one();
    }

    /// Tells it to finish what it has.
    pub fn drain(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until it has finished.
    pub fn join(self) {
        drop(self.incoming);
        if self.thread.join().is_err() {
            tracing::error!("a worker ended with a panic");
        }
    }
}

fn gateway(engine: &Engine, components: &Components, shared: Arc<Shared>) -> Result<Rc<Gateway>> {
    let linker = ports::linker(engine)?;
    let timeout = Duration::from_nanos(shared.settings.config.server.request_timeout.0);
    let (new_engine, new_engines) = (|| engine.clone(), || shared.engines.clone());
    let mut gates = Vec::new();
    for (name, component) in &components.gates {
        let door = Rc::new(GateDoor::new(&linker, component)?);
        gates.push((
            *name,
            Pool::new(new_engine(), new_engines(), door, name.name(), timeout),
        ));
    }
    let door = Rc::new(FilterDoor::new(&linker, &components.limiter)?);
    let limiter = Pool::new(new_engine(), new_engines(), door, "limiter", timeout);
    #[cfg(not(feature = "native-rules"))]
    let steps = match &components.fast {
        Some(component) => Some(fast::Instance::new(component, new_engines())?),
        None => None,
    };
    #[cfg(feature = "native-rules")]
    let steps = Some(super::fast::native::Native::new(
        shared.settings.clone(),
        new_engines(),
    ));
    let fast = steps.map(|steps| Fast::new(steps, new_engines(), timeout));
    Ok(Rc::new(Gateway::new(shared, limiter, gates, fast)))
}

async fn serve(
    gateway: Rc<Gateway>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    load: Arc<AtomicUsize>,
    crowded: Arc<Notify>,
    mut stopped: watch::Receiver<bool>,
) {
    let connections = tokio_util::task::TaskTracker::new();
    let watch = Rc::new(Watch::default());
    let running = tokio::task::spawn_local({
        let (gateway, watch) = (Rc::clone(&gateway), Rc::clone(&watch));
        async move { tokio::join!(gateway.run(), watch.run(&crowded)) }
    });
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some(connection) => {
                    let (gateway, load, watched) = (Rc::clone(&gateway), Arc::clone(&load), watch.enter());
                    connections.spawn_local(async move {
                        connection::serve(gateway, connection, watched).await;
                        load.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                None => break,
            },
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
    }
    // What the acceptor handed over before it stopped is answered too.
    while let Ok(connection) = accepted.try_recv() {
        connections.spawn_local(connection::serve(Rc::clone(&gateway), connection, watch.enter()));
    }
    watch.stop();
    connections.close();
    if tokio::time::timeout(super::DRAIN, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            left = connections.len(),
            "the drain took too long; closing what is left"
        );
    }
    running.abort();
    gateway.flush();
}
