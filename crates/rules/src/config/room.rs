//! `[[rooms]]`: paths that a crowd reaches by turns.

use serde::{Deserialize, Serialize};

use tollgate_api::time;
use tollgate_api::units::Span;

/// `[[rooms]]`: a waiting room in front of a path. Also as it is kept where it is set over the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomSettings {
    /// Unique; see [`super::is_topic_name`].
    pub name: String,
    /// A route pattern; see [`tollgate_api::pattern`].
    pub path: String,
    /// How many are admitted in a second: 0.01 to 10,000, by thousandths.
    pub admit_per_second: f64,
    /// For how long somebody is admitted: 10 s to 24 h.
    #[serde(default = "ten_minutes")]
    pub session: Span,
    /// How many may be inside at once: the pace is at most so many in a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// When it opens, Unix milliseconds; whoever comes before gets a place by lot.
    #[serde(
        default,
        with = "time::rfc3339_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub opens: Option<u64>,
    /// What its page says that people wait for; at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

fn ten_minutes() -> Span {
    Span::from_secs(600)
}
