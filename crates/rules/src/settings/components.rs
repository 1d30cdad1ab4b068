//! Rules of `[[components]]`, and their compiled routes.

use std::collections::BTreeSet;

use super::checks::{Checked, at_most, ensure, outside, strip_prefix, within};
use super::outbound::OutboundHost;
use crate::config::{
    ComponentSettings, Fault, MAX_COMPONENTS, MAX_OUTBOUND_HOSTS, Path, TOPIC_NAME_RULE, is_topic_name,
};
use tollgate_api::pattern::Pattern;
use tollgate_api::units::{Bytes, Span};

const MEMORY_BOUNDS: (Bytes, Bytes) = (Bytes(1 << 20), Bytes(4 << 30));
const TIMEOUT_BOUNDS: (Span, Span) = (Span::from_millis(100), Span::from_secs(600));
/// Each may have two instances, with 4 GiB of addresses each.
const CONCURRENCY_BOUNDS: (u32, u32) = (1, 256);
const MAX_VARIABLES: usize = 64;
/// Names and values of all variables of one component.
const MAX_ENVIRONMENT: usize = 256 << 10;
const MAX_STORE_PREFIX: usize = 128;

/// The compiled route of one of the `[[components]]`.
#[derive(Clone, Debug)]
pub struct ComponentRoute {
    /// Its pattern.
    pub path: Pattern,
    /// The hosts that it may call.
    pub outbound: Vec<OutboundHost>,
}

pub(super) fn compile(components: &[ComponentSettings], path: &Path) -> Result<Vec<ComponentRoute>, Fault> {
    at_most(components.len(), MAX_COMPONENTS, path)?;
    let (mut names, mut paths, mut routes) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (index, one) in components.iter().enumerate() {
        let path = path.index(index);
        routes.push(component(one, &path)?);
        let twice = "is used by an earlier component";
        ensure(names.insert(&one.name), path.key("name"), twice)?;
        ensure(paths.insert(&one.path), path.key("path"), twice)?;
    }
    Ok(routes)
}

fn component(one: &ComponentSettings, path: &Path) -> Result<ComponentRoute, Fault> {
    ensure(is_topic_name(&one.name), path.key("name"), TOPIC_NAME_RULE)?;
    let route = outside(&one.path, path.key("path"))?;
    strip_prefix(&one.strip_prefix, &one.path, path.key("strip_prefix"))?;
    let file = !one.source.is_empty() && !one.source.contains('\0') && !one.source.ends_with('/');
    ensure(
        file,
        path.key("source"),
        "must be the name of a component's file, e.g. hello.wasm",
    )?;
    within(one.memory, MEMORY_BOUNDS, path.key("memory"))?;
    within(one.timeout, TIMEOUT_BOUNDS, path.key("timeout"))?;
    within(one.concurrency, CONCURRENCY_BOUNDS, path.key("concurrency"))?;
    environment(one, &path.key("environment"))?;
    if let Some(prefix) = &one.store_prefix {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        let ok = prefix.is_empty()
            || (prefix.len() <= MAX_STORE_PREFIX && prefix.ends_with('/') && prefix.bytes().all(plain));
        ensure(
            ok,
            path.key("store_prefix"),
            "must be empty, or at most 128 letters, digits, '.', '_', '-' and '/' that end with a '/'",
        )?;
    }
    let hosts = path.key("allowed_outbound_hosts");
    at_most(one.allowed_outbound_hosts.len(), MAX_OUTBOUND_HOSTS, &hosts)?;
    let outbound = one.allowed_outbound_hosts.iter().enumerate();
    let outbound = outbound.map(|(index, text)| {
        OutboundHost::parse(text).ok_or_else(|| Fault::new(hosts.index(index), OutboundHost::RULE))
    });
    Ok(ComponentRoute {
        path: route,
        outbound: outbound.collect::<Result<_, _>>()?,
    })
}

fn environment(one: &ComponentSettings, path: &Path) -> Checked {
    at_most(one.environment.len(), MAX_VARIABLES, path)?;
    for (name, value) in &one.environment {
        ensure(
            !name.is_empty() && !name.contains(['=', '\0']),
            path.key(name),
            "must have a name without = and NUL",
        )?;
        ensure(
            !value.expose().contains('\0'),
            path.key(name),
            "must have a value without NUL",
        )?;
    }
    let bytes: usize = one
        .environment
        .iter()
        .map(|(name, value)| name.len() + value.expose().len())
        .sum();
    ensure(
        bytes <= MAX_ENVIRONMENT,
        path.clone(),
        "must have at most 256 KiB in all",
    )
}
