//! A worker thread: its own connections, and its own instance of the rules for the hot path.

use super::connection::{self, Accepted};
use super::generation::Generation;
use super::rest::Rest;
use super::rules::Program;
use super::runner::Runner;
use super::service::Gateways;
use super::watch::Watch;
use super::{Shared, threads};
use crate::wasm::rules::Group;
use anyhow::Result;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// The way on which a worker is given generations, each with a sender that is told once it is in force there. Few are under
/// way: the next comes when the one before is in force.
pub type Generations = mpsc::UnboundedSender<(Arc<Generation>, oneshot::Sender<()>)>;

/// A handle to a worker thread.
pub struct Worker {
    incoming: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
    crowded: Arc<Notify>,
    generations: Generations,
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
        let (generations, renewals) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let load = Arc::new(AtomicUsize::new(0));
        let crowded = Arc::<Notify>::default();
        let (own_load, own_crowded) = (Arc::clone(&load), Arc::clone(&crowded));
        let thread = threads::start(format!("worker-{index}"), move || {
            let engines = shared.engines.clone();
            let generation = shared.current.get();
            let rules = program.rules(engines.clone(), Group::Crowd, &generation)?;
            let crowd = Runner::new(rules, engines, Group::Crowd, &generation);
            let gateways = Rc::new(Gateways::new(shared, generation, crowd, rest));
            Ok(async move {
                let renewing = tokio::task::spawn_local(renew(Rc::clone(&gateways), renewals));
                serve(gateways, accepted, own_load, own_crowded, stopped).await;
                renewing.abort();
            })
        })?;
        Ok(Self {
            incoming,
            load,
            crowded,
            generations,
            stop,
            thread,
        })
    }

    /// The way on which it is given generations.
    pub fn generations(&self) -> Generations {
        self.generations.clone()
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

/// Puts generations in force, one after the other.
async fn renew(
    gateways: Rc<Gateways>,
    mut renewals: mpsc::UnboundedReceiver<(Arc<Generation>, oneshot::Sender<()>)>,
) {
    while let Some((generation, done)) = renewals.recv().await {
        gateways.renew(generation);
        // Nobody need wait for it.
        let _ = done.send(());
    }
}

async fn serve(
    gateways: Rc<Gateways>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    load: Arc<AtomicUsize>,
    crowded: Arc<Notify>,
    mut stopped: watch::Receiver<bool>,
) {
    let connections = tokio_util::task::TaskTracker::new();
    let watch = Rc::new(Watch::default());
    let running = tokio::task::spawn_local({
        let (gateways, watch) = (Rc::clone(&gateways), Rc::clone(&watch));
        async move { tokio::join!(gateways.run(), watch.run(&crowded)) }
    });
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some(connection) => {
                    let (gateways, load, watched) = (Rc::clone(&gateways), Arc::clone(&load), watch.enter());
                    connections.spawn_local(async move {
                        connection::serve(gateways, connection, watched).await;
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
        connections.spawn_local(connection::serve(Rc::clone(&gateways), connection, watch.enter()));
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
    gateways.flush();
}
