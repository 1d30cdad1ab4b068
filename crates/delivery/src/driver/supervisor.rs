//! Keeps one worker per subscription, and follows the subscriptions of the store as they come, change and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::subscriptions::{self, Defined, Source};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, MissedTickBehavior};
use tollgate_store::ports::Store;

use super::status::Board;
use super::trial::Trial;
use super::worker::{Order, Worker};
use super::{File, LowWater, Options};
use crate::sinks::Sinks;
use crate::sinks::http::OwnAddress;

type Name = (String, String);

struct Running {
    defined: Defined,
    /// What its events name as their source.
    source: String,
    order: watch::Sender<Order>,
    task: JoinHandle<()>,
}

pub(crate) struct Supervisor<S> {
    store: Arc<S>,
    options: Options,
    board: Arc<Board>,
    low_water: LowWater,
    sinks: Sinks,
    running: BTreeMap<Name, Running>,
    /// Subscriptions that cannot be started, kept so that each is logged once.
    faulty: BTreeMap<Name, Defined>,
    told: BTreeMap<String, u64>,
    store_failed: bool,
}

impl<S: Store + 'static> Supervisor<S> {
    pub fn new(
        store: Arc<S>,
        options: Options,
        board: Arc<Board>,
        own: Arc<OwnAddress>,
        low_water: LowWater,
    ) -> Self {
        Self {
            store,
            board,
            low_water,
            sinks: Sinks::new(options.idle_timeout, own),
            options,
            running: BTreeMap::new(),
            faulty: BTreeMap::new(),
            told: BTreeMap::new(),
            store_failed: false,
        }
    }

    /// Until it is told to drain, and everything has ended. `file`: what the file says, as it changes; `trials`: what is to be sent
    /// besides.
    pub async fn run(
        mut self,
        mut orders: watch::Receiver<super::Order>,
        mut file: watch::Receiver<File>,
        mut trials: mpsc::Receiver<Trial>,
    ) {
        let mut tick = tokio::time::interval(self.options.intervals.follow);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut low_water_at = Instant::now();
        while *orders.borrow() == super::Order::Run {
            tokio::select! {
                _ = tick.tick() => {
                    self.follow().await;
                    if Instant::now() >= low_water_at {
                        low_water_at = Instant::now() + self.options.intervals.low_water;
                        self.tell_low_water().await;
                    }
                }
                Ok(()) = file.changed() => {
                    let File { subscriptions, public_url } = file.borrow_and_update().clone();
                    self.options.subscriptions = subscriptions;
                    self.options.public_url = public_url;
                    self.follow().await;
                    self.tell_low_water().await;
                }
                Some(trial) = trials.recv() => trial.begin(&self.sinks),
                changed = orders.changed() => if changed.is_err() { break },
            }
        }
        for running in self.running.values() {
            // A worker that has ended takes no order.
            let _ = running.order.send(Order::Drain);
        }
        for (_, running) in std::mem::take(&mut self.running) {
            let _ = running.task.await;
        }
    }

    async fn follow(&mut self) {
        let defined = match subscriptions::all(&*self.store, self.options.of_file()).await {
            Ok(defined) => defined,
            Err(error) => {
                if !self.store_failed {
                    tracing::error!(%error, "the subscriptions cannot be read; those that run go on");
                }
                self.store_failed = true;
                return;
            }
        };
        self.store_failed = false;
        let wanted: BTreeMap<Name, Defined> = defined
            .into_iter()
            .map(|d| ((d.topic.clone(), d.settings.name.clone()), d))
            .collect();
        self.faulty
            .retain(|name, faulty| wanted.get(name) == Some(faulty));
        for (name, running) in &self.running {
            let order = match wanted.get(name) {
                Some(now) if identity(now) != identity(&running.defined) => Order::Abandon,
                Some(now) if !now.is_served_as(&running.defined) => Order::Drain,
                Some(now) if self.options.source(&now.topic) != running.source => Order::Drain,
                Some(_) => continue,
                None => Order::Abandon,
            };
            running
                .order
                .send_if_modified(|given| std::mem::replace(given, order) != order);
        }
        // One that still drains keeps its place: two workers of one subscription would get in each other's way.
        let board = &self.board;
        self.running.retain(|(topic, name), running| {
            let ended = running.task.is_finished();
            if ended {
                board.remove(topic, name);
            }
            !ended
        });
        for (name, defined) in wanted {
            if !self.running.contains_key(&name) && !self.faulty.contains_key(&name) {
                self.start(name, defined);
            }
        }
    }

    fn start(&mut self, name: Name, defined: Defined) {
        let (topic, subscription) = (&name.0, &name.1);
        let source = self.options.source(topic);
        let sink = match self.sinks.open(&defined.settings, source.clone()) {
            Ok(sink) => sink,
            Err(fault) => {
                tracing::error!(topic, subscription, fault, "the subscription cannot be served");
                self.faulty.insert(name, defined);
                return;
            }
        };
        tracing::info!(topic, subscription, "serving the subscription");
        let (order, orders) = watch::channel(Order::Run);
        let worker = Worker {
            store: Arc::clone(&self.store),
            sink,
            defined: defined.clone(),
            board: Arc::clone(&self.board),
            poll: self.options.intervals.poll,
            observer: self.options.observer.clone(),
            orders,
            shared: self.options.shared,
        };
        let task = spawn_local(worker.run());
        self.running.insert(
            name,
            Running {
                defined,
                source,
                order,
                task,
            },
        );
    }

    async fn tell_low_water(&mut self) {
        // Unknown: retention keeps to what it was told last.
        let Ok(needed) = subscriptions::low_water(&*self.store, self.options.of_file()).await else {
            return;
        };
        let needed: BTreeMap<String, u64> = needed.into_iter().collect();
        for topic in self.told.keys().filter(|topic| !needed.contains_key(*topic)) {
            (self.low_water)(topic, u64::MAX);
        }
        for (topic, sequence) in &needed {
            if self.told.get(topic) != Some(sequence) {
                (self.low_water)(topic, *sequence);
            }
        }
        self.told = needed;
    }
}

/// Tells apart a subscription and another one that took its name later.
fn identity(defined: &Defined) -> Option<&str> {
    match &defined.source {
        Source::File => None,
        Source::Api { id, .. } => Some(id),
    }
}
