//! Policies, compiled from the configuration once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sha2::{Digest as _, Sha256};

use super::fields;
use super::shadow::Count;
use crate::bucket::{Bucket, MAX_BUCKETS};
use crate::config::{Config, Limit, OnStoreFailure, Per};
use crate::http::Request;
use crate::identity::{ClientId, Proxies};
use crate::route::{Route, takes_method, unreserved};

/// The most policies: all of them may match one request, and one take has so many buckets.
pub const MAX_POLICIES: usize = MAX_BUCKETS;
/// The longest name of a policy, in characters.
const MAX_NAME_CHARS: usize = 64;
/// The longest part of a bucket's key that is not hashed, in bytes. A client id with its namespace fits.
const MAX_PART_BYTES: usize = 136;
/// Bytes of SHA-256 that stand for a longer part.
const PART_HASH_BYTES: usize = 16;

/// Why the configured limits cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A policy breaks a rule.
    #[error("limits: the policy {policy:?}: {reason}")]
    Policy {
        /// Its name.
        policy: String,
        /// The rule.
        reason: String,
    },
    /// More than [`MAX_POLICIES`].
    #[error("limits: there can be at most 16 policies")]
    TooMany,
    /// An entry of `server.trusted_proxies` is not a network.
    #[error("server.trusted_proxies: {0}")]
    Proxies(String),
}

/// Every policy in force, ready to match.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    all: Vec<Policy>,
    proxies: Proxies,
    /// When shadow policies were reported last, Unix milliseconds.
    pub(super) reported: Arc<AtomicU64>,
}

/// A policy, with everything worked out that does not depend on the request.
#[derive(Clone, Debug)]
pub(super) struct Policy {
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
    bucket: Bucket,
}

impl Policies {
    /// Checks and compiles `[[limits]]` and `server.trusted_proxies`.
    pub fn compile(config: &Config) -> Result<Self, CompileError> {
        if config.limits.len() > MAX_POLICIES {
            return Err(CompileError::TooMany);
        }
        let mut all: Vec<Policy> = Vec::with_capacity(config.limits.len());
        for limit in &config.limits {
            let fail = |reason| CompileError::Policy {
                policy: limit.name.clone(),
                reason,
            };
            if all.iter().any(|before| before.name == limit.name) {
                return Err(fail("the name is taken by another policy".to_owned()));
            }
            all.push(Policy::compile(limit).map_err(fail)?);
        }
        let proxies = Proxies::parse(&config.server.trusted_proxies).map_err(CompileError::Proxies)?;
        Ok(Self {
            all,
            proxies,
            reported: Arc::default(),
        })
    }

    /// The names of the shadow policies, as structured field strings, and what they would have refused.
    pub(super) fn shadow_counts(&self) -> impl Iterator<Item = (&str, &Count)> {
        let shadow = self.all.iter().filter(|policy| policy.shadow);
        shadow.map(|policy| (policy.quoted.as_str(), &policy.would_refuse))
    }

    pub(super) fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The policies for a request of this method and path, as [`unreserved`] writes it.
    pub(super) fn matching<'a>(&'a self, method: &'a str, path: &'a str) -> impl Iterator<Item = &'a Policy> {
        let falls_under =
            move |policy: &&Policy| takes_method(&policy.methods, method) && policy.route.matches(path);
        self.all.iter().filter(falls_under)
    }
}

impl Policy {
    fn compile(limit: &Limit) -> Result<Self, String> {
        let name_is_fine = (1..=MAX_NAME_CHARS).contains(&limit.name.len())
            && limit
                .name
                .bytes()
                .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'|');
        if !name_is_fine {
            return Err("a name is 1 to 64 printable ASCII characters other than |".to_owned());
        }
        let upper = |method: &String| !method.is_empty() && !method.bytes().any(|b| b.is_ascii_lowercase());
        if limit.methods.is_empty() || !limit.methods.iter().all(upper) {
            return Err("methods are upper case names, or \"*\"".to_owned());
        }
        if limit.per.contains(&Per::All) && limit.per.iter().any(|per| *per != Per::All) {
            return Err("per: \"all\" stands alone".to_owned());
        }
        if limit.cost == 0 {
            return Err("a cost is at least 1".to_owned());
        }
        let bucket = Bucket {
            key: String::new(),
            capacity: limit.capacity,
            refill: limit.refill,
            interval_ns: limit.interval.0,
            cost: limit.cost,
        };
        bucket.check().map_err(|error| error.to_string())?;
        let quoted = fields::string(&limit.name);
        Ok(Self {
            name: limit.name.clone(),
            shadow: limit.shadow,
            would_refuse: Count::default(),
            deny_on_failure: limit.on_store_failure == OnStoreFailure::Deny,
            per_client: limit.per.contains(&Per::Client),
            quota: fields::quota(&quoted, &bucket),
            quoted,
            per_ip: limit.per.contains(&Per::Ip),
            per_path: limit.per.contains(&Per::Path),
            route: Route::parse(&unreserved(&limit.path)).map_err(|error| format!("path: {error}"))?,
            methods: limit.methods.clone(),
            bucket,
        })
    }

    /// Tokens that a request takes; at least 1.
    pub(super) fn cost(&self) -> u64 {
        self.bucket.cost.max(1)
    }

    /// The bucket that this request is charged to: `<policy>|<client>|<ip>|<path>`, with the parts it counts
    /// by; `path` as [`unreserved`] writes it. An override of a client's capacity or refill would be put in here.
    pub(super) fn bucket(
        &self,
        policies: &Policies,
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
            push_part(&mut key, &policies.proxies.client_ip(request));
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
