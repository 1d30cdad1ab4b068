//! Drawing: the close, the tree, the winner, the winners of every prize; each in steps that are bounded, and that anybody may
//! take: whoever calls `…/draw`, whoever reads a draw that is overdue, and the host's background work ([`maintain`]).
//!
//! Each step is a commit under the condition that nobody took it before, so it does not matter who takes it, nor how often it is
//! begun. What it changes follows from the entries and the seed alone:
//!
//! 1. the record is closed, with the number of entries of that very commit: entries are made under the condition that it is not,
//!    so there is never one more;
//! 2. the hashes of the leaves and the roots of their pages are stored, page by page. Full pages never change, so this is done
//!    while the draw is still open, too, and little is left for the close;
//! 3. the root over the pages is written into the record;
//! 4. the seed is read, the winner chosen, and winners are counted, some entries at a time;
//! 5. the record gets its outcome, and the seed is removed: the only commit that shows it.
//!
//! Leaves are stored so that a proof takes one page of them, and the roots of the others: 64 KiB at most, however many entries
//! there are. They take 32 bytes an entry, where the entry itself takes hundreds.

use serde::{Deserialize, Serialize};

use super::merkle::{self, Hash};
use super::prizes::{self, Given};
use super::record::{Closed, Draw, Entry, Live, Outcome as Drawn, UNDRAWN, load};
use super::walk::Walk;
use super::{pool, record, seed};
use tollgate_api::ids;
use tollgate_store::commit::{
    Append, Commit, Condition, MAX_PAGE, Mutation, Outcome, Refusal, StoreError, literal,
};
use tollgate_store::ports::Store;
use tollgate_store::stored;
use tollgate_store::template::{self, Number};

/// Leaves of a page of the tree: a power of two.
pub const PAGE: u64 = 1_024;
/// Pages that one step hashes: so many leaves go into one commit.
const PAGES: u64 = 16;
/// Entries that one step looks through for winners.
const COUNTED: u64 = 64 * PAGE;
/// Draws that one call of [`maintain`] looks at.
const DRAWS: usize = 10_000;

/// How far a draw is after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is drawn, or void.
    Done,
    /// There is more to do at once.
    More,
    /// Nothing is to be done before it closes, or its beacon is known.
    Waits,
}

/// Winners that are counted so far.
#[derive(Serialize, Deserialize)]
struct Tally {
    winner: Entry,
    /// The sequence of the next entry.
    next: u64,
    given: Vec<Given>,
}

/// The pages of so many entries.
fn pages(entries: u64) -> u64 {
    entries.div_ceil(PAGE)
}

/// Takes the next step of a draw, if it is due.
///
/// # Errors
/// Those of the store.
pub async fn advance<S: Store>(store: &S, id: &str, now: u64) -> Result<Step, StoreError> {
    let Some(live) = load(store, id).await? else {
        return Ok(Step::Done);
    };
    if live.draw.outcome.is_some() {
        return Ok(Step::Done);
    }
    let Some(closed) = &live.draw.closed else {
        if live.draw.closes_at > now {
            return ahead(store, &live).await;
        }
        let due = Condition::NowIn {
            start: Some(live.draw.closes_at),
            end: None,
        };
        return match store.commit(close(&live, Some(due), None)).await? {
            // By the store's clock it is still open.
            Outcome::Refused(Refusal::Condition(1)) => Ok(Step::Waits),
            _ => Ok(Step::More),
        };
    };
    let entries = closed.entries.known().unwrap_or_default();
    if entries == 0 {
        return match seed::read(store, &live.draw).await {
            Ok(seed) => finish(store, &live, &seed, None).await,
            Err(error) => unless_drawn(store, &live, error).await,
        };
    }
    if closed.root.is_none() {
        let (roots, version) = tree(store, id).await?;
        if (roots.len() as u64) < pages(entries) {
            return grow(store, id, roots, version, entries).await;
        }
        let mut draw = live.draw.clone();
        if let Some(closed) = &mut draw.closed {
            closed.last = Walk::from(store, id, entries).take(1).await?.pop();
            closed.root = Some(ids::hex(&merkle::root(&roots)));
        }
        store.commit(change(&live, &draw)).await?;
        return Ok(Step::More);
    }
    if live.draw.beacon_source.is_some() && closed.beacon.is_none() {
        return Ok(Step::Waits);
    }
    Box::pin(count(store, &live, entries)).await
}

/// Closes a draw, with what else must hold.
pub fn close(live: &Live, further: Option<Condition>, beacon: Option<String>) -> Commit {
    let count = Mutation::Add {
        key: Draw::count_key(&live.draw.id),
        delta: 0,
        min: None,
        max: None,
    };
    let mut draw = live.draw.clone();
    draw.closed = Some(Closed {
        time: Number::Time,
        entries: Number::Sum(0),
        root: None,
        last: None,
        beacon,
    });
    let mut commit = change(live, &draw);
    commit.mutations.insert(0, count);
    commit.conditions.extend(further);
    commit
}

/// Writes a draw's record, if it is still the one that was read.
pub fn change(live: &Live, draw: &Draw) -> Commit {
    Commit {
        partition: Draw::partition(&draw.id),
        conditions: vec![live.unchanged()],
        mutations: vec![draw.set()],
        ..Commit::default()
    }
}

/// The roots of the pages that are hashed, and the version of that.
pub async fn tree<S: Store>(store: &S, id: &str) -> Result<(Vec<Hash>, Option<u64>), StoreError> {
    let found = store.get(&Draw::partition(id), &[Draw::tree_key(id)]).await?;
    let Some(entry) = found.into_iter().flatten().next() else {
        return Ok((Vec::new(), None));
    };
    let roots = merkle::split(&entry.value).ok_or_else(|| stored::damaged("tree"))?;
    Ok((roots, Some(entry.version)))
}

/// Hashes the full pages of a draw that is open, once there are some.
async fn ahead<S: Store>(store: &S, live: &Live) -> Result<Step, StoreError> {
    let full = live.entries / PAGE;
    if full < PAGES {
        return Ok(Step::Waits);
    }
    let (roots, version) = tree(store, &live.draw.id).await?;
    match full.saturating_sub(roots.len() as u64) {
        PAGES.. => grow(store, &live.draw.id, roots, version, full * PAGE).await,
        _ => Ok(Step::Waits),
    }
}

/// Hashes the next pages of a tree over the first `entries`.
async fn grow<S: Store>(
    store: &S,
    id: &str,
    mut roots: Vec<Hash>,
    version: Option<u64>,
    entries: u64,
) -> Result<Step, StoreError> {
    let Some(draw) = load(store, id).await?.map(|live| live.draw) else {
        return Ok(Step::Done);
    };
    let key = Draw::tree_key(id);
    let set = |key, value: Vec<u8>| Mutation::Set {
        key,
        value: literal(value),
        expires: None,
    };
    let first = roots.len() as u64;
    let mut walk = Walk::from(store, id, first * PAGE + 1);
    let mut mutations = Vec::new();
    for page in first..pages(entries).min(first + PAGES) {
        let leaves = walk.take(PAGE.min(entries - page * PAGE)).await?;
        let leaves: Vec<Hash> = leaves.iter().map(|entry| draw.leaf(entry)).collect();
        roots.push(merkle::root(&leaves));
        mutations.push(set(Draw::leaves_key(id, page), merkle::join(&leaves)));
    }
    mutations.push(set(key.clone(), merkle::join(&roots)));
    let commit = Commit {
        partition: Draw::partition(id),
        conditions: vec![Condition::unchanged(key, version)],
        mutations,
        ..Commit::default()
    };
    store.commit(commit).await?;
    Ok(Step::More)
}

/// Chooses the winner, and looks through some entries for those who have won something.
async fn count<S: Store>(store: &S, live: &Live, entries: u64) -> Result<Step, StoreError> {
    let draw = &live.draw;
    let (id, key) = (&draw.id, Draw::tally_key(&draw.id));
    let found = store
        .get(&Draw::partition(id), std::slice::from_ref(&key))
        .await?;
    let entry = found.into_iter().flatten().next();
    let seed = seed::read(store, draw).await;
    let (mut tally, condition): (Tally, _) = match &entry {
        Some(entry) => {
            let version = entry.version;
            let key = key.clone();
            (
                stored::decode("tally", entry)?,
                Condition::Version { key, version },
            )
        }
        None => {
            let beacon = draw.closed.as_ref().and_then(|closed| closed.beacon.as_deref());
            let root = draw.root().ok_or_else(|| stored::damaged("root"))?;
            let index = match &seed {
                Ok(seed) => seed::winner(seed, &root, beacon, entries),
                Err(error) => return unless_drawn(store, live, error.clone()).await,
            };
            let winner = Walk::from(store, id, index + 1).take(1).await?;
            let winner = winner
                .into_iter()
                .next()
                .ok_or_else(|| stored::damaged("entry"))?;
            let given = prizes::begin(&draw.prizes, draw.pick);
            let tally = Tally {
                winner,
                next: 1,
                given,
            };
            (tally, Condition::Absent(key.clone()))
        }
    };
    let many = COUNTED.min((entries + 1).saturating_sub(tally.next));
    let mut walk = Walk::from(store, id, tally.next);
    let mut left = many;
    while left > 0 {
        let some = left.min(PAGE);
        for entry in walk.take(some).await? {
            if entry.id != tally.winner.id {
                let sequence = entry.sequence.known().unwrap_or_default();
                let shared = prizes::matches(&entry.words, &tally.winner.words);
                prizes::next(&draw.prizes, &mut tally.given, sequence, shared);
            }
        }
        left -= some;
    }
    tally.next += many;
    if tally.next > entries {
        return match seed {
            Ok(seed) => finish(store, live, &seed, Some((tally, condition))).await,
            Err(error) => unless_drawn(store, live, error).await,
        };
    }
    let progress = Commit {
        partition: Draw::partition(id),
        conditions: vec![live.unchanged(), condition],
        mutations: vec![Mutation::Set {
            key,
            value: template::json(&tally),
            expires: None,
        }],
        ..Commit::default()
    };
    store.commit(progress).await?;
    Ok(Step::More)
}

/// A seed that is gone is no fault where somebody else has drawn in between. Memory may not know of that yet: the store is asked.
async fn unless_drawn<S: Store>(store: &S, live: &Live, error: StoreError) -> Result<Step, StoreError> {
    let unchanged = Commit {
        partition: Draw::partition(&live.draw.id),
        conditions: vec![live.unchanged()],
        ..Commit::default()
    };
    match store.commit(unchanged).await? {
        Outcome::Committed(_) => Err(error),
        _ => Ok(Step::More),
    }
}

/// The data of the message that announces an outcome.
#[derive(Serialize)]
struct Announcement<'a> {
    draw: &'a str,
    entries: u64,
    root: Option<&'a str>,
    seed: &'a str,
    beacon: Option<&'a str>,
    winner: Option<Winner<'a>>,
}

#[derive(Serialize)]
struct Winner<'a> {
    user: &'a str,
    entry: &'a str,
    sequence: Number,
    words: Vec<pool::Word>,
}

/// Writes the outcome: the one commit that shows the seed, once.
async fn finish<S: Store>(
    store: &S,
    live: &Live,
    seed: &Hash,
    tally: Option<(Tally, Condition)>,
) -> Result<Step, StoreError> {
    let mut draw = live.draw.clone();
    let id = draw.id.clone();
    let (mut winner, mut given, mut further) = (None, vec![Given::default(); draw.prizes.len()], None);
    if let Some((tally, condition)) = tally {
        (winner, given, further) = (Some(tally.winner), tally.given, Some(condition));
    }
    let seed = ids::hex(seed);
    let closed = live.draw.closed.as_ref();
    let announcement = Announcement {
        draw: &id,
        entries: live.entries,
        root: closed.and_then(|closed| closed.root.as_deref()),
        seed: &seed,
        beacon: closed.and_then(|closed| closed.beacon.as_deref()),
        winner: winner.as_ref().map(|winner| Winner {
            user: &winner.user,
            entry: &winner.id,
            sequence: winner.sequence,
            words: draw.pool.words(&winner.words),
        }),
    };
    let kind = match winner {
        Some(_) => "draw.drawn",
        None => "draw.void",
    };
    let append = Append {
        topic: draw.topic.clone(),
        // A draw is drawn once.
        id: ["draw-", &id].concat(),
        key: String::new(),
        kind: kind.to_owned(),
        content_type: "application/json".to_owned(),
        attributes: Vec::new(),
        payload: template::json(&announcement),
    };
    draw.outcome = Some(Drawn {
        time: Number::Time,
        seed: seed.clone(),
        winner: winner.clone(),
        given,
    });
    let mut commit = change(live, &draw);
    commit.conditions.extend(further);
    let gone = [Draw::tally_key(&id), Draw::seed_key(&id), Draw::undrawn_key(&id)];
    let gone = gone.into_iter().map(|key| Mutation::Delete { key });
    commit.mutations.extend(gone);
    commit.appends.push(append);
    store.commit(commit).await?;
    Ok(Step::More)
}

/// Takes one step of each draw that is not drawn yet. `true`: there is more. To be called again after an error.
///
/// # Errors
/// Those of the store.
pub async fn maintain<S: Store>(store: &S, now: u64) -> Result<bool, StoreError> {
    let (mut more, mut after) = (false, None::<String>);
    for _ in 0..DRAWS.div_ceil(MAX_PAGE as usize) {
        let items = store.scan(UNDRAWN, after.as_deref(), MAX_PAGE).await?;
        let Some(last) = items.last() else { break };
        after = Some(last.key.clone());
        for item in &items {
            let id = item.key.strip_prefix(record::UNDRAWN).unwrap_or_default();
            match advance(store, id, now).await {
                Ok(step) => more |= step == Step::More,
                // What is damaged holds nothing else up.
                Err(StoreError::Invalid(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(more)
}
