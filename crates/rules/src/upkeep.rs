//! Background work of the rules: what is removed, counted, given back, drawn and released though nobody asks. Our own host does each
//! kind for ever, in small steps. Under Spin ticks do it, and requests after their response. What a store removes itself
//! ([`tollgate_store::ports::Upkeep`]) is asked for there only: [`keeping`] says what may go.

use std::time::Duration;

use crate::config::{Config, TopicSettings};
use crate::forward::delayed;
use crate::{campaigns, draws, links, quotas};
use tollgate_delivery::subscriptions;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;
use tollgate_store::retention::{Keeping, Retention};

/// A kind of background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Messages that were posted to come later, and are due.
    Due,
    /// Holds that have ended are given back.
    Holds,
    /// Draws that have closed, or have pages of entries to be hashed.
    Draws,
    /// Visits that were noted are counted.
    Visits,
    /// Links that have ended, and what deleted links left.
    Links,
    /// What is left of removed campaigns.
    Campaigns,
    /// Counters of quotas that are over.
    Quotas,
}

impl Work {
    /// Every kind. First what somebody waits for.
    pub const ALL: [Self; 7] = [
        Self::Due,
        Self::Holds,
        Self::Draws,
        Self::Visits,
        Self::Links,
        Self::Campaigns,
        Self::Quotas,
    ];

    /// How often it is looked whether there is some: so much later its outcome shows at most.
    pub fn every(self) -> Duration {
        match self {
            Self::Due => Duration::from_millis(200),
            Self::Holds | Self::Draws => Duration::from_secs(1),
            // So much later lists of links know how many visitors they had.
            Self::Visits => Duration::from_secs(2),
            Self::Links | Self::Campaigns | Self::Quotas => Duration::from_secs(10),
        }
    }

    /// What it is about, in a line of the log.
    pub fn subject(self) -> &'static str {
        match self {
            Self::Due => "messages that are due",
            Self::Holds => "holds that have ended",
            Self::Draws => "draws",
            Self::Visits => "the notes of visits",
            Self::Links => "links that have ended",
            Self::Campaigns => "campaigns",
            Self::Quotas => "counters of quotas",
        }
    }

    /// Does a bounded part of it; whether there is more. May be repeated, and done by several at once. `now`: Unix milliseconds.
    ///
    /// # Errors
    /// Those of the store; to be tried again later.
    pub async fn step<S: Store>(self, store: &S, config: &Config, now: u64) -> Result<bool, StoreError> {
        match self {
            Self::Due => delayed::release(store, config, now).await,
            Self::Holds => campaigns::maintain(store, now).await,
            Self::Draws => draws::maintain(store, now).await,
            Self::Visits => links::stats::step(store, &config.links, now).await,
            Self::Links => links::maintain(store, config, now).await,
            Self::Campaigns => campaigns::purge(store, now).await,
            Self::Quotas => quotas::maintain(store, now).await,
        }
    }
}

/// How long topics are kept: those that the configuration does not name, and those that it does.
pub fn retention(config: &Config) -> (Retention, impl Iterator<Item = (String, Retention)>) {
    const NS_PER_MS: u64 = 1_000_000;
    let of = |topic: &TopicSettings| Retention {
        age_ms: Some(topic.retention.0 / NS_PER_MS),
        max_bytes: Some(topic.max_bytes.0),
        drop_beyond: topic.drop_beyond(),
    };
    let named = config
        .topics
        .iter()
        .map(move |(name, topic)| (name.clone(), of(topic)));
    (of(&TopicSettings::default()), named)
}

/// The same, with what subscriptions and consumer groups need at this moment.
///
/// # Errors
/// Those of the store: then nothing is known to be free to go.
pub async fn keeping<S: Store>(store: &S, config: &Config) -> Result<Keeping, StoreError> {
    let needed = subscriptions::low_water(store, config.subscriptions()).await?;
    let (default, named) = retention(config);
    Ok(Keeping {
        default: Some(default),
        retention: named.collect(),
        low_water: needed.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use tollgate_store::memory::InMemoryStore;

    #[test]
    fn every_kind_of_work_ends_where_there_is_nothing_to_do() {
        let (store, config) = (InMemoryStore::new(), Config::default());
        for work in Work::ALL {
            let mut steps = 0;
            while block_on(work.step(&store, &config, store.now())).unwrap() {
                steps += 1;
                assert!(steps < 100, "{work:?}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_what_the_file_says_and_the_rest_by_default() {
        let text = "[topics.short]\nretention = \"2s\"\nmax_bytes = \"1KiB\"\nmax_backlog = \"2KiB\"\noverflow = \"drop-oldest\"\n";
        let config: Config = toml::from_str(text).unwrap();
        let keeping = block_on(keeping(&InMemoryStore::new(), &config)).unwrap();
        let (short, needed) = keeping.of("short").unwrap();
        assert_eq!(needed, u64::MAX);
        assert_eq!(
            short,
            Retention {
                age_ms: Some(2_000),
                max_bytes: Some(1 << 10),
                drop_beyond: Some(2 << 10),
            }
        );
        let (other, _) = keeping.of("other").unwrap();
        assert_eq!((other.age_ms, other.drop_beyond), (Some(7 * 86_400_000), None));
    }
}
