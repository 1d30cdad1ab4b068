//! The subscriptions in force: those of the file, and those of the store.

use serde::{Deserialize, Serialize};

use crate::groups;
use crate::relay::record::Keys;
use crate::relay::restore::{self, Polled, Restored};
use crate::subscription::Subscription;
use tollgate_store::commit::{Entry, MAX_PAGE, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The partition of every stored subscription.
pub const PARTITION: &str = "subscriptions";
/// What their keys begin with.
pub const PREFIX: &str = "subscription/";
/// How many there are, as a counter of the same partition.
pub const COUNT: &str = "subscription-count";
/// The most that are stored, over all topics.
pub const MAX_STORED: i64 = 256;

/// The record of a subscription that was made over HTTP. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Different for each subscription, also for one that takes the name of a removed one.
    pub id: String,
    /// Its durable state is kept by its id; else by its name, as the version did that made it.
    #[serde(default)]
    pub by_id: bool,
    /// How it is served, with its secret.
    pub settings: Subscription,
    /// When it was made.
    pub created_at: u64,
    /// When it was changed last.
    pub updated_at: u64,
}

/// Where a subscription is defined.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In `tollgate.toml`.
    File,
    /// In the store.
    Api {
        /// See [`Stored::id`].
        id: String,
        /// See [`Stored::by_id`].
        by_id: bool,
        /// See [`Stored::created_at`].
        created_at: u64,
        /// See [`Stored::updated_at`].
        updated_at: u64,
        /// Of its entry.
        version: u64,
    },
}

/// A subscription that is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Defined {
    /// Its topic.
    pub topic: String,
    /// How it is served. The secret is missing where the configuration was given without secrets.
    pub settings: Subscription,
    /// Where it is defined.
    pub source: Source,
}

impl Defined {
    /// A stored one; `version`: its entry's.
    pub fn of_stored(topic: String, stored: Stored, version: u64) -> Self {
        let Stored {
            id,
            by_id,
            settings,
            created_at,
            updated_at,
        } = stored;
        Self {
            topic,
            settings,
            source: Source::Api {
                id,
                by_id,
                created_at,
                updated_at,
                version,
            },
        }
    }

    /// Where its progress, its dead letters and whatever else the relay keeps of it are. By its id, so that nothing of it
    /// is ever taken for that of another subscription with its name.
    pub fn keys(&self) -> Keys {
        match &self.source {
            Source::Api { id, by_id: true, .. } => Keys::of_id(&self.topic, id),
            Source::Api { .. } | Source::File => Keys::new(&self.topic, &self.settings.name),
        }
    }

    /// Whether `other` is the same subscription, served in the same way.
    pub fn is_served_as(&self, other: &Self) -> bool {
        self.keys() == other.keys()
            && self.settings == other.settings
            && self.is_of_file() == other.is_of_file()
    }

    fn is_of_file(&self) -> bool {
        matches!(self.source, Source::File)
    }
}

/// The store's view of a subscription at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its entry still is what it was, or says the same. Always so for one of the file.
    pub in_force: bool,
    /// The small entries of its relay.
    pub polled: Polled,
}

/// Asked before each delivery: the last change of a caller counts from its answer on, however late the relay
/// hears of it. Two reads of entries that are cached.
pub async fn standing<S: Store>(store: &S, defined: &Defined) -> Result<Standing, StoreError> {
    let in_force = match &defined.source {
        Source::File => true,
        Source::Api { version, .. } => {
            let key = key(&defined.topic, &defined.settings.name);
            let found = store.get(PARTITION, &[key]).await?.into_iter().next().flatten();
            match found {
                Some(entry) if entry.version == *version => true,
                Some(entry) => of_entry(&defined.topic, &entry)?.is_served_as(defined),
                None => false,
            }
        }
    };
    let polled = restore::poll(store, &defined.keys()).await?;
    Ok(Standing { in_force, polled })
}

/// The durable form of its relay, and where one of the file that is new begins.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn restored<S: Store>(store: &S, defined: &Defined) -> Result<Restored, StoreError> {
    let mut restored = restore::restore(store, &defined.topic, &defined.keys()).await?;
    // One that was made over HTTP has its progress since then.
    if restored.polled.progress.is_none() && defined.source == Source::File {
        let first = defined
            .settings
            .start_from
            .first_now(store, &defined.topic)
            .await?;
        restored.begins_after = Some(first - 1).filter(|before| *before > 0);
    }
    Ok(restored)
}

/// The key of the subscription of this topic and name.
pub fn key(topic: &str, name: &str) -> String {
    format!("{PREFIX}{topic}/{name}")
}

/// The subscriptions of the file, each with its topic.
pub trait OfFile<'f>: Iterator<Item = (&'f str, &'f Subscription)> {}

impl<'f, I: Iterator<Item = (&'f str, &'f Subscription)>> OfFile<'f> for I {}

/// Every subscription in force, those of the file first. A stored one of the same topic and name gives way to the file's.
/// [`StoreError::Invalid`] if a record is damaged.
pub async fn all<'f, S: Store>(store: &S, file: impl OfFile<'f>) -> Result<Vec<Defined>, StoreError> {
    below(store, file, None).await
}

/// Those of one topic, by name.
pub async fn of_topic<'f, S: Store>(
    store: &S,
    file: impl OfFile<'f>,
    topic: &str,
) -> Result<Vec<Defined>, StoreError> {
    let mut found = below(store, file, Some(topic)).await?;
    found.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
    Ok(found)
}

async fn below<'f, S: Store>(
    store: &S,
    file: impl OfFile<'f>,
    topic: Option<&str>,
) -> Result<Vec<Defined>, StoreError> {
    let of_file = |(topic, one): (&str, &Subscription)| of_file(topic, one);
    let mut found: Vec<Defined> = file
        .filter(|(name, _)| topic.is_none_or(|topic| topic == *name))
        .map(of_file)
        .collect();
    let prefix = topic.map_or_else(|| PREFIX.to_owned(), |topic| key(topic, ""));
    let mut after = None::<String>;
    loop {
        let page = store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.key.clone());
        for item in &page {
            let topic = item
                .key
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split('/').next())
                .unwrap_or("");
            let defined = of_entry(topic, &item.entry)?;
            let taken =
                |other: &Defined| other.topic == topic && other.settings.name == defined.settings.name;
            if !found.iter().any(taken) {
                found.push(defined);
            }
        }
    }
}

fn of_file(topic: &str, settings: &Subscription) -> Defined {
    Defined {
        topic: topic.to_owned(),
        settings: settings.clone(),
        source: Source::File,
    }
}

fn of_entry(topic: &str, entry: &Entry) -> Result<Defined, StoreError> {
    let stored = stored::decode("subscription", entry)?;
    Ok(Defined::of_stored(topic.to_owned(), stored, entry.version))
}

/// One subscription.
pub async fn find<'f, S: Store>(
    store: &S,
    mut file: impl OfFile<'f>,
    topic: &str,
    name: &str,
) -> Result<Option<Defined>, StoreError> {
    if let Some((_, settings)) = file.find(|(of, one)| *of == topic && one.name == name) {
        return Ok(Some(of_file(topic, settings)));
    }
    let found = store.get(PARTITION, &[key(topic, name)]).await?;
    found
        .into_iter()
        .next()
        .flatten()
        .map(|entry| of_entry(topic, &entry))
        .transpose()
}

/// Per topic with a subscription or a consumer group, the oldest sequence that one of them still needs: retention must leave it.
/// A dead letter carries its message and needs nothing.
pub async fn low_water<'f, S: Store>(
    store: &S,
    file: impl OfFile<'f>,
) -> Result<Vec<(String, u64)>, StoreError> {
    let mut found = groups::low_water(store).await?;
    for defined in all(store, file).await? {
        let keys = defined.keys();
        let (_, progress) = restore::state(store, &keys).await?;
        let from = restore::oldest_needed(store, &keys, &progress).await?;
        found.push((defined.topic, from));
    }
    let mut needed = std::collections::BTreeMap::<String, u64>::new();
    for (topic, from) in found {
        needed
            .entry(topic)
            .and_modify(|least| *least = from.min(*least))
            .or_insert(from);
    }
    Ok(needed.into_iter().collect())
}
