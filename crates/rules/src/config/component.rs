//! `[[components]]`: components of the operator's own.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tollgate_api::secret::SecretText;
use tollgate_api::units::{Bytes, Span};

/// `[[components]]`: a component that exports `wasi:http/handler` or `wasi:http/incoming-handler`, behind the limiter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentSettings {
    /// Unique; see [`super::is_topic_name`].
    pub name: String,
    /// A route pattern; see [`tollgate_api::pattern`].
    pub path: String,
    /// The prefix that is taken off the path before the component sees it: empty, or whole segments that
    /// `path` begins with.
    #[serde(default)]
    pub strip_prefix: String,
    /// The component's file.
    pub source: String,
    /// The most linear memory of one instance.
    #[serde(default = "memory")]
    pub memory: Bytes,
    /// How long a request may take, from its head to the end of its answer.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Requests under way at once, each in an instance of its own.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// The hosts that it may call: `https://api.example.com`, `*://*.example.com:443`; at most
    /// [`super::MAX_OUTBOUND_HOSTS`].
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// The prefix of its keys, partitions, topics and buckets in the store; see
    /// [`ComponentSettings::store_prefix`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_prefix: Option<String>,
    /// Its environment variables; values count as secrets.
    #[serde(default)]
    pub environment: BTreeMap<String, SecretText>,
}

impl ComponentSettings {
    /// The configured prefix, or `app/<name>/`.
    pub fn store_prefix(&self) -> String {
        let own = || ["app/", &self.name, "/"].concat();
        self.store_prefix.clone().unwrap_or_else(own)
    }
}

fn memory() -> Bytes {
    Bytes(64 << 20)
}
fn timeout() -> Span {
    Span::from_secs(10)
}
fn concurrency() -> u32 {
    16
}
