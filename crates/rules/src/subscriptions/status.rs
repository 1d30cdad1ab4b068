//! The status of subscriptions: how far behind they are, and what became of a message.

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::world::World;
use tollgate_api::time;
use tollgate_delivery::relay::attempt::Attempt;
use tollgate_delivery::relay::delivery::{self, Delivery, State};
use tollgate_delivery::relay::progress::Progress;
use tollgate_delivery::relay::record::{DeadLetter, Waiting};
use tollgate_delivery::relay::restore;
use tollgate_delivery::subscriptions::{Defined, all, of_topic};
use tollgate_store::commit::{Entry, Message, StoreError, Topic};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// How far behind a subscription is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "SubscriptionLag")
)]
pub struct Lag {
    /// Its name.
    pub name: String,
    /// Messages that are kept and not finished.
    pub lag: u64,
    /// Whether it is paused.
    pub paused: bool,
}

/// What a subscription has not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Its topic.
    pub topic: String,
    /// Its name.
    pub name: String,
    /// Messages that are kept and not finished.
    pub lag: u64,
    /// When the oldest of them was committed, Unix milliseconds; one that waits to be delivered again included.
    pub oldest: Option<u64>,
}

/// The backlogs of at most `limit` subscriptions, those of the file first; `topics`: their extents. Three small reads
/// each, and one more where dead letters were ever redriven.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn backlogs<S: Store>(
    store: &S,
    config: &Config,
    topics: &[Topic],
    limit: usize,
) -> Result<Vec<Backlog>, StoreError> {
    let mut backlogs = Vec::new();
    for defined in all(store, config.subscriptions()).await?.into_iter().take(limit) {
        let keys = defined.keys();
        let (polled, progress) = restore::state(store, &keys).await?;
        let topic = topics.iter().find(|topic| topic.name == defined.topic);
        let lag = restore::lag(store, &keys, (&polled, &progress), topic).await?;
        let oldest = match lag {
            0 => None,
            _ => restore::oldest_time(store, &defined.topic, &keys, &progress).await?,
        };
        let (topic, name) = (defined.topic, defined.settings.name);
        backlogs.push(Backlog {
            topic,
            name,
            lag,
            oldest,
        });
    }
    Ok(backlogs)
}

/// How many dead letters each of at most `limit` subscriptions holds, by topic and name; `most` are counted of one.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn dead_letter_counts<S: Store>(
    store: &S,
    config: &Config,
    limit: usize,
    most: u32,
) -> Result<Vec<(String, String, u64)>, StoreError> {
    let mut counts = Vec::new();
    for defined in all(store, config.subscriptions()).await?.into_iter().take(limit) {
        let found = store.scan(&defined.keys().dead_prefix(), None, most).await?;
        counts.push((defined.topic, defined.settings.name, found.len() as u64));
    }
    Ok(counts)
}

/// The delivery of a message at one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "MessageDelivery")
)]
#[serde(rename_all = "camelCase")]
pub struct MessageDelivery {
    /// The subscription's name.
    pub subscription: String,
    /// What became of it.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// When it was delivered; null if it was not, or that is no longer kept.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    pub delivered_at: Option<u64>,
    /// The newest attempts, at most ten, oldest first; those of the newest 10,000 messages of a subscription are kept.
    pub attempt_log: Vec<AttemptView>,
}

/// An attempt to deliver a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Attempt")
)]
#[serde(rename_all = "camelCase")]
pub struct AttemptView {
    /// From 1; it begins anew when a dead letter is delivered again.
    number: u32,
    /// When it began.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    time: u64,
    /// How long it took.
    milliseconds: u64,
    /// The status of the answer; null where there was none.
    status: Option<u16>,
    /// How the answer began: at most 256 bytes. Empty for who has no key with the scope `topics`.
    answer: String,
    /// Why it failed; null if the message was taken.
    error: Option<String>,
}

impl AttemptView {
    /// `answers`: whether what the origin said is shown.
    fn of(attempt: Attempt, answers: bool) -> Self {
        Self {
            number: attempt.number,
            time: attempt.at,
            milliseconds: attempt.ms,
            status: attempt.status,
            answer: if answers { attempt.answer } else { String::new() },
            error: attempt.error,
        }
    }
}

/// The lag of every subscription of `topic`, in the order of `all`, which may be of other topics too.
pub async fn lags<S: Store>(store: &S, topic: &Topic, all: &[Defined]) -> Result<Vec<Lag>, StoreError> {
    let mut lags = Vec::new();
    for defined in all.iter().filter(|defined| defined.topic == topic.name) {
        let keys = defined.keys();
        let (polled, progress) = restore::state(store, &keys).await?;
        let name = defined.settings.name.clone();
        lags.push(Lag {
            name,
            lag: restore::lag(store, &keys, (&polled, &progress), Some(topic)).await?,
            paused: polled.control.0.paused,
        });
    }
    Ok(lags)
}

/// What became of the message with this sequence at every subscription of its topic, by name. `message`: itself, if it is kept;
/// `answers`: whether what origins said is shown.
pub async fn deliveries<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    sequence: u64,
    message: Option<&Message>,
    answers: bool,
) -> Result<Vec<MessageDelivery>, StoreError> {
    let mut deliveries = Vec::new();
    for defined in of_topic(world.store, world.settings.config.subscriptions(), topic).await? {
        let keys = defined.keys();
        let name = defined.settings.name;
        let wanted = [keys.progress(), keys.retry(sequence), keys.dead(sequence)];
        let found = world.store.get(keys.partition(), &wanted).await?;
        let [progress, waiting, dead] = [0, 1, 2].map(|i| found.get(i).and_then(Option::as_ref));
        let progress: Progress = read("progress of a subscription", progress)?.unwrap_or_default();
        let waiting: Option<Waiting> = read("message that waits", waiting)?;
        let dead: Option<DeadLetter> = read("dead letter", dead)?;
        let mut delivery = delivery::of(&progress, waiting.as_ref(), dead.as_ref(), sequence);
        let filter = defined.settings.filter.as_ref().zip(message);
        if filter.is_some_and(|(filter, message)| !filter.passes(message)) {
            delivery.is_not_wanted();
        }
        let attempts = restore::attempts(world.store, &keys, sequence).await?;
        let taken = attempts.iter().rev().find(|attempt| attempt.error.is_none());
        let taken = taken.filter(|_| delivery.state == State::Delivered);
        deliveries.push(MessageDelivery {
            subscription: name,
            delivery,
            delivered_at: taken.map(|attempt| attempt.at.saturating_add(attempt.ms)),
            attempt_log: attempts
                .into_iter()
                .map(|attempt| AttemptView::of(attempt, answers))
                .collect(),
        });
    }
    Ok(deliveries)
}

fn read<'a, T: Deserialize<'a>>(what: &str, entry: Option<&'a Entry>) -> Result<Option<T>, StoreError> {
    entry.map(|entry| stored::decode(what, entry)).transpose()
}
