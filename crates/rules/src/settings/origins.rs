//! Rules of `[[origins]]` and `[[proxy]]`, and the compiled routes.

use std::collections::BTreeSet;

use super::Settings;
use super::checks::{Checked, at_most, ensure, header_name, outside, pattern, strip_prefix, within};
use super::components::ComponentRoute;
use crate::config::{
    BreakerSettings, Config, Fault, HealthSettings, Http2, MAX_ORIGIN_HEADERS, MAX_ORIGIN_URLS,
    MAX_PROXIED_ORIGINS, MAX_PROXY_ROUTES, OriginSettings, Path, ProxySettings, TOPIC_NAME_RULE,
    is_topic_name,
};
use crate::own_address::OwnAddresses;
use tollgate_api::calls::own_segments;
use tollgate_api::pattern::{Pattern, takes_method};
use tollgate_api::problem::Problem;
use tollgate_api::units::{Bytes, Span};
use url::Url;

const CONNECT_BOUNDS: (Span, Span) = (Span::from_millis(10), Span::from_secs(60));
const TIMEOUT_BOUNDS: (Span, Span) = (Span::from_millis(10), Span::from_secs(3_600));
const RETRIES_BOUNDS: (u32, u32) = (0, 5);
const CONCURRENCY_BOUNDS: (u32, u32) = (1, 65_536);
const QUEUE_BOUNDS: (u32, u32) = (0, 65_536);
const IDLE_BOUNDS: (u32, u32) = (0, 4_096);
const BODY_BOUNDS: (Bytes, Bytes) = (Bytes(0), Bytes(1 << 40));
const EVERY_BOUNDS: (Span, Span) = (Span::from_millis(500), Span::from_secs(3_600));
const WINDOW_BOUNDS: (Span, Span) = (Span::from_millis(100), Span::from_secs(3_600));
const COUNT_BOUNDS: (u32, u32) = (1, 100_000);
const MEMORY_BOUNDS: (Bytes, Bytes) = (Bytes(64 << 10), Bytes(1 << 40));
const STALE_BOUNDS: (Span, Span) = (Span::from_secs(1), Span::from_secs(30 * 86_400));
const MAX_METHODS: usize = 16;
const MAX_METHOD: usize = 32;
const MAX_HEADER_VALUE: usize = 4 << 10;
const MAX_HEALTH_PATH: usize = 1_024;
/// Methods that are for proxies themselves (RFC 9110, sections 9.3.6 and 9.3.8).
const NEVER: [&str; 2] = ["CONNECT", "TRACE"];
/// What a route of all methods takes, as `Allow` says it.
const ANY: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";
/// The pattern of all that is not the gateway's own.
const EVERYTHING: &str = "/...";
/// Headers that are ours to set: they frame a request, or belong to one connection.
const OURS: [&str; 15] = [
    "host",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "via",
    "forwarded",
];

/// The compiled route of one of the `[[proxy]]`.
#[derive(Clone, Debug)]
pub struct ProxyRoute {
    /// Its pattern.
    pub path: Pattern,
    /// The place of its origin in `[[origins]]`.
    pub origin: usize,
}

pub(super) fn compile(
    config: &Config,
    own: &OwnAddresses,
    components: &[ComponentRoute],
    root: &Path,
) -> Result<Vec<ProxyRoute>, Fault> {
    let path = root.key("origins");
    at_most(config.origins.len(), MAX_PROXIED_ORIGINS, &path)?;
    let mut names = BTreeSet::new();
    for (index, one) in config.origins.iter().enumerate() {
        let path = path.index(index);
        origin(one, own, &path)?;
        let twice = "is used by an earlier origin";
        ensure(names.insert(&one.name), path.key("name"), twice)?;
    }
    let path = root.key("proxy");
    at_most(config.proxy.len(), MAX_PROXY_ROUTES, &path)?;
    let mut routes: Vec<ProxyRoute> = Vec::new();
    for (index, one) in config.proxy.iter().enumerate() {
        let path = path.index(index);
        let route = route(config, one, &path)?;
        let earlier = config.proxy.iter().take(index);
        let twice = earlier.filter(|other| other.path == one.path).any(|other| {
            let meets = |method| other.methods.contains(method);
            one.methods.is_empty() || other.methods.is_empty() || one.methods.iter().any(meets)
        });
        ensure(
            !twice,
            path.key("path"),
            "has a method that an earlier [[proxy]] of the same path has too",
        )?;
        let hosted = components.iter().any(|other| other.path == route.path);
        ensure(
            !hosted,
            path.key("path"),
            "is the path of one of the [[components]]",
        )?;
        routes.push(route);
    }
    Ok(routes)
}

fn origin(one: &OriginSettings, own: &OwnAddresses, path: &Path) -> Checked {
    ensure(is_topic_name(&one.name), path.key("name"), TOPIC_NAME_RULE)?;
    let urls = path.key("urls");
    at_most(one.urls.len(), MAX_ORIGIN_URLS, &urls)?;
    ensure(!one.urls.is_empty(), urls.clone(), "must name at least one URL")?;
    for (index, text) in one.urls.iter().enumerate() {
        let path = urls.index(index);
        let url = Url::parse(text).ok().filter(is_plain);
        let Some(url) = url else {
            let message = "must be http:// or https://, a host and a port, and nothing else: a path, a query or a password \
                           has no place here (strip_prefix of [[proxy]] shortens paths)";
            return Err(Fault::new(path, message));
        };
        ensure(
            !own.are_target(url.as_str()),
            path.clone(),
            "is the gateway itself: a request would go round in circles",
        )?;
        let twice = one.urls.iter().take(index).any(|other| other == text);
        ensure(!twice, path, "is there twice")?;
    }
    within(one.connect_timeout, CONNECT_BOUNDS, path.key("connect_timeout"))?;
    within(one.timeout, TIMEOUT_BOUNDS, path.key("timeout"))?;
    within(one.idle_timeout, TIMEOUT_BOUNDS, path.key("idle_timeout"))?;
    within(one.retries, RETRIES_BOUNDS, path.key("retries"))?;
    within(one.max_concurrent, CONCURRENCY_BOUNDS, path.key("max_concurrent"))?;
    within(one.max_queue, QUEUE_BOUNDS, path.key("max_queue"))?;
    within(one.max_idle, IDLE_BOUNDS, path.key("max_idle"))?;
    breaker(&one.breaker, &path.key("breaker"))?;
    kept(one, path)?;
    let Some(checks) = &one.health else { return Ok(()) };
    let plain = one.http2 == Http2::Always && one.urls.iter().any(|url| url.starts_with("http://"));
    ensure(
        !plain,
        path.key("health"),
        "asks by HTTP/1.1, which an origin of h2c does not speak: leave it out",
    )?;
    health(checks, &path.key("health"))
}

fn kept(one: &OriginSettings, path: &Path) -> Checked {
    within(one.cache_memory, MEMORY_BOUNDS, path.key("cache_memory"))?;
    // The memory is locked in four parts, into one of which an answer has to fit.
    let most = Bytes(one.cache_memory.0 / 8);
    within(one.cache_object, (Bytes(1), most), path.key("cache_object"))?;
    if let Some(time) = one.stale_if_error {
        within(time, STALE_BOUNDS, path.key("stale_if_error"))?;
    }
    let Some(time) = one.stale_after else {
        return Ok(());
    };
    ensure(
        one.stale_if_error.is_some(),
        path.key("stale_after"),
        "needs stale_if_error: without it no answer is given that is not fresh",
    )?;
    within(time, (Span::from_secs(0), one.timeout), path.key("stale_after"))
}

/// Whether it is a scheme, a host and a port alone.
fn is_plain(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

fn breaker(one: &BreakerSettings, path: &Path) -> Checked {
    within(one.failures, COUNT_BOUNDS, path.key("failures"))?;
    within(one.percent, (1, 100), path.key("percent"))?;
    within(one.results, COUNT_BOUNDS, path.key("results"))?;
    within(one.window, WINDOW_BOUNDS, path.key("window"))?;
    within(one.open, WINDOW_BOUNDS, path.key("open"))?;
    within(one.open_cap, (one.open, WINDOW_BOUNDS.1), path.key("open_cap"))
}

fn health(one: &HealthSettings, path: &Path) -> Checked {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'#';
    let ok = one.path.starts_with('/') && one.path.len() <= MAX_HEALTH_PATH && one.path.bytes().all(plain);
    ensure(ok, path.key("path"), "must be a path, e.g. /health")?;
    within(one.every, EVERY_BOUNDS, path.key("every"))?;
    within(
        one.timeout,
        (Span::from_millis(10), one.every),
        path.key("timeout"),
    )?;
    within(one.fall, (1, 100), path.key("fall"))?;
    within(one.rise, (1, 100), path.key("rise"))
}

fn route(config: &Config, one: &ProxySettings, path: &Path) -> Result<ProxyRoute, Fault> {
    let route = match one.path.as_str() {
        EVERYTHING => pattern(EVERYTHING, path.key("path"))?,
        text => outside(text, path.key("path"))?,
    };
    let methods = path.key("methods");
    at_most(one.methods.len(), MAX_METHODS, &methods)?;
    for (index, method) in one.methods.iter().enumerate() {
        let ok = (1..=MAX_METHOD).contains(&method.len())
            && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
            && !NEVER.contains(&method.as_str());
        ensure(
            ok,
            methods.index(index),
            "must be a method in upper case, e.g. POST",
        )?;
    }
    let origin = config.origins.iter().position(|origin| origin.name == one.origin);
    let origin = origin.ok_or_else(|| {
        let message = format!("must name one of the [[origins]]; there is no {:?}", one.origin);
        Fault::new(path.key("origin"), message)
    })?;
    strip_prefix(&one.strip_prefix, &one.path, path.key("strip_prefix"))?;
    let headers = path.key("headers");
    at_most(one.headers.len(), MAX_ORIGIN_HEADERS, &headers)?;
    for (name, value) in &one.headers {
        header_name(name, headers.key(name))?;
        let ours = OURS.contains(&&**name) || name.starts_with("x-forwarded-");
        ensure(
            !ours,
            headers.key(name),
            "is set by the gateway (Host: see preserve_host)",
        )?;
        let value = value.expose();
        let ok = value.len() <= MAX_HEADER_VALUE && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        ensure(
            ok,
            headers.key(name),
            "must be visible ASCII of at most 4096 characters",
        )?;
    }
    within(one.max_body, BODY_BOUNDS, path.key("max_body"))?;
    Ok(ProxyRoute { path: route, origin })
}

impl Settings {
    /// Whether there is any `[[proxy]]`.
    pub fn has_proxy(&self) -> bool {
        !self.proxy.is_empty()
    }

    /// Which of the `[[proxy]]` takes this path, if any does: the one whose pattern is the most specific, of those that take
    /// the method. Nothing that is the gateway's own, a `[[forward]]` route, or more specific among the `[[components]]`.
    ///
    /// # Errors
    /// 405: it is theirs, with another method.
    pub fn proxied(&self, method: &str, path: &str) -> Option<Result<usize, Problem>> {
        if self.proxy.is_empty() || !self.is_free(path) {
            return None;
        }
        let all = || self.proxy.iter().zip(&self.config.proxy).enumerate();
        let here = || all().filter(|(_, (route, _))| route.path.matches(path));
        let taken = here().filter(|(_, (_, one))| takes(one, method));
        let best = taken.max_by(|(_, (a, _)), (_, (b, _))| a.path.cmp(&b.path));
        let hosted = |route: &ProxyRoute| {
            let mut others = self.components.iter();
            others.any(|other| other.path > route.path && other.path.matches(path))
        };
        if let Some((index, (route, _))) = best {
            return (!hosted(route)).then_some(Ok(index));
        }
        let (_, (route, _)) = here().max_by(|(_, (a, _)), (_, (b, _))| a.path.cmp(&b.path))?;
        if hosted(route) {
            return None;
        }
        let allow: BTreeSet<&str> = here()
            .flat_map(|(_, (_, one))| one.methods.iter().map(String::as_str))
            .collect();
        let allow: Vec<&str> = allow.into_iter().collect();
        let allow = allow.join(", ");
        Some(Err(Problem::method_not_allowed(match allow.is_empty() {
            true => ANY,
            false => &allow,
        })))
    }

    /// Whether one of the `[[proxy]]` has this path, whatever the method.
    pub fn is_proxied(&self, path: &str) -> bool {
        !self.proxy.is_empty() && self.is_free(path) && self.proxy.iter().any(|one| one.path.matches(path))
    }

    /// The origin of one of the `[[proxy]]`: its place in `[[origins]]`.
    pub fn proxy(&self, index: usize) -> Option<(usize, &ProxySettings)> {
        Some((self.proxy.get(index)?.origin, self.config.proxy.get(index)?))
    }

    fn is_free(&self, path: &str) -> bool {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
        let own = own_segments().any(|own| own.eq_ignore_ascii_case(first));
        !own && !self.patterns.iter().any(|forward| forward.matches(path))
    }
}

fn takes(one: &ProxySettings, method: &str) -> bool {
    let is_any = one.methods.is_empty() && !NEVER.contains(&method);
    is_any || takes_method(&one.methods, method)
}

#[cfg(test)]
mod tests;
