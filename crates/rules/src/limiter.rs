//! The rate limiter: which policies a request falls under, and whether all of them have its cost.
//!
//! Every policy that matches is charged in one take, all or nothing. A shadow policy is charged with them but
//! never refuses, and never keeps an enforced one from being charged.

mod clients;
#[cfg(feature = "schema")]
pub(crate) mod describe;
pub mod described;
mod fields;
mod forwarded;
mod handlers;
mod page;
#[cfg(test)]
mod tests;

pub use forwarded::is_check;
pub(crate) use forwarded::not_a_proxy;
pub use page::{HEADERS as PAGE_HEADERS, for_browser};

use crate::access::{self, Access};
use crate::challenges::{self, Challenge};
use crate::identity::{self, ClientId};
use crate::keys;
use crate::policies::{Caller, Charged, Decision, Policy};
use crate::quotas::{self, Counted, Quota};
use crate::rooms::{self, Gate};
use crate::settings::Settings;
use crate::world::World;
use tollgate_api::calls::Call;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::pattern::unreserved;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::ports::{Buckets, Outbound, Store};

/// The `Retry-After` when the buckets cannot be asked, seconds.
const UNAVAILABLE_RETRY_SECONDS: u64 = 1;

/// Answers a call about limits; 404 for any other. `segment` is what stands in the path.
pub(crate) async fn handle<S: Store, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
    call: Call,
    segment: &str,
) -> Result<Response, Problem> {
    match call {
        Call::ListLimits => handlers::list(world, request).await,
        _ => clients::handle(world, buckets, request, call, segment).await,
    }
}

/// The limiter's verdict on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on; these headers belong on its response. Among them may be [`quotas::HELD`]: a reservation that its host ends, and takes out.
    Admit(Vec<Header>),
    /// It ends here.
    Answer(Response),
}

/// Charges the policies that match the request. Health checks are never limited: the two calls, and no other
/// path. Where the store fails, the caller counts as if it had no key. Where the buckets fail, the policies'
/// `on_store_failure` decides. Where they are only busy, every request is refused.
pub async fn check<S: Store + Outbound, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
) -> Verdict {
    if Call::is_health(&request.path) {
        return Verdict::Admit(Vec::new());
    }
    if forwarded::is_question(world.settings, request) {
        return Verdict::Answer(forwarded::answer(world, buckets, request).await);
    }
    judge(world, buckets, request, Told::OnApi).await
}

/// Which answers tell what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Those of the API; a redirect does not need to.
    OnApi,
    /// All.
    Always,
}

/// The verdict, whatever the path.
async fn judge<S: Store + Outbound, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
    told: Told,
) -> Verdict {
    // As every text of an address leads to the same place, it counts in the same place.
    let path = &*unreserved(&request.path);
    let settings = world.settings;
    if let Err(problem) = unambiguous(settings, request) {
        return Verdict::Answer(problem.into_response());
    }
    match access::judge(world, request, path).await {
        Access::Open => {}
        Access::Exempt => return Verdict::Admit(Vec::new()),
        Access::Denied => return Verdict::Answer(access::denied().into_response()),
    }
    let quotas = settings.quotas.iter();
    let quotas: Vec<&Quota> = quotas
        .filter(|quota| quota.by().falls_under(&request.method, path))
        .collect();
    if !quotas.is_empty() {
        // Boxed to keep the common future small.
        return Box::pin(take_and_count(world, buckets, request, (path, told), &quotas)).await;
    }
    let mut verdict = take(world, buckets, request, path, told).await;
    if let Verdict::Admit(headers) = &mut verdict {
        match gate(world, request, path, told).await {
            None => {}
            Some(Gate::Open(added)) => headers.extend(added),
            Some(Gate::Closed(response)) => return Verdict::Answer(response),
        }
    }
    verdict
}

/// What the waiting room before this path says, and then its challenge, if there are any.
async fn gate<S: Store + Outbound>(
    world: &World<'_, S>,
    request: &Request,
    path: &str,
    told: Told,
) -> Option<Gate> {
    let of_room = room(world, request, path, told).await;
    if matches!(of_room, Some(Gate::Closed(_))) {
        return of_room;
    }
    let challenge = challenge_before(world.settings, &request.method, path);
    if let Some(challenge) = challenge
        && (told == Told::Always || challenges::may_be_held(path))
        && let challenges::Gate::Closed(response) =
            Box::pin(challenges::judge(world, request, challenge)).await
    {
        return Some(Gate::Closed(response));
    }
    of_room
}

/// The first challenge that a request has to solve.
fn challenge_before<'s>(settings: &'s Settings, method: &str, path: &str) -> Option<&'s Challenge> {
    let mut challenges = settings.challenges.iter();
    challenges.find(|challenge| challenge.is_before(method, path))
}

async fn room<S: Store>(world: &World<'_, S>, request: &Request, path: &str, told: Told) -> Option<Gate> {
    let settings = world.settings;
    if !settings.has_rooms() {
        return None;
    }
    let room = settings.room_before(path)?;
    if told != Told::Always && !rooms::may_be_held(path) {
        return None;
    }
    // Boxed to keep the future of others small.
    Some(Box::pin(rooms::judge(world, request, room)).await)
}

/// Takes from the buckets, and counts under the quotas: both, or neither. A quota is counted by a commit, so the buckets are looked at before
/// it and taken from after it. Where others took what was seen there, the commit is undone.
async fn take_and_count<S: Store + Outbound, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
    (path, told): (&str, Told),
    quotas: &[&Quota],
) -> Verdict {
    let settings = world.settings;
    let policies: Vec<&Policy> = settings.policies.matching(&request.method, path).collect();
    let by = quotas.iter().map(|quota| quota.by());
    let wanted = policies.iter().copied().chain(by).any(|one| one.per_client);
    let client = identify(world, request, wanted).await;
    let caller = caller_of(settings, request, path, told, client, world.now);
    let take = async || {
        let (charged, asked) = policies.iter().map(|policy| policy.charge(&caller)).unzip();
        charge(buckets, &caller, charged, asked).await
    };
    let mut taken = None;
    if !are_there(buckets, &caller, &policies).await {
        // As a rule it is refused here. One that gained a token just now has it, and is counted like any other.
        match take().await {
            Verdict::Admit(headers) => taken = Some(headers),
            refusal => return refusal,
        }
    }
    let of_room = match gate(world, request, path, told).await {
        None => Vec::new(),
        Some(Gate::Open(added)) => added,
        // Who waits is charged, and not counted.
        Some(Gate::Closed(response)) => {
            let refusal = match taken {
                Some(_) => None,
                None => Some(take().await),
            };
            return match refusal {
                Some(Verdict::Answer(refusal)) => Verdict::Answer(refusal),
                _ => Verdict::Answer(response),
            };
        }
    };
    // Who asks for another server is told nothing of the outcome: for it, what is let through counts.
    let is_by_outcome = told == Told::OnApi && quotas.iter().any(|quota| quota.is_by_outcome());
    let time_ms = settings.config.server.request_timeout.0 / 1_000_000;
    let held = is_by_outcome.then(|| quotas::reservation(world.now, time_ms, (world.fresh)()));
    let done = match quotas::count(world.store, quotas, &caller, held).await {
        Ok(Counted::Yes(done)) => done,
        Ok(Counted::No(response)) => return Verdict::Answer(response),
        Err(error) => {
            quotas
                .iter()
                .for_each(|quota| quota.by().decide(Decision::Failed));
            return Verdict::Answer(Problem::from(error).into_response());
        }
    };
    let mut headers = match taken {
        Some(headers) => headers,
        None => match take().await {
            Verdict::Admit(headers) => headers,
            refusal => {
                // Where the store fails now, it stays counted: nobody is let through for it.
                let _ = quotas::give_back(world.store, done).await;
                return refusal;
            }
        },
    };
    quotas
        .iter()
        .for_each(|quota| quota.by().decide(Decision::Admitted));
    headers.extend(of_room);
    headers.extend(done.headers);
    headers.extend(done.held.map(|held| Header::new(quotas::HELD, held)));
    Verdict::Admit(headers)
}

/// Whether every enforced policy has its cost. Nothing is taken. Where the buckets cannot be asked, taking from them says what follows.
async fn are_there<B: Buckets>(buckets: &B, caller: &Caller<'_>, policies: &[&Policy]) -> bool {
    let enforced = policies.iter().filter(|policy| !policy.shadow);
    let mut asked: Vec<Bucket> = enforced.map(|policy| policy.charge(caller).1).collect();
    if asked.is_empty() {
        return true;
    }
    let costs: Vec<u64> = asked
        .iter_mut()
        .map(|bucket| std::mem::take(&mut bucket.cost))
        .collect();
    match buckets.take(asked).await {
        Ok(levels) => levels
            .iter()
            .zip(costs)
            .all(|(level, cost)| level.remaining >= cost),
        Err(_) => true,
    }
}

/// Whether a verdict on the request takes a commit: then it cannot be tried where none is made.
pub(crate) fn takes_a_commit(settings: &Settings, request: &Request) -> bool {
    if settings.quotas.is_empty() && !settings.has_rooms() && settings.challenges.is_empty() {
        return false;
    }
    let path = unreserved(&request.path);
    let mut quotas = settings.quotas.iter();
    is_check(&request.path)
        || settings.room_before(&path).is_some()
        || challenge_before(settings, &request.method, &path).is_some()
        || quotas.any(|quota| quota.by().falls_under(&request.method, &path))
}

/// Whoever sends this request, for what counts and tells nothing.
pub(crate) fn caller<'r>(
    settings: &'r Settings,
    request: &'r Request,
    path: &'r str,
    client: Option<ClientId>,
    now: u64,
) -> Caller<'r> {
    caller_of(settings, request, path, Told::OnApi, client, now)
}

fn caller_of<'r>(
    settings: &'r Settings,
    request: &'r Request,
    path: &'r str,
    told: Told,
    client: Option<ClientId>,
    now: u64,
) -> Caller<'r> {
    Caller {
        settings,
        request,
        path,
        client,
        now,
        is_told: told == Told::Always
            || request.path == "/api"
            || request.path.starts_with("/api/")
            || settings.is_proxied(&request.path),
    }
}

/// Takes from the buckets of the policies that match.
async fn take<S: Store, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
    path: &str,
    told: Told,
) -> Verdict {
    let settings = world.settings;
    let mut matching = settings.policies.matching(&request.method, path);
    let Some(first) = matching.next() else {
        return Verdict::Admit(Vec::new());
    };
    let caller = |client| caller_of(settings, request, path, told, client, world.now);
    let Some(second) = matching.next() else {
        let caller = caller(identify(world, request, first.per_client).await);
        let (charged, asked) = first.charge(&caller);
        return charge_one(buckets, &caller, charged, asked).await;
    };
    let matching: Vec<&Policy> = [first, second].into_iter().chain(matching).collect();
    let wanted = matching.iter().any(|policy| policy.per_client);
    let caller = caller(identify(world, request, wanted).await);
    let (charged, asked) = matching.iter().map(|policy| policy.charge(&caller)).unzip();
    charge(buckets, &caller, charged, asked).await
}

/// A header that some policy counts by may be sent once, as those that identify a caller anyway.
pub(crate) fn unambiguous(settings: &Settings, request: &Request) -> Result<(), Problem> {
    identity::unambiguous(&settings.config, request)?;
    let mut counted = settings.counted_headers();
    counted.try_for_each(|name| request.single(name).map(|_| ()))
}

/// As [`charge`], of one policy, under which most requests fall: nothing is kept in lists.
async fn charge_one<B: Buckets>(
    buckets: &B,
    caller: &Caller<'_>,
    policy: Charged<'_>,
    asked: Bucket,
) -> Verdict {
    match buckets.take_one(asked).await {
        Ok(level) => {
            policy.decide(Decision::Admitted);
            Verdict::Admit(answer_headers(caller, &[policy], &[level]))
        }
        Err(TakeError::Refused { .. }) if policy.shadow => {
            policy.decide(Decision::WouldRefuse);
            Verdict::Admit(Vec::new())
        }
        Err(TakeError::Refused { levels, .. }) => {
            policy.decide(Decision::Refused);
            Verdict::Answer(refusal(caller, &[policy], &levels))
        }
        Err(error) => without_buckets(&[policy], &error),
    }
}

/// Takes from `asked`, the buckets of the policies `charged`.
async fn charge<B: Buckets>(
    buckets: &B,
    caller: &Caller<'_>,
    mut charged: Vec<Charged<'_>>,
    mut asked: Vec<Bucket>,
) -> Verdict {
    // Every round leaves out at least one shadow policy, or the exact ones, so there are at most as many rounds as policies,
    // and one.
    while !charged.is_empty() {
        let again = if charged.iter().any(|policy| policy.shadow || policy.is_exact) {
            asked.clone()
        } else {
            Vec::new()
        };
        let levels = match buckets.take(asked).await {
            Ok(levels) => {
                charged
                    .iter()
                    .for_each(|policy| policy.decide(Decision::Admitted));
                return Verdict::Admit(answer_headers(caller, &charged, &levels));
            }
            Err(TakeError::Refused { levels, .. }) => levels,
            Err(TakeError::Unavailable(_)) if may_go_without_exact(&charged) => {
                // Those that this gateway counts, count.
                (charged, asked) = charged
                    .into_iter()
                    .zip(again)
                    .filter(|(policy, _)| {
                        if policy.is_exact {
                            policy.decide(Decision::Failed);
                        }
                        !policy.is_exact
                    })
                    .unzip();
                continue;
            }
            Err(error) => return without_buckets(&charged, &error),
        };
        let keep: Vec<bool> = (0..charged.len())
            .map(|index| levels.get(index).is_none_or(|level| level.next_ns == 0))
            .collect();
        let lacking = charged.iter().zip(&keep).filter(|(_, keep)| !**keep);
        for (policy, _) in lacking {
            policy.decide(match policy.shadow {
                true => Decision::WouldRefuse,
                false => Decision::Refused,
            });
        }
        let enforced_lack = charged
            .iter()
            .zip(&keep)
            .any(|(policy, keep)| !policy.shadow && !keep);
        if enforced_lack || keep.iter().all(|keep| *keep) {
            return Verdict::Answer(refusal(caller, &charged, &levels));
        }
        // Only shadow policies lack their cost: the others are charged without them.
        let mut kept = keep.iter();
        charged.retain(|_| kept.next().copied().unwrap_or(false));
        asked = again
            .into_iter()
            .zip(keep)
            .filter_map(|(bucket, keep)| keep.then_some(bucket))
            .collect();
    }
    Verdict::Admit(Vec::new())
}

/// Whether some are exact, others are not, and a request passes where the store of the exact ones cannot be asked.
fn may_go_without_exact(charged: &[Charged<'_>]) -> bool {
    let exact = || charged.iter().filter(|policy| policy.is_exact);
    exact().next().is_some()
        && exact().count() < charged.len()
        && exact().all(|policy| policy.shadow || !policy.deny_on_failure)
}

/// The client that asks, if some policy counts by it.
pub(crate) async fn identify<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    wanted: bool,
) -> Option<ClientId> {
    if !wanted {
        return None;
    }
    Some(match keys::authenticate(world.store, request, world.now).await {
        Ok(Some(key)) => ClientId::of_key(&key.id),
        Ok(None) | Err(_) => ClientId::without_key(&world.settings.config, &world.settings.proxies, request),
    })
}

/// The rate limit headers of an answer. Answers of the API carry them; a redirect does not need to.
fn answer_headers(caller: &Caller<'_>, charged: &[Charged<'_>], levels: &[Level]) -> Vec<Header> {
    match caller.is_told {
        true => level_headers(caller, charged, levels),
        false => Vec::new(),
    }
}

fn level_headers(caller: &Caller<'_>, charged: &[Charged<'_>], levels: &[Level]) -> Vec<Header> {
    let mut headers = fields::headers(charged, levels);
    if caller.settings.config.clients.x_ratelimit {
        headers.extend(fields::older(charged, levels));
    }
    headers
}

fn refusal(caller: &Caller<'_>, charged: &[Charged<'_>], levels: &[Level]) -> Response {
    let violated = || {
        let both = charged.iter().zip(levels);
        both.filter(|(policy, level)| !policy.shadow && level.next_ns > 0)
    };
    let names: Vec<&str> = violated().map(|(policy, _)| policy.name.as_str()).collect();
    let wait = violated()
        .map(|(_, level)| fields::seconds(level.next_ns))
        .max()
        .unwrap_or(1);
    let mut problem = refused_by(names, wait);
    problem.headers.extend(level_headers(caller, charged, levels));
    problem.into_response()
}

/// The problem of a request that these refuse for so many seconds.
pub(crate) fn refused_by(names: Vec<&str>, wait: u64) -> Problem {
    let (list, seconds) = (names.join(", "), wait.to_string());
    let detail = [
        "Too many requests under ",
        &list,
        "; the next is possible in ",
        &seconds,
        " s.",
    ]
    .concat();
    Problem::new(Kind::QuotaExceeded, detail)
        .with_member("violated-policies", names)
        .with_retry_after(wait)
}

/// Nothing could be taken. Where the buckets are busy, load alone must not open the gate: the failure mode is for engines
/// that cannot be asked.
fn without_buckets(charged: &[Charged<'_>], error: &TakeError) -> Verdict {
    charged.iter().for_each(|policy| policy.decide(Decision::Failed));
    let busy = matches!(error, TakeError::Busy(_));
    if !charged
        .iter()
        .any(|policy| (policy.deny_on_failure || busy) && !policy.shadow)
    {
        return Verdict::Admit(Vec::new());
    }
    let detail = match busy {
        true => "The rate limiter is busy.",
        false => "The rate limiter cannot be reached.",
    };
    let problem = Problem::new(Kind::Unavailable, detail);
    Verdict::Answer(
        problem
            .with_retry_after(UNAVAILABLE_RETRY_SECONDS)
            .into_response(),
    )
}
