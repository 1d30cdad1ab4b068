//! Rules of `[[alerts]]`, and what is made of them.

use std::collections::BTreeSet;

use super::checks::{Checked, at_most, ensure, within};
use super::topics::{OWN_TARGET, secret, target};
use crate::alerts::Condition;
use crate::config::{Alert, Fault, MAX_ALERTS, Path, TOPIC_NAME_RULE, is_topic_name};
use crate::own_address::OwnAddresses;
use tollgate_api::units::Span;
use tollgate_delivery::relay::address;

const EVERY_BOUNDS: (Span, Span) = (Span::from_secs(1), Span::from_secs(3_600));
const REPEAT_BOUNDS: (Span, Span) = (Span::from_secs(60), Span::from_secs(30 * 86_400));

/// The condition of each of `alerts`, in their order.
pub(super) fn compile(alerts: &[Alert], own: &OwnAddresses, path: &Path) -> Result<Vec<Condition>, Fault> {
    at_most(alerts.len(), MAX_ALERTS, path)?;
    let mut names = BTreeSet::new();
    let mut conditions = Vec::with_capacity(alerts.len());
    for (index, one) in alerts.iter().enumerate() {
        let path = path.index(index);
        conditions.push(alert(one, own, &path)?);
        let twice = "is used by an earlier alert";
        ensure(names.insert(&one.name), path.key("name"), twice)?;
    }
    Ok(conditions)
}

fn alert(one: &Alert, own: &OwnAddresses, path: &Path) -> Result<Condition, Fault> {
    ensure(is_topic_name(&one.name), path.key("name"), TOPIC_NAME_RULE)?;
    let condition = one.when.parse::<Condition>();
    let condition = condition.map_err(|error| Fault::new(path.key("when"), error.to_string()))?;
    url(one, own, &path.key("url"))?;
    within(one.every, EVERY_BOUNDS, path.key("every"))?;
    if let Some(repeat_after) = one.repeat_after {
        within(repeat_after, REPEAT_BOUNDS, path.key("repeat_after"))?;
    }
    if let Some(text) = &one.secret {
        secret(text.expose(), path.key("secret"))?;
    }
    Ok(condition)
}

fn url(one: &Alert, own: &OwnAddresses, path: &Path) -> Checked {
    let url = one.url.expose();
    target(url, path.clone())?;
    ensure(
        one.allow_private_addresses || !address::is_plainly_private(url),
        path.clone(),
        "is not a public address; only allow_private_addresses = true lets it be one",
    )?;
    ensure(!own.are_target(url), path.clone(), OWN_TARGET)
}
