//! `[[forward]]`: where requests go, and who has signed them.

use super::checks::{MAX_HEADER_NAME, at_most, ensure, header_name, methods, outside};
use crate::config::{
    Fault, Forward, MAX_FORWARDS, MAX_KEPT_HEADERS, Ordering, Path, TOPIC_NAME_RULE, is_topic_name,
};
use crate::forward::Verifier;
use tollgate_api::pattern::Pattern;
use tollgate_api::secret::SecretText;
use tollgate_delivery::attributes;
use tollgate_delivery::subscription::MAX_TYPE;

/// The patterns and verifiers of all routes, in their order.
pub(super) fn compile(all: &[Forward], path: &Path) -> Result<(Vec<Pattern>, Vec<Option<Verifier>>), Fault> {
    at_most(all.len(), MAX_FORWARDS, path)?;
    let (mut patterns, mut verifiers) = (Vec::new(), Vec::new());
    for (index, rule) in all.iter().enumerate() {
        let path = path.index(index);
        patterns.push(forward(rule, &path)?);
        verifiers.push(verifier(rule, &path)?);
    }
    Ok((patterns, verifiers))
}

fn forward(rule: &Forward, path: &Path) -> Result<Pattern, Fault> {
    let route = outside(&rule.path, path.key("path"))?;
    let dotted = rule.path.trim_end_matches("/...").contains("/.");
    ensure(
        !dotted,
        path.key("path"),
        "has a segment that begins with a dot, which Spin cannot route",
    )?;
    methods(&rule.methods, &path.key("methods"))?;
    ensure(is_topic_name(&rule.topic), path.key("topic"), TOPIC_NAME_RULE)?;
    let kind = (1..=MAX_TYPE).contains(&rule.kind.len()) && rule.kind.bytes().all(|b| b.is_ascii_graphic());
    ensure(
        kind,
        path.key("type"),
        "must be 1 to 128 visible ASCII characters",
    )?;
    let headers = path.key("headers");
    at_most(rule.headers.len(), MAX_KEPT_HEADERS, &headers)?;
    for (index, name) in rule.headers.iter().enumerate() {
        ensure(name.len() <= MAX_HEADER_NAME, headers.index(index), "is too long")?;
        attributes::pattern_rule(name).map_err(|rule| Fault::new(headers.index(index), rule))?;
    }
    if let Ordering::Header(name) = &rule.ordering {
        header_name(name, path.key("ordering"))?;
    }
    Ok(route)
}

/// A fault never repeats the secret.
fn verifier(rule: &Forward, path: &Path) -> Result<Option<Verifier>, Fault> {
    ensure(
        rule.previous_secret.is_none() || rule.secret.is_some(),
        path.key("previous_secret"),
        "stands beside a secret",
    )?;
    match (rule.verify, &rule.secret) {
        (Some(verify), Some(secret)) => {
            let by = |name: &'static str, secret: &SecretText| {
                Verifier::new(verify, secret.expose()).map_err(|detail| Fault::new(path.key(name), detail))
            };
            let current = by("secret", secret)?;
            Ok(Some(match &rule.previous_secret {
                Some(previous) => current.or(by("previous_secret", previous)?),
                None => current,
            }))
        }
        (Some(_), None) => Err(Fault::new(
            path.key("secret"),
            "is needed: what requests are signed with",
        )),
        (None, Some(_)) => Err(Fault::new(
            path.key("verify"),
            "is needed where there is a secret: by whose rules requests are signed",
        )),
        (None, None) => Ok(None),
    }
}
