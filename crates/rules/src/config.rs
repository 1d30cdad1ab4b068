//! The configuration as `tollgate.toml` states it; [`crate::settings`] checks it. Every setting has a
//! default; unknown keys are refused.
//!
//! The sample file at the root of the repository *is* the default: what a gateway without a file does, and what a
//! file that leaves a setting out gets. Lists (`[[limits]]`, `[[forward]]`, `[topics.…]`) are the exception: they are
//! exactly what the file says, so that leaving one out means none.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tollgate_api::secret::SecretText;
use tollgate_api::units::{Bytes, Span};
use tollgate_delivery::subscription::Subscription;
use tollgate_store::settings::{LimitsStore, StoreSettings};

mod access;
mod access_log;
mod acme;
mod alert;
mod bounds;
mod challenge;
mod component;
mod concurrency;
#[cfg(test)]
mod documented;
mod domain;
mod error;
mod events;
mod jwt;
mod log;
mod metrics;
mod origin;
mod per;
mod quota;
mod receipts;
mod reload;
mod room;
mod text;
mod tls;
mod traces;

pub use access::{AccessAction, AccessSettings, any_path};
pub use access_log::{AccessLogFormat, AccessLogSettings, STDERR, STDOUT};
pub use acme::{Acme, AcmeChallenge, ExternalAccount};
pub use alert::{Alert, AlertFormat};
pub use bounds::*;
pub use challenge::{ChallengeKind, ChallengeSettings, Provider};
pub use component::ComponentSettings;
pub use concurrency::ConcurrencySettings;
pub use domain::DomainSettings;
pub(crate) use error::Path;
pub use error::{ConfigError, Fault};
pub use events::EventSettings;
pub use jwt::JwtSettings;
pub use log::{LogLevel, LogSettings};
pub use metrics::{MetricsAccess, MetricsSettings};
pub use origin::{BreakerSettings, CacheMode, HealthSettings, Http2, OriginSettings, ProxySettings};
pub use per::Per;
pub use quota::{QuotaCount, QuotaSettings, QuotaWindow};
pub use receipts::{ReceiptAlgorithm, ReceiptSettings};
pub use reload::ReloadSettings;
pub use room::RoomSettings;
pub(crate) use text::MASK;
#[cfg(test)]
pub(crate) use text::SAMPLE;
pub use tls::{AdminTls, CertificateFiles, HANDSHAKE_TIMEOUT, Tls};
pub use traces::TraceSettings;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[server]`
    #[serde(default)]
    pub server: Server,
    /// `[clients]`
    #[serde(default)]
    pub clients: Clients,
    /// `[users]`
    #[serde(default)]
    pub users: Users,
    /// `[receipts]`
    #[serde(default)]
    pub receipts: ReceiptSettings,
    /// `[store]`
    #[serde(default)]
    pub store: StoreSettings,
    /// `[limits_store]`
    #[serde(default)]
    pub limits_store: LimitsStore,
    /// `[links]`
    #[serde(default)]
    pub links: Links,
    /// `[[domains]]`, at most [`MAX_LINK_DOMAINS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainSettings>,
    /// `[relay]`
    #[serde(default)]
    pub relay: Relay,
    /// `[metrics]`
    #[serde(default)]
    pub metrics: MetricsSettings,
    /// `[access_log]`
    #[serde(default)]
    pub access_log: AccessLogSettings,
    /// `[log]`
    #[serde(default)]
    pub log: LogSettings,
    /// `[reload]`
    #[serde(default)]
    pub reload: ReloadSettings,
    /// `[events]`
    #[serde(default)]
    pub events: EventSettings,
    /// `[traces]`
    #[serde(default)]
    pub traces: TraceSettings,
    /// `[[limits]]`, at most [`MAX_LIMITS`].
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// `[[quotas]]`, at most [`MAX_QUOTAS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<QuotaSettings>,
    /// `[[concurrency]]`, at most [`MAX_CONCURRENCY`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub concurrency: Vec<ConcurrencySettings>,
    /// `[[access]]`, at most [`MAX_ACCESS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessSettings>,
    /// `[[rooms]]`, at most [`MAX_ROOMS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<RoomSettings>,
    /// `[[challenges]]`, at most [`MAX_CHALLENGES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<ChallengeSettings>,
    /// `[[forward]]`, at most [`MAX_FORWARDS`].
    #[serde(default)]
    pub forward: Vec<Forward>,
    /// `[[components]]`, at most [`MAX_COMPONENTS`].
    #[serde(default)]
    pub components: Vec<ComponentSettings>,
    /// `[[origins]]`, at most [`MAX_PROXIED_ORIGINS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<OriginSettings>,
    /// `[[proxy]]`, at most [`MAX_PROXY_ROUTES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy: Vec<ProxySettings>,
    /// `[[alerts]]`, at most [`MAX_ALERTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alert>,
    /// `[topics.<name>]`, at most [`MAX_TOPICS`].
    #[serde(default)]
    pub topics: BTreeMap<String, TopicSettings>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port.
    pub listen: String,
    /// The beginning of short URLs, without a trailing slash; its host counts as our own.
    pub public_url: String,
    /// Addresses of this machine, for `listen` on all of them; see [`crate::own_address`]. The host finds them at start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub own_addresses: Vec<std::net::IpAddr>,
    /// CIDRs (or plain addresses) whose `Forwarded` / `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// The origins whose pages may call; see [`crate::cors`]. At most [`MAX_ORIGINS`].
    pub cors_origins: Vec<String>,
    /// Open connections. Beyond them a few more are told the gateway's health, and anything else 503.
    pub max_connections: u32,
    /// Of those, connections from one address (IPv6: one /64), unless it is a trusted proxy; 0: see
    /// [`Server::connections_per_address`].
    pub max_connections_per_address: u32,
    /// The largest request body (bulk calls have a bound of their own).
    pub max_body: Bytes,
    /// How long an answer may take, or on the hot path each wait for the store. Not the arrival of head and body, nor a long
    /// poll: those have bounds of their own.
    pub request_timeout: Span,
    /// Worker threads; 0 is one per core.
    pub workers: u32,
    /// Whether trusted proxies begin every connection with a header of the PROXY protocol, version 1 or 2. From others it is
    /// refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proxy_protocol: bool,
    /// Address and port for operators. Where it is set, `/metrics` and `/admin` are served there alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_listen: Option<String>,
    /// Address and port of Envoy's rate limit service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rls_listen: Option<String>,
    /// `[server.tls]`, for `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// `[server.admin_tls]`, for `admin_listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_tls: Option<AdminTls>,
}

impl Server {
    pub(crate) fn acme_mut(&mut self) -> Option<&mut Acme> {
        self.tls.as_mut()?.acme.as_mut()
    }

    /// The most connections from one address: what is configured, or a tenth of all, but at least 16. Never 0.
    pub fn connections_per_address(&self) -> u32 {
        const LEAST: u32 = 16;
        const SHARE: u32 = 10;
        match self.max_connections_per_address {
            0 => (self.max_connections / SHARE).max(LEAST),
            most => most,
        }
    }
}

/// `[clients]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// The header that names a client; lower case.
    pub header: String,
    /// The header in which trusted proxies tell a visitor's country; lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_header: Option<String>,
    /// A file of networks and their countries, in MaxMind's format; for visitors whose country no trusted proxy tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_file: Option<String>,
    /// Token buckets held in memory; beyond it the oldest idle bucket goes.
    pub max_buckets: u64,
    /// The names that one address may bring to a quota in a window, each with a counter of its own; beyond it they share one.
    pub max_quota_names: u64,
    /// Whether answers that carry `RateLimit` carry the older `X-RateLimit-Limit`, `-Remaining` and `-Reset` too.
    pub x_ratelimit: bool,
}

/// `[users]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    /// The header that names a user; lower case.
    pub header: String,
    /// `[users.jwt]`: where it is set, the header counts for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSettings>,
}

/// When a redirect's click becomes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clicks {
    /// With the next group; the redirect does not wait.
    #[default]
    Submitted,
    /// Before the redirect is answered.
    Durable,
    /// Not counted (except for links with `maxVisits`).
    Off,
}

/// `[links]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// The default status: 301, 302, 307 or 308.
    pub redirect: u16,
    /// The default length of generated codes, 4 to 32.
    pub code_length: u8,
    /// Whether callers without a key may create links.
    pub anonymous: bool,
    /// After how long without a visit their links end, at the latest.
    pub anonymous_idle: Span,
    /// How many of them an address (IPv6 by /64) may create in a day (UTC).
    pub anonymous_per_day: u64,
    /// How many of them the store may hold.
    pub anonymous_max: u64,
    /// How long a link that has ended by time is kept and answers 410, before its code is free.
    pub keep_expired: Span,
    /// How long a link is kept that was archived, from its last change on; for ever, unless it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_archived: Option<Span>,
    /// How clicks are recorded.
    pub clicks: Clicks,
    /// Whether visits are noted beside their number; see [`crate::links::stats`].
    pub stats: bool,
    /// How many of a link's newest visits are kept one by one, where `stats` is on; 0 to 10,000.
    pub visit_log: u32,
    /// Where `GET /` leads; without one, browsers get a page of ours, and others a 404.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_url: Option<String>,
    /// Where a code leads that no link has; without one, browsers get a page, and others a 404.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_found_url: Option<String>,
    /// Where a link leads that has ended and has no fallback; without one, browsers get a page, and others a 410.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_url: Option<String>,
    /// Whether new codes are in lower case, and found in any.
    pub case_insensitive: bool,
}

/// `[relay]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// How long a connection to an origin is kept for the next delivery.
    pub idle_timeout: Span,
}

/// What happens when the buckets, or whoever else decides, cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "OnStoreFailure")
)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The request goes on.
    #[default]
    Allow,
    /// 503.
    Deny,
}

/// `[[limits]]`: a token bucket policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Unique; visible in headers and problems.
    pub name: String,
    /// A route pattern; see [`tollgate_api::pattern`].
    #[serde(default = "any_path")]
    pub path: String,
    /// Upper case methods, or `*`.
    #[serde(default = "any_method")]
    pub methods: Vec<String>,
    /// What it counts by.
    #[serde(default = "per_client")]
    pub per: Vec<Per>,
    /// Tokens a full bucket holds.
    pub capacity: u64,
    /// Tokens gained per interval.
    pub refill: u64,
    /// The interval.
    #[serde(default = "one_second")]
    pub interval: Span,
    /// Tokens a request costs.
    #[serde(default = "one")]
    pub cost: u64,
    /// Counted and reported, never refused.
    #[serde(default)]
    pub shadow: bool,
    /// When the buckets cannot be asked.
    #[serde(default)]
    pub on_store_failure: OnFailure,
    /// Whether gateways over one store count together.
    #[serde(default, skip_serializing_if = "Shared::is_local")]
    pub shared: Shared,
    /// The domain of the descriptors that it counts, instead of requests; see [`crate::limiter::described`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The entries of those descriptors, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptor: Vec<DescriptorEntry>,
}

/// Who counts under a limit where several gateways have one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shared {
    /// Each gateway for itself.
    #[default]
    Local,
    /// All together: each admits at once, and tells the others soon; see [`tollgate_store::bucket::debt`].
    Debt,
    /// All together: their store decides each request, which waits for it; see [`tollgate_store::bucket::exact`].
    Exact,
}

impl Shared {
    fn is_local(&self) -> bool {
        *self == Self::Local
    }
}

/// An entry of the descriptors that a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DescriptorEntry {
    /// What it is.
    pub key: String,
    /// The one value; without it every value has a bucket of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

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

impl Config {
    /// The subscriptions of every topic, each with the topic's name.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, &Subscription)> {
        let topics = self.topics.iter();
        topics.flat_map(|(topic, settings)| settings.subscriptions.iter().map(move |one| (&**topic, one)))
    }

    /// The paths of `[[forward]]`, in its order.
    pub fn forward_paths(&self) -> impl Iterator<Item = &str> {
        self.forward.iter().map(|route| &*route.path)
    }

    /// The names under which requests are let through or refused: of `[[limits]]`, then of `[[quotas]]`, in their order. No two are alike.
    pub fn policy_names(&self) -> impl Iterator<Item = &str> {
        let quotas = self.quotas.iter().map(|quota| &*quota.name);
        self.limits.iter().map(|limit| &*limit.name).chain(quotas)
    }

    /// The settings of a topic, whether the file names it or not.
    pub fn topic(&self, name: &str) -> std::borrow::Cow<'_, TopicSettings> {
        use std::borrow::Cow;
        self.topics
            .get(name)
            .map_or_else(|| Cow::Owned(TopicSettings::default()), Cow::Borrowed)
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:3000".into(),
            public_url: "http://localhost:3000".into(),
            own_addresses: Vec::new(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            max_connections: 10_000,
            max_connections_per_address: 0,
            max_body: Bytes(64 << 10),
            request_timeout: Span::from_secs(10),
            workers: 0,
            proxy_protocol: false,
            admin_listen: None,
            rls_listen: None,
            tls: None,
            admin_tls: None,
        }
    }
}
impl Default for Clients {
    fn default() -> Self {
        Self {
            header: "x-client-id".into(),
            country_header: None,
            country_file: None,
            max_buckets: 1_000_000,
            max_quota_names: 100_000,
            x_ratelimit: false,
        }
    }
}
impl Default for Users {
    fn default() -> Self {
        Self {
            header: "x-user-id".into(),
            jwt: None,
        }
    }
}
impl Default for Links {
    fn default() -> Self {
        Self {
            redirect: 302,
            code_length: 7,
            anonymous: true,
            anonymous_idle: Span::from_secs(30 * 86_400),
            anonymous_per_day: 100,
            anonymous_max: 100_000,
            keep_expired: Span::from_secs(30 * 86_400),
            keep_archived: None,
            clicks: Clicks::Submitted,
            stats: true,
            visit_log: 1_000,
            root_url: None,
            not_found_url: None,
            gone_url: None,
            case_insensitive: false,
        }
    }
}
impl Default for Relay {
    fn default() -> Self {
        Self {
            idle_timeout: Span::from_secs(4),
        }
    }
}
fn request_type() -> String {
    crate::forward::MESSAGE_TYPE.to_owned()
}
fn any_method() -> Vec<String> {
    vec!["*".into()]
}
fn per_client() -> Vec<Per> {
    vec![Per::Client]
}
fn one_second() -> Span {
    Span::from_secs(1)
}
fn one() -> u64 {
    1
}
fn post() -> Vec<String> {
    vec!["POST".into()]
}
