//! Shlink's REST API, version 3, for clients that were written for Shlink (<https://api-spec.shlink.io/>): `/rest/v3/…`. A thin
//! mapping onto the rules of links: nothing is decided here, and nothing is kept for it.
//!
//! What is different there stays different: the key is in `X-Api-Key`, unknown fields are allowed, pages have numbers, and problems
//! are of Shlink's types. See docs/shlink.md for what has no counterpart.
//!
//! Bounds: lists look at the newest [`MAX_LINKS`] links of their owner, and at the newest [`MAX_VISITS`] visits; a page
//! beyond that is refused.

#[cfg(feature = "schema")]
pub(super) mod describe;
mod page;
mod problem;
mod short_url;
mod tags;
#[cfg(test)]
mod tests;
mod visits;

use std::borrow::Cow;

use serde_json::json;

use super::domain;
use super::list;
use super::record::Link;
use super::redirect::private;
use crate::codes;
use crate::keys;
use crate::world::World;
use page::Fields;
use problem::Fault;
use tollgate_api::calls::{Call, Parameters, Scope};
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::pattern::unreserved;
use tollgate_store::ports::Store;

/// The version of Shlink that clients are told: it says which of their features are shown.
pub(super) const VERSION: &str = "4.1.0";
/// The first segment of the paths.
pub const PREFIX: &str = "/rest/";
/// The header that has the key.
pub const KEY_HEADER: &str = "x-api-key";
/// The most links that a list looks at.
pub(super) const MAX_LINKS: usize = 10_000;
/// The most visits that a list tells.
pub(super) const MAX_VISITS: usize = 10_000;

/// The values that an `Authorization` gets in such a request: of each `X-Api-Key`, unless there is one already. For an adapter, before anybody
/// looks at the credential.
pub fn credentials<'a>(
    path: &str,
    has_authorization: bool,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Vec<Vec<u8>> {
    match path.starts_with(PREFIX) && !has_authorization {
        true => keys.map(|key| [b"Bearer ", key].concat()).collect(),
        false => Vec::new(),
    }
}

/// Puts the credential of such a request where calls look for it.
pub fn authorize(request: &mut Request) {
    let has = |name: &str| request.headers.iter().any(|header| header.name == name);
    let sent = request.headers.iter().filter(|header| header.name == KEY_HEADER);
    let sent = sent.map(|header| &*header.value);
    let credentials = credentials(&request.path, has(keys::HEADER), sent);
    let header = |value| Header {
        name: keys::HEADER.into(),
        value,
    };
    request.headers.extend(credentials.into_iter().map(header));
}

/// Answers a call of `/rest/…`.
pub(super) async fn handle<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    (call, parameters): (Call, Parameters<'_>),
) -> Response {
    let mut request = Cow::Borrowed(request);
    if request.headers.iter().any(|header| header.name == KEY_HEADER) {
        authorize(request.to_mut());
    }
    let first = unreserved(parameters[0]);
    let answered = answer(world, &request, call, &first).await;
    private(answered.unwrap_or_else(|fault| fault.answer(&request, &first)))
}

async fn answer<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    first: &str,
) -> Result<Response, Fault> {
    match call {
        Call::ShlinkHealth | Call::ShlinkHealthUnversioned => Ok(health()),
        Call::ShlinkListUrls => short_url::list(world, request).await,
        Call::ShlinkCreateUrl => short_url::create(world, request).await,
        Call::ShlinkReadUrl => short_url::read(world, request, first).await,
        Call::ShlinkEditUrl => short_url::edit(world, request, first).await,
        Call::ShlinkDeleteUrl => short_url::delete(world, request, first).await,
        Call::ShlinkReadRules => short_url::rules(world, request, first).await,
        Call::ShlinkSetRules => short_url::set_rules(world, request, first).await,
        Call::ShlinkUrlVisits => visits::of_url(world, request, first).await,
        Call::ShlinkDeleteUrlVisits => visits::delete_of_url(world, request, first).await,
        Call::ShlinkTagVisits => visits::of_tag(world, request, first).await,
        Call::ShlinkDomainVisits => visits::of_domain(world, request, first).await,
        Call::ShlinkVisits => visits::of_all(world, request).await,
        Call::ShlinkOrphans => visits::orphans(world, request).await,
        Call::ShlinkDeleteOrphans => visits::delete_orphans(world, request).await,
        Call::ShlinkOverview => visits::overview(world, request).await,
        Call::ShlinkTags => tags::list(world, request).await,
        Call::ShlinkTagStats => tags::stats(world, request).await,
        Call::ShlinkRenameTag => tags::rename(world, request).await,
        Call::ShlinkDeleteTags => tags::delete(world, request).await,
        Call::ShlinkDomains => domains(world, request).await,
        Call::ShlinkDomainRedirects => {
            signed_in(world, request).await?;
            let rule = "Where domains lead is in the gateway's configuration.";
            Err(Fault::invalid("domain", rule))
        }
        Call::ShlinkMercure => {
            signed_in(world, request).await?;
            Err(Fault::Mercure)
        }
        _ => Err(Fault::Problem(tollgate_api::problem::Problem::not_found())),
    }
}

fn health() -> Response {
    let body = json!({ "status": "pass", "version": VERSION, "links": { "about": "https://shlink.io", "project": "https://github.com/shlinkio/shlink" } });
    let mut response = Response::json(200, &body);
    response.headers.clear();
    response.with("content-type", "application/health+json")
}

/// That the caller has a key for links.
async fn signed_in<S: Store>(world: &World<'_, S>, request: &Request) -> Result<(), Fault> {
    keys::require(world.store, request, world.now, Scope::Links).await?;
    Ok(())
}

/// The links that a caller may list, in the order of their list; at most [`MAX_LINKS`].
async fn links<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Vec<Link>, Fault> {
    Ok(list::gather(world, request, MAX_LINKS).await?)
}

/// The host that a field `domain` means, as links are kept under it: `Some(None)` for that of `server.public_url`, which is also meant
/// where nothing is sent; `None` for one that is not here.
pub(super) fn host<'w, S>(world: &'w World<'_, S>, asked: Option<&str>) -> Option<Option<&'w str>> {
    match asked {
        None | Some("" | "DEFAULT") => Some(None),
        Some(asked) => domain::known(world.settings, asked),
    }
}

/// Whether a link of this name is on a domain, as [`host`] tells it.
pub(super) fn is_on(name: &str, host: Option<Option<&str>>) -> bool {
    host == Some(codes::parts(name).0)
}

/// The name of a link with this code on the domain that is asked for.
fn named<S>(world: &World<'_, S>, fields: &Fields, code: &str) -> Result<String, Fault> {
    let host = host(world, fields.text("domain")).ok_or(Fault::NoLink)?;
    Ok(codes::name(host, code).into_owned())
}

async fn domains<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    signed_in(world, request).await?;
    let config = &world.settings.config;
    let redirects = |root: &Option<String>, not_found: &Option<String>| json!({ "baseUrlRedirect": root, "regular404Redirect": not_found, "invalidShortUrlRedirect": not_found });
    let defaults = redirects(&config.links.root_url, &config.links.not_found_url);
    let first =
        json!({ "domain": domain::default(world.settings), "isDefault": true, "redirects": defaults });
    let others = config.domains.iter().map(|one| {
        let redirects = redirects(&one.root_url, &one.not_found_url);
        json!({ "domain": one.host, "isDefault": false, "redirects": redirects })
    });
    let all: Vec<_> = std::iter::once(first).chain(others).collect();
    let body = json!({ "domains": { "data": all, "defaultRedirects": defaults } });
    Ok(Response::json(200, &body))
}
