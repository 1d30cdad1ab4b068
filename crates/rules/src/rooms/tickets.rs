//! A visitor's ticket: drawn with one commit, and looked at with none.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pass::Pass;
use super::record::{
    ATTEMPTS, Live, MAX_NUMBER, Standing, busy, load, lots_key, partition, tickets_key, turns_key,
};
use super::{MAX_WAIT_SECONDS, Room, holder, told, unknown};
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome};
use tollgate_store::ports::Store;

/// How often a turn that comes within a second is looked for.
const SOON: Duration = Duration::from_millis(100);

/// A place in the line.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewTicket")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Drawn {
    /// For its holder alone.
    ticket: String,
    /// Turns until this one; 0: it has come. Null before the room opens: the order is by lot.
    position: Option<u64>,
    /// About when it comes, at the earliest when the room opens. Null while the room is paused.
    eta_seconds: Option<u64>,
}

/// Where the holder of a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "TicketState")
)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    /// Its turn has not come.
    Waiting,
    /// Its turn has come, not longer than a session ago.
    Admitted,
    /// Its turn has come and gone: draw another.
    Expired,
}

/// A ticket.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Ticket"))]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    /// Where its holder stands.
    pub(super) state: State,
    /// Turns until this one; 0: it has come. Null before the room opens.
    position: Option<u64>,
    /// About when it comes. Null while the room is paused.
    pub(super) eta_seconds: Option<u64>,
    /// What lets its holder pass, in `x-room-token`, until its session is over. Null unless admitted.
    token: Option<String>,
}

/// Seconds from now to then, rounded up.
pub(super) fn seconds_until(then: u64, now: u64) -> u64 {
    then.saturating_sub(now).div_ceil(1_000)
}

impl Standing {
    /// Position and seconds, as they are told.
    pub(super) fn told(self, now: u64) -> (Option<u64>, Option<u64>) {
        match self {
            Self::Waiting { position, turn } => (position, turn.map(|turn| seconds_until(turn, now).max(1))),
            Self::Admitted { .. } | Self::Expired => (Some(0), Some(0)),
        }
    }
}

/// Gives out the next place: a lot before the room opens, then a turn. A turn is the next, or the one that has just come where nobody
/// waits, so that turns which nobody took do not admit a crowd later.
///
/// # Errors
/// The store cannot be asked, or others change the room all the time.
pub(super) async fn next<S: Store>(world: &World<'_, S>, room: &Room) -> Result<(Live, Pass), Problem> {
    let name = &*room.settings.name;
    let count = |key: String, delta: i64, max: i64| Mutation::Add {
        key,
        delta,
        min: None,
        max: Some(max),
    };
    for _ in 0..ATTEMPTS {
        let live = load(world, room).await?;
        let is_open = live.record.opened.is_some();
        let come = i64::try_from(live.record.line.come(world.now)).unwrap_or(MAX_NUMBER);
        let turns = i64::try_from(live.turns).unwrap_or(MAX_NUMBER);
        let number = match is_open {
            false => count(lots_key(name), 1, MAX_NUMBER),
            // Of several that find nobody waiting, one takes it; the others come after it.
            true if turns < come => count(turns_key(name), come - turns, come),
            true => count(turns_key(name), 1, MAX_NUMBER),
        };
        let mut conditions = vec![live.unchanged(name)];
        if !is_open {
            conditions.push(Condition::NowIn {
                start: None,
                end: Some(live.record.opens),
            });
        }
        let commit = Commit {
            partition: partition(name),
            conditions,
            mutations: vec![number, count(tickets_key(name), 1, MAX_NUMBER)],
            ..Commit::default()
        };
        if let Outcome::Committed(done) = world.store.commit(commit).await? {
            let number = done.sums.first().and_then(|sum| u64::try_from(*sum).ok());
            let number = number.ok_or_else(busy)?;
            let time = world.now;
            let pass = match is_open {
                true => Pass::Turn { number, time },
                false => Pass::Lot { number, time },
            };
            return Ok((live, pass));
        }
    }
    Err(busy())
}

/// `POST /api/rooms/{name}/tickets`
pub(super) async fn draw<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    room: &Room,
) -> Result<Response, Problem> {
    let holder = holder(world, request).await?;
    let (live, pass) = next(world, room).await?;
    let ticket = live.record.sign(pass, &holder);
    let standing = live.record.standing(pass, world.now, room.session);
    let (position, eta_seconds) = standing.told(world.now);
    let place = ["/api/rooms/", &room.settings.name, "/tickets/", &ticket].concat();
    let drawn = Drawn {
        ticket,
        position,
        eta_seconds,
    };
    Ok(Response::json(201, &drawn).with("location", place))
}

/// `GET /api/rooms/{name}/tickets/{ticket}`
pub(super) async fn read<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    room: &Room,
    ticket: &str,
) -> Result<Response, Problem> {
    let holder = holder(world, request).await?;
    let live = load(world, room).await?;
    let pass = live.record.read(ticket, &holder);
    let pass = pass.filter(|pass| !matches!(pass, Pass::Token { .. }));
    let pass = pass.ok_or_else(|| unknown("This is no ticket of yours for this room."))?;
    let standing = live.record.standing(pass, world.now, room.session);
    let (position, eta_seconds) = standing.told(world.now);
    let (state, token) = match standing {
        Standing::Waiting { .. } => (State::Waiting, None),
        Standing::Admitted { until } => {
            let token = live.record.sign(Pass::Token { until }, &holder);
            (State::Admitted, Some(token))
        }
        Standing::Expired => (State::Expired, None),
    };
    let view = View {
        state,
        position,
        eta_seconds,
        token,
    };
    Ok(match told::is_wanted(request) {
        true => told::event(request, &view),
        false => Response::json(200, &view),
    })
}

/// How long the caller of `GET …/tickets/{ticket}?wait=` waits for the turn, for a host that can.
pub struct Patience {
    /// At most 30 s.
    pub wait: Duration,
}

impl Patience {
    /// `None` for any other call, and for one that its rule refuses.
    pub fn of(method: &str, path: &str, query: Option<&str>) -> Option<Self> {
        let query = query.filter(|_| matches!(method, "GET" | "HEAD"))?;
        path.strip_prefix("/api/rooms/")
            .filter(|rest| rest.contains("/tickets/"))?;
        let seconds = query.strip_prefix("wait=")?;
        let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = seconds.parse().ok().filter(|_| digits)?;
        (1..=MAX_WAIT_SECONDS).contains(&seconds).then(|| Self {
            wait: Duration::from_secs(seconds),
        })
    }

    /// How long to wait before it is asked again, where an answer says that the turn has not come.
    pub fn again(answer: &[u8]) -> Option<Duration> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Seen {
            state: State,
            eta_seconds: Option<u64>,
        }
        let seen: Seen = serde_json::from_slice(answer).ok()?;
        (seen.state == State::Waiting).then_some(match seen.eta_seconds {
            Some(0 | 1) => SOON,
            // Its pace may change meanwhile.
            _ => Duration::from_secs(1),
        })
    }
}
