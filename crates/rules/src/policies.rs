//! The policies of the limiter, compiled from `[[limits]]` once.

mod key;

pub use key::parts;
use key::{push_part, push_path};

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{Limit, OnFailure, Per, Shared};
use crate::identity::{self, ClientId};
use crate::run_time::Override;
use crate::settings::Settings;
use tollgate_api::http::Request;
use tollgate_api::pattern::{Pattern, takes_method};
use tollgate_api::units::Span;
use tollgate_store::bucket::Bucket;

/// The least time between two reports of what shadow policies would have refused, milliseconds.
pub const REPORT_MS: u64 = 10_000;
/// The greatest integer of a structured field (RFC 9651, section 3.3.1).
pub(crate) const MAX_INTEGER: u64 = 999_999_999_999_999;
pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// How many requests a policy would have refused since the last report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicU64>);

impl Count {
    /// One more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What became of a request under one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was charged.
    Admitted,
    /// The policy lacked its cost, and refused it.
    Refused,
    /// The policy lacked its cost, and is in shadow.
    WouldRefuse,
    /// The buckets could not be asked; [`OnFailure`] decided.
    Failed,
}

impl Decision {
    /// All of them, in the order of [`Policies::decisions`].
    pub const ALL: [Self; 4] = [Self::Admitted, Self::Refused, Self::WouldRefuse, Self::Failed];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
            Self::Failed => "failed",
        }
    }
}

/// Every policy in force, ready to match.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    all: Vec<Policy>,
    /// When shadow policies were reported last, Unix milliseconds.
    reported: Arc<AtomicU64>,
}

/// A policy, with everything worked out that does not depend on the request.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) shadow: bool,
    pub(crate) would_refuse: Count,
    decided: [Count; Decision::ALL.len()],
    pub(crate) deny_on_failure: bool,
    /// Whether gateways count together, and their store decides.
    pub(crate) is_exact: bool,
    pub(crate) per_client: bool,
    /// The name as a structured field string (RFC 9651).
    pub(crate) quoted: String,
    pub(crate) terms: Terms,
    per_ip: bool,
    per_user: bool,
    per_path: bool,
    /// Headers whose values it counts by; lower case.
    per_headers: Vec<String>,
    pattern: Pattern,
    methods: Vec<String>,
    /// Of each entry of its descriptor, whether its value is fixed.
    fixed: Vec<bool>,
}

/// What a policy grants: as it is configured, or to one client by an override.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Its member of `RateLimit-Policy`.
    pub(crate) quota: String,
    /// All but the key.
    pub(crate) bucket: Bucket,
}

impl Terms {
    /// `quoted`: the policy's name as a structured field string.
    pub(crate) fn new(quoted: &str, bucket: Bucket) -> Self {
        let quota = quota(quoted, &bucket);
        Self { quota, bucket }
    }

    /// Tokens that a request takes; at least 1.
    pub(crate) fn cost(&self) -> u64 {
        self.bucket.cost.max(1)
    }
}

/// A policy that a request is charged by, and what it grants to who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charged<'p> {
    policy: &'p Policy,
    pub(crate) terms: &'p Terms,
}

impl std::ops::Deref for Charged<'_> {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        self.policy
    }
}

/// Whoever asks, as policies tell callers apart.
pub(crate) struct Caller<'r> {
    pub(crate) settings: &'r Settings,
    pub(crate) request: &'r Request,
    /// As [`tollgate_api::pattern::unreserved`] writes it.
    pub(crate) path: &'r str,
    /// If some policy counts by it.
    pub(crate) client: Option<ClientId>,
    /// Unix milliseconds.
    pub(crate) now: u64,
    /// Whether an answer tells what is left.
    pub(crate) is_told: bool,
}

impl Caller<'_> {
    /// `ip:<address>`
    fn address(&self) -> String {
        ["ip:", &self.settings.proxies.client_ip(self.request)].concat()
    }

    /// `user:<id>`, or the address of one that names none: to leave the name out is no way to a bucket of one's own.
    fn user(&self) -> String {
        match identity::user(self.settings, self.request, self.now) {
            Some(user) => ["user:", &user].concat(),
            None => self.address(),
        }
    }

    /// `header:<hash of the value>`, or the address.
    fn header(&self, name: &str) -> String {
        match self.request.headers.iter().find(|header| header.name == name) {
            Some(header) => ["header:", &key::hash(&header.value)].concat(),
            None => self.address(),
        }
    }
}

impl Policies {
    /// Those of `[[limits]]`, in its order.
    pub(crate) fn new(all: Vec<Policy>) -> Self {
        Self {
            all,
            reported: Arc::default(),
        }
    }

    /// Goes on counting where the policies before did, each policy by its name: what is being decided under those is counted here.
    pub fn go_on_from(&mut self, before: &Self) {
        self.reported = Arc::clone(&before.reported);
        for policy in &mut self.all {
            if let Some(same) = before.all.iter().find(|one| one.name == policy.name) {
                policy.would_refuse = same.would_refuse.clone();
                policy.decided = same.decided.clone();
            }
        }
    }

    /// One line with the number of requests that shadow policies would have refused since the last report. At
    /// most one every [`REPORT_MS`], or as soon as there are `enough` such requests, for an instance that
    /// does not live that long. `now`: Unix milliseconds.
    pub fn shadow_report(&self, now: u64, enough: u64) -> Option<String> {
        let counts = self
            .shadow_counts()
            .map(|(_, count)| count.0.load(Ordering::Relaxed));
        let total: u64 = counts.sum();
        let due = now.saturating_sub(self.reported.load(Ordering::Relaxed)) >= REPORT_MS;
        if total == 0 || !(due || total >= enough) {
            return None;
        }
        self.reported.store(now, Ordering::Relaxed);
        let mut line = "limits in shadow would have refused requests:".to_owned();
        for (name, count) in self.shadow_counts() {
            let count = count.0.swap(0, Ordering::Relaxed);
            if count > 0 {
                // Writing to a text does not fail.
                let _ = write!(line, " {name} {count}");
            }
        }
        Some(line)
    }

    /// The number of requests that each policy has decided on since the last call, by [`Decision`]: four numbers for each of
    /// `[[limits]]`, in its order. Empty if there were none.
    pub fn decisions(&self) -> Vec<u64> {
        decisions(|| self.all.iter())
    }

    /// The names of the shadow policies, as structured field strings, and what they would have refused.
    fn shadow_counts(&self) -> impl Iterator<Item = (&str, &Count)> {
        let shadow = self.all.iter().filter(|policy| policy.shadow);
        shadow.map(|policy| (policy.quoted.as_str(), &policy.would_refuse))
    }

    /// The headers that policies count by; lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.all.iter().flat_map(Policy::headers)
    }

    /// All of them, in the order of `[[limits]]`.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Policy> + ExactSizeIterator {
        self.all.iter()
    }

    /// The policies for a request of this method and path, as [`tollgate_api::pattern::unreserved`] writes it.
    pub(crate) fn matching<'a>(&'a self, method: &'a str, path: &'a str) -> impl Iterator<Item = &'a Policy> {
        self.all
            .iter()
            .filter(move |policy| policy.falls_under(method, path))
    }
}

/// The number of requests that each of these has decided on since the last call: see [`Policies::decisions`].
pub(crate) fn decisions<'p, I: Iterator<Item = &'p Policy>>(all: impl Fn() -> I) -> Vec<u64> {
    let counts = || all().flat_map(|policy| &policy.decided);
    if counts().all(|count| count.0.load(Ordering::Relaxed) == 0) {
        return Vec::new();
    }
    counts().map(|count| count.0.swap(0, Ordering::Relaxed)).collect()
}

impl Policy {
    /// Of a limit, with its path read. Whether it keeps the rules is for [`crate::settings`] to say.
    pub(crate) fn new(limit: &Limit, pattern: Pattern) -> Self {
        let bucket = Bucket {
            key: String::new(),
            capacity: limit.capacity,
            refill: limit.refill,
            interval_ns: limit.interval.0,
            cost: limit.cost,
        };
        let quoted = string(&limit.name);
        Self {
            name: limit.name.clone(),
            shadow: limit.shadow,
            would_refuse: Count::default(),
            decided: Default::default(),
            deny_on_failure: limit.on_store_failure == OnFailure::Deny,
            is_exact: limit.shared == Shared::Exact,
            per_client: limit.per.contains(&Per::Client),
            terms: Terms::new(&quoted, bucket),
            quoted,
            per_ip: limit.per.contains(&Per::Ip),
            per_user: limit.per.contains(&Per::User),
            per_path: limit.per.contains(&Per::Path),
            per_headers: limit.per.iter().filter_map(header_of).collect(),
            pattern,
            // One for descriptors matches no request.
            methods: match limit.domain {
                None => limit.methods.clone(),
                Some(_) => Vec::new(),
            },
            fixed: limit
                .descriptor
                .iter()
                .map(|entry| entry.value.is_some())
                .collect(),
        }
    }

    /// What tells callers and requests apart for something else than a bucket. Whether it keeps the rules is for [`crate::settings`] to say.
    pub(crate) fn counting(name: &str, methods: &[String], per: &[Per], pattern: Pattern) -> Self {
        let limit = Limit {
            name: name.to_owned(),
            path: String::new(),
            methods: methods.to_vec(),
            per: per.to_vec(),
            capacity: 1,
            refill: 1,
            interval: Span::from_secs(1),
            cost: 1,
            shadow: false,
            on_store_failure: OnFailure::Deny,
            shared: Shared::Local,
            domain: None,
            descriptor: Vec::new(),
        };
        Self::new(&limit, pattern)
    }

    /// The bucket of a descriptor: its key has the values that the policy leaves open, in its order.
    pub(crate) fn bucket_of(&self, entries: &[(String, String)]) -> Bucket {
        let mut key = self.name.clone();
        let open = self.fixed.iter().zip(entries).filter(|(fixed, _)| !**fixed);
        open.for_each(|(_, (_, value))| push_part(&mut key, value));
        Bucket {
            key,
            ..self.terms.bucket.clone()
        }
    }

    /// The headers that it counts by; lower case.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &str> {
        self.per_headers.iter().map(String::as_str)
    }

    /// Whether a request of this method and path falls under it.
    pub(crate) fn falls_under(&self, method: &str, path: &str) -> bool {
        takes_method(&self.methods, method) && self.pattern.matches(path)
    }

    /// Counts a decision.
    pub(crate) fn decide(&self, decision: Decision) {
        if decision == Decision::WouldRefuse {
            self.would_refuse.add();
        }
        if let Some(count) = self.decided.get(decision as usize) {
            count.add();
        }
    }

    /// The bucket that this request is charged to, and what this caller is granted there. Its key:
    /// `<policy>|<client>|<user>|<header>…|<ip>|<path>`, with the parts it counts by.
    pub(crate) fn charge<'p>(&'p self, caller: &Caller<'p>) -> (Charged<'p>, Bucket) {
        let key = self.key(caller);
        let terms = match caller.settings.run_time.overrides_of(&self.name) {
            None => &self.terms,
            Some(overrides) => self.granted(overrides, caller),
        };
        let bucket = Bucket {
            key,
            ..terms.bucket.clone()
        };
        (Charged { policy: self, terms }, bucket)
    }

    /// The key of the bucket that this request is charged to.
    pub(crate) fn key(&self, caller: &Caller<'_>) -> String {
        let mut key = String::with_capacity(self.name.len() + 2 * key::MAX_PART_BYTES);
        key.push_str(&self.name);
        if let Some(client) = caller.client.as_ref().filter(|_| self.per_client) {
            push_part(&mut key, client.as_str());
        }
        if self.per_user {
            push_part(&mut key, &caller.user());
        }
        for name in &self.per_headers {
            push_part(&mut key, &caller.header(name));
        }
        if self.per_ip {
            push_part(&mut key, &caller.settings.proxies.client_ip(caller.request));
        }
        if self.per_path {
            push_path(&mut key, caller.path);
        }
        key
    }

    /// The key that is left of it where nothing counts but the address.
    pub(crate) fn key_of_address(&self, caller: &Caller<'_>) -> String {
        let mut key = self.name.clone();
        push_part(&mut key, &caller.address());
        key
    }

    /// Whether the caller could make up another key as it likes: it counts by a name without a key behind it, by a header, or by the path.
    pub(crate) fn is_made_up(&self, caller: &Caller<'_>) -> bool {
        let client = caller.client.as_ref().filter(|_| self.per_client);
        client.is_some_and(|client| client.as_str().starts_with("id:"))
            || self.per_user && identity::user(caller.settings, caller.request, caller.now).is_some()
            || !self.per_headers.is_empty()
            || self.per_path
    }

    /// What some are granted by an override: by their client id, else their user, else their address, whichever it counts by.
    fn granted<'p>(&'p self, overrides: &'p HashMap<String, Override>, caller: &Caller<'p>) -> &'p Terms {
        let of = |subject: &str| {
            let found = overrides.get(subject)?;
            found.is_in_force(caller.now).then_some(&found.terms)
        };
        let client = caller.client.as_ref().filter(|_| self.per_client);
        client
            .and_then(|client| of(client.as_str()))
            .or_else(|| self.per_user.then(|| of(&caller.user())).flatten())
            .or_else(|| self.per_ip.then(|| of(&caller.address())).flatten())
            .unwrap_or(&self.terms)
    }

    /// Whether it may count by this subject: a client id, or `user:<id>`.
    pub(crate) fn counts(&self, subject: &str) -> bool {
        if !self.fixed.is_empty() {
            return false;
        }
        let is_user = subject.starts_with("user:");
        self.per_client && !is_user
            || self.per_user && (is_user || subject.starts_with("ip:"))
            || self.per_ip && subject.starts_with("ip:")
    }

    /// The key of the bucket that this subject is charged to at this path (as [`tollgate_api::pattern::unreserved`] writes it).
    /// `None` where the policy counts by more than that tells.
    pub(crate) fn key_of(&self, subject: &str, path: Option<&str>) -> Option<String> {
        if !self.fixed.is_empty() {
            return None;
        }
        let mut key = self.name.clone();
        let address = subject.strip_prefix("ip:");
        let is_user = subject.starts_with("user:");
        if self.per_client {
            push_part(&mut key, Some(subject).filter(|_| !is_user)?);
        }
        if self.per_user {
            push_part(&mut key, Some(subject).filter(|_| is_user || address.is_some())?);
        }
        if !self.per_headers.is_empty() {
            return None;
        }
        if self.per_ip {
            push_part(&mut key, address?);
        }
        if self.per_path {
            push_path(&mut key, path?);
        }
        Some(key)
    }
}

fn header_of(per: &Per) -> Option<String> {
    match per {
        Per::Header(name) => Some(name.clone()),
        _ => None,
    }
}

/// A printable ASCII text as a structured field string.
pub(crate) fn string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A member of `RateLimit-Policy`: the quota is how many requests of this cost a full bucket admits, the window the time to
/// fill it from empty.
fn quota(quoted: &str, bucket: &Bucket) -> String {
    let nanos =
        (u128::from(bucket.capacity) * u128::from(bucket.interval_ns)).div_ceil(u128::from(bucket.refill));
    let window = nanos
        .div_ceil(u128::from(NANOS_PER_SECOND))
        .min(u128::from(MAX_INTEGER));
    let requests = bucket.capacity / bucket.cost.max(1);
    format!("{quoted};q={};w={window}", requests.min(MAX_INTEGER))
}
