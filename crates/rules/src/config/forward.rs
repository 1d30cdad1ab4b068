//! `[[forward]]`: requests that become messages.

use serde::{Deserialize, Serialize};
use tollgate_api::secret::SecretText;

/// `[[forward]]`: requests that become messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// A route pattern; see [`tollgate_api::pattern`].
    pub path: String,
    /// Upper case methods, or `*`.
    #[serde(default = "post")]
    pub methods: Vec<String>,
    /// The topic that receives them.
    pub topic: String,
    /// The type of their messages.
    #[serde(rename = "type", default = "request_type")]
    pub kind: String,
    /// By whose rules a request must be signed; others are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// What it is signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretText>,
    /// What it may be signed with as well, while the sender's secret is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret: Option<SecretText>,
    /// Headers that are kept with the message besides `content-encoding`: names, or what they begin with and a `*`; at
    /// most [`MAX_KEPT_HEADERS`].
    #[serde(default)]
    pub headers: Vec<String>,
    /// Which of them are delivered in order.
    #[serde(default)]
    pub ordering: Ordering,
}

/// By whose rules the requests of a route are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// [Standard Webhooks](https://www.standardwebhooks.com): Svix and whoever else follows it.
    StandardWebhooks,
    /// `Stripe-Signature`.
    Stripe,
    /// `X-Hub-Signature-256`.
    Github,
}

/// Which messages of a route are delivered in order, where the request has no ordering key of its own: `none`,
/// `client`, `header:<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ordering {
    /// Each goes its own way.
    #[default]
    None,
    /// Those of one client.
    Client,
    /// Those that have the same value in this header (lower case), of any sender.
    Header(String),
}

impl TryFrom<String> for Ordering {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "none" => Ok(Self::None),
            "client" => Ok(Self::Client),
            _ => match text.strip_prefix("header:") {
                Some(name) => Ok(Self::Header(name.to_owned())),
                None => Err("must be \"none\", \"client\" or \"header:<name>\""),
            },
        }
    }
}

impl From<Ordering> for String {
    fn from(ordering: Ordering) -> Self {
        match ordering {
            Ordering::None => "none".into(),
            Ordering::Client => "client".into(),
            Ordering::Header(name) => ["header:", &name].concat(),
        }
    }
}

fn request_type() -> String {
    crate::forward::MESSAGE_TYPE.to_owned()
}

fn post() -> Vec<String> {
    vec!["POST".into()]
}
