//! The gate before a room's path: who has been admitted passes, anybody else is told to wait.

use super::pass::Pass;
use super::record::{Live, Standing, load};
use super::tickets::{next, seconds_until};
use super::{HEADER, Room, cookie_name, holder, page};
use crate::world::World;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// What the gate says.
pub(crate) enum Gate {
    /// The request goes on; these headers belong on its response.
    Open(Vec<Header>),
    /// It ends here.
    Closed(Response),
}

/// `Retry-After` while a room is paused, seconds.
const PAUSED_SECONDS: u64 = 30;
/// The longest `Retry-After`, seconds: the pace may change meanwhile.
const MAX_RETRY_SECONDS: u64 = 3_600;
/// First segments of paths that no room is in front of: those by which it is operated, and its visitors get their turns.
const OPEN: [&str; 8] = [
    "health",
    "metrics",
    "admin",
    "docs",
    "openapi.json",
    "robots.txt",
    "favicon.ico",
    ".well-known",
];

/// Whether a room may be in front of this path of the gateway's own.
pub(crate) fn may_be_held(path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    match segments.next() {
        Some("api") => !matches!(segments.next(), Some("rooms" | "challenges" | "keys" | "check")),
        Some(first) => !OPEN.contains(&first),
        None => true,
    }
}

/// Judges a request to what is behind the room.
pub(crate) async fn judge<S: Store>(world: &World<'_, S>, request: &Request, room: &Room) -> Gate {
    match asked(world, request, room).await {
        Ok(gate) => gate,
        Err(problem) => Gate::Closed(problem.into_response()),
    }
}

async fn asked<S: Store>(world: &World<'_, S>, request: &Request, room: &Room) -> Result<Gate, Problem> {
    let holder = holder(world, request).await?;
    let live = load(world, room).await?;
    let now = world.now;
    let standing = shown(request, room)?
        .and_then(|text| live.record.read(text, &holder))
        .map(|pass| live.record.standing(pass, now, room.session));
    match standing {
        Some(Standing::Admitted { .. }) => return Ok(Gate::Open(Vec::new())),
        Some(standing @ Standing::Waiting { .. }) => {
            return Ok(Gate::Closed(refusal(
                world,
                request,
                room,
                &live,
                Some(standing),
                None,
            )));
        }
        Some(Standing::Expired) | None => {}
    }
    if !page::is_wanted(request) {
        return Ok(Gate::Closed(refusal(world, request, room, &live, None, None)));
    }
    // A browser is given a ticket with the page, or with what it asked for if nobody waits.
    let (live, pass) = next(world, room).await?;
    let cookie = cookie(world, room, &live, pass, &holder);
    Ok(match live.record.standing(pass, now, room.session) {
        Standing::Waiting { position, turn } => {
            let standing = Standing::Waiting { position, turn };
            Gate::Closed(refusal(world, request, room, &live, Some(standing), Some(cookie)))
        }
        Standing::Admitted { .. } | Standing::Expired => Gate::Open(vec![Header::new("set-cookie", cookie)]),
    })
}

/// The same for who asks by the name of the room, as a campaign does: a problem where they have to wait.
pub(crate) async fn require<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    name: &str,
) -> Result<(), Problem> {
    let Some(room) = world.settings.room(name) else {
        let detail = format!("The room {name}, which is in front of this, does not exist.");
        return Err(Problem::new(Kind::Unavailable, detail).with_retry_after(PAUSED_SECONDS));
    };
    let holder = holder(world, request).await?;
    let live = load(world, room).await?;
    let pass = shown(request, room)?.and_then(|text| live.record.read(text, &holder));
    let standing = pass.map(|pass| live.record.standing(pass, world.now, room.session));
    match standing {
        Some(Standing::Admitted { .. }) => Ok(()),
        standing => Err(problem(room, &live, standing, world.now)),
    }
}

/// The pass that a request shows: in the header, else in the room's cookie.
fn shown<'r>(request: &'r Request, room: &Room) -> Result<Option<&'r str>, Problem> {
    if let Some(value) = request.single(HEADER)? {
        return Ok(std::str::from_utf8(value).ok());
    }
    let wanted = cookie_name(&room.settings.name);
    let cookies = request.header_values("cookie").flat_map(|value| value.split(';'));
    let mut pairs = cookies.filter_map(|pair| pair.trim().split_once('='));
    Ok(pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value))
}

fn cookie<S>(world: &World<'_, S>, room: &Room, live: &Live, pass: Pass, holder: &str) -> String {
    let (name, ticket) = (cookie_name(&room.settings.name), live.record.sign(pass, holder));
    let secure = match world.settings.public_url.starts_with("https:") {
        true => "; Secure",
        false => "",
    };
    format!("{name}={ticket}; Path=/; HttpOnly; SameSite=Lax{secure}")
}

/// How long to wait before asking again, seconds.
fn retry_after(live: &Live, standing: Option<Standing>, now: u64) -> u64 {
    let seconds = match standing {
        Some(Standing::Waiting { turn, .. }) => turn.map(|turn| seconds_until(turn, now)),
        _ if live.record.opened.is_none() => Some(seconds_until(live.record.opens, now)),
        // Who has no ticket would be the next.
        _ => live
            .record
            .line
            .turn(live.turns + 1)
            .map(|turn| seconds_until(turn, now)),
    };
    seconds.unwrap_or(PAUSED_SECONDS).clamp(1, MAX_RETRY_SECONDS)
}

fn problem(room: &Room, live: &Live, standing: Option<Standing>, now: u64) -> Problem {
    let name = &room.settings.name;
    let (detail, position) = match standing {
        Some(Standing::Waiting { position, .. }) => ("Your turn has not come yet.", position),
        Some(_) => ("Your turn has gone: draw a new ticket.", None),
        None => (
            "Draw a ticket, wait for your turn, and send the token that comes with it.",
            None,
        ),
    };
    Problem::new(Kind::WaitingRoom, detail)
        .with_member("room", name.as_str())
        .with_member("position", position)
        .with_member("tickets", ["/api/rooms/", name, "/tickets"].concat())
        .with_retry_after(retry_after(live, standing, now))
}

/// The page for a browser, and a problem for anybody else.
fn refusal<S>(
    world: &World<'_, S>,
    request: &Request,
    room: &Room,
    live: &Live,
    standing: Option<Standing>,
    cookie: Option<String>,
) -> Response {
    let problem = problem(room, live, standing, world.now);
    let mut response = match (page::is_wanted(request), standing) {
        (true, Some(standing)) => {
            let wait = retry_after(live, Some(standing), world.now);
            page::answer(request, room, standing, world.now).with("retry-after", wait.to_string())
        }
        _ => problem.into_response().with("cache-control", "no-store"),
    };
    response
        .headers
        .extend(cookie.map(|cookie| Header::new("set-cookie", cookie)));
    response
}
