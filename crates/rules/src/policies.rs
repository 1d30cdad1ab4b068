//! The policies of the limiter, compiled from `[[limits]]` once.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::config::{Limit, OnStoreFailure, Per};
use crate::identity::{ClientId, Proxies};
use tollgate_api::http::Request;
use tollgate_api::ids::hex;
use tollgate_api::pattern::{Pattern, takes_method};
use tollgate_store::bucket::Bucket;

/// The least time between two reports of what shadow policies would have refused, milliseconds.
pub const REPORT_MS: u64 = 10_000;
/// The greatest integer of a structured field (RFC 9651, section 3.3.1).
pub(crate) const MAX_INTEGER: u64 = 999_999_999_999_999;
pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// The longest part of a bucket's key that is not hashed, in bytes. A client id with its namespace fits.
const MAX_PART_BYTES: usize = 136;
/// Bytes of SHA-256 that stand for a longer part.
const PART_HASH_BYTES: usize = 16;

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
    /// The buckets could not be asked; [`OnStoreFailure`] decided.
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
    pub(crate) per_client: bool,
    /// The name as a structured field string (RFC 9651).
    pub(crate) quoted: String,
    /// Its member of `RateLimit-Policy`.
    pub(crate) quota: String,
    per_ip: bool,
    per_path: bool,
    pattern: Pattern,
    methods: Vec<String>,
    /// All but the key.
    pub(crate) bucket: Bucket,
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
    pub(crate) fn go_on_from(&mut self, before: &Self) {
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
        let counts = || self.all.iter().flat_map(|policy| &policy.decided);
        if counts().all(|count| count.0.load(Ordering::Relaxed) == 0) {
            return Vec::new();
        }
        counts().map(|count| count.0.swap(0, Ordering::Relaxed)).collect()
    }

    /// The names of the shadow policies, as structured field strings, and what they would have refused.
    fn shadow_counts(&self) -> impl Iterator<Item = (&str, &Count)> {
        let shadow = self.all.iter().filter(|policy| policy.shadow);
        shadow.map(|policy| (policy.quoted.as_str(), &policy.would_refuse))
    }

    /// The policies for a request of this method and path, as [`tollgate_api::pattern::unreserved`] writes it.
    pub(crate) fn matching<'a>(&'a self, method: &'a str, path: &'a str) -> impl Iterator<Item = &'a Policy> {
        let falls_under =
            move |policy: &&Policy| takes_method(&policy.methods, method) && policy.pattern.matches(path);
        self.all.iter().filter(falls_under)
    }
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
            deny_on_failure: limit.on_store_failure == OnStoreFailure::Deny,
            per_client: limit.per.contains(&Per::Client),
            quota: quota(&quoted, &bucket),
            quoted,
            per_ip: limit.per.contains(&Per::Ip),
            per_path: limit.per.contains(&Per::Path),
            pattern,
            methods: limit.methods.clone(),
            bucket,
        }
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

    /// Tokens that a request takes; at least 1.
    pub(crate) fn cost(&self) -> u64 {
        self.bucket.cost.max(1)
    }

    /// The bucket that this request is charged to: `<policy>|<client>|<ip>|<path>`, with the parts it counts
    /// by; `path` as [`tollgate_api::pattern::unreserved`] writes it. An override of a client's capacity or refill would be put in here.
    pub(crate) fn bucket(
        &self,
        proxies: &Proxies,
        request: &Request,
        path: &str,
        client: Option<&ClientId>,
    ) -> Bucket {
        let mut key = String::with_capacity(self.name.len() + 2 * MAX_PART_BYTES);
        key.push_str(&self.name);
        if let Some(client) = client.filter(|_| self.per_client) {
            push_part(&mut key, client.as_str());
        }
        if self.per_ip {
            push_part(&mut key, &proxies.client_ip(request));
        }
        if self.per_path {
            // As in routes: slashes at the ends are no way to another bucket.
            key.push_str("|/");
            push_bounded(&mut key, path.trim_matches('/'));
        }
        Bucket {
            key,
            ..self.bucket.clone()
        }
    }
}

/// The policy of a bucket's key, and the parts that it counts by: `key:<id>`, `id:<name>` or `ip:<address>` for a client, then an
/// address, then a path, which begins with `/`; a space and a hash in place of what is long.
pub fn parts(key: &str) -> (&str, Vec<String>) {
    let (mut rest, path) = match key.split_once("|/") {
        Some((rest, path)) => (rest, Some(["/", path].concat())),
        None => (key, None),
    };
    let mut parts = Vec::new();
    while let Some((before, last)) = rest.rsplit_once('|') {
        parts.push(last.replace("%7C", "|").replace("%25", "%"));
        rest = before;
    }
    parts.reverse();
    parts.extend(path);
    (rest, parts)
}

/// Appends `|` and a part in which no `|` is left, so that no two lists of parts make the same key.
fn push_part(key: &mut String, part: &str) {
    key.push('|');
    if part.bytes().any(|byte| matches!(byte, b'|' | b'%')) {
        push_bounded(key, &part.replace('%', "%25").replace('|', "%7C"));
    } else {
        push_bounded(key, part);
    }
}

/// Appends a text, or its hash where it is long: keys are bounded.
fn push_bounded(key: &mut String, text: &str) {
    if text.len() <= MAX_PART_BYTES {
        key.push_str(text);
        return;
    }
    // A space: no path and no client id has one, so no short text looks like a hash.
    key.push(' ');
    let hash = Sha256::digest(text.as_bytes());
    key.push_str(&hex(hash.get(..PART_HASH_BYTES).unwrap_or(&hash)));
}

/// A printable ASCII text as a structured field string.
fn string(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_in_the_parts_that_it_was_made_of() {
        let long = "x".repeat(MAX_PART_BYTES + 1);
        for (clients, path) in [
            (&["id:ann"][..], None),
            (&["id:a|b%7Cc", "2001:db8::/64"], Some("/api/links")),
            (&[], Some("/a|b|/c")),
            (&[], None),
        ] {
            let mut key = "default".to_owned();
            clients.iter().for_each(|part| push_part(&mut key, part));
            key.extend(path);
            let key = key
                .replacen("default/", "default|/", 1)
                .replacen("/64/api", "/64|/api", 1);
            let whole: Vec<&str> = clients.iter().copied().chain(path).collect();
            assert_eq!(
                parts(&key),
                ("default", whole.iter().map(|part| (*part).to_owned()).collect())
            );
        }
        let mut key = "default".to_owned();
        push_part(&mut key, &long);
        let (_, found) = parts(&key);
        assert!(found[0].starts_with(' ') && found.len() == 1, "{found:?}");
    }
}
