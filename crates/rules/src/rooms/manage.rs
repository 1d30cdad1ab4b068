//! Making, changing, reading and removing rooms; their pace. All but reading one take the scope `campaigns`.

use serde::{Deserialize, Serialize};

use super::pace::{self, per_second};
use super::record::{
    self, ATTEMPTS, Live, Record, busy, find, load, lots_key, partition, tickets_key, turns_key,
};
use super::{MAX_ROOMS, Room, unknown};
use crate::config::RoomSettings;
use crate::keys;
use crate::run_time;
use crate::settings::Settings;
use crate::world::World;
use tollgate_api::calls::{Call, Scope};
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::units::Span;
use tollgate_api::{json, time};
use tollgate_store::commit::{Commit, Mutation, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The default of `session`, seconds.
const SESSION_SECONDS: u64 = 600;

/// A room to be.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewRoom")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Put {
    /// What it is in front of: a route pattern.
    path: String,
    /// How many are admitted in a second; thousandths count.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.01, max = 10000.0)))]
    admit_per_second: f64,
    /// For how many seconds somebody is admitted; 600 where it is left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 86400)))]
    session: Option<u64>,
    /// How many may be inside at once: the pace is at most so many in a session.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000_u64)))]
    capacity: Option<u64>,
    /// When it opens; who comes before gets a place by lot.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    opens: Option<u64>,
    /// What its page says that people wait for.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 100)))]
    title: Option<String>,
}

/// Another pace.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "RoomPace")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Pace {
    /// How many are admitted in a second; thousandths count.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.01, max = 10000.0)))]
    per_second: f64,
}

/// The state of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "RoomState")
)]
#[serde(rename_all = "camelCase")]
enum State {
    /// Gives out lots.
    Scheduled,
    /// Admits.
    Open,
    /// Keeps places, and admits nobody.
    Paused,
}

/// A room.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Room"))]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// Unique.
    name: &'a str,
    /// What it is in front of.
    path: &'a str,
    /// What its page says that people wait for.
    title: Option<&'a str>,
    /// What it does now.
    state: State,
    /// When it opens, or opened.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    opens: String,
    /// For how many seconds somebody is admitted.
    session: u64,
    /// How many may be inside at once.
    capacity: Option<u64>,
    /// How many are admitted in a second, while it is not paused.
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    per_second: serde_json::Number,
    /// How many wait for their turn, or for the opening.
    waiting: u64,
    /// How many had their turn.
    admitted: u64,
    /// Whether the configuration has it: then only its pace can be changed here.
    read_only: bool,
}

/// All rooms.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Rooms"))]
pub(super) struct All<'a> {
    /// Those of the file first.
    rooms: Vec<View<'a>>,
}

async fn view<'a, S: Store>(world: &World<'_, S>, room: &'a Room, live: &Live) -> Result<View<'a>, Problem> {
    let settings = &room.settings;
    let found = world
        .store
        .get(&partition(&settings.name), &[tickets_key(&settings.name)])
        .await?;
    let tickets = stored::count("counter of tickets", found.first().and_then(Option::as_ref))?;
    let record = &live.record;
    let is_open = record.opened.is_some();
    // The two are read at two moments: no ticket counts twice.
    let waiting = if is_open {
        live.waiting(world.now).min(tickets)
    } else {
        tickets
    };
    Ok(View {
        name: &settings.name,
        path: &settings.path,
        title: settings.title.as_deref(),
        state: match (record.paused, is_open) {
            (true, _) => State::Paused,
            (false, true) => State::Open,
            (false, false) => State::Scheduled,
        },
        opens: time::format(record.opens),
        session: room.session / 1_000,
        capacity: settings.capacity,
        per_second: per_second(record.pace),
        waiting,
        admitted: tickets - waiting,
        read_only: room.is_of_file,
    })
}

/// Answers a call about rooms themselves.
pub(super) async fn handle<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    name: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    if call == Call::ListRooms {
        return list(world).await;
    }
    if !crate::config::is_topic_name(name) {
        return Err(Problem::field("path:name", crate::config::TOPIC_NAME_RULE));
    }
    match call {
        Call::PutRoom => put(world, request, name).await,
        Call::DeleteRoom => delete(world, name).await,
        Call::PauseRoom => {
            change(world, name, |record, _| {
                record.go_on(world.now, record.pace, true)
            })
            .await
        }
        Call::ResumeRoom => {
            change(world, name, |record, _| {
                record.go_on(world.now, record.pace, false)
            })
            .await
        }
        Call::PaceRoom => {
            let Pace { per_second } = json::body(request)?;
            let pace = pace::thousandths(per_second);
            let pace = pace.ok_or_else(|| Problem::field("#/perSecond", pace::RULE))?;
            change(world, name, |record, room| {
                record.go_on(world.now, room.at_most(pace), record.paused);
            })
            .await
        }
        _ => Err(Problem::not_found()),
    }
}

/// The room of this name as it is stored, or the file's. Not every gateway may have heard of it yet.
async fn known<S: Store>(world: &World<'_, S>, name: &str) -> Result<Room, Problem> {
    if let Some(room) = world.settings.room(name).filter(|room| room.is_of_file) {
        return Ok(room.clone());
    }
    let (document, _) = run_time::read(world.store).await?;
    let found = document.rooms.iter().find(|room| room.name == name);
    let room = found.and_then(|room| Room::compile(room, false).ok());
    room.ok_or_else(|| unknown("There is no such room."))
}

/// How many wait in a room, and had their turn.
pub struct Count {
    /// The room's name.
    pub name: String,
    /// Those who wait.
    pub waiting: u64,
    /// Those who had their turn.
    pub admitted: u64,
    /// How many have their turn in a second now: 0 while it is paused.
    pub per_second: f64,
}

/// The counts of the rooms that were used, at most `most` of them; those of the file first.
///
/// # Errors
/// The store cannot be asked.
pub async fn counts<S: Store>(
    store: &S,
    settings: &Settings,
    now: u64,
    most: usize,
) -> Result<Vec<Count>, StoreError> {
    let mut counts = Vec::new();
    for room in settings.all_rooms().take(most) {
        let name = &*room.settings.name;
        let Some(live) = find(store, name).await? else {
            continue;
        };
        let found = store.get(&partition(name), &[tickets_key(name)]).await?;
        let tickets = stored::count("counter of tickets", found.first().and_then(Option::as_ref))?;
        let waiting = match live.record.opened {
            Some(_) => live.waiting(now).min(tickets),
            None => tickets,
        };
        counts.push(Count {
            name: name.to_owned(),
            waiting,
            admitted: tickets - waiting,
            per_second: match live.record.paused {
                true => 0.0,
                false => live.record.pace as f64 / 1_000.0,
            },
        });
    }
    Ok(counts)
}

/// Whether there is a room of this name.
pub(crate) async fn exists<S: Store>(world: &World<'_, S>, name: &str) -> Result<bool, Problem> {
    match known(world, name).await {
        Ok(_) => Ok(true),
        Err(problem) if problem.kind == Kind::NotFound => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// `GET /api/rooms/{name}`: open to anyone.
pub(super) async fn read<S: Store>(world: &World<'_, S>, room: &Room) -> Result<Response, Problem> {
    let live = load(world, room).await?;
    Ok(Response::json(200, &view(world, room, &live).await?))
}

async fn list<S: Store>(world: &World<'_, S>) -> Result<Response, Problem> {
    let (document, _) = run_time::read(world.store).await?;
    let set = document
        .rooms
        .iter()
        .filter_map(|room| Room::compile(room, false).ok());
    let all: Vec<Room> = world.settings.rooms_of_file().cloned().chain(set).collect();
    let mut rooms = Vec::with_capacity(all.len());
    for room in &all {
        let live = load(world, room).await?;
        rooms.push(view(world, room, &live).await?);
    }
    Ok(Response::json(200, &All { rooms }))
}

async fn change<S: Store>(
    world: &World<'_, S>,
    name: &str,
    change: impl Fn(&mut Record, &Room),
) -> Result<Response, Problem> {
    let room = known(world, name).await?;
    for _ in 0..ATTEMPTS {
        let mut live = load(world, &room).await?;
        change(&mut live.record, &room);
        if record::write(world, name, &live).await? {
            return Ok(Response::json(200, &view(world, &room, &live).await?));
        }
    }
    Err(busy())
}

fn of_file<S>(world: &World<'_, S>, name: &str) -> Result<(), Problem> {
    match world
        .settings
        .rooms_of_file()
        .any(|room| room.settings.name == name)
    {
        true => Err(Problem::new(
            Kind::Conflict,
            "The configuration has this room: change it there. Its pace can be changed here.",
        )),
        false => Ok(()),
    }
}

async fn put<S: Store>(world: &World<'_, S>, request: &Request, name: &str) -> Result<Response, Problem> {
    let body: Put = json::body(request)?;
    of_file(world, name)?;
    let settings = RoomSettings {
        name: name.to_owned(),
        path: body.path,
        admit_per_second: body.admit_per_second,
        session: Span::from_secs(body.session.unwrap_or(SESSION_SECONDS)),
        capacity: body.capacity,
        opens: body.opens,
        title: body.title,
    };
    let room = Room::compile(&settings, false).map_err(|(field, rule)| {
        let field = match field {
            "admit_per_second" => "admitPerSecond",
            field => field,
        };
        Problem::field(format!("#/{field}"), rule)
    })?;
    let (document, _) = run_time::read(world.store).await?;
    let mut is_new = !document.rooms.iter().any(|one| one.name == name);
    if is_new {
        // What a room of this name has left, which was removed.
        wipe(world, name).await?;
    } else if settings.opens.is_some_and(|opens| opens > world.now)
        && let Some(live) = find(world.store, name).await?
        && live.record.opened.is_some()
    {
        let detail = "The room has opened, and cannot open again: remove it first.";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    run_time::change(world.store, world.now, |document| {
        let all = &mut document.rooms;
        let count = all.len();
        is_new = true;
        match all.iter_mut().find(|one| one.name == name) {
            Some(before) => {
                is_new = false;
                before.clone_from(&settings);
            }
            None if count >= MAX_ROOMS => {
                let detail = format!("There are {MAX_ROOMS} rooms, as many as may be: remove one.");
                return Err(Problem::new(Kind::Conflict, detail));
            }
            None => all.push(settings.clone()),
        }
        Ok(true)
    })
    .await?;
    for _ in 0..ATTEMPTS {
        let mut live = load(world, &room).await?;
        let record = &mut live.record;
        let before = record.clone();
        if record.set != room.pace || record.pace != room.pace {
            record.set = room.pace;
            record.go_on(world.now, room.pace, record.paused);
        }
        if let (None, Some(opens)) = (&record.opened, settings.opens) {
            record.opens = opens;
        }
        if *record == before || record::write(world, name, &live).await? {
            let status = if is_new { 201 } else { 200 };
            return Ok(Response::json(status, &view(world, &room, &live).await?));
        }
    }
    Err(busy())
}

async fn delete<S: Store>(world: &World<'_, S>, name: &str) -> Result<Response, Problem> {
    of_file(world, name)?;
    let mut was_there = false;
    run_time::change(world.store, world.now, |document| {
        let before = document.rooms.len();
        document.rooms.retain(|room| room.name != name);
        was_there = document.rooms.len() != before;
        Ok(was_there)
    })
    .await?;
    if !was_there {
        return Err(unknown("There is no such room."));
    }
    wipe(world, name).await?;
    Ok(Response::empty(204))
}

/// Removes all that is stored of a room.
async fn wipe<S: Store>(world: &World<'_, S>, name: &str) -> Result<(), Problem> {
    let keys = [
        partition(name),
        turns_key(name),
        lots_key(name),
        tickets_key(name),
    ];
    let commit = Commit {
        partition: partition(name),
        mutations: keys.into_iter().map(|key| Mutation::Delete { key }).collect(),
        ..Commit::default()
    };
    world.store.commit(commit).await?;
    Ok(())
}
