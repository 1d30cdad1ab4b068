//! A user's entries, and the proofs that they are in the tree.

use serde::Serialize;

use super::drawing::{self, PAGE};
use super::merkle;
use super::record::{Draw, Entry, Live, MAX_PER_USER, State, load, owner};
use super::unknown;
use super::verify::{Proof, Proofs};
use super::view::{EntryView, View};
use crate::campaigns::unescape;
use crate::world::World;
use crate::{identity, keys};
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The user that a request is about and may ask about; `segment` is still percent-encoded.
async fn user_of<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    segment: &str,
) -> Result<String, Problem> {
    let user = unescape(segment).ok_or_else(Problem::not_found)?;
    let with_key = identity::is_key_sent(world.settings, request)?;
    match identity::explicit_user(world.settings, request, world.now)? {
        Some(caller) if caller == user => {}
        Some(_) if !with_key => {
            return Err(Problem::new(Kind::Forbidden, "These are another user's entries."));
        }
        _ => {
            keys::require(world.store, request, world.now, Scope::Campaigns).await?;
        }
    }
    match (1..=identity::MAX_ID_CHARS).contains(&user.len()) {
        true => Ok(user),
        false => Err(Problem::not_found()),
    }
}

/// A user's entries, in order of admission.
pub(super) async fn entries<S: Store>(store: &S, draw: &Draw, user: &str) -> Result<Vec<Entry>, StoreError> {
    let prefix = Draw::user_prefix(&draw.id, user);
    let most = u32::try_from(MAX_PER_USER).unwrap_or(u32::MAX);
    let items = store.scan(&prefix, None, most).await?;
    let entries = items.iter().map(|item| stored::decode("entry", &item.entry));
    let mut entries = entries.collect::<Result<Vec<Entry>, _>>()?;
    entries.sort_by_key(|entry| entry.sequence.known());
    Ok(entries)
}

/// A user's entries in a draw.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Entries")
)]
pub(super) struct Entries {
    /// What the draw does now.
    state: State,
    /// In order of admission.
    entries: Vec<EntryView>,
}

/// `GET /api/draws/{id}/entries/{user}`: that user's entries, with what each has won.
pub(super) async fn of_user<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
    segment: &str,
) -> Result<Response, Problem> {
    let user = user_of(world, request, segment).await?;
    let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
    let entries = entries(world.store, &live.draw, &user).await?;
    let views = entries.iter().map(|entry| EntryView::new(&live.draw, entry));
    Ok(Response::json(
        200,
        &Entries {
            state: live.draw.state(world.now),
            entries: views.collect(),
        },
    ))
}

/// `GET /api/draws/{id}/entries/{user}/proof`: that each of the user's entries is in the tree, and the one that was drawn.
pub(super) async fn proof<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
    segment: &str,
) -> Result<Response, Problem> {
    let user = user_of(world, request, segment).await?;
    let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
    if live.draw.root().is_none() {
        let void = live.draw.outcome.is_some();
        let detail = match void {
            true => "The draw had no entries: there is no tree.",
            false => "There are proofs once the draw has closed and its root is known.",
        };
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let own = entries(world.store, &live.draw, &user).await?;
    let tree = Tree::load(world.store, &live).await?;
    let mut proofs = Vec::with_capacity(own.len());
    for entry in &own {
        let mut proof = tree.prove(world.store, &live.draw, entry).await?;
        proof.id = Some(entry.id.clone());
        proof.user = Some(entry.user.clone());
        proofs.push(proof);
    }
    let drawn = live
        .draw
        .outcome
        .as_ref()
        .and_then(|outcome| outcome.winner.as_ref());
    let last = live.draw.closed.as_ref().and_then(|closed| closed.last.as_ref());
    let [winner, last] = [
        tree.prove_some(world.store, &live.draw, drawn).await?,
        tree.prove_some(world.store, &live.draw, last).await?,
    ];
    Ok(Response::json(
        200,
        &Proofs {
            draw: View::new(&live, world.now),
            winner,
            last,
            entries: proofs,
        },
    ))
}

/// The roots of a tree's pages.
struct Tree(Vec<merkle::Hash>);

impl Tree {
    async fn load<S: Store>(store: &S, live: &Live) -> Result<Self, StoreError> {
        let (roots, _) = drawing::tree(store, &live.draw.id).await?;
        Ok(Self(roots))
    }

    async fn prove_some<S: Store>(
        &self,
        store: &S,
        draw: &Draw,
        entry: Option<&Entry>,
    ) -> Result<Option<Proof>, StoreError> {
        match entry {
            Some(entry) => Ok(Some(self.prove(store, draw, entry).await?)),
            None => Ok(None),
        }
    }

    async fn prove<S: Store>(&self, store: &S, draw: &Draw, entry: &Entry) -> Result<Proof, StoreError> {
        let sequence = entry.sequence.known().unwrap_or_default();
        let index = sequence.saturating_sub(1);
        let page = index / PAGE;
        let key = Draw::leaves_key(&draw.id, page);
        let found = store.get(&Draw::partition(&draw.id), &[key]).await?;
        let leaves = found.into_iter().flatten().next();
        let leaves = leaves.and_then(|leaves| merkle::split(&leaves.value));
        let leaves = leaves.ok_or_else(|| stored::damaged("page of leaves"))?;
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut path = merkle::path(&leaves, place(index % PAGE));
        path.extend(merkle::path(&self.0, place(page)));
        Ok(Proof {
            id: None,
            user: None,
            sequence,
            owner: owner(&entry.id, &entry.user),
            words: draw.pool.words(&entry.words),
            leaf: ids::hex(&draw.leaf(entry)),
            path: path.iter().map(|hash| ids::hex(hash)).collect(),
        })
    }
}
