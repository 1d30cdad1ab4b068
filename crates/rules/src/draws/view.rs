//! A draw, its prizes and its entries as answers show them.

use serde::{Deserialize, Serialize};

use super::pool::{Pool, Word};
use super::prizes::{self, Prize};
use super::record::{Draw, Entry, Live, State, owner};
use tollgate_api::{ids, time};

/// An entry as its user sees it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawEntry")
)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    /// Unguessable; also the id of its message.
    pub id: String,
    /// The draw's id.
    pub draw: String,
    /// Whose it is.
    pub user: String,
    /// Dense per draw from 1, in order of admission.
    pub sequence: u64,
    /// The pick, in the order of the pool.
    pub words: Vec<Word>,
    /// When it was made.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    pub entered_at: u64,
    /// Its hash in the tree, hexadecimal.
    pub leaf: String,
    /// Words that it shares with the winning words; null until the draw is drawn.
    pub matches: Option<u64>,
    /// The name of its prize; null if it has none.
    pub prize: Option<String>,
}

impl EntryView {
    /// The view of an entry that is admitted.
    pub fn new(draw: &Draw, entry: &Entry) -> Self {
        let sequence = entry.sequence.known().unwrap_or_default();
        let drawn = draw
            .outcome
            .as_ref()
            .and_then(|outcome| Some((outcome, outcome.winner.as_ref()?)));
        let matches = drawn.map(|(_, winner)| prizes::matches(&entry.words, &winner.words));
        let prize = drawn.and_then(|(outcome, winner)| {
            let is_drawn = winner.id == entry.id;
            let shared = matches.unwrap_or_default();
            let place = prizes::of(&draw.prizes, &outcome.given, sequence, shared, is_drawn)?;
            draw.prizes.get(place)
        });
        Self {
            id: entry.id.clone(),
            draw: draw.id.clone(),
            user: entry.user.clone(),
            sequence,
            words: draw.pool.words(&entry.words),
            entered_at: entry.time.known().unwrap_or_default(),
            leaf: ids::hex(&draw.leaf(entry)),
            matches,
            prize: prize.map(|prize| prize.name.clone()),
        }
    }
}

/// A prize as answers show it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawPrize")
)]
#[serde(rename_all = "camelCase")]
pub struct PrizeView {
    /// Words that an entry must share with the winning words.
    pub matches: u64,
    /// Its name.
    pub name: String,
    /// How many there are; null: one for everybody who reaches it.
    pub quantity: Option<u64>,
    /// How many have it; null until the draw is drawn.
    pub winners: Option<u64>,
}

/// The entry that was drawn, for everybody.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawWinner")
)]
#[serde(rename_all = "camelCase")]
pub struct WinnerView {
    /// Its sequence: its index in the tree, and one.
    pub sequence: u64,
    /// The hash of its id and its user: only its user can show to whom it belongs.
    pub owner: String,
}

/// A draw as answers show it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Draw"))]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Its name.
    pub id: String,
    /// Words of a pick.
    pub pick: u64,
    /// What is picked from.
    pub pool: Pool,
    /// The most entries of one user.
    pub per_user: u64,
    /// From when on it takes entries.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    pub opens_at: Option<u64>,
    /// From when on it takes no more.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    pub closes_at: u64,
    /// The most matches first.
    pub prizes: Vec<PrizeView>,
    /// Where entries are announced.
    pub topic: String,
    /// When it was made.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    pub created_at: u64,
    /// Entries so far.
    pub entries: u64,
    /// What it does now.
    pub state: State,
    /// SHA-256 of the seed, hexadecimal.
    pub commitment: String,
    /// Which public value of after the close counts, if one does.
    pub beacon_source: Option<String>,
    /// That value.
    pub beacon: Option<String>,
    /// The root of the Merkle tree over all entries, hexadecimal, soon after the close.
    pub root: Option<String>,
    /// The seed, hexadecimal, once it is drawn.
    pub seed: Option<String>,
    /// The entry that was drawn.
    pub winner: Option<WinnerView>,
    /// Its words.
    pub winning_words: Option<Vec<Word>>,
    /// When it was drawn.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    pub drawn_at: Option<u64>,
}

impl View {
    /// The view of a draw.
    pub fn new(live: &Live, now: u64) -> Self {
        let draw = &live.draw;
        let (closed, outcome) = (draw.closed.as_ref(), draw.outcome.as_ref());
        let winner = outcome.and_then(|outcome| outcome.winner.as_ref());
        let prize = |(at, prize): (usize, &Prize)| PrizeView {
            matches: prize.matches,
            name: prize.name.clone(),
            quantity: prize.quantity,
            winners: outcome.map(|outcome| outcome.given.get(at).map_or(0, |given| given.winners)),
        };
        Self {
            id: draw.id.clone(),
            pick: draw.pick,
            pool: draw.pool.clone(),
            per_user: draw.per_user,
            opens_at: draw.opens_at,
            closes_at: draw.closes_at,
            prizes: draw.prizes.iter().enumerate().map(prize).collect(),
            topic: draw.topic.clone(),
            created_at: draw.created_at,
            entries: live.entries,
            state: draw.state(now),
            commitment: draw.commitment.clone(),
            beacon_source: draw.beacon_source.clone(),
            beacon: closed.and_then(|closed| closed.beacon.clone()),
            root: closed.and_then(|closed| closed.root.clone()),
            seed: outcome.map(|outcome| outcome.seed.clone()),
            winner: winner.map(|winner| WinnerView {
                sequence: winner.sequence.known().unwrap_or_default(),
                owner: owner(&winner.id, &winner.user),
            }),
            winning_words: winner.map(|winner| draw.pool.words(&winner.words)),
            drawn_at: outcome.and_then(|outcome| outcome.time.known()),
        }
    }
}
