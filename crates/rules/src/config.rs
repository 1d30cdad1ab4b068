//! The configuration as `tollgate.toml` states it; [`crate::settings`] checks it. Every setting has a
//! default; unknown keys are refused.
//!
//! The sample file at the root of the repository *is* the default: what a gateway without a file does, and what a
//! file that leaves a setting out gets. Lists (`[[limits]]`, `[[forward]]`, `[topics.…]`) are the exception: they are
//! exactly what the file says, so that leaving one out means none.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tollgate_api::units::{Bytes, Span};
use tollgate_delivery::subscription::Subscription;
use tollgate_store::settings::{LimitsStore, StoreSettings};

mod access;
mod access_log;
mod acme;
mod alert;
mod bounds;
mod challenge;
mod clients;
mod component;
mod concurrency;
#[cfg(test)]
mod documented;
mod domain;
mod error;
mod events;
mod forward;
mod jwt;
mod limit;
mod links;
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
mod topic;
mod traces;

pub use access::{AccessAction, AccessSettings, any_path};
pub use access_log::{AccessLogFormat, AccessLogSettings, STDERR, STDOUT};
pub use acme::{Acme, AcmeChallenge, ExternalAccount};
pub use alert::{Alert, AlertFormat};
pub use bounds::*;
pub use challenge::{ChallengeKind, ChallengeSettings, Provider};
pub use clients::{Clients, Users};
pub use component::ComponentSettings;
pub use concurrency::ConcurrencySettings;
pub use domain::DomainSettings;
pub(crate) use error::Path;
pub use error::{ConfigError, Fault};
pub use events::EventSettings;
pub use forward::{Forward, Ordering, Verify};
pub use jwt::JwtSettings;
pub use limit::{DescriptorEntry, Limit, OnFailure, Shared};
pub use links::{Clicks, Links};
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
pub use topic::{Overflow, TopicSettings};
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
    /// The beginning of short URLs; its host counts as our own. `None`: see [`crate::settings::Settings::public_url`].
    pub public_url: Option<String>,
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

/// `[relay]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// How long a connection to an origin is kept for the next delivery.
    pub idle_timeout: Span,
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
            public_url: None,
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

impl Default for Relay {
    fn default() -> Self {
        Self {
            idle_timeout: Span::from_secs(4),
        }
    }
}
