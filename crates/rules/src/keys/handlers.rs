//! `/api/keys`: create, list and delete keys. Scope `admin`.

use serde::{Deserialize, Serialize};

use super::{CONFIGURED_ID, ENTRY_PREFIX, PARTITION, Record, Scope, entry_key, is_id, mint, require};
use crate::events;
use crate::world::World;
use tollgate_api::calls::Call;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::{json, time};
use tollgate_store::commit::{Commit, Condition, Item, Mutation, Outcome, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The longest name of a key, in characters.
const MAX_NAME_CHARS: usize = 100;
/// Keys of a page unless the caller says otherwise.
pub(super) const DEFAULT_PAGE: u32 = 100;
/// The most keys of a page.
pub(super) const MAX_PAGE: u32 = 500;
/// How many ids are tried before a collision is taken for a defect.
const MINT_ATTEMPTS: usize = 3;

/// An API key to be.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewApiKey")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Create {
    /// What it is for; no control characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME_CHARS)))]
    name: String,
    /// What it may do.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    scopes: Vec<Scope>,
    /// When it ends: in the future. It does not where this is left out.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    expires_at: Option<u64>,
}

/// A key as answers show it: never its hash, and its text only when it is created.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "ApiKey"))]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// Its name in other calls.
    id: &'a str,
    /// What it is for.
    name: &'a str,
    /// What it may do.
    scopes: &'a [Scope],
    /// When it was made.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    created_at: u64,
    /// When it ends.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    expires_at: Option<u64>,
    /// The key itself: only when it is made.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

/// Some API keys.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ApiKeyPage")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<'a> {
    /// The keys that are still valid.
    keys: Vec<View<'a>>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<&'a str>,
}

/// Answers a call that is about keys; 404 for any other. `id` is what stands in the path.
pub async fn handle<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    id: &str,
) -> Result<Response, Problem> {
    match call {
        Call::ListKeys => list(world, request).await,
        Call::CreateKey => create(world, request).await,
        Call::DeleteKey => delete(world, request, id).await,
        _ => Err(Problem::not_found()),
    }
}

async fn create<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    require(world.store, request, world.now, Scope::Admin).await?;
    let Create {
        name,
        mut scopes,
        expires_at,
    } = json::body(request)?;
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS || name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(Problem::field(
            "#/name",
            "must be 1 to 100 characters, none of them a control character",
        ));
    }
    if scopes.is_empty() {
        return Err(Problem::field("#/scopes", "must name at least one scope"));
    }
    let mut seen = Vec::new();
    scopes.retain(|scope| {
        !seen.contains(scope) && {
            seen.push(*scope);
            true
        }
    });
    if expires_at.is_some_and(|at| at <= world.now) {
        return Err(Problem::field("#/expiresAt", "must be in the future"));
    }
    for _ in 0..MINT_ATTEMPTS {
        let (text, mut commit) = mint(&name, &scopes, expires_at, world.now, world.fresh);
        let id = commit
            .mutations
            .first()
            .map(Mutation::key)
            .and_then(|key| key.strip_prefix(ENTRY_PREFIX));
        let id = id.unwrap_or_default().to_owned();
        let view = View {
            id: &id,
            name: &name,
            scopes: &scopes,
            created_at: world.now,
            expires_at,
            key: Some(&text),
        };
        commit.appends = events::append(world, || {
            events::key_created(&serde_json::to_value(&view).unwrap_or_default())
        });
        if let Outcome::Committed(_) = world.store.commit(commit).await? {
            return Ok(Response::json(201, &view));
        }
    }
    Err(Problem::new(Kind::Unavailable, "No free id was found; try again.").with_retry_after(1))
}

async fn list<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    require(world.store, request, world.now, Scope::Admin).await?;
    let (limit, cursor) = page(request)?;
    let after = cursor.map(|id| entry_key(&id));
    // One more than asked for tells whether there is another page.
    let mut items = world
        .store
        .scan(ENTRY_PREFIX, after.as_deref(), limit + 1)
        .await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let read = |item| Ok((id_of_entry(item), stored::decode("API key", &item.entry)?));
    let records: Vec<(&str, Record)> = items.iter().map(read).collect::<Result<_, StoreError>>()?;
    let live = |(_, record): &&(&str, Record)| record.expires_at.is_none_or(|at| world.now < at);
    let keys = records
        .iter()
        .filter(live)
        .map(|(id, record)| {
            let Record {
                name,
                scopes,
                created_at,
                expires_at,
                ..
            } = record;
            View {
                id,
                name,
                scopes,
                created_at: *created_at,
                expires_at: *expires_at,
                key: None,
            }
        })
        .collect();
    let next_cursor = records.last().filter(|_| more).map(|(id, _)| *id);
    Ok(Response::json(200, &Page { keys, next_cursor }))
}

async fn delete<S: Store>(world: &World<'_, S>, request: &Request, id: &str) -> Result<Response, Problem> {
    require(world.store, request, world.now, Scope::Admin).await?;
    if !is_id(id) {
        return Err(Problem::not_found());
    }
    let key = entry_key(id);
    let found = world.store.get(PARTITION, std::slice::from_ref(&key)).await?;
    let Some(entry) = found.into_iter().flatten().next() else {
        return Err(Problem::not_found());
    };
    let commit = Commit {
        partition: PARTITION.to_owned(),
        // Of two at once, one removes it.
        conditions: vec![Condition::Version {
            key: key.clone(),
            version: entry.version,
        }],
        mutations: vec![Mutation::Delete { key }],
        appends: events::append(world, || events::key_revoked(id)),
        ..Commit::default()
    };
    match world.store.commit(commit).await? {
        Outcome::Committed(_) => Ok(Response::empty(204)),
        _ => Err(Problem::not_found()),
    }
}

/// `limit` and `cursor` of the query. A cursor is the id of the last key seen.
fn page(request: &Request) -> Result<(u32, Option<String>), Problem> {
    let (mut limit, mut cursor) = (DEFAULT_PAGE, None);
    for (name, value) in request.query_fields() {
        match name.as_str() {
            "limit" => {
                limit = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=MAX_PAGE).contains(n))
                    .ok_or_else(|| {
                        Problem::field("query:limit", format!("must be a number from 1 to {MAX_PAGE}"))
                    })?;
            }
            "cursor" if is_id(&value) => cursor = Some(value),
            "cursor" => return Err(Problem::field("query:cursor", "is not a cursor of this list")),
            _ => {
                return Err(Problem::field(
                    format!("query:{name}"),
                    "is not known here; this call takes limit, cursor",
                ));
            }
        }
    }
    Ok((limit, cursor))
}

fn id_of_entry(item: &Item) -> &str {
    item.key.strip_prefix(ENTRY_PREFIX).unwrap_or(CONFIGURED_ID)
}
