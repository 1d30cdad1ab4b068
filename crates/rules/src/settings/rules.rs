//! The rules that a configuration must keep beyond its types, each in one place, beside the compilation of
//! the setting.

use std::collections::BTreeSet;

use super::alerts;
use super::checks::{Checked, at_most, ensure, file, header_name, methods, within};
use super::components::{self, ComponentRoute};
use super::forward;
use super::limits;
use super::listeners::{self, Listeners};
use super::logs;
use super::origins::{self, ProxyRoute};
use super::topics;
use super::users;
use crate::access::AccessList;
use crate::alerts::Condition;
use crate::challenges::Challenge;
use crate::codes;
use crate::concurrency::Concurrency;
use crate::config::{
    AccessSettings, ChallengeSettings, Clients, Config, DomainSettings, Fault, Links, MAX_ACCESS,
    MAX_CHALLENGES, MAX_CODE_LENGTH, MAX_IDLE_SECONDS, MAX_LINK_DOMAINS, MAX_ORIGINS, MAX_ROOMS, MAX_WORKERS,
    MIN_CODE_LENGTH, Path, RoomSettings, Server, TOPIC_NAME_RULE, is_topic_name,
};
use crate::cors::Cors;
use crate::forward::Verifier;
use crate::identity::Proxies;
use crate::jwt::Jwt;
use crate::own_address::{Listen, OwnAddresses};
use crate::policies::Policies;
use crate::quotas::Quota;
use crate::rooms::{Room, Rooms};
use tollgate_api::pattern::Pattern;
use tollgate_api::units::{Bytes, Span};
use tollgate_store::settings::{LimitsStore, RedisAddress, StoreSettings};

const MAX_TRUSTED_PROXIES: usize = 256;
const MAX_CONNECTIONS: u32 = 1_000_000;
const MAX_BUCKETS: u64 = 100_000_000;
const CACHE_ENTRIES_BOUNDS: (u64, u64) = (1 << 10, 1 << 30);
const CACHE_BYTES_BOUNDS: (Bytes, Bytes) = (Bytes(1 << 20), Bytes(1 << 40));
const LANES_BOUNDS: (u32, u32) = (1, 1_024);
const WRITERS_BOUNDS: (u32, u32) = (1, 64);
const REVALIDATE_BOUNDS: (Span, Span) = (Span::from_millis(10), Span::from_secs(60));
const STALE_BOUNDS: (Span, Span) = (Span::from_secs(0), Span::from_secs(86_400));
/// Gateways over one store, and per cent of a shared limit's capacity.
const GATEWAYS_BOUNDS: (u32, u32) = (1, 256);
const DEBT_BOUNDS: (u32, u32) = (1, 100);
const TAKE_BOUNDS: (Span, Span) = (Span::from_millis(10), Span::from_secs(10));
/// Bytes of what keys begin with in a Redis.
const MAX_PREFIX: usize = 64;
const MEMORY_BOUNDS: (Bytes, Bytes) = (Bytes(1 << 20), Bytes(1 << 40));
/// A forwarded body is stored twice in one commit of 1 MiB: as a record and as a message.
const BODY_BOUNDS: (Bytes, Bytes) = (Bytes(1 << 10), Bytes(256 << 10));
const REQUEST_TIMEOUT_BOUNDS: (Span, Span) = (Span::from_millis(100), Span::from_secs(600));
const IDLE_TIMEOUT_BOUNDS: (Span, Span) = (Span::from_secs(0), Span::from_secs(600));
const RELOAD_BOUNDS: (Span, Span) = (Span::from_millis(200), Span::from_secs(3_600));
const IDLE_BOUNDS: (Span, Span) = (Span::from_secs(1), Span::from_secs(MAX_IDLE_SECONDS));
const KEEP_BOUNDS: (Span, Span) = (Span::from_secs(0), Span::from_secs(MAX_IDLE_SECONDS));
/// At least a day: who sets it by mistake has time to see it.
const KEEP_ARCHIVED_BOUNDS: (Span, Span) = (Span::from_secs(86_400), Span::from_secs(MAX_IDLE_SECONDS));
const MAX_ANONYMOUS: u64 = 1_000_000_000;
/// The longest log of visits of a link.
const MAX_VISIT_LOG: u32 = 10_000;

/// The compiled parts of the settings.
pub(super) struct Compiled {
    pub(super) proxies: Proxies,
    pub(super) cors: Cors,
    /// Of the file, or as it follows from the port.
    pub(super) public_url: String,
    pub(super) own: OwnAddresses,
    pub(super) listeners: Listeners,
    /// `[[domains]]`, their addresses as they can stand in a header.
    pub(super) domains: Vec<DomainSettings>,
    /// `links.root_url`, `not_found_url` and `gone_url`, as they can stand in a header.
    pub(super) fallbacks: [Option<String>; 3],
    pub(super) jwt: Option<Jwt>,
    pub(super) policies: Policies,
    pub(super) quotas: Vec<Quota>,
    pub(super) concurrency: Vec<Concurrency>,
    pub(super) access: Vec<AccessList>,
    pub(super) rooms: Rooms,
    pub(super) challenges: Vec<Challenge>,
    /// Of the `[[forward]]` routes.
    pub(super) patterns: Vec<Pattern>,
    pub(super) verifiers: Vec<Option<Verifier>>,
    pub(super) components: Vec<ComponentRoute>,
    pub(super) proxy: Vec<ProxyRoute>,
    pub(super) conditions: Vec<Condition>,
}

pub(super) fn compile(config: &Config) -> Result<Compiled, Fault> {
    let root = Path::default();
    let path = root.key("server");
    let listen = config.server.listen.parse::<Listen>();
    let listen = listen.map_err(|error| Fault::new(path.key("listen"), error.to_string()))?;
    let public = public_url(&config.server, &listen);
    let url = checked_url(&public, path.key("public_url"))?;
    let (own, listeners, proxies) = server(&config.server, listen, &url, &config.domains, &path)?;
    let cors = cors(
        &config.server.cors_origins,
        &root.key("server").key("cors_origins"),
    )?;
    clients(&config.clients, &root.key("clients"))?;
    header_name(&config.users.header, root.key("users").key("header"))?;
    let jwt = match &config.users.jwt {
        Some(jwt) => Some(users::jwt(jwt, &root.key("users").key("jwt"))?),
        None => None,
    };
    store(&config.store, &root.key("store"))?;
    limits_store(&config.limits_store, &root.key("limits_store"))?;
    let fallbacks = links(&config.links, &own, &root.key("links"))?;
    let domains = domains(config, &url, &own, &root.key("domains"))?;

    let (policies, quotas, concurrency) = limits::compile(config, &root)?;
    let access = access(&config.access, &root.key("access"))?;
    let rooms = rooms(&config.rooms, &root.key("rooms"))?;
    let challenges = challenges(&config.challenges, &root.key("challenges"))?;

    let (patterns, verifiers) = forward::compile(&config.forward, &root.key("forward"))?;
    let components = components::compile(&config.components, &root.key("components"))?;
    let proxy = origins::compile(config, &own, &components, &root)?;
    within(
        config.relay.idle_timeout,
        IDLE_TIMEOUT_BOUNDS,
        root.key("relay").key("idle_timeout"),
    )?;
    logs::access_log(&config.access_log, &root.key("access_log"))?;
    if config.reload.every != Span::from_secs(0) {
        within(
            config.reload.every,
            RELOAD_BOUNDS,
            root.key("reload").key("every"),
        )?;
    }
    logs::traces(&config.traces, &own, &root.key("traces"))?;
    topics::check(&config.topics, &own, &root.key("topics"))?;
    if let Some(topic) = &config.events.topic {
        let path = root.key("events").key("topic");
        ensure(is_topic_name(topic), path.clone(), TOPIC_NAME_RULE)?;
        let is_routed = config.forward.iter().any(|route| route.topic == *topic);
        ensure(
            !is_routed,
            path,
            "is the topic of a [[forward]] route, which strangers write to",
        )?;
    }
    let conditions = alerts::compile(&config.alerts, &own, &root.key("alerts"))?;
    Ok(Compiled {
        proxies,
        cors,
        public_url: public,
        own,
        listeners,
        fallbacks,
        domains,
        jwt,
        policies,
        quotas,
        concurrency,
        access,
        rooms,
        challenges,
        patterns,
        verifiers,
        components,
        proxy,
        conditions,
    })
}

fn store(store: &StoreSettings, path: &Path) -> Checked {
    match store {
        StoreSettings::Sqlite {
            path: name,
            cache_entries,
            cache_bytes,
        } => {
            file(name, path.key("path"))?;
            within(*cache_entries, CACHE_ENTRIES_BOUNDS, path.key("cache_entries"))?;
            within(*cache_bytes, CACHE_BYTES_BOUNDS, path.key("cache_bytes"))
        }
        StoreSettings::Memory { max_bytes } => within(*max_bytes, MEMORY_BOUNDS, path.key("max_bytes")),
        StoreSettings::Postgres(settings) => {
            let url = settings.url.expose();
            if !url.is_empty() && !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
                let must = "must be a URL such as postgres://user:password@host/database";
                return Err(Fault::new(path.key("url"), must));
            }
            within(settings.lanes, LANES_BOUNDS, path.key("lanes"))?;
            within(settings.writers, WRITERS_BOUNDS, path.key("writers"))?;
            within(settings.revalidate, REVALIDATE_BOUNDS, path.key("revalidate"))?;
            within(settings.stale_if_error, STALE_BOUNDS, path.key("stale_if_error"))?;
            within(settings.gateways, GATEWAYS_BOUNDS, path.key("gateways"))?;
            within(settings.debt_percent, DEBT_BOUNDS, path.key("debt_percent"))?;
            within(
                settings.cache_entries,
                CACHE_ENTRIES_BOUNDS,
                path.key("cache_entries"),
            )?;
            within(settings.cache_bytes, CACHE_BYTES_BOUNDS, path.key("cache_bytes"))
        }
    }
}

fn limits_store(limits: &LimitsStore, path: &Path) -> Checked {
    within(limits.timeout, TAKE_BOUNDS, path.key("timeout"))?;
    let url = limits.url.as_ref().map(|url| RedisAddress::parse(url.expose()));
    if let Some(Err(must)) = url {
        return Err(Fault::new(path.key("url"), must));
    }
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !(1..=MAX_PREFIX).contains(&limits.prefix.len()) || !limits.prefix.bytes().all(may) {
        let must = format!("must be 1 to {MAX_PREFIX} letters, digits, or any of -_.:");
        return Err(Fault::new(path.key("prefix"), must));
    }
    if let Some(gateways) = limits.gateways {
        within(gateways, GATEWAYS_BOUNDS, path.key("gateways"))?;
    }
    match limits.debt_percent {
        Some(debt_percent) => within(debt_percent, DEBT_BOUNDS, path.key("debt_percent")),
        None => Ok(()),
    }
}

fn server(
    server: &Server,
    listen: Listen,
    public: &url::Url,
    domains: &[DomainSettings],
    path: &Path,
) -> Result<(OwnAddresses, Listeners, Proxies), Fault> {
    let proxies = path.key("trusted_proxies");
    at_most(server.trusted_proxies.len(), MAX_TRUSTED_PROXIES, &proxies)?;
    let trusted = Proxies::parse(&server.trusted_proxies).map_err(|index| {
        Fault::new(
            proxies.index(index),
            "must be an address or a CIDR, e.g. 10.0.0.0/8",
        )
    })?;
    within(
        server.max_connections,
        (1, MAX_CONNECTIONS),
        path.key("max_connections"),
    )?;
    within(
        server.max_connections_per_address,
        (0, MAX_CONNECTIONS),
        path.key("max_connections_per_address"),
    )?;
    within(server.max_body, BODY_BOUNDS, path.key("max_body"))?;
    within(
        server.request_timeout,
        REQUEST_TIMEOUT_BOUNDS,
        path.key("request_timeout"),
    )?;
    within(server.workers, (0, MAX_WORKERS), path.key("workers"))?;
    let listeners = listeners::compile(server, public, &listen, path)?;
    let others = [&listeners.admin, &listeners.redirect, &listeners.rls];
    let others = others.into_iter().flatten().cloned().collect();
    let own = OwnAddresses::new(public, listen, &server.own_addresses).and(others);
    let own = own.with_domains(domains.iter().map(|domain| domain.host.clone()).collect());
    Ok((own, listeners, trusted))
}

fn cors(origins: &[String], path: &Path) -> Result<Cors, Fault> {
    at_most(origins.len(), MAX_ORIGINS, path)?;
    Cors::compile(origins).map_err(|(index, rule)| Fault::new(path.index(index), rule))
}

fn clients(clients: &Clients, path: &Path) -> Checked {
    header_name(&clients.header, path.key("header"))?;
    if let Some(name) = &clients.country_header {
        header_name(name, path.key("country_header"))?;
    }
    if clients.country_file.as_deref() == Some("") {
        return Err(Fault::new(path.key("country_file"), "must name a file"));
    }
    within(
        clients.max_quota_names,
        (1, MAX_BUCKETS),
        path.key("max_quota_names"),
    )?;
    within(clients.max_buckets, (1, MAX_BUCKETS), path.key("max_buckets"))
}

/// Where people are led who find nothing, as it can stand in a header. As a link's target: it would lead to itself.
fn fallback(
    own: &OwnAddresses,
    path: &Path,
    (name, url): (&'static str, &Option<String>),
) -> Result<Option<String>, Fault> {
    let target = |url: &String| crate::target::target(own, url, name);
    url.as_ref().map(target).transpose().map_err(|problem| {
        let detail = problem.errors.into_iter().map(|error| error.detail).next();
        Fault::new(path.key(name), detail.unwrap_or(problem.detail))
    })
}

fn domains(
    config: &Config,
    public: &url::Url,
    own: &OwnAddresses,
    path: &Path,
) -> Result<Vec<DomainSettings>, Fault> {
    at_most(config.domains.len(), MAX_LINK_DOMAINS, path)?;
    let public = public.host_str().unwrap_or_default();
    let (mut hosts, mut compiled) = (BTreeSet::new(), Vec::new());
    for (index, domain) in config.domains.iter().enumerate() {
        let path = path.index(index);
        let rule = "must be a host name in lower case without a port, e.g. go.example";
        ensure(codes::is_host(&domain.host), path.key("host"), rule)?;
        ensure(
            domain.host != public,
            path.key("host"),
            "is that of server.public_url",
        )?;
        ensure(
            hosts.insert(&domain.host),
            path.key("host"),
            "is that of an earlier domain",
        )?;
        let of = |name: &'static str, url: &Option<String>| fallback(own, &path, (name, url));
        compiled.push(DomainSettings {
            host: domain.host.clone(),
            root_url: of("root_url", &domain.root_url)?,
            not_found_url: of("not_found_url", &domain.not_found_url)?,
            gone_url: of("gone_url", &domain.gone_url)?,
        });
    }
    Ok(compiled)
}

/// Returns `root_url`, `not_found_url` and `gone_url`, as they can stand in a header.
fn links(links: &Links, own: &OwnAddresses, path: &Path) -> Result<[Option<String>; 3], Fault> {
    let of = |name: &'static str, url: &Option<String>| fallback(own, path, (name, url));
    let fallbacks = [
        of("root_url", &links.root_url)?,
        of("not_found_url", &links.not_found_url)?,
        of("gone_url", &links.gone_url)?,
    ];
    let redirect = path.key("redirect");
    ensure(
        matches!(links.redirect, 301 | 302 | 307 | 308),
        redirect,
        "must be 301, 302, 307 or 308",
    )?;
    within(
        links.code_length,
        (MIN_CODE_LENGTH, MAX_CODE_LENGTH),
        path.key("code_length"),
    )?;
    within(links.anonymous_idle, IDLE_BOUNDS, path.key("anonymous_idle"))?;
    within(
        links.anonymous_per_day,
        (1, MAX_ANONYMOUS),
        path.key("anonymous_per_day"),
    )?;
    within(links.anonymous_max, (1, MAX_ANONYMOUS), path.key("anonymous_max"))?;
    within(links.keep_expired, KEEP_BOUNDS, path.key("keep_expired"))?;
    if let Some(kept) = links.keep_archived {
        within(kept, KEEP_ARCHIVED_BOUNDS, path.key("keep_archived"))?;
    }
    within(links.visit_log, (0, MAX_VISIT_LOG), path.key("visit_log"))?;
    Ok(fallbacks)
}

fn access(lists: &[AccessSettings], path: &Path) -> Result<Vec<AccessList>, Fault> {
    at_most(lists.len(), MAX_ACCESS, path)?;
    let (mut names, mut compiled) = (BTreeSet::new(), Vec::new());
    for (index, list) in lists.iter().enumerate() {
        let path = path.index(index);
        let list_of = AccessList::compile(list);
        compiled.push(list_of.map_err(|(field, index, rule)| {
            let field = path.key(field);
            let field = index.map_or(field.clone(), |index| field.index(index));
            Fault::new(field, rule)
        })?);
        ensure(
            names.insert(&list.name),
            path.key("name"),
            "is used by an earlier list",
        )?;
    }
    Ok(compiled)
}

fn rooms(rooms: &[RoomSettings], path: &Path) -> Result<Rooms, Fault> {
    at_most(rooms.len(), MAX_ROOMS, path)?;
    let (mut names, mut compiled) = (BTreeSet::new(), Vec::new());
    for (index, room) in rooms.iter().enumerate() {
        let path = path.index(index);
        let room_of = Room::compile(room, true);
        compiled.push(room_of.map_err(|(field, rule)| Fault::new(path.key(field), rule))?);
        ensure(
            names.insert(&room.name),
            path.key("name"),
            "is used by an earlier room",
        )?;
    }
    Ok(Rooms::new(compiled))
}

fn challenges(all: &[ChallengeSettings], path: &Path) -> Result<Vec<Challenge>, Fault> {
    at_most(all.len(), MAX_CHALLENGES, path)?;
    let (mut names, mut compiled) = (BTreeSet::new(), Vec::new());
    for (index, one) in all.iter().enumerate() {
        let path = path.index(index);
        let challenge = Challenge::compile(one);
        compiled.push(challenge.map_err(|(field, rule)| Fault::new(path.key(field), rule))?);
        methods(&one.methods, &path.key("methods"))?;
        ensure(
            names.insert(&one.name),
            path.key("name"),
            "is used by an earlier challenge",
        )?;
    }
    Ok(compiled)
}

/// What short URLs begin with, without a trailing slash.
fn public_url(server: &Server, listen: &Listen) -> String {
    match (&server.public_url, listen.port()) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, 80) => "http://localhost".to_owned(),
        (None, port) => format!("http://localhost:{port}"),
    }
}

fn checked_url(text: &str, path: Path) -> Result<url::Url, Fault> {
    let Ok(url) = url::Url::parse(text) else {
        return Err(Fault::new(path, "must be a URL, e.g. https://go.example.com"));
    };
    ensure(
        matches!(url.scheme(), "http" | "https"),
        path.clone(),
        "must be an http or https URL",
    )?;
    // A parser mends these and drops those; short URLs begin with the text as it is.
    let plain = !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\');
    let absolute = text
        .get(url.scheme().len()..)
        .is_some_and(|rest| rest.starts_with("://"));
    ensure(
        plain && absolute,
        path.clone(),
        "must be a URL as it is written, without spaces and backslashes, e.g. https://go.example.com",
    )?;
    let bare = url.query().is_none() && url.fragment().is_none();
    ensure(bare, path.clone(), "must have neither a query nor a fragment")?;
    let anonymous = url.username().is_empty() && url.password().is_none();
    ensure(anonymous, path, "must not have a user name or password")?;
    Ok(url)
}
