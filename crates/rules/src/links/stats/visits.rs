//! `GET` and `DELETE /api/links/{code}/visits`, and of codes that no link has `/api/links/orphans`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use sha2::Sha256;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_api::time;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;

use super::super::access::Credential;
use super::super::list::{DEFAULT_PAGE, MAX_PAGE};
use super::log::{self, Place, Visit};
use super::tally::Tally;
use super::{LOST, all_key, log::clear, tallies_of};
use crate::keys;
use crate::world::World;

pub(in crate::links) use super::read::count_noted;

/// Bytes of a client's name: too few to tell more than that two visits were of the same one.
const NAME_BYTES: usize = 8;

/// Some visits of a link.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "VisitPage")
)]
#[serde(rename_all = "camelCase")]
pub(in crate::links) struct Page {
    /// The visits, newest first.
    visits: Vec<View>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<String>,
}

/// A visit. What is not known is null.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Visit"))]
#[serde(rename_all = "camelCase")]
struct View {
    /// When.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    time: u64,
    /// The same for the same client of this link; a keyed hash, which tells nothing else.
    client: String,
    /// The page that the link was on; cut with an ellipsis where it is longer than 176 bytes.
    referrer: Option<String>,
    /// What the client says it is; cut where it is longer than 224 bytes.
    user_agent: Option<String>,
    /// `desktop`, `mobile`, `tablet`, `tv` or `console`.
    device: Option<String>,
    /// Such as `windows`.
    os: Option<String>,
    /// Such as `firefox`.
    browser: Option<String>,
    /// ISO 3166-1 alpha-2, where a trusted proxy tells it.
    country: Option<String>,
    /// Whether it was a machine, which is not counted.
    bot: bool,
    /// Where it was led; of a code that no link has, the path. Cut where it is longer than 176 bytes.
    target: Option<String>,
}

impl View {
    fn of(visit: &Visit, secret: &[u8]) -> Self {
        let owned = |word: Option<&str>| word.map(str::to_owned);
        let [device, os, browser] = visit.machine().map(owned);
        Self {
            time: visit.at,
            client: name(secret, visit.client),
            referrer: owned(visit.referrer()),
            user_agent: owned(visit.agent()),
            device,
            os,
            browser,
            country: owned(visit.country()),
            bot: visit.is_bot,
            target: owned(visit.target()),
        }
    }
}

/// A client under a name that only this log has for it (HMAC-SHA-256, RFC 2104).
fn name(secret: &[u8], client: [u8; 8]) -> String {
    let Ok(mut mac) = <Hmac<Sha256> as hmac::Mac>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(&client);
    let name = mac.finalize().into_bytes();
    URL_SAFE_NO_PAD.encode(name.get(..NAME_BYTES).unwrap_or_default())
}

pub(in crate::links) async fn get<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    let link = credential.open(world, code).await?;
    page(world, request, &link.record.id).await
}

pub(in crate::links) async fn delete<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    let link = credential.open(world, code).await?;
    remove(world, &link.record.id).await?;
    Ok(Response::empty(204))
}

/// Those of codes that no link has.
pub(in crate::links) async fn get_lost<S: Store>(
    world: &World<'_, S>,
    request: &Request,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Admin).await?;
    page(world, request, LOST).await
}

pub(in crate::links) async fn delete_lost<S: Store>(
    world: &World<'_, S>,
    request: &Request,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Admin).await?;
    remove(world, LOST).await?;
    Ok(Response::empty(204))
}

/// Removes a link's log, and returns how many visits were in it. What is noted already goes too.
pub(in crate::links) async fn remove<S: Store>(world: &World<'_, S>, id: &str) -> Result<u64, Problem> {
    count_noted(world, id).await;
    Ok(clear(world.store, id, world.settings.config.links.visit_log).await?)
}

/// The visits of a link so far, and those of machines, after what is noted was counted.
pub(in crate::links) async fn sums<S: Store>(
    world: &World<'_, S>,
    id: &str,
) -> Result<(u64, u64), StoreError> {
    count_noted(world, id).await;
    let found = world.store.get(&tallies_of(id), &[all_key(id)]).await?;
    let entry = found.into_iter().next().flatten();
    let tally = entry.and_then(|entry| Tally::from_bytes(&entry.value));
    Ok(tally.map_or((0, 0), |tally| (tally.visits, tally.bots)))
}

/// Reads a page of a link's log, after what is noted was appended.
async fn page<S: Store>(world: &World<'_, S>, request: &Request, id: &str) -> Result<Response, Problem> {
    let query = Query::of(request, &["limit", "cursor"])?;
    let limit = usize::try_from(query.number("limit", 1..=MAX_PAGE, DEFAULT_PAGE)?).unwrap_or(1);
    let place = query.text("cursor").map(place).transpose()?;
    count_noted(world, id).await;
    let keep = world.settings.config.links.visit_log;
    let (visits, next) = log::read(world.store, id, keep, limit, place).await?;
    let secret = match visits.is_empty() {
        true => Vec::new(),
        false => log::secret(world.store, id, (world.fresh)()).await?,
    };
    let cursor = |place: Place| URL_SAFE_NO_PAD.encode(format!("{}.{}", place.page, place.before));
    Ok(Response::json(
        200,
        &Page {
            visits: visits.iter().map(|visit| View::of(visit, &secret)).collect(),
            next_cursor: next.map(cursor),
        },
    ))
}

fn place(cursor: &str) -> Result<Place, Problem> {
    const MAX_CURSOR: usize = 64;
    let read = || {
        let bytes = URL_SAFE_NO_PAD
            .decode(cursor.get(..MAX_CURSOR).unwrap_or(cursor))
            .ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (page, before) = text.split_once('.')?;
        Some(Place {
            page: page.parse().ok()?,
            before: before.parse().ok()?,
        })
    };
    read().ok_or_else(|| Problem::field("query:cursor", "is not a cursor of this list"))
}

#[cfg(test)]
mod tests;
