//! Answers that are kept for the next who asks (RFC 9111): what may be kept and for how long is the library's to say; here are the
//! bounds, and the last good answer for when an origin fails.

use bytes::Bytes;
use hashlink::LruCache;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Uri, request, response};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy, RequestLike};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// The most answers to one target that differ by what `Vary` names.
const MAX_VARIANTS: usize = 8;
/// What an answer takes besides its body, its target and the text of its fields; bytes, roughly.
const OVERHEAD: usize = 1_024;
/// How long it is remembered that answers to a target are not kept: who asks meanwhile does not wait for another.
const ALONE: Duration = Duration::from_secs(10);
/// The most targets that are asked for by one for all.
const MAX_LEADERS: usize = 16 << 10;
/// Directives by which an answer that is not fresh must not be used (RFC 9111, section 4.2.4); s-maxage says so for a shared cache.
const NEVER_STALE: [&str; 4] = ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage"];
/// Fields by which a request is somebody's own.
const IDENTITIES: [&str; 5] = ["authorization", "cookie", "x-api-key", "x-user-id", "x-client-id"];

/// What came of a look into the cache, as metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It was there, and fresh.
    Hit,
    /// The origin said that it still holds.
    Revalidated,
    /// It was there, not fresh, and used since the origin failed or took long.
    Stale,
    /// It was not there.
    Miss,
    /// It is none that is kept.
    Pass,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Hit, Self::Revalidated, Self::Stale, Self::Miss, Self::Pass];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Pass => "pass",
        }
    }
}

/// The answers of one origin.
#[derive(Debug)]
pub struct Cache {
    entries: Mutex<Entries>,
    leaders: Mutex<HashMap<Box<str>, watch::Sender<()>>>,
    max_object: usize,
    by_headers: bool,
    stale_if_error: Duration,
    uses: [AtomicU64; Use::ALL.len()],
}

/// The answers to one target.
#[derive(Debug, Default)]
struct Entry {
    variants: Vec<Arc<Stored>>,
    /// Until when who asks does not wait for another who asks.
    alone_until: Option<SystemTime>,
}

/// An answer.
#[derive(Debug)]
pub struct Stored {
    policy: CachePolicy,
    status: StatusCode,
    fields: HeaderMap,
    body: Bytes,
    /// For how long it was fresh, by its age.
    lifetime: Duration,
    weight: usize,
}

/// A `GET`, as the library looks at it. The host is part of the key, and differs between versions of HTTP.
#[derive(Clone, Debug)]
pub struct Asked {
    uri: Uri,
    headers: HeaderMap,
}

impl Asked {
    /// Of these fields.
    pub fn new(uri: Uri, fields: &HeaderMap) -> Self {
        let mut headers = fields.clone();
        for name in [header::HOST, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            headers.remove(name);
        }
        if says(fields, "max-stale") {
            without_max_stale(&mut headers);
        }
        Self { uri, headers }
    }

    /// Whether it says who asks.
    pub fn is_own(&self) -> bool {
        IDENTITIES.iter().any(|name| self.headers.contains_key(*name))
    }
}

impl RequestLike for Asked {
    fn uri(&self) -> Uri {
        self.uri.clone()
    }

    fn is_same_uri(&self, other: &Uri) -> bool {
        self.uri == *other
    }

    fn method(&self) -> &Method {
        &Method::GET
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// All of them, those first that were used last.
#[derive(Debug)]
struct Entries {
    by_key: LruCache<Box<str>, Arc<Entry>>,
    weight: u64,
    most: u64,
}

impl Entries {
    fn get(&mut self, key: &str) -> Option<Arc<Entry>> {
        self.by_key.get(key).cloned()
    }

    fn insert(&mut self, key: &str, entry: Entry) {
        self.remove(key);
        self.weight += entry.weight(key);
        self.by_key.insert(key.into(), Arc::new(entry));
        while self.weight > self.most
            && let Some((key, entry)) = self.by_key.remove_lru()
        {
            self.weight -= entry.weight(&key);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.by_key.remove(key) {
            self.weight -= entry.weight(key);
        }
    }
}

impl Entry {
    fn weight(&self, key: &str) -> u64 {
        let variants: usize = self.variants.iter().map(|one| one.weight).sum();
        (key.len() + OVERHEAD + variants) as u64
    }
}

/// What there is for a request.
pub enum Found {
    /// An answer that is fresh.
    Fresh(Arc<Stored>),
    /// One that is not, and what the origin is asked whether it still holds.
    Stale(Arc<Stored>, Box<request::Parts>),
    /// None.
    Nothing,
}

/// Who asks the origin, for all who ask meanwhile.
pub enum Turn {
    /// This request does. Others wait until this is dropped.
    Leads(Leader),
    /// Another does.
    Waits(watch::Receiver<()>),
    /// Everybody for themselves.
    Alone,
}

/// See [`Turn::Leads`].
pub struct Leader {
    cache: Arc<Cache>,
    key: Box<str>,
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.cache.leaders.lock().remove(&self.key);
    }
}

impl Cache {
    /// With nothing in it. `memory`: bytes in all; `max_object`: of one body; `by_headers`: whether answers are kept for as long as
    /// they say; `stale_if_error`: how long the last good one is kept beyond that.
    pub fn new(memory: u64, max_object: usize, by_headers: bool, stale_if_error: Duration) -> Self {
        let entries = Entries {
            by_key: LruCache::new_unbounded(),
            weight: 0,
            most: memory,
        };
        Self {
            entries: Mutex::new(entries),
            leaders: Mutex::default(),
            max_object,
            by_headers,
            stale_if_error,
            uses: Default::default(),
        }
    }

    /// The most bytes of a body that is kept.
    pub fn max_object(&self) -> usize {
        self.max_object
    }

    /// Bytes that it takes, roughly.
    pub fn weight(&self) -> u64 {
        self.entries.lock().weight
    }

    /// A request was answered so.
    pub fn used(&self, how: Use) {
        if let Some(count) = self.uses.get(how as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were.
    pub fn uses(&self, how: Use) -> u64 {
        let count = self.uses.get(how as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// What there is for a request.
    pub fn find(&self, key: &str, asked: &Asked, now: SystemTime) -> Found {
        let Some(entry) = self.entries.lock().get(key) else {
            return Found::Nothing;
        };
        let mut stale = None;
        let is_own = asked.is_own();
        for one in &entry.variants {
            // Somebody's own request gets only what says that it is for all.
            if is_own && !is_for_all(&one.fields) {
                continue;
            }
            let (matches, request) = match one.policy.before_request(asked, now) {
                BeforeRequest::Fresh(_) if self.by_headers => return Found::Fresh(Arc::clone(one)),
                // Kept alone for when the origin fails.
                BeforeRequest::Fresh(_) => {
                    let request = request::Request::new(()).into_parts().0;
                    (true, request)
                }
                BeforeRequest::Stale { request, matches } => (matches, request),
            };
            if matches && stale.is_none() {
                stale = Some((Arc::clone(one), Box::new(request)));
            }
        }
        match stale {
            Some((one, request)) => Found::Stale(one, request),
            None => Found::Nothing,
        }
    }

    /// Whose turn it is to ask the origin.
    pub fn turn(self: &Arc<Self>, key: &str, now: SystemTime) -> Turn {
        let entry = self.entries.lock().get(key);
        if entry.is_some_and(|entry| entry.alone_until.is_some_and(|until| now < until)) {
            return Turn::Alone;
        }
        let mut leaders = self.leaders.lock();
        if let Some(leader) = leaders.get(key) {
            return Turn::Waits(leader.subscribe());
        }
        if leaders.len() >= MAX_LEADERS {
            return Turn::Alone;
        }
        leaders.insert(key.into(), watch::Sender::new(()));
        Turn::Leads(Leader {
            cache: Arc::clone(self),
            key: key.into(),
        })
    }

    /// Whether an answer may be kept, and the policy for it. `None`: it may not.
    pub fn policy(&self, asked: &Asked, parts: &response::Parts, now: SystemTime) -> Option<CachePolicy> {
        let fields = &parts.headers;
        // A cookie is somebody's own; so is what was asked for with one, unless the answer says that it is for all.
        if fields.contains_key(header::SET_COOKIE)
            || fields.get(header::VARY).is_some_and(|value| value == "*")
        {
            return None;
        }
        if asked.is_own() && !is_for_all(fields) {
            return None;
        }
        let policy = CachePolicy::new_options(asked, parts, now, CacheOptions::default());
        if !policy.is_storable() {
            return None;
        }
        let lives = self.by_headers && (!policy.is_stale(now) || has_validator(fields));
        let is_good =
            parts.status == StatusCode::OK && !self.stale_if_error.is_zero() && may_be_stale(fields);
        (lives || is_good).then_some(policy)
    }

    /// Keeps an answer.
    pub fn keep(
        &self,
        key: &str,
        asked: &Asked,
        policy: CachePolicy,
        parts: &response::Parts,
        body: Bytes,
    ) -> Arc<Stored> {
        let now = SystemTime::now();
        let text = |fields: &HeaderMap| -> usize {
            let fields = fields.iter();
            fields
                .map(|(name, value)| name.as_str().len() + value.len() + 32)
                .sum()
        };
        let mut fields = parts.headers.clone();
        fields.remove(header::CONTENT_LENGTH);
        let stored = Arc::new(Stored {
            lifetime: policy.age(now).saturating_add(policy.time_to_live(now)),
            weight: body.len() + 2 * text(&fields) + text(&asked.headers) + OVERHEAD,
            policy,
            status: parts.status,
            fields,
            body,
        });
        let before = self.entries.lock().get(key);
        let others = before.iter().flat_map(|entry| &entry.variants);
        let others = others
            .filter(|one| !one.is_for(asked, now))
            .take(MAX_VARIANTS - 1);
        let mut variants = vec![Arc::clone(&stored)];
        variants.extend(others.cloned());
        let alone_until = match self.by_headers && !stored.policy.is_stale(now) {
            true => None,
            // The next has to ask in any case.
            false => Some(now + ALONE),
        };
        self.entries.lock().insert(
            key,
            Entry {
                variants,
                alone_until,
            },
        );
        stored
    }

    /// The origin says that an answer still holds: it is kept as new.
    pub fn renewed(
        &self,
        key: &str,
        asked: &Asked,
        (stored, revalidation): (&Stored, &request::Parts),
        answer: &response::Parts,
    ) -> Option<Arc<Stored>> {
        match stored
            .policy
            .after_response(revalidation, answer, SystemTime::now())
        {
            AfterResponse::NotModified(policy, mut parts) => {
                parts.headers.remove(header::AGE);
                parts.status = stored.status;
                Some(self.keep(key, asked, policy, &parts, stored.body.clone()))
            }
            AfterResponse::Modified(..) => None,
        }
    }

    /// Answers to this target are not kept: who asks next does not wait for another.
    pub fn passes(&self, key: &str, now: SystemTime) {
        let mut entries = self.entries.lock();
        if entries.get(key).is_none_or(|entry| entry.variants.is_empty()) {
            let entry = Entry {
                variants: Vec::new(),
                alone_until: Some(now + ALONE),
            };
            entries.insert(key, entry);
        }
    }

    /// What was kept of a target holds no more.
    pub fn forget(&self, key: &str) {
        self.entries.lock().remove(key);
    }

    /// Whether an answer that is not fresh may be used since the origin fails: within `stale_if_error` of when it was fresh.
    pub fn may_serve(&self, stored: &Stored, now: SystemTime) -> bool {
        let beyond = stored.policy.age(now).saturating_sub(self.lifetime(stored));
        may_be_stale(&stored.fields) && !self.stale_if_error.is_zero() && beyond <= self.stale_if_error
    }

    /// Whether an answer says that it may be used for so long while the origin is asked (RFC 5861, section 3).
    pub fn is_served_meanwhile(&self, stored: &Stored, now: SystemTime) -> bool {
        let meanwhile = Duration::from_secs(seconds(&stored.fields, "stale-while-revalidate").unwrap_or(0));
        let beyond = stored.policy.age(now).saturating_sub(self.lifetime(stored));
        self.by_headers && may_be_stale(&stored.fields) && beyond < meanwhile
    }

    fn lifetime(&self, stored: &Stored) -> Duration {
        match self.by_headers {
            true => stored.lifetime,
            false => Duration::ZERO,
        }
    }
}

impl Stored {
    /// Whether it answers this request, fresh or not.
    fn is_for(&self, asked: &Asked, now: SystemTime) -> bool {
        match self.policy.before_request(asked, now) {
            BeforeRequest::Fresh(_) => true,
            BeforeRequest::Stale { matches, .. } => matches,
        }
    }

    /// The answer as somebody gets it now who sent these fields: 304 where they have it. `is_stale`: it is told that it is.
    pub fn answer(&self, sent: &HeaderMap, is_stale: bool) -> (StatusCode, HeaderMap, Bytes) {
        let mut fields = self.fields.clone();
        let age = self.policy.age(SystemTime::now()).as_secs();
        fields.insert(header::AGE, HeaderValue::from(age));
        if is_stale {
            // RFC 9111 has no more of it; who reads it is told all the same.
            let warning = HeaderValue::from_static("111 tollgate \"Revalidation Failed\"");
            fields.insert(header::WARNING, warning);
        }
        match self.status == StatusCode::OK && self.is_held(sent) {
            true => (StatusCode::NOT_MODIFIED, fields, Bytes::new()),
            false => (self.status, fields, self.body.clone()),
        }
    }

    /// Whether whoever sent these fields has it already (RFC 9110, section 13.2.2).
    fn is_held(&self, sent: &HeaderMap) -> bool {
        let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        if sent.contains_key(header::IF_NONE_MATCH) {
            let own = self
                .fields
                .get(header::ETAG)
                .and_then(|tag| tag.to_str().ok())
                .map(weak);
            let lines = sent.get_all(header::IF_NONE_MATCH).iter();
            let mut tags = lines
                .filter_map(|line| line.to_str().ok())
                .flat_map(|line| line.split(','));
            return tags.any(|tag| tag.trim() == "*" || own.as_deref() == Some(&*weak(tag)));
        }
        let (since, changed) = (
            sent.get(header::IF_MODIFIED_SINCE),
            self.fields.get(header::LAST_MODIFIED),
        );
        // The very time that we told them; another one is not worth parsing dates for.
        since.is_some() && since == changed
    }
}

/// Whether an answer says that it is for all who ask, whoever they are.
fn is_for_all(fields: &HeaderMap) -> bool {
    says(fields, "public") || says(fields, "s-maxage")
}

fn has_validator(fields: &HeaderMap) -> bool {
    fields.contains_key(header::ETAG) || fields.contains_key(header::LAST_MODIFIED)
}

/// Whether an answer may be used when it is not fresh.
fn may_be_stale(fields: &HeaderMap) -> bool {
    !NEVER_STALE.iter().any(|directive| says(fields, directive))
}

/// Whether an answer may be used that is not fresh is its origin's to say, and not, as the library has it, the client's.
fn without_max_stale(fields: &mut HeaderMap) {
    let others = directives(fields).filter(|(name, _)| !name.eq_ignore_ascii_case("max-stale"));
    let others = others.map(|(name, value)| match value {
        "" => name.to_owned(),
        value => [name, "=", value].concat(),
    });
    let others = others.collect::<Vec<_>>().join(", ");
    fields.remove(header::CACHE_CONTROL);
    if let Ok(others) = HeaderValue::try_from(others) {
        fields.insert(header::CACHE_CONTROL, others);
    }
}

/// Whether `Cache-Control` has this directive.
fn says(fields: &HeaderMap, directive: &str) -> bool {
    directives(fields).any(|(name, _)| name.eq_ignore_ascii_case(directive))
}

/// The seconds of a directive.
fn seconds(fields: &HeaderMap, directive: &str) -> Option<u64> {
    let (_, value) = directives(fields).find(|(name, _)| name.eq_ignore_ascii_case(directive))?;
    value.trim().trim_matches('"').parse().ok()
}

fn directives(fields: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = fields.get_all(header::CACHE_CONTROL).iter();
    let all = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    all.map(|one| one.split_once('=').unwrap_or((one, "")))
        .map(|(name, value)| (name.trim(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(pair).collect()
    }

    /// A cache that has an answer with these fields, and when it came.
    fn with(lines: &[(&'static str, &'static str)], stale_if_error: u64) -> (Cache, SystemTime) {
        let cache = Cache::new(1 << 20, 1 << 10, true, Duration::from_secs(stale_if_error));
        let now = SystemTime::now();
        let mut parts = http::Response::new(()).into_parts().0;
        parts.headers = fields(lines);
        let asked = Asked::new(Uri::from_static("/a"), &HeaderMap::new());
        let policy = cache.policy(&asked, &parts, now).expect("it may be kept");
        cache.keep("/a", &asked, policy, &parts, Bytes::from_static(b"a"));
        (cache, now)
    }

    fn found(cache: &Cache, sent: &[(&'static str, &'static str)], at: SystemTime) -> Found {
        cache.find("/a", &Asked::new(Uri::from_static("/a"), &fields(sent)), at)
    }

    #[test]
    fn no_client_asks_for_what_an_origin_wants_asked_about() {
        let (cache, now) = with(&[("cache-control", "no-cache"), ("etag", "\"a\"")], 0);
        for sent in [
            "max-stale",
            "max-stale=99999, max-age=5",
            "no-transform, MAX-STALE",
        ] {
            let found = found(&cache, &[("cache-control", sent)], now);
            assert!(matches!(found, Found::Stale(..)), "{sent}");
        }
    }

    #[test]
    fn the_time_beyond_its_own_begins_when_its_own_ends_however_that_is_said() {
        const HOUR: Duration = Duration::from_secs(3_600);
        for said in [
            ("cache-control", "max-age=3600"),
            ("expires", "Fri, 01 Jan 2100 01:00:00 GMT"),
        ] {
            let date = ("date", "Fri, 01 Jan 2100 00:00:00 GMT");
            let (cache, now) = with(&[said, date], 600);
            for (seconds, may) in [(300, true), (900, false)] {
                let at = now + HOUR + Duration::from_secs(seconds);
                let Found::Stale(stored, _) = found(&cache, &[], at) else {
                    panic!("{said:?}");
                };
                assert_eq!(cache.may_serve(&stored, at), may, "{said:?} {seconds}");
            }
        }
    }
}
