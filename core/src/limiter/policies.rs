//! Policies, compiled from the configuration once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sha2::{Digest as _, Sha256};

use super::fields;
use super::shadow::Count;
use crate::bucket::Bucket;
use crate::config::{Limit, OnStoreFailure, Per};
use crate::http::Request;
use crate::identity::{ClientId, Proxies};
use crate::route::{Route, takes_method};

/// The longest part of a bucket's key that is not hashed, in bytes. A client id with its namespace fits.
const MAX_PART_BYTES: usize = 136;
/// Bytes of SHA-256 that stand for a longer part.
const PART_HASH_BYTES: usize = 16;

/// Every policy in force, ready to match.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    all: Vec<Policy>,
    /// When shadow policies were reported last, Unix milliseconds.
    pub(super) reported: Arc<AtomicU64>,
}

/// A policy, with everything worked out that does not depend on the request.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(super) name: String,
    pub(super) shadow: bool,
    pub(super) would_refuse: Count,
    pub(super) deny_on_failure: bool,
    pub(super) per_client: bool,
    /// The name as a structured field string (RFC 9651).
    pub(super) quoted: String,
    /// Its member of `RateLimit-Policy`.
    pub(super) quota: String,
    per_ip: bool,
    per_path: bool,
    route: Route,
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

    /// The names of the shadow policies, as structured field strings, and what they would have refused.
    pub(super) fn shadow_counts(&self) -> impl Iterator<Item = (&str, &Count)> {
        let shadow = self.all.iter().filter(|policy| policy.shadow);
        shadow.map(|policy| (policy.quoted.as_str(), &policy.would_refuse))
    }

    /// The policies for a request of this method and path, as [`crate::route::unreserved`] writes it.
    pub(super) fn matching<'a>(&'a self, method: &'a str, path: &'a str) -> impl Iterator<Item = &'a Policy> {
        let falls_under =
            move |policy: &&Policy| takes_method(&policy.methods, method) && policy.route.matches(path);
        self.all.iter().filter(falls_under)
    }
}

impl Policy {
    /// Of a limit, with its path read. Whether it keeps the rules is for [`crate::settings`] to say.
    pub(crate) fn new(limit: &Limit, route: Route) -> Self {
        let bucket = Bucket {
            key: String::new(),
            capacity: limit.capacity,
            refill: limit.refill,
            interval_ns: limit.interval.0,
            cost: limit.cost,
        };
        let quoted = fields::string(&limit.name);
        Self {
            name: limit.name.clone(),
            shadow: limit.shadow,
            would_refuse: Count::default(),
            deny_on_failure: limit.on_store_failure == OnStoreFailure::Deny,
            per_client: limit.per.contains(&Per::Client),
            quota: fields::quota(&quoted, &bucket),
            quoted,
            per_ip: limit.per.contains(&Per::Ip),
            per_path: limit.per.contains(&Per::Path),
            route,
            methods: limit.methods.clone(),
            bucket,
        }
    }

    /// Tokens that a request takes; at least 1.
    pub(super) fn cost(&self) -> u64 {
        self.bucket.cost.max(1)
    }

    /// The bucket that this request is charged to: `<policy>|<client>|<ip>|<path>`, with the parts it counts
    /// by; `path` as [`crate::route::unreserved`] writes it. An override of a client's capacity or refill would be put in here.
    pub(super) fn bucket(
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
    for byte in hash.iter().take(PART_HASH_BYTES) {
        key.push_str(&format!("{byte:02x}"));
    }
}
