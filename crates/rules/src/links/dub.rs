//! Dub's API of links, for clients that were written for Dub (<https://dub.co/docs/api-reference>): `/api/dub/links…`. A thin mapping
//! onto the rules of links: nothing is decided here, and nothing is kept for it.
//!
//! What is different there stays different: unknown fields are allowed, pages have numbers, and refusals are of Dub's form. See
//! docs/dub.md for what has no counterpart.
//!
//! Bounds: lists and counts look at the newest [`MAX_LINKS`] links of their owner; a page beyond that is refused.

#[cfg(feature = "schema")]
pub(super) mod describe;
mod fault;
mod fields;
mod filter;
mod many;
#[cfg(test)]
mod tests;
mod view;

use serde_json::{Map, Value, json};

use super::access::{self, Creator, Credential};
use super::create::{self, Made};
use super::edit::{self, Patch};
use super::manage::{self, contended};
use super::record::{Link, MAX_RACES, Record};
use super::redirect::private;
use super::shlink::{host, is_on};
use super::{index, list};
use crate::codes;
use crate::etag::IfMatch;
use crate::keys::{self, ApiKey};
use crate::target::{comparable, target};
use crate::world::World;
use filter::{Filter, Query};
use tollgate_api::calls::{self, Call, Scope};
use tollgate_api::components::Component;
use tollgate_api::http::{Request, Response};
use tollgate_api::json as body;
use tollgate_api::pattern::unreserved;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// What the paths begin with.
pub(crate) const PREFIX: &str = "/api/dub/";
/// What Dub's ids begin with.
const ID: &str = "link_";
/// What stands before an id of the caller's own.
const EXTERNAL: &str = "ext_";
/// The most links that a list looks at.
const MAX_LINKS: usize = 10_000;

/// Answers a call of `/api/dub/…`.
pub(super) async fn handle<S: Store>(world: &World<'_, S>, request: &Request) -> Response {
    let answered = answer(world, request).await;
    private(answered.unwrap_or_else(fault::answer))
}

async fn answer<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let (call, [id, _]) = calls::find(Component::Shortener, request)?;
    // No credential but a key: a manage token is another API's.
    let key = keys::require(world.store, request, world.now, Scope::Links).await?;
    let id = &*unreserved(id);
    match call {
        Call::DubListLinks => {
            let query = Query::of(request);
            let links = Filter::of(&query).links(world, request).await?;
            let links: Vec<Value> = filter::page(&query, &links)?
                .iter()
                .map(|link| view::of(world, link))
                .collect();
            Ok(Response::json(200, &links))
        }
        Call::DubCountLinks => {
            let query = Query::of(request);
            if query.text("groupBy").is_some() {
                return Err(Problem::field("query:groupBy", "is not supported"));
            }
            let links = Filter::of(&query).links(world, request).await?;
            Ok(Response::json(200, &links.len()))
        }
        Call::DubReadLink => {
            let link = asked(world, request, &key).await?;
            Ok(shown(world, &link))
        }
        Call::DubCreateLink => {
            let sent = body::body(request)?;
            create(world, request, (&key, &sent), false).await
        }
        Call::DubCreateLinks => many::create(world, request, &key).await,
        Call::DubEditLinks => many::edit(world, request, &key).await,
        Call::DubDeleteLinks => many::delete(world, request, &key).await,
        Call::DubUpsertLink => upsert(world, request, &key).await,
        Call::DubEditLink => {
            let sent: Map<String, Value> = body::body(request)?;
            let find = async || by_id(world, request, &key, id).await;
            let link = change(world, &key, &sent, find).await?;
            Ok(shown(world, &link))
        }
        Call::DubDeleteLink => {
            let gone = delete(world, request, &key, id).await?;
            Ok(Response::json(200, &json!({ "id": view::id(&gone) })))
        }
        _ => Err(Problem::not_found()),
    }
}

fn shown<S>(world: &World<'_, S>, link: &Link) -> Response {
    Response::json(200, &view::of(world, link))
}

fn none() -> Problem {
    Problem::new(Kind::NotFound, "There is no such link.")
}

/// The link with this id, of ours or with [`EXTERNAL`] of the caller's own.
async fn by_id<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
    id: &str,
) -> Result<Link, Problem> {
    if let Some(external) = id.strip_prefix(EXTERNAL) {
        return by_external(world, request, key, external).await;
    }
    let id = id.strip_prefix(ID).unwrap_or(id);
    if let Some(code) = index::code_of(world.store, &access::key_owner(key), id).await?
        && let Some(link) = Link::read(world.store, &code).await?
        && link.record.id == id
    {
        return Ok(link);
    }
    if key.allows(Scope::Admin) {
        let links = list::gather(world, request, MAX_LINKS).await?;
        return links
            .into_iter()
            .find(|link| link.record.id == id)
            .ok_or_else(none);
    }
    Err(none())
}

/// The newest link with this `externalId`: the caller's own, however many there are; else one that the caller may list, among the newest
/// [`MAX_LINKS`].
async fn by_external<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
    id: &str,
) -> Result<Link, Problem> {
    let owner = access::key_owner(key);
    for code in index::with_external(world.store, &owner, id).await? {
        let link = Link::read(world.store, &code).await?;
        let is_it =
            |link: &Link| link.record.owner == owner && link.record.external_id.as_deref() == Some(id);
        if let Some(link) = link.filter(is_it) {
            return Ok(link);
        }
    }
    let links = list::gather(world, request, MAX_LINKS).await?;
    let named = links
        .into_iter()
        .filter(|link| link.record.external_id.as_deref() == Some(id));
    named.max_by_key(|link| link.record.created_at).ok_or_else(none)
}

/// The link that a query asks for, by `linkId`, `externalId`, or `domain` and `key`.
async fn asked<S: Store>(world: &World<'_, S>, request: &Request, key: &ApiKey) -> Result<Link, Problem> {
    let query = Query::of(request);
    if let Some(id) = query.text("linkId") {
        return by_id(world, request, key, id).await;
    }
    if let Some(id) = query.text("externalId") {
        return by_external(world, request, key, id.strip_prefix(EXTERNAL).unwrap_or(id)).await;
    }
    match query.text("key") {
        Some(code) => {
            let host = host(world, query.text("domain")).ok_or_else(none)?;
            let name = codes::name(host, code);
            Credential::Key(key.clone()).open(world, &name).await
        }
        None => Err(Problem::new(
            Kind::InvalidRequest,
            "Say which link: linkId, externalId, or domain and key.",
        )),
    }
}

/// A new link. With `or_return`, one that fits is as good.
async fn create<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    of: (&ApiKey, &Map<String, Value>),
    or_return: bool,
) -> Result<Response, Problem> {
    let link = made(world, request, of, or_return).await?;
    Ok(shown(world, &link))
}

/// The link that is new, or found.
async fn made<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    (key, sent): (&ApiKey, &Map<String, Value>),
    or_return: bool,
) -> Result<Link, Problem> {
    let host = fields::domain(world, sent)?;
    let creator = Creator {
        owner: access::key_owner(key),
        anonymous: false,
    };
    let mut ours = fields::of_new(sent)?;
    if let Some(host) = host {
        ours.insert("domain".into(), host.into());
    }
    if or_return {
        ours.insert("ifExists".into(), json!("return"));
    }
    let new = body::decode(&serde_json::to_vec(&ours).unwrap_or_default())?;
    let mut link = match create::make(world, request, &creator, None, new).await? {
        Made::New { link, .. } | Made::Found(link) => link,
        // Without a key of idempotence there is none.
        Made::Before(_) => return Err(Problem::new(Kind::Internal, "The link was made before.")),
    };
    if sent.get("archived") == Some(&Value::Bool(true)) {
        let archived = Map::from_iter([("archived".to_owned(), Value::Bool(true))]);
        let code = link.code.clone();
        let find = async || Link::read(world.store, &code).await?.ok_or_else(none);
        link = change(world, key, &archived, find).await?;
    }
    Ok(link)
}

/// Changes the caller's newest link to the URL that is sent, or makes one.
async fn upsert<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
) -> Result<Response, Problem> {
    let sent: Map<String, Value> = body::body(request)?;
    let host = fields::domain(world, &sent)?;
    let is_sent = sent
        .get("domain")
        .and_then(Value::as_str)
        .is_some_and(|domain| !domain.is_empty());
    let owner = access::key_owner(key);
    for _ in 0..MAX_RACES {
        let Some(code) = to_url(world, &owner, (sent.get("url"), is_sent.then_some(host))).await? else {
            return create(world, request, (key, &sent), true).await;
        };
        let find = async || {
            let found = Link::read(world.store, &code).await?;
            found.filter(|link| link.record.owner == owner).ok_or_else(none)
        };
        match change(world, key, &sent, find).await {
            // It went meanwhile.
            Err(problem) if problem.kind == Kind::NotFound => {}
            changed => return changed.map(|link| shown(world, &link)),
        }
    }
    Err(contended())
}

/// The name of the owner's newest link to a URL, on this host if there is one.
async fn to_url<S: Store>(
    world: &World<'_, S>,
    owner: &str,
    (url, host): (Option<&Value>, Option<Option<&str>>),
) -> Result<Option<String>, Problem> {
    // What is no URL is refused where a link is made.
    let Some(url) = url.and_then(Value::as_str) else {
        return Ok(None);
    };
    let url = target(&world.settings.own, url, "#/url")?;
    for code in index::candidates(world.store, owner, &url).await? {
        if host.is_some() && !is_on(&code, host) {
            continue;
        }
        let link = Link::read(world.store, &code).await?;
        if link.is_some_and(|link| {
            link.record.owner == owner && comparable(&link.record.url) == comparable(&url)
        }) {
            return Ok(Some(code));
        }
    }
    Ok(None)
}

/// Changes the link that `find` finds, as it was found: some of Dub's fields are parts of one of ours.
async fn change<S: Store>(
    world: &World<'_, S>,
    key: &ApiKey,
    sent: &Map<String, Value>,
    find: impl AsyncFn() -> Result<Link, Problem>,
) -> Result<Link, Problem> {
    let credential = Credential::Key(key.clone());
    for _ in 0..MAX_RACES {
        let link = find().await?;
        fields::stays(world, sent, &link.code)?;
        let ours = fields::of_change(sent, &link.record)?;
        let mut patch: Patch = body::decode(&serde_json::to_vec(&ours).unwrap_or_default())?;
        patch.prepare(world)?;
        let apply = |record: &mut Record| patch.apply(record, world.settings, world.now);
        let to = patch.code();
        let tied = IfMatch::exactly(link.etag());
        match edit::change(world, &credential, (&link.code, to), &tied, apply).await {
            Err(problem) if problem.kind == Kind::PreconditionFailed => {}
            changed => return changed,
        }
    }
    Err(contended())
}

async fn delete<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
    id: &str,
) -> Result<Link, Problem> {
    let credential = Credential::Key(key.clone());
    for _ in 0..MAX_RACES {
        let link = by_id(world, request, key, id).await?;
        let tied = IfMatch::exactly(link.etag());
        match manage::remove(world, &credential, &link.code, &tied).await {
            Ok(()) => return Ok(link),
            Err(problem) if problem.kind == Kind::PreconditionFailed => {}
            Err(problem) => return Err(problem),
        }
    }
    Err(contended())
}
