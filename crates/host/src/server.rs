//! The HTTP server: one acceptor, and one worker thread per core. A worker owns its connections and an
//! instance of the rules for the hot path, so requests of a crowd never cross threads. All other requests go
//! to the threads of the [`rest`].

mod answer;
mod body;
mod connection;
mod dashboard;
mod events;
mod files;
pub mod generation;
mod handshake;
mod head;
mod hosted;
mod leases;
pub mod listen;
mod long_poll;
mod patience;
pub(crate) mod places;
mod proxied;
mod proxy_protocol;
mod redirect;
mod refusals;
mod rest;
mod rules;
pub mod runner;
pub mod service;
pub mod settle;
mod sse;
mod stream;
mod tailing;
mod threads;
mod top;
pub(crate) mod traffic;
mod trial;
mod turn;
mod under_way;
mod watch;
mod watched;
mod wire;
mod worker;

use crate::events::Events;
use crate::metrics::Metrics;
use crate::reload::Reloads;
use crate::run_time::{self, Changed};
use crate::tls::Tls;
use crate::traces::Traces;
use crate::wasm::compiled::Library;
use crate::wasm::handler::Handlers;
use crate::wasm::ports;
use anyhow::Result;
use dashboard::Dashboard;
use generation::{Current, Generation};
use leases::Leases;
use listen::Listener;
use places::Places;
use rest::Rest;
use rules::Program;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tollgate_delivery::driver::{Statuses, Trials};
use tollgate_engines::AnyEngine;
use tollgate_rules::config::{Config, MAX_WORKERS};
use under_way::UnderWay;
use watched::Watchers;

use worker::Generations;
pub use worker::Worker;

/// How long connections may go on after the signal to stop.
pub const DRAIN: Duration = Duration::from_secs(25);
/// How long connections are still taken after that signal, and answered with `Connection: close`. Requests
/// that were sent before it have arrived by then, and clients that go on asking have been told to go
/// elsewhere.
const LINGER: Duration = Duration::from_millis(200);
/// How long to wait after a connection could not be accepted: the process or the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections at `server.admin_listen`. They are the operators' own: no crowd elsewhere takes one of them.
const ADMIN_CONNECTIONS: usize = 128;
/// How often the log tells at most that connections are turned away.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The state that all workers share.
pub struct Shared {
    /// The configuration in force.
    pub current: Current,
    /// Held by whoever puts another generation in force.
    pub changing: tokio::sync::Mutex<()>,
    /// The way to whoever puts in force what is set over the API.
    pub run_time: Changed,
    /// Whether a user's token named a key that is not known.
    pub keys_wanted: Arc<AtomicBool>,
    /// How the last reload went.
    pub reloads: Arc<Reloads>,
    /// The engines behind the ports.
    pub engines: ports::Engines,
    /// The `[[components]]`, if there are any.
    pub handlers: Option<Handlers>,
    /// Calls that may still wait for messages.
    pub long_polls: Semaphore,
    /// Requests for leases that share calls.
    leases: Arc<Leases>,
    /// Those that listen to a topic.
    pub tails: Arc<Semaphore>,
    /// Who is logged in at the dashboard, and what it shows.
    pub dashboard: Dashboard,
    /// Who watches campaigns.
    watchers: Watchers,
    /// Set when the gateway drains: not ready any more.
    pub draining: AtomicBool,
    /// The places of connections.
    pub places: Arc<Places>,
    /// The requests under way of `[[concurrency]]`.
    pub under_way: Arc<UnderWay>,
    /// Those of `server.admin_listen`.
    pub admin_places: Option<Arc<Places>>,
    /// The TLS of `server.listen`.
    pub tls: Option<Arc<Tls>>,
    /// That of `server.admin_listen`.
    pub admin_tls: Option<Arc<Tls>>,
    /// What `GET /metrics` tells.
    pub metrics: Metrics,
    /// The gateway's own events.
    pub events: Arc<Events>,
    /// The way to send samples, once the relay runs.
    pub trials: OnceLock<Trials>,
    /// The way to the collector of traces, if there is one.
    pub traces: Option<Arc<Traces>>,
}

/// Sockets that listen, non-blocking, and their TLS.
#[derive(Debug)]
pub struct Listening {
    /// `server.listen`.
    pub public: std::net::TcpListener,
    /// `server.admin_listen`.
    pub admin: Option<std::net::TcpListener>,
    /// `server.tls.redirect_http`.
    pub redirect: Option<std::net::TcpListener>,
    /// `[server.tls]`
    pub tls: Option<Arc<Tls>>,
    /// `[server.admin_tls]`
    pub admin_tls: Option<Arc<Tls>>,
}

/// A server that listens, with its workers running.
pub struct Server {
    listeners: Vec<(Listener, TcpListener)>,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    rest: Vec<JoinHandle<()>>,
}

impl Server {
    /// Loads the rules and starts the threads. Requests are answered once [`Server::run`] runs.
    pub async fn start(
        listening: Listening,
        current: Current,
        reloads: Arc<Reloads>,
        engines: ports::Engines,
        events: Arc<Events>,
        library: Library,
        traces: Option<Arc<Traces>>,
    ) -> Result<Self> {
        let listeners = [
            (Listener::Public, Some(listening.public)),
            (Listener::Admin, listening.admin),
            (Listener::Redirect, listening.redirect),
        ];
        let listeners = listeners
            .into_iter()
            .filter_map(|(listener, socket)| Some((listener, socket?)));
        let listeners = listeners.map(|(listener, socket)| Ok((listener, TcpListener::from_std(socket)?)));
        let listeners = listeners.collect::<Result<Vec<_>>>()?;
        let generation = current.get();
        let settings = &generation.settings;
        let config = &settings.config;
        let workers = worker_count(config);
        let others = rest::thread_count(workers);
        // Beside the runtime: compiling takes seconds on the first start.
        let program = tokio::task::spawn_blocking({
            let generation = Arc::clone(&generation);
            let engines = engines.clone();
            move || -> Result<_> {
                let handlers = Handlers::start(&generation.settings, &library, &engines, others)?;
                Ok((Program::load(&library, workers + others)?, handlers))
            }
        });
        let (program, handlers) = program.await??;
        let places = Places::new(
            files::connections(config.server.max_connections),
            config.server.connections_per_address(),
            settings.proxies.clone(),
        );
        let proxies = settings.proxies.clone();
        let admin_places = config.server.admin_listen.as_ref().map(|_| {
            // One address may hold all of them: operators often share one.
            Places::new(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS as u32, proxies)
        });
        let shared = Arc::new(Shared {
            dashboard: Dashboard::new(),
            current,
            reloads,
            changing: tokio::sync::Mutex::default(),
            run_time: Changed::default(),
            keys_wanted: Arc::default(),
            engines,
            handlers,
            long_polls: Semaphore::new(long_poll::MAX_LONG_POLLS),
            leases: Arc::default(),
            tails: Arc::new(Semaphore::new(tailing::MAX_STREAMS)),
            watchers: Watchers::default(),
            draining: AtomicBool::new(false),
            places,
            under_way: Arc::default(),
            admin_places,
            tls: listening.tls,
            admin_tls: listening.admin_tls,
            metrics: Metrics::default(),
            events,
            trials: OnceLock::new(),
            traces,
        });
        let (way, rest) = Rest::start(others, &program, &shared)?;
        let way = Arc::new(way);
        let start = |index| Worker::start(index, program.clone(), Arc::clone(&shared), Arc::clone(&way));
        let workers = (0..workers).map(start).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            listeners,
            shared,
            workers,
            rest,
        })
    }

    /// Tells in its metrics how this relay's subscriptions stand.
    pub fn watch(&self, relay: Statuses) {
        self.shared.metrics.watch(relay);
    }

    /// Sends samples by this relay.
    pub fn try_by(&self, relay: Trials) {
        // There is one.
        let _ = self.shared.trials.set(relay);
    }
    /// What its threads share.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What puts configurations in force while it runs.
    pub fn switch(&self) -> Switch {
        Switch {
            shared: Arc::clone(&self.shared),
            workers: self.workers.iter().map(Worker::generations).collect(),
        }
    }

    /// Puts in force what is set over the API, for as long as it is polled.
    pub fn set_at_run_time(&self, store: AnyEngine) -> impl Future<Output = ()> + use<> {
        let (shared, switch) = (Arc::clone(&self.shared), self.switch());
        async move { run_time::run(store, switch, &shared.run_time).await }
    }

    /// Set where a user's token names a key that is not known.
    pub fn wanted_keys(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.keys_wanted)
    }

    /// Accepts connections until `stop` ends, then drains: what was accepted is answered, idle connections close.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self {
            listeners,
            shared,
            workers,
            rest,
        } = self;
        tokio::select! {
            () = accept_all(&listeners, &shared, &workers) => {}
            () = stop => {}
        }
        tracing::info!("draining: connections end with their next answer");
        shared.draining.store(true, Ordering::Relaxed);
        // The kernel resets what it has queued when the listener closes.
        let _ = tokio::time::timeout(LINGER, accept_all(&listeners, &shared, &workers)).await;
        drop(listeners);
        for worker in &workers {
            worker.drain();
        }
        for worker in workers {
            tokio::task::spawn_blocking(move || worker.join()).await?;
        }
        // The workers held the only ways to them.
        for thread in rest {
            tokio::task::spawn_blocking(move || threads::join(thread)).await?;
        }
        if let Some(log) = shared.current.get().access_log.clone() {
            tokio::task::spawn_blocking(move || log.finish()).await?;
        }
        Ok(())
    }
}

/// Puts a generation in force on every thread of a server.
pub struct Switch {
    shared: Arc<Shared>,
    workers: Vec<Generations>,
}

impl Switch {
    /// The one in force.
    pub fn current(&self) -> Arc<Generation> {
        self.shared.current.get()
    }

    /// Puts the generation in force that `next` makes of the one in force, one change after the other. Returns when every request
    /// that begins from now on is judged by it.
    ///
    /// # Errors
    /// Those of `next`; nothing has changed.
    pub async fn change<E>(
        &self,
        next: impl FnOnce(&Generation) -> Result<Arc<Generation>, E>,
    ) -> Result<(), E> {
        let _one_at_a_time = self.shared.changing.lock().await;
        let generation = next(&self.current())?;
        self.to(&generation).await;
        Ok(())
    }

    async fn to(&self, generation: &Arc<Generation>) {
        let settings = &generation.settings;
        let Shared {
            current,
            engines,
            places,
            admin_places,
            ..
        } = &*self.shared;
        engines.counted.limit_by(&settings.config);
        places.share(
            settings.config.server.connections_per_address(),
            settings.proxies.clone(),
        );
        if let Some(places) = admin_places {
            places.share(ADMIN_CONNECTIONS as u32, settings.proxies.clone());
        }
        current.set(Arc::clone(generation));
        let tell = |worker: &Generations| {
            let (done, answer) = oneshot::channel();
            // One that has ended has no requests.
            worker.send((Arc::clone(generation), done)).ok().map(|()| answer)
        };
        let answers: Vec<_> = self.workers.iter().filter_map(tell).collect();
        for answer in answers {
            let _ = answer.await;
        }
    }
}

/// One worker per core, up to [`MAX_WORKERS`], unless the configuration says otherwise.
pub fn worker_count(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_WORKERS as usize),
        count => count as usize,
    }
}

/// Accepts at every listener, on this one task.
async fn accept_all(listeners: &[(Listener, TcpListener)], shared: &Shared, workers: &[Worker]) {
    let all = listeners.iter().map(|(listener, socket)| {
        let places = match (listener, &shared.admin_places) {
            (Listener::Admin, Some(places)) => places,
            _ => &shared.places,
        };
        accept(*listener, socket, places, workers)
    });
    futures::future::join_all(all).await;
}

/// Hands each connection to the worker that has the fewest.
async fn accept(listener: Listener, socket: &TcpListener, places: &Arc<Places>, workers: &[Worker]) {
    let (mut turned_away, mut failed) = (Seldom::default(), Seldom::default());
    // Without a place the kernel's queue holds newcomers back; those beyond it are refused there.
    while let Some(free) = places.next().await {
        if free.is_spare() && listener != Listener::Admin {
            let most = workers.iter().max_by_key(|worker| worker.load());
            most.into_iter().for_each(Worker::make_room);
        }
        match socket.accept().await {
            Ok((stream, peer)) => {
                places.accepted.add(1);
                let Some(place) = places.take(peer.ip(), free) else {
                    places.refused.add(1);
                    if let Some(count) = turned_away.again() {
                        let address = peer.ip();
                        tracing::warn!(count, %address, "closed at once: an address has all the connections that one may have");
                    }
                    continue;
                };
                let worker = workers.iter().min_by_key(|worker| worker.load());
                if let (Some(worker), Ok(stream)) = (worker, stream.into_std()) {
                    worker.take(connection::Accepted {
                        stream,
                        peer,
                        listener,
                        place,
                    });
                }
            }
            Err(error) => {
                places.failed.add(1);
                if let Some(count) = failed.again() {
                    tracing::warn!(count, %error, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// An event that is logged at most once in [`TOLD_EVERY`], however often it happens.
#[derive(Default)]
struct Seldom {
    told: Option<Instant>,
    count: u64,
}

impl Seldom {
    /// Counts the event. If it is to be logged now, returns how often it happened since it was logged last.
    fn again(&mut self) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| told.elapsed() < TOLD_EVERY) {
            return None;
        }
        self.told = Some(Instant::now());
        Some(std::mem::take(&mut self.count))
    }
}
