//! A `GET` for an origin whose answers are kept: from the cache where it may be, else asked for by one for all who ask meanwhile. Who
//! asks does so in a task of its own, so that it ends also where the client goes.

use super::exchange::{Exchange, Traced, blocked, broken};
use super::{Outcome, Tally};
use crate::proxy::cache::{Asked, Cache, Found, Leader, Stored, Turn, Use};
use crate::proxy::download::{Download, Held};
use crate::proxy::fields::{self, Client};
use crate::proxy::origin::Origin;
use crate::proxy::pool::Pools;
use crate::proxy::upload::{Outgoing, Progress};
use crate::server::answer::AnswerBody;
use crate::server::generation::Generation;
use crate::server::service::{Answer, Caller};
use crate::traces::UpstreamTrace;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, StatusCode, request, response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tollgate_api::problem::{Kind, Problem};

/// How long a request waits for another that asks for the same.
const WAIT: Duration = Duration::from_secs(5);
/// Requests with one of these get no answer that was kept: they are about a part, or about a state.
const OTHERS: [header::HeaderName; 4] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
];

/// Whether what is kept may answer a request.
pub fn is_for(head: &request::Parts) -> bool {
    head.method == Method::GET && !OTHERS.iter().any(|name| head.headers.contains_key(name))
}

/// What answers to a target are kept under: the origin may answer by the place that the client asked, of which it is told.
pub fn key(target: &PathAndQuery, client: &Client<'_>, sent: &HeaderMap) -> String {
    [&fields::place(sent, client), " ", target.as_str()].concat()
}

/// A request, with all that the task needs which asks for it.
#[derive(Clone)]
pub struct Wanted {
    /// The settings.
    pub generation: Arc<Generation>,
    /// The place of its `[[proxy]]`.
    pub index: usize,
    /// Whom it is for.
    pub origin: Arc<Origin>,
    /// The connections of this worker.
    pub pools: Rc<Pools>,
    /// Its head.
    pub head: request::Parts,
    /// What the origin is asked for.
    pub target: PathAndQuery,
    /// The host that the client asked for.
    pub host: Option<HeaderValue>,
    /// The other end, whether it is believed, and whether it speaks TLS.
    pub client: (IpAddr, bool, bool),
    /// Its id.
    pub request_id: HeaderValue,
    /// Its trace, if it is traced.
    pub trace: Option<UpstreamTrace>,
}

impl Wanted {
    fn client(&self) -> Client<'_> {
        let (address, is_trusted, is_tls) = self.client;
        Client {
            address,
            is_trusted,
            is_tls,
            host: self.host.as_ref(),
            request_id: &self.request_id,
        }
    }
}

/// What came of asking.
enum Fetched {
    /// It is kept.
    Kept(Arc<Stored>, Use),
    /// It is not, and is passed on.
    Passed(Box<Passed>),
    /// There is no answer.
    Lost(Problem),
}

/// An answer that is not kept; of its body, this much was read.
struct Passed {
    parts: response::Parts,
    body: Download,
    begin: Bytes,
}

/// The answer.
///
/// # Errors
/// The problem that it is answered with where neither the origin nor the cache does.
pub async fn answer(wanted: Wanted, cache: Arc<Cache>, caller: &Caller) -> Result<Answer, Problem> {
    let key = key(&wanted.target, &wanted.client(), &wanted.head.headers);
    let asked = Asked::new(Uri::from(wanted.target.clone()), &wanted.head.headers);
    let sent = wanted.head.headers.clone();
    let mut found = cache.find(&key, &asked, SystemTime::now());
    if let Found::Fresh(stored) = &found {
        cache.used(Use::Hit);
        return Ok(kept(stored, &sent, false));
    }
    if only_if_cached(&sent) {
        return Err(Problem::new(
            Kind::Timeout,
            "There is no kept answer to this, and no other was asked for.",
        ));
    }
    let patience = patience(&found, &cache, &wanted.origin);
    let turn = match asked.is_own() {
        // Whether the answer is for others too, nobody knows yet.
        true => Turn::Alone,
        false => cache.turn(&key, SystemTime::now()),
    };
    let leader = match turn {
        Turn::Alone => None,
        Turn::Leads(leader) => Some(leader),
        Turn::Waits(mut other) => {
            let ended = timeout(patience.unwrap_or(WAIT).min(WAIT), other.changed()).await;
            let again = cache.find(&key, &asked, SystemTime::now());
            if let Found::Fresh(stored) = &again {
                cache.used(Use::Hit);
                return Ok(kept(stored, &sent, false));
            }
            if let Found::Stale(stored, _) = &found
                && patience.is_some()
                && ended.is_err()
            {
                cache.used(Use::Stale);
                return Ok(kept(stored, &sent, true));
            }
            found = again;
            None
        }
    };
    let stale = match found {
        Found::Stale(stored, request) => Some((stored, request)),
        Found::Fresh(_) | Found::Nothing => None,
    };
    let last = stale.as_ref().map(|(stored, _)| Arc::clone(stored));
    let progress = Progress::new(true);
    let (done, fetched) = oneshot::channel();
    let (asking, keeping) = (wanted.clone(), Arc::clone(&cache));
    let for_all = leader.is_some();
    tokio::task::spawn_local(async move {
        let fetched = fetch(asking, keeping, (key, for_all), asked, stale, progress).await;
        drop::<Option<Leader>>(leader);
        // Nobody need wait for it.
        let _ = done.send(fetched);
    });
    let fetched = match patience {
        Some(patience) => timeout(patience, fetched).await.ok(),
        None => Some(fetched.await),
    };
    let may = |stored: &Arc<Stored>| cache.may_serve(stored, SystemTime::now());
    let serve_stale = |stored: Arc<Stored>| {
        cache.used(Use::Stale);
        Ok(kept(&stored, &sent, true))
    };
    match (fetched, last) {
        (Some(Ok(Fetched::Kept(stored, how))), _) => {
            cache.used(how);
            Ok(kept(&stored, &sent, false))
        }
        (Some(Ok(Fetched::Passed(passed))), last) => {
            let failed = is_failure(passed.parts.status);
            if let Some(stored) = last.filter(|stored| failed && may(stored)) {
                return serve_stale(stored);
            }
            cache.used(Use::Pass);
            let Passed {
                mut parts,
                body,
                begin,
            } = *passed;
            if parts.status != StatusCode::NOT_MODIFIED {
                parts.headers.remove(header::CONTENT_LENGTH);
            }
            let body = body.for_client(begin, &caller.traffic);
            Ok(http::Response::from_parts(
                parts,
                AnswerBody::Proxied(Box::new(body)),
            ))
        }
        (Some(Ok(Fetched::Lost(problem))), last) => match last.filter(may) {
            Some(stored) => serve_stale(stored),
            None => Err(problem),
        },
        (None, Some(stored)) => serve_stale(stored),
        (None | Some(Err(_)), _) => Err(Problem::new(Kind::Internal, "The origin could not be asked.")),
    }
}

/// How long a request waits for the origin while an answer is at hand that is not fresh; `None`: as long as it takes.
fn patience(found: &Found, cache: &Cache, origin: &Origin) -> Option<Duration> {
    let Found::Stale(stored, _) = found else {
        return None;
    };
    let now = SystemTime::now();
    if cache.is_served_meanwhile(stored, now) {
        return Some(Duration::ZERO);
    }
    let stale_after = origin.settings().stale_after?;
    cache.may_serve(stored, now).then(|| stale_after.into())
}

/// Whether an origin's status is one that the last good answer is better than (RFC 5861, section 4).
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

fn only_if_cached(sent: &HeaderMap) -> bool {
    let lines = sent.get_all(header::CACHE_CONTROL).iter();
    let mut words = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("only-if-cached"))
}

fn kept(stored: &Stored, sent: &HeaderMap, is_stale: bool) -> Answer {
    let (status, fields, body) = stored.answer(sent, is_stale);
    let mut answer = http::Response::new(AnswerBody::Whole(Full::new(body)));
    *answer.status_mut() = status;
    *answer.headers_mut() = fields;
    answer
}

/// Asks the origin, and keeps the answer where it may be. `for_all`: others wait for it, so it has to be whole.
async fn fetch(
    mut wanted: Wanted,
    cache: Arc<Cache>,
    (key, for_all): (String, bool),
    asked: Asked,
    stale: Option<(Arc<Stored>, Box<request::Parts>)>,
    progress: Rc<Progress>,
) -> Fetched {
    // What the client has counts where nothing is kept, and most likely nothing will be.
    if for_all || stale.is_some() {
        for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            wanted.head.headers.remove(&name);
            let own = stale.as_ref().and_then(|(_, request)| request.headers.get(&name));
            if let Some(own) = own {
                wanted.head.headers.insert(name, own.clone());
            }
        }
    }
    let Some((_, route)) = wanted.generation.settings.proxy(wanted.index) else {
        return Fetched::Lost(Problem::not_found());
    };
    let exchange = Exchange {
        origin: &wanted.origin,
        route,
        head: &wanted.head,
        pools: &wanted.pools,
        target: wanted.target.clone(),
        client: wanted.client(),
        upgrade: None,
        progress: Rc::clone(&progress),
        trace: wanted.trace.clone().map(Traced::new),
    };
    let mut tally = Tally(&wanted.origin, Outcome::Gone);
    let answered = async {
        let place = wanted.origin.enter().await.map_err(blocked)?;
        Ok((exchange.run(Outgoing::Empty).await?, place))
    };
    let (answered, place) = match answered.await {
        Ok(answered) => answered,
        Err((outcome, problem)) => {
            tally.1 = outcome;
            return Fetched::Lost(problem);
        }
    };
    let status = answered.sent.response.status();
    tally.1 = match status.is_server_error() {
        true => Outcome::Failed,
        false => Outcome::Answered,
    };
    let (mut parts, incoming) = answered.sent.response.into_parts();
    fields::response(&mut parts.headers, parts.version);
    let is_events = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let is_small = incoming.size_hint().lower() <= cache.max_object() as u64;
    let held = Held {
        attempt: answered.attempt,
        place,
        sender: answered.sent.sender,
        pools: Rc::clone(&wanted.pools),
    };
    let silence = wanted.origin.settings().idle_timeout.into();
    let mut body = Download::new(incoming, progress, silence, Rc::default(), held);
    let pass = |parts, body, begin| Fetched::Passed(Box::new(Passed { parts, body, begin }));
    if status == StatusCode::NOT_MODIFIED
        && let Some((stored, request)) = &stale
    {
        let renewed = cache.renewed(&key, &asked, (&**stored, &**request), &parts);
        // One that does not say of which answer it tells: it was asked for this one alone.
        let stored = renewed.unwrap_or_else(|| Arc::clone(stored));
        return Fetched::Kept(stored, Use::Revalidated);
    }
    let policy = match is_small && !is_events {
        true => cache.policy(&asked, &parts, SystemTime::now()),
        false => None,
    };
    let Some(policy) = policy else {
        if !status.is_server_error() {
            cache.passes(&key, SystemTime::now());
        }
        return pass(parts, body, Bytes::new());
    };
    match read(&mut body, cache.max_object()).await {
        Ok((whole, true)) => Fetched::Kept(cache.keep(&key, &asked, policy, &parts, whole), Use::Miss),
        // It did not say how long it is.
        Ok((begin, false)) => pass(parts, body, begin),
        Err(problem) => {
            tally.1 = Outcome::Broken;
            Fetched::Lost(problem)
        }
    }
}

/// A body, and whether it is whole: of one with more than `max` bytes, the beginning.
async fn read(body: &mut Download, max: usize) -> Result<(Bytes, bool), Problem> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| broken("The origin broke off in its answer."))?;
        let Ok(data) = frame.into_data() else { continue };
        read.extend_from_slice(&data);
        if read.len() > max {
            return Ok((read.freeze(), false));
        }
    }
    Ok((read.freeze(), true))
}
