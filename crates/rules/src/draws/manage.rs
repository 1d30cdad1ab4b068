//! Creating, listing, reading and drawing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::drawing::{self, Step};
use super::pool::{self, Pool};
use super::prizes::Prize;
use super::record::{
    DEFAULT_TOPIC, Draw, Live, MAX_BEACON, MAX_ENTRIES, MAX_NAME, MAX_PER_USER, MAX_PRIZES, State, load,
};
use super::view::View;
use super::{seed, unknown};
use crate::campaigns::{MAX_ID, is_id};
use crate::config::{TOPIC_NAME_RULE, is_topic_name};
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{FieldError, Kind, Problem};
use tollgate_api::query::Query;
use tollgate_api::{json, time};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;

/// Draws of a page unless the caller says otherwise.
pub(super) const DEFAULT_PAGE: u64 = 20;
/// The most draws of a page: a record may take 64 KiB.
pub(super) const MAX_PAGE: u64 = 50;
/// Steps that one call of `…/draw` takes, some 16,000 entries each, before it says that there is more to do.
const STEPS: usize = 12;
/// How often a close is tried against concurrent changes.
const ATTEMPTS: usize = 8;
/// After so many milliseconds nobody seems to be at work on a draw that has closed: whoever reads it takes a step.
const OVERDUE_MS: u64 = 3_000;

/// A draw to be.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewDraw")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Create {
    /// A slug, for ever its name.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]{0,63}$")))]
    id: String,
    /// Words of a pick.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = pool::MAX_PICK)))]
    pick: u64,
    /// What is picked from: 1 to 1,000 different words, or all whole numbers from one to another.
    #[cfg_attr(feature = "schema", schemars(with = "Pool"))]
    pool: Value,
    /// The most entries of one user; 1 where it is left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_PER_USER)))]
    per_user: Option<u64>,
    /// From when on it takes entries.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    opens_at: Option<u64>,
    /// From when on it takes no more, and is drawn.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    closes_at: u64,
    /// 1 to 20 prizes. An entry gets the one with the most `matches` that it reaches.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_PRIZES)))]
    prizes: Vec<NewPrize>,
    /// Where entries are announced; `draw` where it is left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,63}$")))]
    topic: Option<String>,
    /// Which public value of after the close counts, in words. The draw then waits for it after its close.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME)))]
    beacon_source: Option<String>,
}

/// A prize to be.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewPrize")
)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPrize {
    /// Words that an entry must share with the winning words; 1 to `pick`.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = pool::MAX_PICK)))]
    matches: u64,
    /// Its name, unlike the others'.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME)))]
    name: String,
    /// How many there are: the entry that is drawn comes first, then the others in order. Where it is left out, one for everybody.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_ENTRIES)))]
    quantity: Option<u64>,
}

fn in_range(pointer: &str, number: u64, most: u64) -> Result<u64, Problem> {
    match (1..=most).contains(&number) {
        true => Ok(number),
        false => Err(Problem::field(pointer, format!("must be from 1 to {most}"))),
    }
}

fn line(pointer: &str, text: String, most: usize) -> Result<String, Problem> {
    match pool::is_line(&text, most) {
        true => Ok(text),
        false => {
            let rule = format!("must be a text of 1 to {most} characters, none of them a control character");
            Err(Problem::field(pointer, rule))
        }
    }
}

impl Create {
    fn into_draw(self, now: u64, commitment: String) -> Result<Draw, Problem> {
        if !is_id(&self.id) {
            let rule = format!("must be 1 to {MAX_ID} of a-z, 0-9 and -, and not begin with -");
            return Err(Problem::field("#/id", rule));
        }
        let pick = in_range("#/pick", self.pick, pool::MAX_PICK)?;
        let pool = Pool::parse(&self.pool)?;
        if pick > u64::from(pool.len()) {
            return Err(Problem::field("#/pick", "must not be more than the pool has"));
        }
        let per_user = in_range("#/perUser", self.per_user.unwrap_or(1), MAX_PER_USER)?;
        if self.closes_at <= now {
            return Err(Problem::field("#/closesAt", "must be in the future"));
        }
        if self.opens_at.is_some_and(|start| self.closes_at <= start) {
            return Err(Problem::field("#/closesAt", "must be after opensAt"));
        }
        let topic = self.topic.unwrap_or_else(|| DEFAULT_TOPIC.to_owned());
        if !is_topic_name(&topic) {
            return Err(Problem::field("#/topic", TOPIC_NAME_RULE));
        }
        let source = self
            .beacon_source
            .map(|text| line("#/beaconSource", text, MAX_NAME));
        Ok(Draw {
            prizes: prizes(self.prizes, pick)?,
            id: self.id,
            pick,
            pool,
            per_user,
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            topic,
            created_at: now,
            commitment,
            beacon_source: source.transpose()?,
            closed: None,
            outcome: None,
        })
    }
}

fn prizes(given: Vec<NewPrize>, pick: u64) -> Result<Vec<Prize>, Problem> {
    if !(1..=MAX_PRIZES).contains(&given.len()) {
        let rule = format!("must hold 1 to {MAX_PRIZES} prizes");
        return Err(Problem::field("#/prizes", rule));
    }
    let mut prizes: Vec<Prize> = Vec::with_capacity(given.len());
    for (at, prize) in given.into_iter().enumerate() {
        let at = |name: &str| format!("#/prizes/{at}/{name}");
        in_range(&at("matches"), prize.matches, pick)?;
        if let Some(quantity) = prize.quantity {
            in_range(&at("quantity"), quantity, MAX_ENTRIES)?;
        }
        let name = line(&at("name"), prize.name, MAX_NAME)?;
        if prizes.iter().any(|other| other.name == name) {
            return Err(Problem::field(at("name"), "is the name of another prize"));
        }
        prizes.push(Prize {
            matches: prize.matches,
            name,
            quantity: prize.quantity,
        });
    }
    prizes.sort_by_key(|prize| std::cmp::Reverse(prize.matches));
    Ok(prizes)
}

/// `POST /api/draws`: 201, or 409 if the id is taken. The seed is made here, and only its commitment is told.
pub(super) async fn create<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    let body: Create = json::body(request)?;
    let mut seed = [0; 32];
    let halves = [(world.fresh)(), (world.fresh)()];
    for (byte, fresh) in seed.iter_mut().zip(halves.as_flattened()) {
        *byte = *fresh;
    }
    let draw = body.into_draw(world.now, seed::commitment(&seed))?;
    let id = draw.id.clone();
    let set = |key, value: Vec<u8>| Mutation::Set {
        key,
        value: literal(value),
        expires: None,
    };
    let commit = Commit {
        partition: Draw::partition(&id),
        conditions: vec![Condition::Absent(Draw::partition(&id))],
        mutations: vec![
            draw.set(),
            set(Draw::seed_key(&id), seed.to_vec()),
            set(Draw::undrawn_key(&id), Vec::new()),
        ],
        ..Commit::default()
    };
    let mut outcome = world.store.commit(commit.clone()).await;
    let lost = matches!(outcome, Err(StoreError::Unknown(_)));
    if lost {
        outcome = world.store.commit(commit).await;
    }
    let mut ours = matches!(outcome?, Outcome::Committed(_));
    if lost && !ours {
        // The draw that is there may be this very one: nobody else has its commitment.
        let there = load(world.store, &id).await?;
        ours = there.is_some_and(|live| live.draw.commitment == draw.commitment);
    }
    if !ours {
        let mut problem = Problem::new(Kind::Conflict, format!("There is a draw {id} already."));
        problem.errors.push(FieldError {
            pointer: "#/id".into(),
            detail: "is taken".into(),
        });
        return Err(problem);
    }
    let live = Live {
        draw,
        version: 0,
        entries: 0,
    };
    let view = View::new(&live, world.now);
    Ok(Response::json(201, &view).with("location", format!("/api/draws/{id}")))
}

/// Some draws.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawPage")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    /// The draws, by id.
    draws: Vec<View>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<String>,
}

/// `GET /api/draws?limit=&cursor=`, by id. A cursor is the id of the last draw seen.
pub(super) async fn list<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    let query = Query::of(request, &["limit", "cursor"])?;
    let limit = query.number("limit", 1..=MAX_PAGE, DEFAULT_PAGE)?;
    let after = match query.text("cursor") {
        Some(id) if is_id(id) => Some(Draw::partition(id)),
        Some(_) => return Err(Problem::field("query:cursor", "is not a cursor of this list")),
        None => None,
    };
    // A page of the store may be short of what was asked for, at its bound in bytes: what follows tells whether there is more.
    let prefix = Draw::partition("");
    let wanted = u32::try_from(limit).unwrap_or(u32::MAX);
    let items = world.store.scan(&prefix, after.as_deref(), wanted).await?;
    let mut draws = Vec::with_capacity(items.len());
    for item in &items {
        // The record and its counter at one moment: the scan's is another.
        let id = item.key.strip_prefix(&*prefix).unwrap_or_default();
        let live = load(world.store, id).await?;
        draws.extend(live.map(|live| View::new(&live, world.now)));
    }
    let next_cursor = match items.last() {
        Some(last) => {
            let next = world.store.scan(&prefix, Some(&last.key), 1).await?;
            let id = last.key.strip_prefix(&*prefix).map(str::to_owned);
            id.filter(|_| !next.is_empty())
        }
        None => None,
    };
    Ok(Response::json(200, &Page { draws, next_cursor }))
}

/// `GET /api/draws/{id}`, open to anyone. A draw that should have been drawn by now is brought a step further, so that it is
/// drawn where no background work is (Spin).
pub(super) async fn read<S: Store>(world: &World<'_, S>, id: &str) -> Result<Response, Problem> {
    let mut live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
    if live.draw.outcome.is_none() && live.draw.closes_at.saturating_add(OVERDUE_MS) <= world.now {
        // What has failed is no reason not to show it.
        let _ = drawing::advance(world.store, id, world.now).await;
        live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
    }
    Ok(Response::json(200, &View::new(&live, world.now)))
}

/// What a draw is drawn with.
#[derive(Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawRequest")
)]
#[serde(deny_unknown_fields)]
pub(super) struct Beacon {
    /// A public value of after the close, which nobody could know before; the one that `beaconSource` names, if the draw has one.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_BEACON)))]
    beacon: Option<String>,
}

/// `POST /api/draws/{id}/draw`: closes the draw if it is open, and draws it. 200 once it is drawn, void, or waits for its beacon;
/// 202 while there is more to do.
pub(super) async fn draw<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    let body: Beacon = json::body_or_default(request)?;
    let beacon = body.beacon.map(|text| line("#/beacon", text, MAX_BEACON));
    let beacon = beacon.transpose()?;
    fix(world, id, beacon.as_deref()).await?;
    let mut step = Step::More;
    for _ in 0..STEPS {
        step = drawing::advance(world.store, id, world.now).await?;
        if step != Step::More {
            break;
        }
    }
    let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
    let status = if step == Step::More { 202 } else { 200 };
    Ok(Response::json(status, &View::new(&live, world.now)))
}

/// Closes a draw and fixes its beacon, unless that was done.
async fn fix<S: Store>(world: &World<'_, S>, id: &str, beacon: Option<&str>) -> Result<(), Problem> {
    for _ in 0..ATTEMPTS {
        let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
        let draw = &live.draw;
        let commit = match (&draw.closed, &draw.beacon_source, beacon) {
            (None, Some(_), Some(_)) if draw.state(world.now) != State::Closed => {
                let detail =
                    "The beacon must be a value of after the close: draw without one to close the draw.";
                return Err(Problem::new(Kind::Conflict, detail));
            }
            (None, Some(_), _) => drawing::close(&live, None, None),
            (None, None, beacon) => drawing::close(&live, None, beacon.map(str::to_owned)),
            (Some(_), _, None) => return Ok(()),
            (Some(closed), _, given) if closed.beacon.as_deref() == given => return Ok(()),
            (Some(closed), Some(_), Some(given))
                if closed.beacon.is_none() && closed.entries.known() != Some(0) =>
            {
                let mut after = draw.clone();
                if let Some(closed) = &mut after.closed {
                    closed.beacon = Some(given.to_owned());
                }
                drawing::change(&live, &after)
            }
            (Some(_), ..) => {
                let detail = "The draw is closed, and is drawn with another beacon or without one.";
                return Err(Problem::new(Kind::Conflict, detail));
            }
        };
        match world.store.commit(commit).await {
            // Whatever became of it, the record tells.
            Ok(_) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::new(Kind::Unavailable, "The draw is being changed; try again.").with_retry_after(1))
}
