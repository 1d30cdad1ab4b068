//! Links on several hosts: `[[domains]]`. A link is kept under a name, which is its code, or on one of those hosts the host and the code
//! ([`codes::name`]). So all rules of links hold on each of them, and where there are none, nothing is looked at.
//!
//! Calls say which host they mean by `domain`: in the body of a new link, else in the query. Without one it is that of
//! `server.public_url`. Strangers make links there alone: a name of somebody's own is not for whoever comes by.

use std::borrow::Cow;

use crate::codes;
use crate::config::{Config, DomainSettings};
use crate::settings::Settings;
use crate::world::World;
use tollgate_api::http::Request;
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_store::ports::Store;

/// The query field.
const FIELD: &str = "domain";

/// The domain that a request came to; `None` for that of `server.public_url`, and for every host that is none of `[[domains]]`.
pub(crate) fn of<'c>(config: &'c Config, request: &Request) -> Option<&'c DomainSettings> {
    match config.domains.is_empty() {
        true => None,
        false => of_host(config, request.header("host")),
    }
}

/// The same for a request with this `Host`.
pub(crate) fn of_host<'c>(config: &'c Config, host: Option<&str>) -> Option<&'c DomainSettings> {
    let host = host?;
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    config
        .domains
        .iter()
        .find(|one| one.host.eq_ignore_ascii_case(host))
}

/// The name of the link that a request for `/{code}` means.
pub(super) fn named<'a>(config: &Config, request: &Request, code: &'a str) -> Cow<'a, str> {
    codes::name(of(config, request).map(|domain| &*domain.host), code)
}

/// The host that a caller names, as links are kept under it: `Some(None)` for that of `server.public_url`; `None` for one that is not
/// here.
pub(super) fn known<'c>(settings: &'c Settings, asked: &str) -> Option<Option<&'c str>> {
    let domains = &settings.config.domains;
    let found = domains.iter().find(|one| one.host.eq_ignore_ascii_case(asked));
    match found {
        Some(domain) => Some(Some(&domain.host)),
        None => asked.eq_ignore_ascii_case(default(settings)).then_some(None),
    }
}

/// The host of `server.public_url`, with its port.
pub(super) fn default(settings: &Settings) -> &str {
    let url = &*settings.public_url;
    url.split_once("://").map_or(url, |(_, host)| host)
}

/// The address that people are given for a link of this name: that of `server.public_url`, or on a domain the same with its host.
pub(super) fn short_url(settings: &Settings, name: &str) -> String {
    let public = &settings.public_url;
    let (Some(host), code) = codes::parts(name) else {
        return format!("{public}/{name}");
    };
    let (scheme, rest) = public.split_once("://").unwrap_or(("https", public));
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{scheme}://{host}:{port}/{code}")
        }
        _ => format!("{scheme}://{host}/{code}"),
    }
}

/// Where our own call for a link of this name is.
pub(super) fn location(name: &str) -> String {
    match codes::parts(name) {
        (None, code) => format!("/api/links/{code}"),
        (Some(host), code) => format!("/api/links/{code}?{FIELD}={host}"),
    }
}

/// The host that a field names; none for null.
///
/// # Errors
/// 400 for one that is not here.
pub(super) fn asked<'c, S>(
    world: &'c World<'_, S>,
    domain: Option<&str>,
    pointer: &str,
) -> Result<Option<&'c str>, Problem> {
    let Some(domain) = domain else { return Ok(None) };
    known(world.settings, domain).ok_or_else(|| Problem::field(pointer, "is no domain of this gateway"))
}

/// The request without `domain` in its query, and the host that it names. `None` where it names none: then nothing is copied.
///
/// # Errors
/// 400 for one that is not here, or that is sent twice.
pub(super) fn taken_out<S: Store>(
    world: &World<'_, S>,
    request: &Request,
) -> Result<Option<(Request, Option<String>)>, Problem> {
    let query = request.query.as_deref().unwrap_or_default();
    let is_it = |pair: &&str| pair.split('=').next() == Some(FIELD);
    let own: Vec<&str> = query.split('&').filter(is_it).collect();
    if own.is_empty() {
        return Ok(None);
    }
    let mut rest = request.clone();
    rest.query = Some(own.join("&"));
    let fields = Query::of(&rest, &[FIELD])?;
    let host = asked(world, fields.text(FIELD), "query:domain")?.map(str::to_owned);
    let others: Vec<&str> = query.split('&').filter(|pair| !is_it(pair)).collect();
    let others = others.join("&");
    rest.query = Some(others).filter(|others| !others.is_empty());
    Ok(Some((rest, host)))
}
