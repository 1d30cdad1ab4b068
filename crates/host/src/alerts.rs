//! `[[alerts]]`, carried out: each is looked at every so often, and its messages are sent until they are taken. On a thread of
//! its own, so that neither a slow receiver nor a slow store holds up anything but that alert's messages. What is decided
//! is [`tollgate_rules::alerts`].

mod peers;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, oneshot};
use tollgate_api::units::Span;
use tollgate_delivery::driver::{Messenger, Recipient, Statuses};
use tollgate_delivery::relay::Delivered;
use tollgate_delivery::subscription::Subscription;
use tollgate_engines::{AnyEngine, Engine as _};
use tollgate_rules::alerts::{self, Condition, Notice, Readings, Record, Reported, State, Subject, Window};
use tollgate_rules::config::Alert;
use tollgate_rules::events::Kind;
use tollgate_rules::settings::Settings;
use tollgate_rules::{campaigns, groups, subscriptions};
use tollgate_store::commit::{Commit, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store as _;

use crate::clock::now;
use crate::events::{self, Events};
use crate::metrics::count::Counted;
use crate::proxy::Origins;
use crate::server::generation::Current;
use peers::Peers;

/// How long the store may take to say what an alert asks for.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a receiver may take.
const SEND_TIMEOUT: Span = Span::from_secs(10);
/// The first wait after a message was not taken; each is twice as long as the one before, and half of it is chance.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Subscriptions, groups, campaigns and topics that are looked at.
const MAX_LOOKED_AT: usize = 1_000;
/// Dead letters of one subscription or group that are counted.
const MAX_COUNTED: u32 = 1_000;

/// What alerts are judged by, besides the store.
#[derive(Clone)]
pub struct Sources {
    /// Answers since the start.
    pub counted: Counted,
    /// How subscriptions stand.
    pub subscriptions: Statuses,
    /// Where starts and ends are told.
    pub events: Arc<Events>,
    /// Whose `[[origins]]` are looked at.
    pub current: Current,
}

/// The running alerts; dropped, they end, and go on where they were with the next start.
pub struct Alerts {
    store: AnyEngine,
    messenger: Messenger,
    sources: Sources,
    running: Option<Running>,
}

struct Running {
    /// Ends them when it is dropped.
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Alerts that are ready to begin; dropped, they never do. `None`: there are none.
pub struct Prepared(Option<(oneshot::Sender<()>, Running)>);

impl Alerts {
    /// None yet.
    pub fn new(store: AnyEngine, messenger: Messenger, sources: Sources) -> Self {
        Self {
            store,
            messenger,
            sources,
            running: None,
        }
    }

    /// Gets those of these settings ready.
    ///
    /// # Errors
    /// No thread, no runtime, or a target that cannot be one.
    pub fn prepare(&self, settings: &Settings) -> anyhow::Result<Prepared> {
        if settings.config.alerts.is_empty() {
            return Ok(Prepared(None));
        }
        let (store, messenger, sources) = (self.store.clone(), &self.messenger, self.sources.clone());
        let mut recipients = Vec::new();
        for (_, alert) in settings.alerts() {
            let recipient = messenger.open(&target(alert), format!("/alerts/{}", alert.name));
            recipients.push(recipient.map_err(|why| anyhow::anyhow!("alert {}: {why}", alert.name))?);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (end, ended) = oneshot::channel();
        let (begin, begins) = oneshot::channel();
        let settings = settings.clone();
        let thread = std::thread::Builder::new().name("alerts".into()).spawn(move || {
            if begins.blocking_recv().is_err() {
                return;
            }
            let local = tokio::task::LocalSet::new();
            let house = Rc::new(House {
                store,
                sources,
                settings,
            });
            let alerts = house.settings.alerts().zip(recipients);
            let mut watches = Vec::new();
            for ((condition, alert), recipient) in alerts {
                let key = alerts::key(&alert.name);
                let peers = crate::serve::is_shared(&house.store)
                    .then(|| Peers::new(house.store.clone(), &key, SEND_TIMEOUT.into()));
                let watch = Rc::new(Watch {
                    condition: *condition,
                    alert: alert.clone(),
                    recipient,
                    house: Rc::clone(&house),
                    kept: RefCell::default(),
                    changed: Notify::new(),
                    peers,
                });
                local.spawn_local(Rc::clone(&watch).run());
                watches.push(watch);
            }
            // Ends when the other side is dropped.
            let _ = local.block_on(&runtime, ended);
            drop(local);
            let peers = watches.iter().filter_map(|watch| watch.peers.as_ref());
            runtime.block_on(futures::future::join_all(peers.map(|peers| peers.tenure.end())));
            runtime.shutdown_background();
        })?;
        Ok(Prepared(Some((begin, Running { end, thread }))))
    }

    /// Ends those that run, and begins these.
    pub async fn replace(&mut self, Prepared(next): Prepared) {
        if let Some(Running { end, thread }) = self.running.take() {
            drop(end);
            // Two would both send what one has to.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
        if let Some((begin, running)) = next {
            // The thread waits for it.
            let _ = begin.send(());
            self.running = Some(running);
        }
    }
}

/// An alert's receiver, as what a subscription posts to.
fn target(alert: &Alert) -> Subscription {
    Subscription {
        secret: alert.secret.clone(),
        timeout: SEND_TIMEOUT,
        allow_private_addresses: alert.allow_private_addresses,
        ..Subscription::new(&alert.name, alert.url.expose())
    }
}

/// What all alerts share.
struct House {
    store: AnyEngine,
    sources: Sources,
    settings: Settings,
}

/// One alert.
struct Watch {
    condition: Condition,
    alert: Alert,
    recipient: Recipient,
    house: Rc<House>,
    kept: RefCell<Kept>,
    /// Told when there may be something to send.
    changed: Notify,
    /// Where other gateways look after the same alert.
    peers: Option<Peers>,
}

/// An alert's record, and whether the store has it as it is here.
#[derive(Default)]
struct Kept {
    record: Record,
    is_stored: bool,
}

impl Watch {
    async fn run(self: Rc<Self>) {
        let Some(peers) = &self.peers else {
            return self.serve().await;
        };
        loop {
            let tells = || self.is_known_here_only().then(|| self.own());
            peers.begin(self.alert.every.into(), tells).await;
            // A store that is away can have no other holder; that it is away is what this alert is about.
            let holds_on =
                || self.condition == Condition::StoreUnavailable && self.house.store.health().is_err();
            tokio::select! {
                () = self.serve() => {}
                () = peers.tenure.keep(holds_on) => {}
            }
        }
    }

    /// Whether each gateway knows a part of it.
    fn is_known_here_only(&self) -> bool {
        matches!(
            self.condition,
            Condition::ServerErrors { .. } | Condition::BreakerOpen | Condition::OriginDown
        )
    }

    async fn serve(&self) {
        let mut wait = FIRST_WAIT;
        let record = loop {
            match self.load().await {
                Ok(record) => break record,
                Err(error) => {
                    tracing::debug!(alert = self.alert.name, %error, "an alert's record was not read")
                }
            }
            tokio::time::sleep(wait).await;
            wait = longer(wait);
        };
        *self.kept.borrow_mut() = Kept {
            record,
            is_stored: true,
        };
        tokio::join!(self.look(), self.send());
    }

    /// Looks every so often. Not at once: who has just started knows of no breaker yet.
    async fn look(&self) {
        let mut window = Window::default();
        let repeat_after = self.alert.repeat_after.map(|span| span.as_millis());
        // The count that others are compared with.
        let begin = self.readings().await;
        let _ = self.condition.judge(&begin, &mut window, now());
        loop {
            tokio::time::sleep(self.alert.every.into()).await;
            let readings = self.readings().await;
            let Some(finding) = self.condition.judge(&readings, &mut window, now()) else {
                continue;
            };
            let changed = {
                let mut kept = self.kept.borrow_mut();
                let changed = kept.record.observe(&finding, now(), repeat_after);
                kept.is_stored &= !changed;
                changed
            };
            if changed {
                self.tell();
            }
            self.save().await;
            if changed {
                self.changed.notify_one();
            }
        }
    }

    /// Tells the log and whoever listens to events.
    fn tell(&self) {
        let kept = self.kept.borrow();
        let Some(Notice { state, value, .. }) = kept.record.pending.last() else {
            return;
        };
        let (alert, when) = (&self.alert.name, self.condition.to_string());
        match state {
            State::Started => tracing::warn!(alert, when, value, "an alert started"),
            State::Continues => tracing::warn!(alert, when, value, "an alert continues"),
            State::Ended => tracing::info!(alert, when, value, "an alert ended"),
        }
        let kind = match state {
            State::Started => Kind::AlertStarted,
            State::Continues => return,
            State::Ended => Kind::AlertEnded,
        };
        let data = json!({ "alert": alert, "when": when, "value": value });
        let event = events::event(kind, ["alert/", alert].concat(), data);
        self.house.sources.events.tell(event);
    }

    /// Sends what is to be sent, in order, each until it is taken.
    async fn send(&self) {
        let mut wait = FIRST_WAIT;
        loop {
            let first = self.kept.borrow().record.pending.first().cloned();
            let Some(notice) = first else {
                self.changed.notified().await;
                continue;
            };
            let gateway = &self.house.settings.public_url;
            let message = alerts::message(&self.alert, &self.condition, &notice, gateway);
            let asked = match self.recipient.deliver(Arc::new(message)).await {
                Delivered::Accepted => None,
                Delivered::Unwanted => {
                    tracing::warn!(alert = self.alert.name, "whom an alert is sent to wants no more");
                    None
                }
                Delivered::Refused {
                    why, retry_after_ms, ..
                } => {
                    tracing::warn!(alert = self.alert.name, why, "an alert's message was not taken");
                    Some(Duration::from_millis(retry_after_ms.unwrap_or(0)))
                }
            };
            match asked {
                None => {
                    {
                        let mut kept = self.kept.borrow_mut();
                        kept.record.sent(&notice.id);
                        kept.is_stored = false;
                    }
                    self.save().await;
                    wait = FIRST_WAIT;
                }
                Some(asked) => {
                    let jittered = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
                    tokio::time::sleep(jittered.max(asked.min(LONGEST_WAIT))).await;
                    wait = longer(wait);
                }
            }
        }
    }

    async fn load(&self) -> Result<Record, StoreError> {
        let key = alerts::key(&self.alert.name);
        let found = self.house.store.get(&key, std::slice::from_ref(&key)).await?;
        let entry = found.into_iter().next().flatten();
        // One that cannot be read is no reason to stay silent.
        Ok(entry
            .and_then(|entry| serde_json::from_slice(&entry.value).ok())
            .unwrap_or_default())
    }

    /// Writes the record, if it has changed. What the store does not take is tried again when it is looked next.
    async fn save(&self) {
        let record = {
            let kept = self.kept.borrow();
            match kept.is_stored {
                true => return,
                false => kept.record.clone(),
            }
        };
        let key = alerts::key(&self.alert.name);
        let mut commit = Commit {
            partition: key.clone(),
            mutations: vec![Mutation::Set {
                key,
                value: literal(serde_json::to_vec(&record).unwrap_or_default()),
                expires: None,
            }],
            ..Commit::default()
        };
        if self
            .peers
            .as_ref()
            .is_some_and(|peers| !peers.tenure.fence(&mut commit))
        {
            return;
        }
        let done = tokio::time::timeout(STORE_TIMEOUT, self.house.store.commit(commit)).await;
        if let (Some(peers), Ok(Ok(outcome))) = (&self.peers, &done) {
            peers.tenure.heard(outcome);
        }
        if matches!(done, Ok(Ok(Outcome::Committed(_)))) {
            let mut kept = self.kept.borrow_mut();
            kept.is_stored = kept.record == record;
        }
    }

    async fn readings(&self) -> Readings {
        let mut readings = self.own().await;
        if let Some(peers) = self.peers.as_ref().filter(|_| self.is_known_here_only()) {
            peers.join(&mut readings).await;
        }
        readings
    }

    /// What this gateway knows.
    async fn own(&self) -> Readings {
        let is_open = |breaker: &str| breaker != "closed";
        let statuses = match self.condition {
            Condition::BreakerOpen => self.house.sources.subscriptions.all(),
            _ => Vec::new(),
        };
        let open = statuses.iter().filter(|one| is_open(one.machine.breaker));
        let generation = self.house.sources.current.get();
        let origins = match self.condition {
            Condition::OriginDown => generation.origins.as_deref(),
            _ => None,
        };
        let down = origins.map(Origins::down).into_iter().flatten();
        Readings {
            server_errors: self.house.sources.counted.server_errors(),
            open_breakers: open.map(|one| [&*one.topic, "/", &one.name].concat()).collect(),
            down_origins: down.map(|origin| origin.settings().name.clone()).collect(),
            store_is_up: self.house.store.health().is_ok(),
            reported: self.reported().await,
        }
    }

    async fn reported(&self) -> Option<Vec<Subject>> {
        let reported = self.condition.reported()?;
        let answer = tokio::time::timeout(STORE_TIMEOUT, self.house.ask(reported)).await;
        match answer {
            Ok(Ok(subjects)) => Some(subjects),
            Ok(Err(error)) => {
                tracing::debug!(alert = self.alert.name, %error, "an alert could not be judged");
                None
            }
            Err(_) => None,
        }
    }
}

impl House {
    async fn ask(&self, reported: Reported) -> Result<Vec<Subject>, StoreError> {
        let config = &self.settings.config;
        Ok(match reported {
            Reported::DeadLetters { enough } => {
                let enough = u32::try_from(enough).unwrap_or(u32::MAX).min(MAX_COUNTED);
                let counts =
                    subscriptions::dead_letter_counts(&self.store, config, MAX_LOOKED_AT, enough).await?;
                let of_groups = groups::dead_letter_counts(&self.store, MAX_LOOKED_AT, enough).await?;
                subjects(counts, of_groups)
            }
            Reported::Lag => {
                let topics = self.store.topics(None, MAX_LOOKED_AT as u32).await?;
                let backlogs = subscriptions::backlogs(&self.store, config, &topics, MAX_LOOKED_AT).await?;
                let backlogs = backlogs.into_iter().map(|one| (one.topic, one.name, one.lag));
                let of_groups = groups::backlogs(&self.store, &topics, MAX_LOOKED_AT, now()).await?;
                let of_groups = of_groups.into_iter().map(|one| (one.topic, one.name, one.lag));
                subjects(backlogs, of_groups)
            }
            Reported::Stock => {
                let stocks = campaigns::stocks(&self.store, now(), MAX_LOOKED_AT).await?;
                let stocks = stocks.into_iter();
                stocks
                    .map(|one| Subject {
                        name: one.id,
                        value: one.remaining,
                    })
                    .collect()
            }
        })
    }
}

/// Subscriptions as `<topic>/<name>`, groups as `<topic>/groups/<name>`; each with its topic, name and value.
fn subjects(
    subscriptions: impl IntoIterator<Item = (String, String, u64)>,
    groups: impl IntoIterator<Item = (String, String, u64)>,
) -> Vec<Subject> {
    let named = |middle: &'static str| {
        move |(topic, name, value): (String, String, u64)| Subject {
            name: [&topic, middle, &name].concat(),
            value,
        }
    };
    let subscriptions = subscriptions.into_iter().map(named("/"));
    subscriptions
        .chain(groups.into_iter().map(named("/groups/")))
        .collect()
}

fn longer(wait: Duration) -> Duration {
    (wait * 2).min(LONGEST_WAIT)
}
