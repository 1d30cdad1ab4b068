//! Waiting rooms: in front of a path, so that a crowd reaches it by turns.
//!
//! A room keeps one record and three counters, however many wait. A visitor's ticket is a signed number; drawing one is a commit that
//! adds to a counter, and everything else is a look. Whose turn it is, is a function of the time ([`pace`]), so nobody moves the line,
//! a restart moves nobody, and a pause or another pace is exact. Who comes before a room opens draws a lot; their order is chosen by a seed that is made
//! when it opens ([`lots`]).
//!
//! | key | what |
//! |---|---|
//! | `room/<name>` | the record: what passes are signed with, the paces, the seed; also the partition |
//! | `room-turns/<name>` | the last turn that was given out |
//! | `room-lots/<name>` | lots that were drawn |
//! | `room-tickets/<name>` | tickets of both kinds |
//!
//! A turn that nobody took is gone: who comes when nobody waits is given the turn that has just come.

#[cfg(feature = "schema")]
pub(crate) mod describe;
mod gate;
mod lots;
mod manage;
mod pace;
mod page;
mod pass;
mod record;
#[cfg(test)]
mod tests;
mod tickets;
mod told;

pub(crate) use gate::{Gate, judge, may_be_held, require};
pub(crate) use manage::exists;
pub use manage::{Count, counts};
pub use tickets::Patience;

use std::collections::HashMap;

use crate::config::{RoomSettings, is_topic_name};
use crate::identity;
use crate::world::World;
use tollgate_api::calls::{Call, Parameters};
use tollgate_api::http::{Request, Response};
use tollgate_api::pattern::{Pattern, unreserved};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_store::ports::Store;

/// The header that a token is sent in, lower case.
pub const HEADER: &str = "x-room-token";
/// The headers that a room looks at, beside those that are always handed over.
pub(crate) const SEEN: [&str; 3] = [HEADER, "cookie", told::LAST_EVENT_ID];
/// The most rooms that are set over the API.
pub(crate) const MAX_ROOMS: usize = 1_000;
/// The bounds of a session, milliseconds.
const SESSION_MS: (u64, u64) = (10_000, 86_400_000);
/// The longest `wait` for a turn, seconds.
const MAX_WAIT_SECONDS: u64 = 30;
/// The largest capacity.
const MAX_CAPACITY: u64 = 1_000_000_000;
/// The longest title of a room or a campaign, in characters.
pub(crate) const MAX_TITLE: usize = 100;
/// What a title must be.
pub(crate) const TITLE_RULE: &str = "must be 1 to 100 characters, none of them a control character";

/// Whether a text is the title of a room or a campaign: see [`TITLE_RULE`].
pub(crate) fn is_title(title: &str) -> bool {
    (1..=MAX_TITLE).contains(&title.chars().count()) && !title.chars().any(char::is_control)
}

/// A room, compiled.
#[derive(Clone, Debug)]
pub struct Room {
    pub(crate) settings: RoomSettings,
    pattern: Pattern,
    /// Milliseconds.
    session: u64,
    /// Thousandths of a turn in a second, with the capacity considered.
    pace: u64,
    /// Whether the configuration has it.
    is_of_file: bool,
}

/// Where a room breaks a rule: the setting and the rule.
pub(crate) type Broken = (&'static str, &'static str);

impl Room {
    /// Checks and compiles a room.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(crate) fn compile(settings: &RoomSettings, is_of_file: bool) -> Result<Self, Broken> {
        let ensure = |holds: bool, field, rule| if holds { Ok(()) } else { Err((field, rule)) };
        ensure(
            is_topic_name(&settings.name),
            "name",
            crate::config::TOPIC_NAME_RULE,
        )?;
        let pattern = Pattern::parse(&unreserved(&settings.path))
            .map_err(|_| ("path", "must be a route pattern, e.g. /sale/..."))?;
        let pace = pace::thousandths(settings.admit_per_second);
        let pace = pace.ok_or(("admit_per_second", pace::RULE))?;
        let session = settings.session.as_millis();
        let (least, most) = SESSION_MS;
        ensure(
            (least..=most).contains(&session)
                && settings.session == tollgate_api::units::Span::from_secs(session / 1_000),
            "session",
            "must be whole seconds, from 10 to 86400",
        )?;
        let capacity = settings.capacity.unwrap_or(MAX_CAPACITY);
        ensure(
            (1..=MAX_CAPACITY).contains(&capacity),
            "capacity",
            "must be a whole number from 1 to 1000000000",
        )?;
        ensure(
            settings.title.as_deref().is_none_or(is_title),
            "title",
            TITLE_RULE,
        )?;
        let room = Self {
            settings: settings.clone(),
            pattern,
            session,
            pace,
            is_of_file,
        };
        ensure(
            room.at_most(pace) >= pace::SLOWEST,
            "capacity",
            "is too small for such a session: fewer than 0.01 would be admitted in a second",
        )?;
        Ok(Self {
            pace: room.at_most(pace),
            ..room
        })
    }

    /// The pace, but not so fast that more than its capacity could be inside.
    fn at_most(&self, pace: u64) -> u64 {
        let capacity = self.settings.capacity.unwrap_or(MAX_CAPACITY);
        pace.min(capacity.saturating_mul(1_000_000) / self.session)
    }
}

/// Rooms, found by name and by path. A thousand of them cost a request about what one costs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rooms {
    all: Vec<Room>,
    names: HashMap<String, usize>,
    /// By the first segment of their paths.
    first: HashMap<String, Vec<usize>>,
    /// Those whose first segment is no literal.
    any: Vec<usize>,
}

impl Rooms {
    pub(crate) fn new(all: Vec<Room>) -> Self {
        let mut rooms = Self::default();
        for (index, room) in all.iter().enumerate() {
            rooms.names.insert(room.settings.name.clone(), index);
            let path = room.pattern.pattern().trim_matches('/');
            match path.split('/').next() {
                Some(first) if !first.starts_with(':') && first != "..." => {
                    rooms.first.entry(first.to_owned()).or_default().push(index);
                }
                _ => rooms.any.push(index),
            }
        }
        rooms.all = all;
        rooms
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Room> {
        self.all.iter()
    }

    fn named(&self, name: &str) -> Option<&Room> {
        self.all.get(*self.names.get(name)?)
    }

    /// The most specific room in front of a path, as [`unreserved`] writes it.
    fn before(&self, path: &str) -> Option<&Room> {
        let first = path.trim_matches('/').split('/').next().unwrap_or_default();
        let literal = self.first.get(first).into_iter().flatten();
        let found = literal.chain(&self.any).filter_map(|index| self.all.get(*index));
        let matching = found.filter(|room| room.pattern.matches(path));
        matching.max_by(|a, b| a.pattern.cmp(&b.pattern))
    }
}

impl crate::settings::Settings {
    /// Whether there is any room.
    pub fn has_rooms(&self) -> bool {
        !self.rooms.is_empty() || !self.run_time.rooms().is_empty()
    }

    /// Rooms, as [`Rooms`] has them: those of the file, then those that are set over the API.
    pub(crate) fn room(&self, name: &str) -> Option<&Room> {
        self.rooms
            .named(name)
            .or_else(|| self.run_time.rooms().named(name))
    }

    /// The room in front of a path, as [`unreserved`] writes it.
    pub(crate) fn room_before(&self, path: &str) -> Option<&Room> {
        let found = self
            .rooms
            .before(path)
            .into_iter()
            .chain(self.run_time.rooms().before(path));
        found.max_by(|a, b| a.pattern.cmp(&b.pattern))
    }

    /// All of them, those of the file first.
    pub(crate) fn all_rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.iter().chain(self.run_time.rooms().iter())
    }

    /// Those of the file.
    pub(crate) fn rooms_of_file(&self) -> impl Iterator<Item = &Room> {
        self.rooms.iter()
    }
}

/// Whether a path of the component `coupon` is about rooms.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with("/api/rooms")
}

/// The rule of a call about rooms.
pub(crate) async fn route<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    [name, ticket]: Parameters<'_>,
) -> Result<Response, Problem> {
    let room = || {
        let room = world.settings.room(name);
        room.ok_or_else(|| unknown("There is no such room."))
    };
    match call {
        Call::DrawTicket => tickets::draw(world, request, room()?).await,
        Call::ReadTicket => {
            // Our host waits before it asks; elsewhere it is answered at once.
            Query::of(request, &["wait"])?.number("wait", 0..=MAX_WAIT_SECONDS, 0)?;
            tickets::read(world, request, room()?, ticket).await
        }
        Call::ReadRoom => manage::read(world, room()?).await,
        _ => Box::pin(manage::handle(world, request, call, name)).await,
    }
}

/// Whose passes a request may show: its user's, else its client's.
async fn holder<S: Store>(world: &World<'_, S>, request: &Request) -> Result<String, Problem> {
    let settings = world.settings;
    if let Some(user) = identity::explicit_user(settings, request, world.now)? {
        return Ok(["user:", &user].concat());
    }
    let client = identity::client(
        world.store,
        &settings.config,
        &settings.proxies,
        request,
        world.now,
    )
    .await?;
    Ok(client.as_str().to_owned())
}

/// The cookie in which a browser keeps its ticket.
fn cookie_name(room: &str) -> String {
    ["tollgate-room-", room].concat()
}

fn unknown(detail: &str) -> Problem {
    Problem {
        detail: detail.to_owned(),
        ..Problem::not_found()
    }
}
