//! The limits of other servers' descriptors: what Envoy's rate limit service asks for (`envoy.service.ratelimit.v3`). A limit with a
//! `domain` and a `descriptor` counts these, and no request of HTTP.
//!
//! Of the limits that match a descriptor, the one with the most fixed values counts it. All descriptors of a call are one take: all are
//! charged, or none.

use crate::config::DescriptorEntry;
use crate::policies::{Decision, NANOS_PER_SECOND, Policy};
use crate::settings::Settings;
use tollgate_api::http::Header;
use tollgate_store::bucket::{Bucket, Level, MAX_BUCKETS, TakeError};
use tollgate_store::ports::Buckets;

/// The most descriptors of a call, and the most entries of one.
pub const MAX_DESCRIPTORS: usize = MAX_BUCKETS;
/// See [`MAX_DESCRIPTORS`].
pub const MAX_ENTRIES: usize = 8;
/// The longest key of an entry, in bytes.
pub const MAX_TEXT: usize = 1_024;

/// What a call asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Keys with their values, in their order.
    pub entries: Vec<(String, String)>,
    /// Requests that it stands for; without it, the call's.
    pub hits: Option<u64>,
}

/// What a descriptor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it is over its limit.
    pub is_over: bool,
    /// The limit that counts it, if there is one.
    pub limit: Option<Counting>,
}

/// A limit, and what it has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counting {
    /// Its name.
    pub name: String,
    /// Requests that it gains in `interval`.
    pub refill: u64,
    /// Seconds, where these are whole.
    pub interval: Option<u64>,
    /// Requests that a full bucket has.
    pub capacity: u64,
    /// Requests left.
    pub remaining: u64,
    /// Seconds until there is room again, or until the bucket is full.
    pub reset: u64,
}

/// What a call is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether a descriptor is over its limit: then nothing was taken.
    pub is_over: bool,
    /// Of each descriptor, in its order.
    pub statuses: Vec<Status>,
    /// For the answer to whom the call is about.
    pub headers: Vec<Header>,
}

/// Why a call is not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is out of bounds: what, and the bound.
    Invalid(&'static str),
    /// The buckets cannot be asked.
    Unavailable,
}

/// A descriptor and the limit that counts it.
struct Charge<'s> {
    policy: &'s Policy,
    /// Which descriptors, by index.
    of: Vec<usize>,
    bucket: Bucket,
    level: Option<Level>,
    /// Whether it lacked its cost.
    lacks: bool,
    /// Whether the gateways' store could not be asked about it.
    is_left_out: bool,
}

/// Decides a call. `hits`: the requests that a descriptor stands for that does not say so itself; 0 for 1.
///
/// # Errors
/// [`Failure`]; nothing was taken.
pub async fn ask<B: Buckets>(
    settings: &Settings,
    buckets: &B,
    domain: &str,
    descriptors: &[Descriptor],
    hits: u32,
) -> Result<Told, Failure> {
    check(domain, descriptors)?;
    let mut charges: Vec<Charge<'_>> = Vec::new();
    for (index, descriptor) in descriptors.iter().enumerate() {
        let Some(policy) = policy_of(settings, domain, descriptor) else {
            continue;
        };
        let hits = descriptor.hits.unwrap_or(u64::from(hits.max(1)));
        let mut bucket = policy.bucket_of(&descriptor.entries);
        bucket.cost = bucket.cost.saturating_mul(hits);
        match charges.iter_mut().find(|one| one.bucket.key == bucket.key) {
            Some(same) => {
                same.bucket.cost = same.bucket.cost.saturating_add(bucket.cost);
                same.of.push(index);
            }
            None => charges.push(Charge {
                policy,
                of: vec![index],
                bucket,
                level: None,
                lacks: false,
                is_left_out: false,
            }),
        }
    }
    let is_over = take(buckets, &mut charges).await?;
    Ok(told(descriptors.len(), &charges, is_over))
}

fn check(domain: &str, descriptors: &[Descriptor]) -> Result<(), Failure> {
    let ensure = |holds: bool, what| {
        if holds {
            Ok(())
        } else {
            Err(Failure::Invalid(what))
        }
    };
    ensure(
        !domain.is_empty() && domain.len() <= MAX_TEXT,
        "domain must have 1 to 1024 bytes",
    )?;
    ensure(
        (1..=MAX_DESCRIPTORS).contains(&descriptors.len()),
        "descriptors must be 1 to 16",
    )?;
    for descriptor in descriptors {
        ensure(
            (1..=MAX_ENTRIES).contains(&descriptor.entries.len()),
            "entries of a descriptor must be 1 to 8",
        )?;
        // A value is the caller's own, such as a path: were a long one refused, Envoy would let it through.
        let fits = |(key, _): &(String, String)| !key.is_empty() && key.len() <= MAX_TEXT;
        ensure(
            descriptor.entries.iter().all(fits),
            "key must have 1 to 1024 bytes",
        )?;
    }
    Ok(())
}

/// The limit that counts a descriptor: of those that match, the one with the most fixed values, and of equal ones the first.
fn policy_of<'s>(settings: &'s Settings, domain: &str, descriptor: &Descriptor) -> Option<&'s Policy> {
    let both = settings.policies.iter().zip(&settings.config.limits);
    let matching = both.filter(|(_, limit)| {
        limit.domain.as_deref() == Some(domain) && matches(&limit.descriptor, &descriptor.entries)
    });
    let fixed = |entries: &[DescriptorEntry]| entries.iter().filter(|entry| entry.value.is_some()).count();
    // Of equal ones, `max_by_key` gives the last.
    let best = matching.rev().max_by_key(|(_, limit)| fixed(&limit.descriptor));
    best.map(|(policy, _)| policy)
}

fn matches(wanted: &[DescriptorEntry], entries: &[(String, String)]) -> bool {
    let fits = |(wanted, (key, value)): (&DescriptorEntry, &(String, String))| {
        wanted.key == *key && wanted.value.as_ref().is_none_or(|fixed| fixed == value)
    };
    wanted.len() == entries.len() && wanted.iter().zip(entries).all(fits)
}

/// Takes all costs or none. What a shadow limit lacks keeps nobody from being charged. Returns whether an enforced one lacks its cost.
async fn take<B: Buckets>(buckets: &B, charges: &mut [Charge<'_>]) -> Result<bool, Failure> {
    // A cost that no full bucket has is never there.
    let lacks_for_ever = |charge: &Charge<'_>| charge.bucket.cost > charge.bucket.capacity;
    let mut is_only_read = charges
        .iter()
        .any(|one| lacks_for_ever(one) && !one.policy.shadow);
    let mut asked: Vec<usize> = (0..charges.len()).collect();
    if !is_only_read {
        asked.retain(|index| charges.get(*index).is_some_and(|one| !lacks_for_ever(one)));
    }
    // Every round leaves out at least one shadow limit, or the exact ones, or is the last.
    for _ in 0..=charges.len() + 1 {
        if asked.is_empty() {
            break;
        }
        let of = |index: &usize| {
            let mut bucket = charges.get(*index).map(|one| one.bucket.clone())?;
            if is_only_read {
                bucket.cost = 0;
            }
            Some(bucket)
        };
        let wanted = asked.iter().filter_map(of).collect();
        let (levels, is_taken) = match buckets.take(wanted).await {
            Ok(levels) => (levels, true),
            Err(TakeError::Refused { levels, .. }) => (levels, false),
            Err(TakeError::Unavailable(_)) if leave_out_exact(charges, &mut asked) => continue,
            Err(_) => return without_buckets(charges),
        };
        for (index, level) in asked.iter().zip(levels) {
            if let Some(one) = charges.get_mut(*index) {
                one.level = Some(level).filter(Level::is_known);
                one.lacks = !is_taken && level.next_ns > 0;
            }
        }
        if is_taken {
            break;
        }
        let lacks = |index: &usize| {
            let one = charges.get(*index);
            one.is_some_and(|one| one.lacks)
        };
        let enforced = |index: &usize| charges.get(*index).is_some_and(|one| !one.policy.shadow);
        if asked.iter().any(|index| enforced(index) && lacks(index)) {
            is_only_read = true;
            break;
        }
        let kept: Vec<usize> = asked.iter().copied().filter(|index| !lacks(index)).collect();
        if kept.len() == asked.len() {
            return without_buckets(charges);
        }
        asked = kept;
    }
    let mut is_over = false;
    for one in charges.iter().filter(|one| !one.is_left_out) {
        let lacks = one.is_over();
        is_over |= lacks && !one.policy.shadow;
        match (lacks, one.policy.shadow) {
            (true, true) => one.policy.decide(Decision::WouldRefuse),
            (true, false) => one.policy.decide(Decision::Refused),
            (false, _) if !is_only_read => one.policy.decide(Decision::Admitted),
            (false, _) => {}
        }
    }
    Ok(is_over)
}

/// Goes on without the limits that the gateways' store counts, where it cannot be asked, others are counted here, and a call passes
/// without them.
fn leave_out_exact(charges: &mut [Charge<'_>], asked: &mut Vec<usize>) -> bool {
    let is_exact = |index: &usize| charges.get(*index).is_some_and(|one| one.policy.is_exact);
    let (exact, others): (Vec<usize>, Vec<usize>) = asked.iter().partition(|index| is_exact(index));
    let denies = |index: &usize| {
        let one = charges.get(*index).map(|one| one.policy);
        one.is_some_and(|policy| policy.deny_on_failure && !policy.shadow)
    };
    if exact.is_empty() || others.is_empty() || exact.iter().any(denies) {
        return false;
    }
    for index in exact {
        if let Some(one) = charges.get_mut(index) {
            one.is_left_out = true;
            one.policy.decide(Decision::Failed);
        }
    }
    *asked = others;
    true
}

/// The failure mode of the limits decides.
fn without_buckets(charges: &[Charge<'_>]) -> Result<bool, Failure> {
    charges.iter().for_each(|one| one.policy.decide(Decision::Failed));
    match charges
        .iter()
        .any(|one| one.policy.deny_on_failure && !one.policy.shadow)
    {
        true => Err(Failure::Unavailable),
        false => Ok(false),
    }
}

impl Charge<'_> {
    fn is_over(&self) -> bool {
        self.lacks || self.bucket.cost > self.bucket.capacity
    }

    fn counting(&self) -> Option<Counting> {
        let (level, cost) = (self.level?, self.policy.terms.cost());
        let bucket = &self.policy.terms.bucket;
        let wait = match self.is_over() {
            true if level.next_ns > 0 => level.next_ns,
            _ => level.full_ns,
        };
        let interval = bucket.interval_ns;
        Some(Counting {
            name: self.policy.name.clone(),
            refill: bucket.refill / cost,
            interval: interval
                .is_multiple_of(NANOS_PER_SECOND)
                .then_some(interval / NANOS_PER_SECOND),
            capacity: bucket.capacity / cost,
            remaining: level.remaining / cost,
            reset: wait.div_ceil(NANOS_PER_SECOND),
        })
    }
}

fn told(descriptors: usize, charges: &[Charge<'_>], is_over: bool) -> Told {
    let status = |index: usize| {
        let found = charges.iter().find(|one| one.of.contains(&index));
        Status {
            is_over: found.is_some_and(|one| one.is_over() && !one.policy.shadow),
            limit: found.and_then(Charge::counting),
        }
    };
    let statuses: Vec<Status> = (0..descriptors).map(status).collect();
    let enforced = || {
        let enforced = charges.iter().filter(|one| !one.policy.shadow);
        enforced.filter_map(|one| Some((one, one.counting()?)))
    };
    let quotas: Vec<&str> = enforced()
        .map(|(one, _)| one.policy.terms.quota.as_str())
        .collect();
    let limits: Vec<String> = enforced()
        .map(|(one, counting)| {
            let (quoted, remaining, reset) = (&one.policy.quoted, counting.remaining, counting.reset);
            format!("{quoted};r={remaining};t={reset}")
        })
        .collect();
    let mut headers = Vec::new();
    if !quotas.is_empty() {
        headers.push(Header::new("ratelimit-policy", quotas.join(", ")));
        headers.push(Header::new("ratelimit", limits.join(", ")));
    }
    if is_over {
        let over = enforced().filter(|(one, _)| one.is_over());
        let wait = over.map(|(_, counting)| counting.reset).max().unwrap_or(1).max(1);
        headers.push(Header::new("retry-after", wait.to_string()));
    }
    Told {
        is_over,
        statuses,
        headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ready;
    use tollgate_store::memory::InMemoryBuckets;

    const FILE: &str = "[[limits]]\nname = \"each\"\ndomain = \"site\"\ndescriptor = [{ key = \"remote_address\" }]\ncapacity = 3\nrefill = 1\ninterval = \"1m\"\n\n\
        [[limits]]\nname = \"login\"\ndomain = \"site\"\ndescriptor = [{ key = \"path\", value = \"/login\" }, { key = \"remote_address\" }]\ncapacity = 2\nrefill = 1\ninterval = \"1h\"\n\n\
        [[limits]]\nname = \"paths\"\ndomain = \"site\"\ndescriptor = [{ key = \"path\" }, { key = \"remote_address\" }]\ncapacity = 9\nrefill = 9\n\n\
        [[limits]]\nname = \"tried\"\ndomain = \"site\"\ndescriptor = [{ key = \"tried\" }]\ncapacity = 1\nrefill = 1\ninterval = \"1h\"\nshadow = true\n";

    fn settings() -> Settings {
        Settings::parse(FILE, "tollgate.toml").unwrap()
    }

    fn of(entries: &[(&str, &str)]) -> Descriptor {
        Descriptor {
            entries: entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            hits: None,
        }
    }

    #[track_caller]
    fn asked(buckets: &InMemoryBuckets, descriptors: &[Descriptor], hits: u32) -> Told {
        ready(ask(&settings(), buckets, "site", descriptors, hits)).unwrap()
    }

    fn left(told: &Told) -> Vec<(bool, Option<(&str, u64)>)> {
        let mut all = Vec::new();
        for status in &told.statuses {
            let limit = status.limit.as_ref();
            all.push((
                status.is_over,
                limit.map(|limit| (limit.name.as_str(), limit.remaining)),
            ));
        }
        all
    }

    #[test]
    fn a_descriptor_is_counted_by_the_limit_that_says_most() {
        let buckets = InMemoryBuckets::default();
        let login = |address| of(&[("path", "/login"), ("remote_address", address)]);
        let told = asked(
            &buckets,
            &[login("a"), of(&[("remote_address", "a")]), of(&[("else", "a")])],
            0,
        );
        assert!(!told.is_over);
        assert_eq!(
            left(&told),
            [
                (false, Some(("login", 1))),
                (false, Some(("each", 2))),
                (false, None)
            ]
        );
        let told = asked(&buckets, &[of(&[("path", "/x"), ("remote_address", "a")])], 0);
        assert_eq!(left(&told), [(false, Some(("paths", 8)))]);
        // The order counts, and so does every entry.
        for other in [
            of(&[("remote_address", "a"), ("path", "/login")]),
            of(&[("path", "/login")]),
        ] {
            assert_eq!(left(&asked(&buckets, &[other], 0)), [(false, None)]);
        }
        let elsewhere = ready(ask(&settings(), &buckets, "other", &[login("a")], 0)).unwrap();
        assert_eq!(left(&elsewhere), [(false, None)]);
    }

    #[test]
    fn all_descriptors_of_a_call_are_taken_or_none() {
        let buckets = InMemoryBuckets::default();
        let both = [
            of(&[("path", "/login"), ("remote_address", "a")]),
            of(&[("remote_address", "a")]),
        ];
        assert!(!asked(&buckets, &both, 2).is_over);
        let told = asked(&buckets, &both, 1);
        assert!(told.is_over);
        assert_eq!(
            left(&told),
            [(true, Some(("login", 0))), (false, Some(("each", 1)))]
        );
        assert_eq!(told.headers[2], Header::new("retry-after", "3600"));
        assert_eq!(
            left(&asked(&buckets, &both[1..], 1)),
            [(false, Some(("each", 0)))]
        );
        // More than there ever is: read, and nothing else is taken.
        let told = asked(
            &buckets,
            &[
                of(&[("remote_address", "b")]),
                of(&[("path", "/y"), ("remote_address", "b")]),
            ],
            4,
        );
        assert_eq!(
            left(&told),
            [(true, Some(("each", 3))), (false, Some(("paths", 9)))]
        );
        // Twice the same is charged twice.
        let same = [of(&[("remote_address", "c")]), of(&[("remote_address", "c")])];
        assert_eq!(left(&asked(&buckets, &same, 1))[0], (false, Some(("each", 1))));
        assert!(asked(&buckets, &same, 1).is_over);
        let own = Descriptor {
            hits: Some(0),
            ..of(&[("remote_address", "c")])
        };
        assert_eq!(
            left(&asked(&buckets, &[own], 9)),
            [(false, Some(("each", 1)))],
            "0 reads"
        );
    }

    #[test]
    fn a_shadow_limit_refuses_nothing_and_keeps_nobody_from_being_charged() {
        let buckets = InMemoryBuckets::default();
        let both = [of(&[("tried", "a")]), of(&[("remote_address", "a")])];
        for remaining in [2, 1, 0] {
            let told = asked(&buckets, &both, 1);
            assert!(!told.is_over);
            assert_eq!(left(&told)[1], (false, Some(("each", remaining))));
        }
        assert!(asked(&buckets, &both, 1).is_over);
    }

    #[test]
    fn a_long_value_is_no_way_around_a_limit() {
        let buckets = InMemoryBuckets::default();
        let long = "/x".repeat(30 << 10);
        let both = [of(&[("path", &long)]), of(&[("remote_address", "a")])];
        for remaining in [2, 1, 0] {
            let told = asked(&buckets, &both, 1);
            assert_eq!(left(&told)[1], (false, Some(("each", remaining))));
        }
        assert!(asked(&buckets, &both, 1).is_over);
    }

    #[test]
    fn calls_out_of_bounds_are_not_decided() {
        let buckets = InMemoryBuckets::default();
        let one = of(&[("remote_address", "a")]);
        for (domain, descriptors) in [
            ("", vec![one.clone()]),
            ("site", vec![]),
            ("site", vec![one.clone(); MAX_DESCRIPTORS + 1]),
            ("site", vec![of(&[])]),
            ("site", vec![of(&[("", "a")])]),
            ("site", vec![of(&[(&"x".repeat(MAX_TEXT + 1), "a")])]),
            ("site", vec![of(&[("a", "b"); MAX_ENTRIES + 1])]),
        ] {
            let found = ready(ask(&settings(), &buckets, domain, &descriptors, 1));
            assert!(
                matches!(found, Err(Failure::Invalid(_))),
                "{domain} {descriptors:.60?}"
            );
        }
    }
}
