//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), as structured fields (RFC
//! 9651).

use crate::policies::{Charged, MAX_INTEGER, NANOS_PER_SECOND};
use tollgate_api::http::Header;
use tollgate_store::bucket::Level;

/// Characters of a member of `RateLimit` behind its name, at most: `;r=` and `;t=`, each with an integer.
const LIMIT_CHARS: usize = 2 * (3 + 15);

/// Whole seconds, rounded up.
pub(super) fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(NANOS_PER_SECOND)
}

/// Both headers, for the enforced policies: a client need not heed shadow policies, and of one that was not asked nothing is
/// known. No headers where there is none.
pub(super) fn headers(policies: &[Charged<'_>], levels: &[Level]) -> Vec<Header> {
    let (mut quotas, mut limits) = (String::new(), String::new());
    let mut digits = itoa::Buffer::new();
    let told = policies.iter().zip(levels);
    for (policy, level) in told.filter(|(policy, level)| !policy.shadow && level.is_known()) {
        if quotas.is_empty() {
            limits.reserve(policy.quoted.len() + LIMIT_CHARS);
        } else {
            quotas.push_str(", ");
            limits.push_str(", ");
        }
        quotas.push_str(&policy.terms.quota);
        let (remaining, reset) = (
            // Requests, as in the quota.
            (level.remaining / policy.terms.cost()).min(MAX_INTEGER),
            seconds(level.full_ns).min(MAX_INTEGER),
        );
        // Without a formatter, which costs a component more than all the rest of this.
        limits.push_str(&policy.quoted);
        limits.push_str(";r=");
        limits.push_str(digits.format(remaining));
        limits.push_str(";t=");
        limits.push_str(digits.format(reset));
    }
    if quotas.is_empty() {
        return Vec::new();
    }
    vec![
        Header::new("ratelimit-policy", quotas),
        Header::new("ratelimit", limits),
    ]
}

/// The older `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds until the bucket is full), of the enforced policy that has the
/// fewest requests left: these fields have room for one.
pub(super) fn older(policies: &[Charged<'_>], levels: &[Level]) -> Vec<Header> {
    let left = |policy: &Charged<'_>, level: &Level| level.remaining / policy.terms.cost();
    let both = policies.iter().zip(levels);
    let enforced = both.filter(|(policy, level)| !policy.shadow && level.is_known());
    let Some((policy, level)) = enforced.min_by_key(|(policy, level)| left(policy, level)) else {
        return Vec::new();
    };
    let quota = policy.terms.bucket.capacity / policy.terms.cost();
    [
        ("x-ratelimit-limit", quota),
        ("x-ratelimit-remaining", left(policy, level)),
        ("x-ratelimit-reset", seconds(level.full_ns)),
    ]
    .map(|(name, number)| Header::new(name, number.min(MAX_INTEGER).to_string()))
    .into()
}
