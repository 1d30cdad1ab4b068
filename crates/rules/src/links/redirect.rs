//! `GET` and `HEAD /{code}`: the redirect; `POST`, which the button for people taken for machines sends; and the other methods, which a
//! link passes on whose status keeps them. A plain link costs one read of one key, and no random
//! but for the first of several notes ([`stats`]).
//!
//! Counting is the last thing done, and nothing waits after it. The machine may run this rule without
//! waiting. Where the rule would have to wait, the machine drops it and runs it anew, so nothing may have
//! been counted by then.
//!
//! The race to win: a visitor of a link with `maxVisits` is let through by ONE commit. It has as conditions
//! the very version of the link that was read and the link's time window, and an addition that cannot pass
//! the bound. So a visitor is let through if and only if the visit was counted, whatever else happens to the
//! link meanwhile.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::password::{self, Gate};
use super::preview;
use super::record::{Facts, Limits, MAX_RACES, Named, Record, State, Target, counters, link_key, state};
use super::routing;
use super::stats;
use super::visitor::{self, Visitor};
use super::{Place, domain};
use crate::codes;
use crate::config::Clicks;
use crate::events;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::pattern::unreserved;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Entry, Mutation, Outcome, Part, Refusal, StoreError};
use tollgate_store::plan::coalescer::Note;
use tollgate_store::ports::Store;

const NO_STORE: &str = "private, no-store";
/// A permanent link without limits may be kept this long: short enough that an edit shows soon, since a cached
/// redirect cannot be called back.
const PERMANENT: &str = "public, max-age=60";

/// What a request wants of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// To see where it leads: `GET`, `HEAD`.
    See,
    /// What a form of ours sends: the button of [`preview`], or a password.
    Form,
    /// To take its method and its body along, which 307 and 308 keep (RFC 9110, sections 15.4.8 and 15.4.9).
    PassOn,
}

impl Wish {
    fn of(request: &Request) -> Result<Self, Problem> {
        match &*request.method {
            "GET" | "HEAD" => Ok(Self::See),
            "POST"
                if has_field(request, |name, value| {
                    is_button(name, value) || name == password::FIELD
                }) =>
            {
                Ok(Self::Form)
            }
            "POST" | "PUT" | "PATCH" | "DELETE" => Ok(Self::PassOn),
            _ => Err(Problem::method_not_allowed("GET, HEAD, POST, PUT, PATCH, DELETE")),
        }
    }

    /// The same of this link, once it is known.
    fn at(self, request: &Request, target: &Target<'_>) -> Result<Self, Problem> {
        let keeps_methods = matches!(target.redirect, 307 | 308) && target.password.is_none();
        match self {
            // A form of somebody else's may have such fields, too.
            Self::Form if keeps_methods => {
                let is_ours = target.limits.max_visits.is_some() && has_field(request, is_button);
                Ok(if is_ours { Self::Form } else { Self::PassOn })
            }
            Self::PassOn if !keeps_methods => Err(Problem::method_not_allowed("GET, HEAD")),
            wish => Ok(wish),
        }
    }
}

/// Whether a request to a short link is answered without a look at its body, for an adapter that is about to read it: only forms of ours
/// are read.
pub fn needs_no_body(method: &str, content_type: Option<&[u8]>) -> bool {
    const FORM: &[u8] = b"application/x-www-form-urlencoded";
    let is_form = |sent: &[u8]| {
        sent.get(..FORM.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(FORM))
    };
    method != "POST" || content_type.is_some_and(|sent| !is_form(sent))
}

/// The result of a visit.
enum Visit {
    /// Counted, or not to be counted: redirect.
    Granted,
    /// The link ended between the read and the commit.
    Ended(State),
    /// The link changed between the read and the commit: read again.
    Changed,
}

/// The answer to `/{segment}`; `None`: it is work, and given elsewhere.
pub(super) async fn answer<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    segment: &str,
    place: Place,
) -> Result<Option<Response>, Problem> {
    // Percent-encoding that it does not need does not make another code.
    let segment = unreserved(segment);
    let (code, wants_preview) = split(&segment);
    if !codes::is_code(code) {
        return Err(lost(world, request));
    }
    let wish = Wish::of(request)?;
    if wants_preview && wish == Wish::PassOn {
        return Err(Problem::method_not_allowed("GET, HEAD"));
    }
    let wants_preview = wants_preview && wish == Wish::See;
    let mut code = domain::named(&world.settings.config, request, code);
    let mut key = link_key(&code);
    for _ in 0..MAX_RACES {
        let found = world.store.get(&key, std::slice::from_ref(&key)).await?;
        let Some(entry) = found.into_iter().next().flatten() else {
            match codes::folded(&world.settings.config, &code) {
                Cow::Owned(folded) => {
                    key = link_key(&folded);
                    code = Cow::Owned(folded);
                    continue;
                }
                Cow::Borrowed(_) if wish == Wish::PassOn => return Err(unknown()),
                Cow::Borrowed(_) => return Err(lost(world, request)),
            }
        };
        let target = Target::of(&entry)?;
        let Some(facts) = facts(world, &code, &key, &entry, &target).await? else {
            continue;
        };
        let state = state(&target.limits, &facts, world.now);
        if wants_preview {
            return match state {
                State::Live if target.password.is_some() => Err(unknown()),
                State::Live => Ok(Some(preview::page(world.settings, &code, &Record::of(&entry)?))),
                state => Err(ended(state)),
            };
        }
        if state != State::Live {
            return end(state, &target).map(Some);
        }
        let wish = wish.at(request, &target)?;
        let mut cookie = None;
        if let Some(password) = &target.password {
            if place == Place::Crowd {
                return Ok(None);
            }
            match Box::pin(password::ask(world, request, (&code, target.id()), password)).await? {
                Gate::Open(set) => cookie = set,
                Gate::Shut(answer) => return Ok(Some(answer)),
            }
        }
        let url = match target.has_one_url() {
            true => None,
            false => {
                let ways = (&*target.rules, &*target.targets);
                routing::choose(world.settings, request, world.now, target.id(), ways)
            }
        };
        let url = url.unwrap_or(&target.url);
        let leads = || {
            Some(with_cookie(
                redirect(request, &target, &code, (url, wish)),
                cookie.clone(),
            ))
        };
        if !is_recorded(world, &target) {
            return Ok(leads());
        }
        let mark = mark(world, request, &entry, &target.limits);
        // Only what is counted later is remembered by its mark, and not of a link with `maxVisits`, or whose visits tell of themselves.
        let may_be_known = mark.is_noted
            && wish == Wish::See
            && !target.events
            && request.method == "GET"
            && is_deferred(world, &target.limits);
        if may_be_known && world.store.defer_again(&key, mark.value) {
            return Ok(leads());
        }
        let visitor = match wish {
            Wish::Form => Visitor::Person,
            Wish::See | Wish::PassOn => visitor::of(request),
        };
        match visitor {
            Visitor::Machine => {
                if mark.is_noted {
                    let named = Named::of(&entry)?;
                    stats::saw_machine(world, request, &key, (&named, url), mark.value);
                }
                return match target.limits.max_visits {
                    // It would take the page for what became of what it sent.
                    Some(_) if wish == Wish::PassOn => Err(Problem::method_not_allowed("GET, HEAD")),
                    Some(_) => Ok(Some(preview::withheld())),
                    None => Ok(leads()),
                };
            }
            Visitor::Head => return Ok(leads()),
            Visitor::Person => {}
        }
        match count(world, request, &code, &entry, (&target, url), mark).await? {
            Visit::Granted => return Ok(leads()),
            Visit::Ended(state) => return end(state, &target).map(Some),
            Visit::Changed => {}
        }
    }
    Err(Problem::new(Kind::Unavailable, "The link is changing too fast; try again.").with_retry_after(1))
}

/// Nothing is there, and somebody came for it.
fn lost<S: Store>(world: &World<'_, S>, request: &Request) -> Problem {
    stats::saw_lost(world, request);
    unknown()
}

/// Whether a form has such a field, a name and a value.
fn has_field(request: &Request, is_meant: impl Fn(&str, &str) -> bool) -> bool {
    url::form_urlencoded::parse(&request.body).any(|(name, value)| is_meant(&name, &value))
}

/// The field of the button of [`preview`].
fn is_button(name: &str, value: &str) -> bool {
    (name, value) == preview::BUTTON
}

fn with_cookie(response: Response, cookie: Option<String>) -> Response {
    match cookie {
        Some(cookie) => response.with("set-cookie", cookie),
        None => response,
    }
}

/// The code, and whether its preview is asked for (`+`, also percent-encoded).
fn split(segment: &str) -> (&str, bool) {
    let plus = segment.strip_suffix('+').or_else(|| segment.strip_suffix("%2B"));
    match plus.or_else(|| segment.strip_suffix("%2b")) {
        Some(code) => (code, true),
        None => (segment, false),
    }
}

/// The facts that decide about a link. The counters are read only where they decide something, and then together with the
/// link: a bound and a count of different moments would find a link exhausted that never was.
///
/// `None`: the link has changed since `entry` was read.
async fn facts<S: Store>(
    world: &World<'_, S>,
    code: &str,
    partition: &str,
    entry: &Entry,
    target: &Target<'_>,
) -> Result<Option<Facts>, StoreError> {
    let created_at = target.created_at;
    if !target.limits.need_counters() {
        return Ok(Some(Facts {
            created_at,
            ..Facts::default()
        }));
    }
    let [visits, visited] = Named::of(entry)?.counter_keys(code);
    let keys = [partition.to_owned(), visits, visited];
    let mut found = world.store.get(partition, &keys).await?.into_iter();
    let same = |link: &Entry| link.version == entry.version;
    if !found.next().flatten().as_ref().is_some_and(same) {
        return Ok(None);
    }
    let (visits, visited_at) = counters(found)?;
    Ok(Some(Facts {
        created_at,
        visits,
        visited_at,
    }))
}

/// Whether visits are counted.
fn is_counted<S: Store>(world: &World<'_, S>, limits: &Limits) -> bool {
    world.settings.config.links.clicks != Clicks::Off || limits.are_exact()
}

/// Whether a visit is written to the store: a link that ends by idleness needs its last one even where clicks
/// are off, and one that tells of its visits has something to tell.
fn is_recorded<S: Store>(world: &World<'_, S>, target: &Target<'_>) -> bool {
    let limits = &target.limits;
    is_counted(world, limits) || limits.expire_after_idle.is_some() || target.events
}

/// Whether a visit of the link is counted after it is answered.
fn is_deferred<S: Store>(world: &World<'_, S>, limits: &Limits) -> bool {
    !limits.are_exact() && world.settings.config.links.clicks != Clicks::Durable
}

/// What is the same for visits that are counted, and noted, in the same way.
#[derive(Clone, Copy)]
struct Mark {
    value: u64,
    /// Whether visits are noted ([`stats`]): then it depends on the request too.
    is_noted: bool,
}

fn mark<S: Store>(world: &World<'_, S>, request: &Request, entry: &Entry, limits: &Limits) -> Mark {
    let is_noted = stats::is_on(world) && is_counted(world, limits);
    Mark {
        value: match is_noted {
            true => stats::mark(entry.version, request),
            false => entry.version,
        },
        is_noted,
    }
}

/// Records a visit the way the link and the configuration ask for.
async fn count<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
    entry: &Entry,
    (target, url): (&Target<'_>, &str),
    mark: Mark,
) -> Result<Visit, StoreError> {
    let limits = &target.limits;
    let partition = &*link_key(code);
    let deferred = is_deferred(world, limits);
    let counted = is_counted(world, limits);
    // What is deferred depends on the settings, on the link, and on what is noted of the request.
    if deferred && !target.events && !mark.is_noted && world.store.defer_again(partition, mark.value) {
        return Ok(Visit::Granted);
    }
    let named = Named::of(entry)?;
    let [visits, visited] = named.counter_keys(code);
    let note = mark
        .is_noted
        .then(|| stats::note(world, request, (&named.id, url), false));
    let mut mutations = Vec::with_capacity(2);
    if counted {
        let max = limits.max_visits.and_then(|most| i64::try_from(most).ok());
        mutations.push(Mutation::Add {
            key: visits,
            delta: 1,
            min: None,
            max,
        });
    }
    mutations.push(Mutation::Set {
        key: visited,
        value: vec![Part::Time],
        expires: None,
    });
    let mut commit = Commit {
        partition: partition.to_owned(),
        mutations,
        ..Commit::default()
    };
    if target.events {
        commit.appends = events::append(world, || events::link_visited(code, target.id(), url));
    }
    if deferred {
        match target.events {
            // Each tells of itself.
            true => {
                commit.mutations.extend(note.map(Note::alone));
                world.store.defer(commit);
            }
            false => world.store.defer_repeatable(commit, mark.value, note),
        }
        return Ok(Visit::Granted);
    }
    commit.mutations.extend(note.map(Note::alone));
    commit.conditions = vec![
        Condition::Version {
            key: partition.to_owned(),
            version: entry.version,
        },
        Condition::NowIn {
            start: limits.valid_from,
            end: limits.expires_at,
        },
    ];
    match world.store.commit(commit).await? {
        Outcome::Committed(_) => Ok(Visit::Granted),
        Outcome::Refused(Refusal::Condition(0)) => Ok(Visit::Changed),
        Outcome::Refused(Refusal::Condition(_)) => Ok(Visit::Ended(outside(limits, world.now))),
        Outcome::Refused(Refusal::Mutation(_)) => Ok(Visit::Ended(State::Exhausted)),
        Outcome::Replayed(_) | Outcome::Conflict => {
            Err(StoreError::Invalid("a visit is not repeatable".into()))
        }
    }
}

/// Which end of its window a link is beyond by the store's clock, which differs from ours by little.
fn outside(limits: &Limits, now: u64) -> State {
    match (limits.valid_from, limits.expires_at) {
        (Some(from), None) if now >= from => State::NotYetValid,
        (Some(from), Some(end)) if now.abs_diff(from) < now.abs_diff(end) => State::NotYetValid,
        _ => State::Expired,
    }
}

/// `url`: where it leads this time.
fn redirect(request: &Request, target: &Target<'_>, code: &str, (url, wish): (&str, Wish)) -> Response {
    let location = match request.query.as_deref() {
        Some(query) if target.forward_query && !query.is_empty() => Cow::Owned(merge(url, query)),
        _ => Cow::Borrowed(url),
    };
    let location = match &target.utm {
        None => location,
        Some(utm) => Cow::Owned(utm.add_to(&location, codes::parts(code).1)),
    };
    let permanent = matches!(target.redirect, 301 | 308) && target.limits.are_none() && target.has_one_url();
    let (status, kept) = match wish {
        // What the button sent is for us, and goes no further: the browser asks the target with GET.
        Wish::Form => (303, NO_STORE),
        Wish::See if permanent => (target.redirect, PERMANENT),
        Wish::See | Wish::PassOn => (target.redirect, NO_STORE),
    };
    Response::empty(status)
        .with("location", location)
        .with("cache-control", kept)
}

/// The target with the request's query after its own, before its fragment. Nothing is decoded and encoded again, so
/// that signed parameters survive.
fn merge(target: &str, query: &str) -> String {
    let (base, fragment) = match target.split_once('#') {
        Some((base, fragment)) => (base, Some(fragment)),
        None => (target, None),
    };
    let joint = match base.split_once('?') {
        None => "?",
        Some((_, own)) if own.is_empty() || own.ends_with('&') => "",
        Some(_) => "&",
    };
    let mut merged = String::with_capacity(target.len() + query.len() + 1);
    merged.push_str(base);
    merged.push_str(joint);
    // Whatever an adapter lets through, a header line and the fragment's mark are not to be had this way.
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'#');
    merged.extend(utf8_percent_encode(query, ENCODED));
    if let Some(fragment) = fragment {
        merged.push('#');
        merged.push_str(fragment);
    }
    merged
}

/// The answer of a link that does not redirect: its fallback, if it has one.
fn end(state: State, target: &Target<'_>) -> Result<Response, Problem> {
    match &target.fallback_url {
        Some(url) => Ok(private(Response::empty(302).with("location", url))),
        None => Err(ended(state)),
    }
}

fn ended(state: State) -> Problem {
    let (kind, name, detail) = match state {
        // A link that is not out yet looks like none.
        State::NotYetValid | State::Live => return unknown(),
        State::Expired => (Kind::Gone, "expired", "The link has expired."),
        State::Idle => (Kind::Gone, "idle", "The link has expired because nobody used it."),
        State::Exhausted => (
            Kind::Gone,
            "exhausted",
            "The link was opened as often as it may be.",
        ),
        State::Archived => (Kind::Gone, "archived", "The link was switched off."),
    };
    Problem::new(kind, detail).with_member("state", name)
}

fn unknown() -> Problem {
    Problem::new(Kind::NotFound, "There is no such link.")
}

/// Forbids caching: an answer that depends on a credential, a clock or a counter is for this caller and this
/// moment.
pub(super) fn private(response: Response) -> Response {
    response.with("cache-control", NO_STORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_query_goes_after_the_targets_own_and_before_its_fragment() {
        for (target, query, merged) in [
            ("https://a.example/", "x=1", "https://a.example/?x=1"),
            ("https://a.example", "x=1", "https://a.example?x=1"),
            (
                "https://a.example/?a=b",
                "x=1&y=2",
                "https://a.example/?a=b&x=1&y=2",
            ),
            ("https://a.example/?a=b&", "x=1", "https://a.example/?a=b&x=1"),
            ("https://a.example/?", "x=1", "https://a.example/?x=1"),
            (
                "https://a.example/?a#f?g",
                "x=%2B",
                "https://a.example/?a&x=%2B#f?g",
            ),
            (
                "https://a.example/",
                "x=\r\nset-cookie:#é",
                "https://a.example/?x=%0D%0Aset-cookie:%23%C3%A9",
            ),
        ] {
            assert_eq!(merge(target, query), merged);
        }
    }

    #[test]
    fn a_preview_is_asked_for_with_a_plus() {
        assert_eq!(split("abc+"), ("abc", true));
        assert_eq!(split("abc%2b"), ("abc", true));
        assert_eq!(split("abc"), ("abc", false));
    }

    #[test]
    fn a_clock_that_differs_a_little_is_beyond_the_nearer_end() {
        let limits = |from, end| Limits {
            valid_from: from,
            expires_at: end,
            ..Limits::default()
        };
        assert_eq!(outside(&limits(Some(100), None), 101), State::NotYetValid);
        assert_eq!(outside(&limits(None, Some(100)), 99), State::Expired);
        assert_eq!(outside(&limits(Some(100), Some(900)), 101), State::NotYetValid);
        assert_eq!(outside(&limits(Some(100), Some(900)), 899), State::Expired);
    }
}
