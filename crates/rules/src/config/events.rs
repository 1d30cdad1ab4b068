//! `[events]`: where the gateway's own events are kept.

use serde::{Deserialize, Serialize};

/// `[events]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventSettings {
    /// The topic that the gateway's own events are appended to; without one they are told live only. See
    /// [`crate::events`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}
