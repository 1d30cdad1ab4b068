//! `[[limits]]`, `[[quotas]]` and `[[concurrency]]`: names that no two of them share, and what each counts by.

use std::collections::BTreeSet;

use super::checks::{Checked, at_most, ensure, header_name, methods, pattern, within};
use crate::concurrency::Concurrency;
use crate::config::{
    ConcurrencySettings, Config, Fault, Limit, MAX_AT_ONCE, MAX_CONCURRENCY, MAX_DESCRIBED, MAX_LIMITS,
    MAX_NAME, MAX_QUOTA, MAX_QUOTAS, Path, Per, QuotaSettings, any_path,
};
use crate::limiter::described::{MAX_ENTRIES, MAX_TEXT};
use crate::policies::{Policies, Policy};
use crate::quotas::{Quota, Zone};
use tollgate_api::pattern::{Pattern, unreserved};
use tollgate_api::units::Span;

/// The parts of a bucket's key, each bounded, and a limit's name together fit in a key.
const MAX_PER: usize = 3;
const INTERVAL_BOUNDS: (Span, Span) = (Span::from_millis(1), Span::from_secs(30 * 86_400));

/// All three lists of the file.
pub(super) fn compile(
    config: &Config,
    root: &Path,
) -> Result<(Policies, Vec<Quota>, Vec<Concurrency>), Fault> {
    let path = root.key("limits");
    let described = config
        .limits
        .iter()
        .filter(|limit| limit.domain.is_some())
        .count();
    at_most(described, MAX_DESCRIBED, &path)?;
    at_most(config.limits.len() - described, MAX_LIMITS, &path)?;
    let (mut names, mut policies) = (BTreeSet::new(), Vec::new());
    for (index, one) in config.limits.iter().enumerate() {
        let path = path.index(index);
        policies.push(limit(one, &path)?);
        ensure(
            names.insert(&one.name),
            path.key("name"),
            "is used by an earlier limit",
        )?;
    }
    let quotas = quotas(&config.quotas, &mut names, &root.key("quotas"))?;
    let concurrency = concurrency(&config.concurrency, &mut names, &root.key("concurrency"))?;
    Ok((Policies::new(policies), quotas, concurrency))
}

/// What limits, quotas and concurrency limits have alike: name, path, methods, and what they count by. Gives the path as it is compared.
fn counted((name, route, verbs, by): (&str, &str, &[String], &[Per]), path: &Path) -> Result<Pattern, Fault> {
    name_of_limit(name, path.key("name"))?;
    pattern(route, path.key("path"))?;
    // As every text of a path is read; a pattern, too, may stand there encoded.
    let plain = pattern(&unreserved(route), path.key("path"))?;
    methods(verbs, &path.key("methods"))?;
    per(by, &path.key("per"))?;
    Ok(plain)
}

fn limit(limit: &Limit, path: &Path) -> Result<Policy, Fault> {
    let plain = counted((&limit.name, &limit.path, &limit.methods, &limit.per), path)?;
    ensure(limit.capacity >= 1, path.key("capacity"), "must be at least 1")?;
    ensure(limit.refill >= 1, path.key("refill"), "must be at least 1")?;
    within(limit.interval, INTERVAL_BOUNDS, path.key("interval"))?;
    within(limit.cost, (1, limit.capacity), path.key("cost"))?;
    described(limit, path)?;
    let policy = Policy::new(limit, plain);
    // What is left of a bucket's rules.
    ensure(
        policy.terms.bucket.check().is_ok(),
        path.key("capacity"),
        "is too large for this interval and refill: capacity × interval in nanoseconds / gcd(refill, interval) and \
         refill / gcd must be at most 2^62",
    )?;
    Ok(policy)
}

/// `names`: of the limits, with which those of quotas stand in problems.
fn quotas<'a>(
    all: &'a [QuotaSettings],
    names: &mut BTreeSet<&'a String>,
    path: &Path,
) -> Result<Vec<Quota>, Fault> {
    at_most(all.len(), MAX_QUOTAS, path)?;
    let mut compiled = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let path = path.index(index);
        let plain = counted((&one.name, &one.path, &one.methods, &one.per), &path)?;
        ensure(
            names.insert(&one.name),
            path.key("name"),
            "is used by an earlier limit or quota",
        )?;
        within(one.limit, (1, MAX_QUOTA), path.key("limit"))?;
        let zone = Zone::named(&one.timezone).ok_or_else(|| {
            let rule = "must be a name of the IANA time zone database, e.g. Europe/Berlin";
            Fault::new(path.key("timezone"), rule)
        })?;
        compiled.push(Quota::new(one, plain, zone));
    }
    Ok(compiled)
}

/// `names`: of the limits and quotas.
fn concurrency<'a>(
    all: &'a [ConcurrencySettings],
    names: &mut BTreeSet<&'a String>,
    path: &Path,
) -> Result<Vec<Concurrency>, Fault> {
    at_most(all.len(), MAX_CONCURRENCY, path)?;
    let mut compiled = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let path = path.index(index);
        let plain = counted((&one.name, &one.path, &one.methods, &one.per), &path)?;
        ensure(
            names.insert(&one.name),
            path.key("name"),
            "is used by an earlier limit or quota",
        )?;
        within(one.max, (1, MAX_AT_ONCE), path.key("max"))?;
        ensure(
            matches!(one.status, 429 | 503),
            path.key("status"),
            "must be 429 or 503",
        )?;
        compiled.push(Concurrency::new(one, plain));
    }
    Ok(compiled)
}

/// A limit of descriptors has nothing of one of requests.
fn described(limit: &Limit, path: &Path) -> Checked {
    let Some(domain) = &limit.domain else {
        return ensure(
            limit.descriptor.is_empty(),
            path.key("descriptor"),
            "needs domain",
        );
    };
    let fits = |text: &str| (1..=MAX_TEXT).contains(&text.len());
    ensure(fits(domain), path.key("domain"), "must have 1 to 1024 bytes")?;
    let entries = path.key("descriptor");
    ensure(
        (1..=MAX_ENTRIES).contains(&limit.descriptor.len()),
        entries.clone(),
        "must have 1 to 8 entries",
    )?;
    for (index, entry) in limit.descriptor.iter().enumerate() {
        let path = entries.index(index);
        ensure(fits(&entry.key), path.key("key"), "must have 1 to 1024 bytes")?;
        let value = entry.value.as_deref().unwrap_or("-");
        ensure(fits(value), path.key("value"), "must have 1 to 1024 bytes")?;
    }
    let is_bare = limit.path == any_path() && limit.methods == ["*"] && limit.per == [Per::Client];
    ensure(
        is_bare,
        path.key("domain"),
        "goes with descriptor alone: path, methods and per are for requests",
    )
}

/// A bar separates the parts of a bucket's key.
fn name_of_limit(name: &str, path: Path) -> Checked {
    let name_ok =
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'|');
    ensure(
        name_ok,
        path,
        "must be 1 to 64 visible ASCII characters other than |",
    )
}

fn per(per: &[Per], path: &Path) -> Checked {
    at_most(per.len(), MAX_PER, path)?;
    let distinct = per.iter().collect::<BTreeSet<_>>().len();
    ensure(distinct == per.len(), path.clone(), "must not repeat itself")?;
    let alone = per.len() <= 1 || !per.contains(&Per::All);
    ensure(alone, path.clone(), "must hold \"all\" alone")?;
    for (index, one) in per.iter().enumerate() {
        if let Per::Header(name) = one {
            header_name(name, path.index(index))?;
        }
    }
    Ok(())
}
