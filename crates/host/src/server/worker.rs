//! A worker thread: its own connections, and its own instance of the rules for the hot path.

use super::connection::{self, Accepted};
use super::rest::Rest;
use super::rules::Program;
use super::runner::Runner;
use super::service::Gateway;
use super::watch::Watch;
use super::{Shared, threads};
use crate::wasm::rules::Group;
use anyhow::Result;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// A handle to a worker thread.
pub struct Worker {
    incoming: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
    crowded: Arc<Notify>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread. `rest`: takes the requests that are not for its own rules.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(index: usize, program: Program, shared: Arc<Shared>, rest: Arc<Rest>) -> Result<Self> {
        // Unbounded as a channel, bounded by the place that every accepted connection holds.
        let (incoming, accepted) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let load = Arc::new(AtomicUsize::new(0));
        let crowded = Arc::<Notify>::default();
        let (own_load, own_crowded) = (Arc::clone(&load), Arc::clone(&crowded));
        let thread = threads::start(format!("worker-{index}"), move || {
            let engines = shared.engines.clone();
            let timeout = Duration::from_nanos(shared.settings.config.server.request_timeout.0);
            let rules = program.rules(engines.clone(), Group::Crowd)?;
            let gateway = Gateway::new(shared, Runner::new(rules, engines, Group::Crowd, timeout), rest);
            Ok(serve(Rc::new(gateway), accepted, own_load, own_crowded, stopped))
        })?;
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
        threads::join(self.thread);
    }
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
