//! `POST /api/links/claim`: links that were made without a key become a member's.
//!
//! A manage token leads to its link ([`strangers`]). The commit that makes the link the member's takes the
//! token's digest out of it, and is tied to the version that had it. So a token claims once, whoever else has
//! it at this moment; what it opened is closed by that very commit. The member's index is written before it,
//! like that of a new link, and what the link leaves behind with its former owner is the sweep's.

use serde::Deserialize;

use super::access;
use super::edit::replacement;
use super::index::{self, Reserve};
use super::manage::contended;
use super::many::{self, Done};
use super::record::{Link, MAX_RACES, Record};
use super::{strangers, sweep};
use crate::config::Config;
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Outcome};
use tollgate_store::ports::Store;

/// The most tokens of one call.
pub(super) const MAX_TOKENS: usize = 100;

/// The tokens of links that are to be the caller's.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkClaim")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Body {
    /// Manage tokens.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_TOKENS)))]
    tokens: Vec<String>,
}

pub(super) async fn post<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let key = keys::require(world.store, request, world.now, Scope::Links).await?;
    let owner = access::key_owner(&key);
    let Body { tokens } = json::body(request)?;
    many::bounded(tokens.len(), MAX_TOKENS, "#/tokens")?;
    let tokens = tokens.into_iter().enumerate().collect();
    let results = many::each(
        world,
        tokens,
        async |world, (at, token): (usize, String)| match access::is_token(&token) {
            true => claim(world, &owner, &access::digest(&token))
                .await
                .map(Done::changed),
            false => Err(Problem::field(format!("#/tokens/{at}"), "is not a manage token")),
        },
    );
    Ok(many::answer(world, &results.await))
}

/// Makes the link of a token the owner's.
async fn claim<S: Store>(world: &World<'_, S>, owner: &str, digest: &str) -> Result<Link, Problem> {
    let store = world.store;
    // The link as it was entered with the owner by the try before.
    let mut entered: Option<Link> = None;
    for _ in 0..MAX_RACES {
        let there = match strangers::code_of(store, digest).await? {
            Some(code) => Link::read(store, &code).await?,
            None => None,
        };
        if let Some(entered) = entered.take() {
            take_back(store, &entered, there.as_ref());
        }
        let Some(mut link) = there.filter(|link| link.record.has_token(digest)) else {
            return Err(unknown());
        };
        let before = link.record.clone();
        hand_over(&world.settings.config, &mut link, owner, world.now);
        index::enter(store, &link.record, &link.code, Reserve::Disturb, world.now).await?;
        if let Outcome::Committed(done) = store.commit(handed_over(&link, &before, world.now)).await? {
            link.version = done.version;
            return Ok(link);
        }
        entered = Some(link);
    }
    Err(contended())
}

/// Changes a link into the owner's own. The idle time that strangers' links have ends; one that its maker chose stays.
fn hand_over(config: &Config, link: &mut Link, owner: &str, now: u64) {
    let record = &mut link.record;
    record.owner = owner.to_owned();
    record.manage = None;
    if std::mem::take(&mut record.idle_imposed) {
        record.limits.expire_after_idle = None;
    }
    record.updated_at = now.max(record.updated_at);
    record.due = sweep::due(config, record, link.visited_at);
}

fn handed_over(link: &Link, before: &Record, now: u64) -> Commit {
    let mut commit = replacement(link, before);
    commit.mutations.push(sweep::leftovers(before, &link.code, now));
    commit
}

/// Takes back the entries of a claim that failed, but not those of another claim by the same owner: they are the
/// same entries.
fn take_back<S: Store>(store: &S, entered: &Link, there: Option<&Link>) {
    let same = there.filter(|there| there.record.id == entered.record.id);
    match same {
        // Still to be had, or the owner's: the entries are right, but for a URL that it no longer has.
        Some(there) if there.record.is_anonymous() || there.record.owner == entered.record.owner => {
            let owned = Record {
                owner: entered.record.owner.clone(),
                ..there.record.clone()
            };
            index::unpoint(store, &entered.record, &owned);
        }
        _ => index::withdraw(store, &entered.record, &entered.code),
    }
}

fn unknown() -> Problem {
    Problem::new(
        Kind::NotFound,
        "No link has this token: it was claimed already, or is gone.",
    )
}
