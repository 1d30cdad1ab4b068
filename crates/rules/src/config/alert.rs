//! `[[alerts]]`: whom to tell when something is wrong.

use serde::{Deserialize, Serialize};
use tollgate_api::secret::SecretText;
use tollgate_api::units::Span;

/// `[[alerts]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Unique; see [`super::is_topic_name`].
    pub name: String,
    /// See [`crate::alerts::Condition`].
    pub when: String,
    /// Where messages are posted to. Whoever knows a chat's URL may post there, so it counts as a secret.
    pub url: SecretText,
    /// How messages are written.
    #[serde(default)]
    pub format: AlertFormat,
    /// How often it is looked.
    #[serde(default = "every")]
    pub every: Span,
    /// After how long a message is sent again while the condition still holds. Without it: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_after: Option<Span>,
    /// A Standard Webhooks secret, `whsec_<base64>`, by which messages are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretText>,
    /// Whether the URL may lead to loopback, private, link-local and other special addresses.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

/// How an alert's messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertFormat {
    /// An object with everything that is known.
    #[default]
    Json,
    /// A line of text, as an incoming webhook of Slack (or Mattermost, or Rocket.Chat) takes it.
    Slack,
}

fn every() -> Span {
    Span::from_secs(30)
}
