//! The HTTP server: one acceptor, and one worker thread per core that owns its connections and its instances, so that
//! a request never crosses threads on its way to a component.

mod connection;
pub mod fast;
mod long_poll;
mod service;
mod watch;
mod worker;

use crate::wasm::compiled::Library;
use crate::wasm::pool::INSTANCES;
use crate::wasm::{compiled, ports};
use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tollgate_core::config::Config;
use tollgate_core::router::Component;

pub use worker::{Components, Worker};

/// How long connections may go on after the signal to stop.
pub const DRAIN: Duration = Duration::from_secs(25);
/// How long connections are still taken after that signal, and answered with `Connection: close`: what was sent before it
/// has arrived by then, and who goes on asking has been told to go elsewhere.
const LINGER: Duration = Duration::from_millis(200);
/// Connections that the kernel queues before we accept them.
const BACKLOG: u32 = 4_096;
/// How long to wait after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What all workers share.
pub struct Shared {
    /// The configuration in force.
    pub config: Config,
    /// The engines behind the ports.
    pub engines: ports::Engines,
    /// Connections that may still be opened.
    pub connections: Arc<Semaphore>,
    /// Calls that may still wait for messages.
    pub long_polls: Semaphore,
    /// Set when the gateway drains: not ready any more.
    pub draining: AtomicBool,
}

/// A server that listens, with its workers running.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

impl Server {
    /// Loads the components, starts the workers and binds the address. Requests are answered once [`Server::run`] runs.
    pub async fn start(config: Config, engines: ports::Engines, library: Library) -> Result<Self> {
        let listener = bind(&config.server.listen)?;
        let workers = worker_count(&config);
        // Twice the pools' size, since a replaced instance may still finish its calls beside its successor.
        let instances = workers * (INSTANCES + 1) * (Component::ALL.len() + 1) * 2;
        let room = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let wasm = compiled::Engines::new(room(instances), room(workers))?;
        // Beside the runtime: compiling takes seconds on the first start.
        let components = tokio::task::spawn_blocking({
            let wasm = wasm.clone();
            move || Components::load(&wasm, &library)
        });
        let components = Arc::new(components.await??);
        let connections = Arc::new(Semaphore::new(config.server.max_connections as usize));
        let shared = Arc::new(Shared {
            config,
            engines,
            connections,
            long_polls: Semaphore::new(long_poll::MAX_LONG_POLLS),
            draining: AtomicBool::new(false),
        });
        let workers = (0..workers)
            .map(|index| Worker::start(index, &wasm.waiting, Arc::clone(&components), Arc::clone(&shared)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            listener,
            shared,
            workers,
        })
    }

    /// The address it listens on (with the port that the system chose, for port 0).
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Accepts connections until `stop` ends, then drains: what was accepted is answered, idle connections close.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self {
            listener,
            shared,
            workers,
        } = self;
        tokio::select! {
            () = accept(&listener, &shared, &workers) => {}
            () = stop => {}
        }
        tracing::info!("draining: connections end with their next answer");
        shared.draining.store(true, Ordering::Relaxed);
        // The kernel resets what it has queued when the listener closes.
        let _ = tokio::time::timeout(LINGER, accept(&listener, &shared, &workers)).await;
        drop(listener);
        for worker in &workers {
            worker.drain();
        }
        for worker in workers {
            tokio::task::spawn_blocking(move || worker.join()).await?;
        }
        Ok(())
    }
}

/// One worker per core unless the configuration says otherwise.
pub fn worker_count(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count as usize,
    }
}

fn bind(listen: &str) -> Result<TcpListener> {
    let address: SocketAddr = listen
        .parse()
        .with_context(|| format!("{listen} is not an address and port"))?;
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .with_context(|| format!("cannot listen on {address}: is another program there?"))?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into())?)
}

/// Hands each connection to the worker that has the fewest.
async fn accept(listener: &TcpListener, shared: &Shared, workers: &[Worker]) {
    loop {
        // At the bound the kernel's queue holds newcomers back; those beyond it are refused there.
        let Ok(permit) = Arc::clone(&shared.connections).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let worker = workers.iter().min_by_key(|worker| worker.load());
                if let (Some(worker), Ok(stream)) = (worker, stream.into_std()) {
                    worker.take(connection::Accepted { stream, peer, permit });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
