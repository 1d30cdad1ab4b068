//! `[[origins]]` and `[[proxy]]`: servers that the gateway stands in front of, and the paths that lead to them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tollgate_api::secret::SecretText;
use tollgate_api::units::{Bytes, Span};

/// `[[origins]]`: one service, at one or more addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginSettings {
    /// Unique; see [`super::is_topic_name`].
    pub name: String,
    /// Where it is reached: scheme, host and port alone; at most [`super::MAX_ORIGIN_URLS`]. The one with the fewest requests
    /// under way gets the next.
    pub urls: Vec<String>,
    /// The version of HTTP.
    #[serde(default)]
    pub http2: Http2,
    /// How long a connection may take, with its TLS.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// How long the head of an answer may take, from when the request is sent.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How long a body, or a WebSocket, may be silent in both directions.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Span,
    /// How often a request is tried again that may be: see `docs/proxy.md`.
    #[serde(default = "retries")]
    pub retries: u32,
    /// Requests under way at once, from their head to the end of their answer.
    #[serde(default = "max_concurrent")]
    pub max_concurrent: u32,
    /// Requests that wait for a place among them, for a second at most.
    #[serde(default = "max_queue")]
    pub max_queue: u32,
    /// Connections that each worker keeps for the next request, at each address.
    #[serde(default = "max_idle")]
    pub max_idle: u32,
    /// When an address is left alone.
    #[serde(default)]
    pub breaker: BreakerSettings,
    /// How it is asked whether an address works. Without it: by the requests alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSettings>,
    /// Whether answers are kept for the next who asks.
    #[serde(default)]
    pub cache: CacheMode,
    /// The most that kept answers take.
    #[serde(default = "cache_memory")]
    pub cache_memory: Bytes,
    /// The largest body that is kept.
    #[serde(default = "cache_object")]
    pub cache_object: Bytes,
    /// How long the last good answer is given, beyond its own time, while the origin fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_if_error: Option<Span>,
    /// After how long it is given while the origin has not answered. Without it: when it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Span>,
}

/// `cache` of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheMode {
    /// Nothing is kept but for `stale_if_error`.
    #[default]
    #[serde(rename = "off")]
    Off,
    /// For as long as an answer says (RFC 9111).
    #[serde(rename = "by response headers")]
    ByResponseHeaders,
}

/// `http2` of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Http2 {
    /// As it says during the TLS handshake; without TLS HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/2 alone; without TLS from the first byte on (h2c with prior knowledge).
    Always,
    /// HTTP/1.1 alone.
    Never,
}

/// `breaker` of an origin; see [`tollgate_delivery::breaker`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// The failures of a window, percent, that open it.
    pub percent: u32,
    /// Results in the window before the share is looked at.
    pub results: u32,
    /// The window.
    pub window: Span,
    /// How long it stays open the first time; doubled each time a probe fails.
    pub open: Span,
    /// The longest that it stays open.
    pub open_cap: Span,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 10,
            percent: 50,
            results: 20,
            window: Span::from_secs(10),
            open: Span::from_secs(1),
            open_cap: Span::from_secs(60),
        }
    }
}

/// `health` of an origin: `GET` of a path, at every address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSettings {
    /// The path, with its query.
    pub path: String,
    /// How often.
    #[serde(default = "every")]
    pub every: Span,
    /// How long an answer may take.
    #[serde(default = "health_timeout")]
    pub timeout: Span,
    /// Failures in a row after which an address gets no more requests.
    #[serde(default = "fall")]
    pub fall: u32,
    /// Successes in a row after which it gets them again.
    #[serde(default = "rise")]
    pub rise: u32,
}

/// `[[proxy]]`: which requests go to which origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxySettings {
    /// A route pattern; see [`tollgate_api::pattern`].
    pub path: String,
    /// All methods if it is empty; `GET` takes `HEAD` too.
    #[serde(default)]
    pub methods: Vec<String>,
    /// One of the `[[origins]]`.
    pub origin: String,
    /// The prefix that is taken off the path: empty, or whole segments that `path` begins with.
    #[serde(default)]
    pub strip_prefix: String,
    /// Fixed headers that the origin gets, in place of the client's; values count as secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
    /// Whether the origin gets the `Host` that the client asked for, not its own.
    #[serde(default)]
    pub preserve_host: bool,
    /// The largest request body.
    #[serde(default = "max_body")]
    pub max_body: Bytes,
}

fn connect_timeout() -> Span {
    Span::from_secs(2)
}
fn timeout() -> Span {
    Span::from_secs(30)
}
fn idle_timeout() -> Span {
    Span::from_secs(60)
}
fn retries() -> u32 {
    1
}
fn max_concurrent() -> u32 {
    512
}
fn max_queue() -> u32 {
    128
}
fn max_idle() -> u32 {
    64
}
fn cache_memory() -> Bytes {
    Bytes(64 << 20)
}
fn cache_object() -> Bytes {
    Bytes(1 << 20)
}
fn every() -> Span {
    Span::from_secs(5)
}
fn health_timeout() -> Span {
    Span::from_secs(2)
}
fn fall() -> u32 {
    2
}
fn rise() -> u32 {
    1
}
fn max_body() -> Bytes {
    Bytes(64 << 20)
}
