//! `GET /api/links`. A member sees its own links, newest first; an admin sees those of every owner, by code, or those
//! of one, newest first. The work of a page is bounded: a page may be short, even empty, while `nextCursor` leads on.

use std::cmp::Reverse;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::record::{Link, Record, View, link_key};
use super::{access, domain, index};
use crate::codes;
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::query::Query;
use tollgate_store::commit::{Item, MAX_KEY_BYTES, StoreError};
use tollgate_store::ports::Store;

/// Links of a page unless the caller says otherwise.
pub const DEFAULT_PAGE: u64 = 100;
/// The most links of a page.
pub const MAX_PAGE: u64 = 500;
/// The most entries that a page looks at.
const MAX_EXAMINED: usize = 1_000;
/// What links that are gathered may take in memory, in bytes, before no more are read: rules have 64 MiB.
const MAX_GATHERED: usize = 12 << 20;
/// The longest filter, in bytes.
pub(super) const MAX_FILTER: usize = 256;

/// Whose links are listed.
enum Source {
    Owner(String),
    Everybody,
}

impl Source {
    fn prefix(&self) -> String {
        match self {
            Self::Owner(owner) => index::prefix(owner),
            Self::Everybody => link_key(""),
        }
    }

    /// The link behind an entry, or nothing if the entry is left over from another one or the filter drops it.
    async fn link<S: Store>(
        &self,
        store: &S,
        prefix: &str,
        item: &Item,
        filter: &Filter,
    ) -> Result<Option<Link>, StoreError> {
        let link = match self {
            Self::Owner(owner) => {
                let Some(code) = index::listed_code(&item.key, prefix) else {
                    return Ok(None);
                };
                let link = Link::read(store, code).await?;
                link.filter(|link| index::is_entry_of(&item.key, owner, link))
            }
            Self::Everybody => {
                let code = item.key.strip_prefix(prefix).unwrap_or_default();
                match filter.takes(code, &Record::of(&item.entry)?) {
                    true => Link::counted(store, code, item.entry.clone()).await?,
                    false => None,
                }
            }
        };
        Ok(link.filter(|link| filter.takes(&link.code, &link.record)))
    }
}

/// The properties that a listed link must have.
struct Filter {
    tag: Option<String>,
    /// Lower case.
    search: Option<String>,
    /// The host that they are on; `Some(None)`: that of `server.public_url`.
    domain: Option<Option<String>>,
}

impl Filter {
    fn of<S>(world: &World<'_, S>, query: &Query) -> Result<Self, Problem> {
        let domain = query.text("domain");
        let host = domain::asked(world, domain, "query:domain")?;
        let text = |name: &str| match query.text(name) {
            Some(text) if text.len() > MAX_FILTER => Err(Problem::field(
                format!("query:{name}"),
                "must be at most 256 bytes",
            )),
            text => Ok(text.filter(|text| !text.is_empty()).map(str::to_owned)),
        };
        Ok(Self {
            tag: text("tag")?,
            search: text("search")?.map(|text| text.to_lowercase()),
            domain: domain.map(|_| host.map(str::to_owned)),
        })
    }

    fn takes(&self, code: &str, record: &Record) -> bool {
        let on = codes::parts(code).0;
        if self.domain.as_ref().is_some_and(|domain| domain.as_deref() != on) {
            return false;
        }
        if self.tag.as_ref().is_some_and(|tag| !record.tags.contains(tag)) {
            return false;
        }
        self.search
            .as_ref()
            .is_none_or(|search| matches(search, code, record))
    }
}

/// Whether a text in lower case is in a link's code, URL, title, `externalId` or tags.
pub(super) fn matches(search: &str, code: &str, record: &Record) -> bool {
    let texts = [
        Some(code),
        Some(record.url.as_str()),
        record.title.as_deref(),
        record.external_id.as_deref(),
    ];
    let tags = record.tags.iter().map(String::as_str);
    let mut texts = texts.into_iter().flatten().chain(tags);
    texts.any(|text| text.to_lowercase().contains(search))
}

/// Some links.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkPage")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<'a> {
    /// The links.
    links: Vec<View<'a>>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<String>,
}

pub(super) async fn get<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let query = Query::of(
        request,
        &["tag", "search", "owner", "domain", "sort", "limit", "cursor"],
    )?;
    let source = source(world, request, &query).await?;
    let filter = Filter::of(world, &query)?;
    let limit = usize::try_from(query.number("limit", 1..=MAX_PAGE, DEFAULT_PAGE)?).unwrap_or(1);
    let cursor = query.text("cursor");
    let (links, next) = match query.text("sort") {
        None => {
            let prefix = source.prefix();
            let after = cursor.map(|cursor| place(cursor, &prefix)).transpose()?;
            natural(world.store, &source, &filter, limit, after).await?
        }
        Some("-visits") => by_visits(world.store, &source, &filter, limit, cursor).await?,
        Some(_) => return Err(Problem::field("query:sort", "must be -visits, or left out")),
    };
    let next_cursor = next.map(|place| URL_SAFE_NO_PAD.encode(place));
    let links = links.iter().map(|link| link.view(world.settings)).collect();
    Ok(Response::json(200, &Page { links, next_cursor }))
}

/// The ids of all links that a caller may list, with their times of creation; `None` if there are more than `most`.
pub(super) async fn all_of<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    query: &Query,
    most: usize,
) -> Result<Option<Vec<(String, u64)>>, Problem> {
    let source = source(world, request, query).await?;
    let filter = Filter {
        tag: None,
        search: None,
        domain: None,
    };
    let (links, more) = natural(world.store, &source, &filter, most.min(MAX_EXAMINED), None).await?;
    if more.is_some()
        && !world
            .store
            .scan(&source.prefix(), more.as_deref(), 1)
            .await?
            .is_empty()
    {
        return Ok(None);
    }
    let of = |link: Link| (link.record.id, link.record.created_at);
    Ok(Some(links.into_iter().map(of).collect()))
}

/// The links that a caller may list, in the order of their list; at most `most`, out of as many entries, and about [`MAX_GATHERED`].
pub(super) async fn gather<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    most: usize,
) -> Result<Vec<Link>, Problem> {
    let source = source_of(world, request, None).await?;
    let filter = Filter {
        tag: None,
        search: None,
        domain: None,
    };
    let (mut links, mut after, mut bytes) = (Vec::new(), None, 0);
    for _ in 0..most.div_ceil(MAX_EXAMINED) {
        let limit = most.saturating_sub(links.len()).min(MAX_EXAMINED);
        let (more, next) = natural(world.store, &source, &filter, limit, after).await?;
        bytes += more.iter().map(|link| link.record.weight()).sum::<usize>();
        links.extend(more);
        after = next;
        if after.is_none() || bytes > MAX_GATHERED {
            break;
        }
    }
    Ok(links)
}

async fn source<S: Store>(world: &World<'_, S>, request: &Request, query: &Query) -> Result<Source, Problem> {
    source_of(world, request, query.text("owner")).await
}

/// The links of this owner, or without one of the caller: an admin's are everybody's.
async fn source_of<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    owner: Option<&str>,
) -> Result<Source, Problem> {
    let key = keys::require(world.store, request, world.now, Scope::Links).await?;
    let own = access::key_owner(&key);
    match owner {
        Some(owner) if owner == own => Ok(Source::Owner(own)),
        Some(_) if !key.allows(Scope::Admin) => Err(Problem::new(
            Kind::Forbidden,
            "Only an admin lists the links of others.",
        )),
        Some(owner) if owner.len() > MAX_FILTER => {
            Err(Problem::field("query:owner", "must be at most 256 bytes"))
        }
        Some(owner) => Ok(Source::Owner(owner.to_owned())),
        None if key.allows(Scope::Admin) => Ok(Source::Everybody),
        None => Ok(Source::Owner(own)),
    }
}

/// The key that a cursor stands for.
fn place(cursor: &str, prefix: &str) -> Result<String, Problem> {
    let bytes = URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .filter(|bytes| bytes.len() <= MAX_KEY_BYTES);
    let key = bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|key| key.starts_with(prefix));
    key.ok_or_else(not_a_cursor)
}

fn not_a_cursor() -> Problem {
    Problem::field("query:cursor", "is not a cursor of this list")
}

/// Links in the order of their entries after `after`, and the entry to go on from, if there may be more.
async fn natural<S: Store>(
    store: &S,
    source: &Source,
    filter: &Filter,
    limit: usize,
    mut after: Option<String>,
) -> Result<(Vec<Link>, Option<String>), StoreError> {
    let prefix = source.prefix();
    let mut links = Vec::new();
    let mut examined = 0;
    loop {
        // One more than is missing, so that a full page knows whether another follows.
        let wanted = (limit - links.len() + 1).min(MAX_EXAMINED - examined);
        let wanted = u32::try_from(wanted).unwrap_or(1);
        let items = store.scan(&prefix, after.as_deref(), wanted).await?;
        if items.is_empty() {
            return Ok((links, None));
        }
        for item in items {
            if links.len() == limit {
                return Ok((links, after));
            }
            links.extend(source.link(store, &prefix, &item, filter).await?);
            examined += 1;
            after = Some(item.key);
        }
        if examined >= MAX_EXAMINED {
            return Ok((links, after));
        }
    }
}

/// Links by visits, most first. All of them must be looked at for that, so there is a bound on how many there are. The
/// cursor is the last link's place, visits and code: a link that was not visited meanwhile stays on its side of it.
async fn by_visits<S: Store>(
    store: &S,
    source: &Source,
    filter: &Filter,
    limit: usize,
    cursor: Option<&str>,
) -> Result<(Vec<Link>, Option<String>), Problem> {
    let passed = match cursor {
        None => None,
        Some(cursor) => {
            let place = place(cursor, "")?;
            let (visits, code) = place.split_once('/').ok_or_else(not_a_cursor)?;
            let visits: u64 = visits.parse().map_err(|_| not_a_cursor())?;
            Some((Reverse(visits), code.to_owned()))
        }
    };
    let (mut links, more) = natural(store, source, filter, MAX_EXAMINED, None).await?;
    if more.is_some() && !store.scan(&source.prefix(), more.as_deref(), 1).await?.is_empty() {
        return Err(Problem::field(
            "query:sort",
            "takes at most 1,000 links; list them without it, or those of one owner",
        ));
    }
    let place_of = |link: &Link| (Reverse(link.visits), link.code.clone());
    links.retain(|link| passed.as_ref().is_none_or(|passed| place_of(link) > *passed));
    links.sort_by_cached_key(place_of);
    let more = links.len() > limit;
    links.truncate(limit);
    let last = links.last().filter(|_| more);
    let next = last.map(|link| format!("{}/{}", link.visits, link.code));
    Ok((links, next))
}
