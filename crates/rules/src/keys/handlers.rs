//! `/api/keys`: create, list, rotate and delete keys. Scope `admin`.

use serde::{Deserialize, Serialize};

use super::{
    CONFIGURED_ID, ENTRY_PREFIX, PARTITION, Previous, Record, Scope, digest, entry_key, is_id, mint, require,
    secret, set,
};
use crate::events;
use crate::world::World;
use tollgate_api::calls::Call;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::{json, time};
use tollgate_store::commit::{Commit, Condition, Entry, Item, Mutation, Outcome, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The longest name of a key, in characters.
const MAX_NAME_CHARS: usize = 100;
/// Keys of a page unless the caller says otherwise.
pub(super) const DEFAULT_PAGE: u32 = 100;
/// The most keys of a page.
pub(super) const MAX_PAGE: u32 = 500;
/// The longest that the secret before may still be used, in seconds: 30 days.
pub(super) const MAX_GRACE_SECONDS: u64 = 30 * 86_400;
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

/// A new secret to be.
#[derive(Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "KeyRotation")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Rotate {
    /// How long the secret before may still be used, in seconds. Where this is left out, it ends at once.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(max = MAX_GRACE_SECONDS)))]
    grace_seconds: u64,
}

/// A key as answers show it: never its hash, and its text only when it is made.
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
    /// Until when the secret before may still be used.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    previous_until: Option<u64>,
    /// The key itself: only when it is made or rotated.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

impl<'a> View<'a> {
    fn of(id: &'a str, record: &'a Record, now: u64) -> Self {
        let previous = record.previous.as_ref();
        Self {
            id,
            name: &record.name,
            scopes: &record.scopes,
            created_at: record.created_at,
            expires_at: record.expires_at,
            previous_until: previous.map(|before| before.until).filter(|until| now < *until),
            key: None,
        }
    }
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
        Call::RotateKey => rotate(world, request, id).await,
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
            previous_until: None,
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
        .map(|(id, record)| View::of(id, record, world.now))
        .collect();
    let next_cursor = records.last().filter(|_| more).map(|(id, _)| *id);
    Ok(Response::json(200, &Page { keys, next_cursor }))
}

/// The entry of the key with this id, or a 404.
async fn entry<S: Store>(world: &World<'_, S>, id: &str) -> Result<Entry, Problem> {
    if !is_id(id) {
        return Err(Problem::not_found());
    }
    let found = world.store.get(PARTITION, &[entry_key(id)]).await?;
    found.into_iter().flatten().next().ok_or_else(Problem::not_found)
}

/// The id stays, so that links stay their owner's and limits count on.
async fn rotate<S: Store>(world: &World<'_, S>, request: &Request, id: &str) -> Result<Response, Problem> {
    require(world.store, request, world.now, Scope::Admin).await?;
    let Rotate { grace_seconds } = json::body_or_default(request)?;
    if grace_seconds > MAX_GRACE_SECONDS {
        return Err(Problem::field(
            "#/graceSeconds",
            format!("must be a number from 0 to {MAX_GRACE_SECONDS}"),
        ));
    }
    let entry = entry(world, id).await?;
    let mut record: Record = stored::decode("API key", &entry)?;
    if record.expires_at.is_some_and(|at| at <= world.now) {
        return Err(Problem::not_found());
    }
    if id == CONFIGURED_ID {
        return Err(Problem::new(
            Kind::Conflict,
            "The operator sets this key: start the gateway with another.",
        ));
    }
    let text = secret(id, world.fresh);
    let before = std::mem::replace(&mut record.sha256, digest(&text));
    let until = world.now.saturating_add(grace_seconds * 1_000);
    record.previous = (grace_seconds > 0).then_some(Previous {
        sha256: before,
        until,
    });
    let mut view = View::of(id, &record, world.now);
    view.key = Some(&text);
    let commit = Commit {
        partition: PARTITION.to_owned(),
        // Of two at once, one is shown a key that counts.
        conditions: vec![Condition::Version {
            key: entry_key(id),
            version: entry.version,
        }],
        mutations: vec![set(id, &record)],
        appends: events::append(world, || {
            events::key_rotated(&serde_json::to_value(&view).unwrap_or_default())
        }),
        ..Commit::default()
    };
    match world.store.commit(commit).await? {
        Outcome::Committed(_) => Ok(Response::json(200, &view)),
        _ => Err(Problem::new(
            Kind::Conflict,
            "The key was changed meanwhile; read it again.",
        )),
    }
}

async fn delete<S: Store>(world: &World<'_, S>, request: &Request, id: &str) -> Result<Response, Problem> {
    require(world.store, request, world.now, Scope::Admin).await?;
    let entry = entry(world, id).await?;
    let key = entry_key(id);
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
