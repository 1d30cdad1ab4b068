//! `[topics.<name>]`: how long messages are kept, and whom they are pushed to.

use serde::{Deserialize, Serialize};
use tollgate_api::units::{Bytes, Span};
use tollgate_delivery::subscription::Subscription;

/// `[topics.<name>]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicSettings {
    /// How long messages are kept; messages that a subscription still needs are kept longer.
    pub retention: Span,
    /// How many bytes they may take on disk.
    pub max_bytes: Bytes,
    /// How many bytes those may take that a subscription still needs: beyond it, requests are refused. At least
    /// `max_bytes`; where it is missing, see [`TopicSettings::backlog`].
    pub max_backlog: Option<Bytes>,
    /// What happens then.
    pub overflow: Overflow,
    /// Push subscriptions.
    pub subscriptions: Vec<Subscription>,
}

/// What happens to a topic whose consumers are so far behind that it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Requests are refused: what was accepted is delivered.
    Refuse,
    /// The oldest messages go, also those that a subscription has not had.
    DropOldest,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            retention: Span::from_secs(7 * 86_400),
            max_bytes: Bytes(1 << 30),
            max_backlog: None,
            overflow: Overflow::Refuse,
            subscriptions: Vec::new(),
        }
    }
}

impl TopicSettings {
    /// The bytes that messages of the topic may take on disk before requests are refused: `max_backlog`, else
    /// four times `max_bytes`, but at least 64 MiB, so that a topic which keeps little is not full before it
    /// is swept.
    pub fn backlog(&self) -> u64 {
        const TIMES: u64 = 4;
        const AT_LEAST: u64 = 64 << 20;
        let default = self.max_bytes.0.saturating_mul(TIMES).max(AT_LEAST);
        self.max_backlog.map_or(default, |bytes| bytes.0)
    }

    /// The bytes beyond which requests are refused. The oldest messages are dropped by the store's sweep, up to a second after the
    /// topic is full: until then there is room for as much again.
    pub fn room(&self) -> u64 {
        match self.overflow {
            Overflow::Refuse => self.backlog(),
            Overflow::DropOldest => self.backlog().saturating_mul(2),
        }
    }

    /// The bytes beyond which the oldest messages go although a subscription needs them; `None`: never.
    pub fn drop_beyond(&self) -> Option<u64> {
        (self.overflow == Overflow::DropOldest).then(|| self.backlog())
    }
}
