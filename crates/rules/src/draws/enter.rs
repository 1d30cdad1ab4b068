//! A user's entry: one commit whose refusal is the verdict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{Draw, Entry, Live, MAX_ENTRIES, load_for_entry};
use super::view::EntryView;
use super::{read, unknown, walk};
use crate::campaigns::path_segment;
use crate::idempotency::{self, Key};
use crate::identity;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::traceparent::Traceparent;
use tollgate_api::{ids, json};
use tollgate_delivery::attributes;
use tollgate_store::commit::{
    Append, Commit, Condition, Idempotence, Mutation, Outcome, Refusal, StoreError, Template,
};
use tollgate_store::ports::Store;
use tollgate_store::stored;
use tollgate_store::template::{self, Number};

/// How often an entry is tried: again when the draw changed in between, when more than [`walk::LAG`] others came in, or when a
/// reply was lost.
const ATTEMPTS: usize = 12;
/// How many lost replies are asked for again.
const LOST_REPLIES: usize = 2;
/// How far the caller's clock may be from the store's, in milliseconds. Only further outside of the draw's time is an entry
/// refused without asking the store.
const CLOCK_MARGIN_MS: u64 = 5_000;

/// An entry to be.
#[derive(Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewEntry")
)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// The user's pick: as many different words of the pool as the draw says. Where it is left out, one is made at random.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<super::pool::Word>>"))]
    words: Option<Vec<Value>>,
}

/// An entry that was admitted.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Entered")
)]
pub(super) struct Entered {
    /// The entry.
    entry: EntryView,
}

/// The data of the message that announces an entry.
#[derive(Serialize)]
struct Announcement<'a> {
    draw: &'a str,
    user: &'a str,
    entry: &'a str,
    sequence: Number,
    words: Vec<super::pool::Word>,
}

/// `POST /api/draws/{id}/entries`: 201 if admitted.
pub(super) async fn enter<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    let body: Body = json::body_or_default(request)?;
    let key = idempotency::key(request)?;
    let user = identity::explicit_user(world.settings, request, world.now)?;
    let user = user.ok_or_else(|| identity::user_required(world.settings, "enters"))?;
    let live = load_for_entry(world.store, id)
        .await?
        .ok_or_else(|| unknown(id))?;
    let words = match body.words {
        Some(words) => live.draw.pool.pick(&words, live.draw.pick)?,
        // A draw's pool and pick never change.
        None => live.draw.pool.random(live.draw.pick, (world.fresh)()),
    };
    let attempt = Attempt {
        request,
        key,
        entry: Entry {
            sequence: Number::Sum(SEQUENCE),
            id: ids::token(&(world.fresh)(), ids::ID_LENGTH),
            user: user.clone().into_owned(),
            words,
            time: Number::Time,
        },
    };
    let response = attempt.run(world, live).await?;
    let place = ["/api/draws/", id, "/entries/", &path_segment(&user)].concat();
    Ok(response.with("location", place))
}

/// The index of the mutation that counts entries.
const SEQUENCE: u32 = 0;

/// One request's entry. Its id and words stay the same however often the store is asked.
struct Attempt<'a> {
    request: &'a Request,
    key: Option<Key>,
    entry: Entry,
}

impl Attempt<'_> {
    async fn run<S: Store>(&self, world: &World<'_, S>, first: Live) -> Result<Response, Problem> {
        let id = first.draw.id.clone();
        let (mut lost, mut live) = (0, first);
        for _ in 0..ATTEMPTS {
            // With a key the entry may have been admitted before, which the store knows.
            if lost == 0 && self.key.is_none() {
                check_time(&live.draw, world.now, CLOCK_MARGIN_MS)?;
            }
            let outcome = match world.store.commit(self.commit(&live)).await {
                Ok(outcome) => outcome,
                Err(StoreError::Unknown(_)) if lost < LOST_REPLIES => {
                    lost += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match outcome {
                Outcome::Committed(done) => {
                    let entry: Entry = own(&template::fill(&self.entry.template(), &done))?;
                    return Ok(entered(&live.draw, &entry));
                }
                Outcome::Replayed(answer) => return self.replayed(&live.draw, &answer),
                Outcome::Conflict => return Err(idempotency::mismatch()),
                Outcome::Refused(refusal) => {
                    if let Some(response) = self.refused(world, &live, refusal).await? {
                        return Ok(response);
                    }
                }
            }
            live = load_for_entry(world.store, &id)
                .await?
                .ok_or_else(|| unknown(&id))?;
        }
        Err(Problem::new(Kind::Unavailable, "The draw is busy; try again.").with_retry_after(1))
    }

    fn commit(&self, live: &Live) -> Commit {
        let draw = &live.draw;
        let Entry { id, user, .. } = &self.entry;
        let limit = |most: u64| i64::try_from(most).ok();
        let add = |key, most: u64| Mutation::Add {
            key,
            delta: 1,
            min: None,
            max: limit(most),
        };
        let place = Draw::user_prefix(&draw.id, user) + id;
        let record = self.entry.template();
        let set = |key: &str| Mutation::Set {
            key: key.to_owned(),
            value: record.clone(),
            expires: None,
        };
        let announcement = Announcement {
            draw: &draw.id,
            user,
            entry: id,
            sequence: self.entry.sequence,
            words: draw.pool.words(&self.entry.words),
        };
        Commit {
            partition: Draw::partition(&draw.id),
            idempotence: self.idempotence(&draw.id),
            conditions: vec![
                Condition::Absent(place.clone()),
                live.unchanged(),
                Condition::NowIn {
                    start: draw.opens_at,
                    // Closed by hand, it may be before its time.
                    end: Some(if draw.closed.is_some() { 0 } else { draw.closes_at }),
                },
            ],
            mutations: vec![
                add(
                    Draw::count_key(&draw.id),
                    MAX_ENTRIES.min(live.entries.saturating_add(walk::LAG)),
                ),
                add(Draw::user_count_key(&draw.id, user), draw.per_user),
                set(&walk::key(&draw.id, live.entries, id)),
                set(&place),
            ],
            appends: vec![Append {
                topic: draw.topic.clone(),
                id: id.clone(),
                key: user.clone(),
                kind: "draw.entered".into(),
                content_type: "application/json".into(),
                attributes: attributes::write(None, Traceparent::of(self.request)),
                payload: template::json(&announcement),
            }],
        }
    }

    fn idempotence(&self, draw: &str) -> Option<Idempotence> {
        let answer: Template = self.entry.template();
        let scope = [draw, &self.entry.user];
        let key = self.key.as_ref()?;
        Some(key.idempotence("enter", &scope, self.request, 201, &answer, &BTreeMap::new()))
    }

    /// A stored answer: an entry's record. If it is our own entry, our own commit's reply was lost: it is no replay.
    fn replayed(&self, draw: &Draw, answer: &[u8]) -> Result<Response, Problem> {
        let stored = idempotency::replay(answer)?;
        let entry: Entry = own(&stored.body)?;
        let response = entered(draw, &entry);
        Ok(match entry.id == self.entry.id {
            true => response,
            false => response.with(idempotency::REPLAYED, "true"),
        })
    }

    /// What a refusal means; `None` if it is worth another try.
    async fn refused<S: Store>(
        &self,
        world: &World<'_, S>,
        live: &Live,
        refusal: Refusal,
    ) -> Result<Option<Response>, Problem> {
        let draw = &live.draw;
        let user = &self.entry.user;
        match refusal {
            // After a lost reply: it is there.
            Refusal::Condition(0) => {
                let place = Draw::user_prefix(&draw.id, user) + &self.entry.id;
                let found = world.store.get(&Draw::partition(&draw.id), &[place]).await?;
                let entry = found.into_iter().flatten().next();
                let entry = entry.map(|entry| stored::decode("entry", &entry)).transpose()?;
                Ok(entry.map(|entry: Entry| entered(draw, &entry)))
            }
            Refusal::Condition(1) => Ok(None),
            Refusal::Condition(_) => {
                check_time(draw, world.now, 0)?;
                // By the store's clock, which is the one that counts.
                let middle = draw.opens_at.unwrap_or(0).midpoint(draw.closes_at);
                Err(match world.now < middle && draw.opens_at.is_some() {
                    true => not_started(draw, world.now),
                    false => ended(draw),
                })
            }
            Refusal::Mutation(0) if live.entries >= MAX_ENTRIES => {
                let detail = format!(
                    "The draw {} has {MAX_ENTRIES} entries, and takes no more.",
                    draw.id
                );
                Err(Problem::new(Kind::SoldOut, detail))
            }
            Refusal::Mutation(0) => Ok(None),
            Refusal::Mutation(_) => Err(self.has_all(world, draw).await?),
        }
    }

    /// The 409 with the first of the user's entries.
    async fn has_all<S: Store>(&self, world: &World<'_, S>, draw: &Draw) -> Result<Problem, StoreError> {
        let entries = read::entries(world.store, draw, &self.entry.user).await?;
        let detail = match draw.per_user {
            1 => "The user has an entry.".to_owned(),
            most => format!("The user has {most} entries, as many as this draw allows."),
        };
        let problem = Problem::new(Kind::AlreadyEntered, detail);
        Ok(match entries.first() {
            Some(first) => {
                let view = serde_json::to_value(EntryView::new(draw, first)).unwrap_or_default();
                problem.with_member("entry", view)
            }
            None => problem,
        })
    }
}

/// An entry's record out of our own commit's answer.
fn own(record: &[u8]) -> Result<Entry, Problem> {
    let damaged = |_| Problem::new(Kind::Internal, "The stored answer cannot be read.");
    serde_json::from_slice(record).map_err(damaged)
}

/// The same however late it is repeated: what the entry has won is no part of it.
fn entered(draw: &Draw, entry: &Entry) -> Response {
    let entry = EntryView {
        matches: None,
        prize: None,
        ..EntryView::new(draw, entry)
    };
    Response::json(201, &Entered { entry })
}

/// The verdict where the time alone decides it, `margin` milliseconds further out.
fn check_time(draw: &Draw, now: u64, margin: u64) -> Result<(), Problem> {
    if draw.closed.is_some() || draw.closes_at.saturating_add(margin) <= now {
        return Err(ended(draw));
    }
    match draw.opens_at {
        Some(start) if now.saturating_add(margin) < start => Err(not_started(draw, now)),
        _ => Ok(()),
    }
}

fn ended(draw: &Draw) -> Problem {
    Problem::new(
        Kind::Ended,
        format!("The draw {} takes no more entries.", draw.id),
    )
}

fn not_started(draw: &Draw, now: u64) -> Problem {
    let wait = draw.opens_at.unwrap_or(now).saturating_sub(now).div_ceil(1_000);
    let detail = format!("The draw {} takes no entries yet.", draw.id);
    Problem::new(Kind::NotStarted, detail).with_retry_after(wait)
}
