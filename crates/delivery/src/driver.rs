//! The relay on tokio: carries out what [`crate::relay::Machine`] decides, for every subscription of the
//! configuration and of the store.
//!
//! Everything runs on one thread of its own with a `current_thread` runtime: deliveries are network waits, the decisions
//! cost microseconds, and a store's futures need not be `Send`. The gateway's threads are not disturbed by it.

mod messenger;
mod observer;
mod status;
mod supervisor;
mod tenure;
mod trial;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tollgate_store::ports::Store;

pub use crate::sinks::Report;
use crate::sinks::http::OwnAddress;
pub use crate::sinks::http::{OperatorClient, describe};
use crate::subscription::Subscription;
pub use messenger::{Messenger, Recipient};
pub use observer::{Attempt, Observer};
use status::Board;
pub use status::{Statuses, SubscriptionStatus};
pub use trial::{MAX_TRIALS, NoTrial, Trials};

/// How often the relay polls for changes that it is not notified of. The default is for a gateway; tests wait
/// less.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// Between two looks at the small entries of each subscription: how late a pause, resume or redrive is
    /// seen.
    pub poll: Duration,
    /// Between two looks at which subscriptions exist.
    pub follow: Duration,
    /// Between two computations of what retention must keep.
    pub low_water: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(500),
            follow: Duration::from_secs(1),
            low_water: Duration::from_secs(10),
        }
    }
}

/// What the relay serves, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The subscriptions of the file, each with its topic. Those of the store are found there, and followed.
    pub subscriptions: Vec<(String, Subscription)>,
    /// `server.public_url`: part of each event's source; no delivery is connected to it.
    pub public_url: String,
    /// How long a connection to an origin is kept for the next delivery; should be shorter than what servers keep.
    pub idle_timeout: Duration,
    /// How often it looks.
    pub intervals: Intervals,
    /// Who hears of deliveries.
    pub observer: Option<Arc<dyn Observer>>,
    /// Other processes share the store: a subscription is served by whoever has its [lease](crate::lease). `false` costs nothing.
    pub shared: bool,
}

impl Options {
    /// What the events of a topic name as their source.
    pub(crate) fn source(&self, topic: &str) -> String {
        format!("{}/api/topics/{topic}", self.public_url)
    }

    /// The subscriptions of the file.
    pub(crate) fn of_file(&self) -> impl Iterator<Item = (&str, &Subscription)> {
        self.subscriptions.iter().map(|(topic, one)| (&**topic, one))
    }
}

/// Told, per topic, the oldest sequence that a subscription still needs (`u64::MAX`: none does): retention must leave it.
pub type LowWater = Box<dyn Fn(&str, u64) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    Drain,
}

/// What the file says of deliveries, for whoever reads it again while the relay runs.
#[derive(Clone, Debug)]
pub struct OfFile {
    file: watch::Sender<File>,
    own: Arc<OwnAddress>,
}

/// What the file says that may change.
#[derive(Clone, Debug)]
pub(crate) struct File {
    subscriptions: Vec<(String, Subscription)>,
    public_url: String,
}

impl OfFile {
    /// These are the file's subscriptions from now on, each with its topic, and its `server.public_url`. Subscriptions that stay as
    /// they were are not disturbed, unless the URL is another.
    pub fn replace(&self, subscriptions: Vec<(String, Subscription)>, public_url: &str) {
        self.own.set_public(public_url);
        self.file.send_replace(File {
            subscriptions,
            public_url: public_url.to_owned(),
        });
    }
}

/// The running relay. Dropped without [`Relay::shutdown`], it drains in the background.
#[derive(Debug)]
pub struct Relay {
    order: watch::Sender<Order>,
    of_file: OfFile,
    ended: oneshot::Receiver<()>,
    board: Arc<Board>,
    own: Arc<OwnAddress>,
    trials: Trials,
}

impl Relay {
    /// Begins to serve the subscriptions of the file and of the store; changes of the latter are taken up within a second.
    /// Tells what retention must leave: once it is known, and again when it has changed.
    ///
    /// # Errors
    /// No thread, no runtime.
    pub fn start<S>(store: Arc<S>, options: Options, low_water: LowWater) -> std::io::Result<Self>
    where
        S: Store + Send + Sync + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (order, orders) = watch::channel(Order::Run);
        let (file, changes) = watch::channel(File {
            subscriptions: options.subscriptions.clone(),
            public_url: options.public_url.clone(),
        });
        let (end, ended) = oneshot::channel();
        let board = Arc::new(Board::default());
        let own = Arc::new(OwnAddress::new(&options.public_url));
        let (trials, asked) = Trials::new();
        let supervisor =
            supervisor::Supervisor::new(store, options, Arc::clone(&board), Arc::clone(&own), low_water);
        std::thread::Builder::new().name("relay".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, supervisor.run(orders, changes, asked));
            // A resolver that hangs must not hold up the end.
            runtime.shutdown_background();
            let _ = end.send(());
        })?;
        Ok(Self {
            order,
            of_file: OfFile {
                file,
                own: Arc::clone(&own),
            },
            ended,
            board,
            own,
            trials,
        })
    }

    /// Tells the relay where the gateway listens: no delivery is connected to that address, by whatever name.
    /// If this is called again, the last address counts.
    pub fn listens_on(&self, address: SocketAddr) {
        self.own.set(address);
    }

    /// What the file says of deliveries, which may change.
    pub fn of_file(&self) -> OfFile {
        self.of_file.clone()
    }

    /// How every subscription stands, by topic and name.
    pub fn status(&self) -> Vec<SubscriptionStatus> {
        self.board.all()
    }

    /// The same, for whoever looks at it again and again.
    pub fn statuses(&self) -> Statuses {
        Statuses(Arc::clone(&self.board))
    }

    /// Sends samples, under the same rules.
    pub fn trials(&self) -> Trials {
        self.trials.clone()
    }

    /// Sends what no topic holds, under the same rules.
    pub fn messenger(&self) -> Messenger {
        Messenger::new(Arc::clone(&self.own))
    }

    /// Begins no more deliveries, sees through those under way and makes their results durable. What takes longer than
    /// `deadline` is given up, and delivered again after the next start.
    pub async fn shutdown(self, deadline: Duration) {
        self.order.send_replace(Order::Drain);
        if tokio::time::timeout(deadline, self.ended).await.is_err() {
            tracing::warn!("the relay did not finish in time; what was under way is delivered again");
        }
    }
}
