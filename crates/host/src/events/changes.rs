//! What has changed between two looks, as events. Pure, but for the ids of the events.

use super::event;
use crate::metrics::count::Refusals;
use serde_json::json;
use std::collections::BTreeMap;
use tollgate_delivery::driver::SubscriptionStatus;
use tollgate_rules::campaigns::{Phase, Standing};
use tollgate_rules::events::{Event, Kind};
use tollgate_rules::groups::Deaths;
use tollgate_store::commit::MAX_STEPS;

/// How long a policy that was told to refuse is not told again, in milliseconds.
const REFUSING_EVERY_MS: u64 = 60_000;
/// Changes of campaigns that one look tells: those that one commit takes. The next look tells the others.
const MAX_CHANGES: usize = MAX_STEPS;

/// What was told last of each campaign.
pub type Phases = BTreeMap<String, Phase>;

/// How campaigns stand, as it is to be remembered, and what is to be told. Nothing is told at the first look; a campaign that was
/// not there before was open.
pub fn campaigns(before: Option<&Phases>, now: &[Standing]) -> (Phases, Vec<Event>) {
    let (mut phases, mut events) = (Phases::new(), Vec::new());
    for standing in now {
        let was = match before {
            None => standing.phase,
            Some(before) => before.get(&standing.id).copied().unwrap_or_default(),
        };
        let kind = match standing.phase {
            Phase::Open => None,
            Phase::SoldOut => Some(Kind::CampaignSoldOut),
            Phase::Ended => Some(Kind::CampaignEnded),
        };
        let mut phase = standing.phase;
        if let Some(kind) = kind.filter(|_| was != standing.phase) {
            if events.len() < MAX_CHANGES {
                let data = json!({
                    "id": standing.id, "quantity": standing.quantity, "remaining": standing.remaining,
                });
                events.push(event(kind, ["campaign/", &standing.id].concat(), data));
            } else {
                phase = was;
            }
        }
        phases.insert(standing.id.clone(), phase);
    }
    (phases, events)
}

/// How deliveries stood with the last look.
#[derive(Default)]
pub struct Deliveries(BTreeMap<(String, String), Delivery>);

#[derive(Clone, Copy)]
struct Delivery {
    is_paused: bool,
    is_open: bool,
    dead: u64,
}

impl Deliveries {
    /// What has changed. Nothing is told of a subscription at its first look; nor of those of `own`, the topic that events are kept
    /// in: each event of an event that is not delivered would be one more.
    pub fn compare(&mut self, all: &[SubscriptionStatus], own: Option<&str>) -> Vec<Event> {
        let (mut now, mut events) = (BTreeMap::new(), Vec::new());
        for status in all.iter().filter(|one| own != Some(one.topic.as_str())) {
            let key = (status.topic.clone(), status.name.clone());
            let delivery = Delivery {
                is_paused: status.machine.paused,
                is_open: status.machine.breaker != "closed",
                dead: status.dead,
            };
            if let Some(before) = self.0.get(&key) {
                events.extend(told(status, *before, delivery));
            }
            now.insert(key, delivery);
        }
        self.0 = now;
        events
    }
}

fn told(status: &SubscriptionStatus, before: Delivery, now: Delivery) -> Vec<Event> {
    let (topic, name) = (&status.topic, &status.name);
    let subject = || ["subscription/", topic, "/", name].concat();
    let data = json!({ "topic": topic, "subscription": name });
    let mut events = Vec::new();
    if now.dead > before.dead {
        let mut data = data.clone();
        data["messages"] = json!(now.dead - before.dead);
        events.push(event(Kind::MessageDead, subject(), data));
    }
    if now.is_paused && !before.is_paused {
        let mut data = data.clone();
        data["reason"] = json!(status.machine.pause_reason);
        events.push(event(Kind::SubscriptionPaused, subject(), data));
    }
    match (before.is_open, now.is_open) {
        (false, true) => events.push(event(Kind::BreakerOpen, subject(), data)),
        (true, false) => events.push(event(Kind::BreakerClosed, subject(), data)),
        _ => {}
    }
    events
}

/// How many dead letters each group had with the last look, by its id.
#[derive(Default)]
pub struct Groups(Option<BTreeMap<String, u64>>);

impl Groups {
    /// What has changed. Nothing is told at the first look, nor of groups of `own`, the topic that events are kept in. A group that
    /// was not there before had none.
    pub fn compare(&mut self, all: &[Deaths], own: Option<&str>) -> Vec<Event> {
        let before = self.0.take();
        let had = |one: &Deaths| match &before {
            None => one.count,
            Some(before) => before.get(&one.id).copied().unwrap_or_default(),
        };
        let dead = all
            .iter()
            .filter(|one| own != Some(one.topic.as_str()) && one.count > had(one));
        let events = dead.map(|one| {
            let data = json!({ "topic": one.topic, "group": one.name, "messages": one.count - had(one) });
            let subject = ["group/", &one.topic, "/", &one.name].concat();
            event(Kind::MessageDead, subject, data)
        });
        let events = events.collect();
        self.0 = Some(all.iter().map(|one| (one.id.clone(), one.count)).collect());
        events
    }
}

/// What the limits had refused when it was told last, by policy.
#[derive(Default)]
pub struct Limits(BTreeMap<String, Limit>);

struct Limit {
    refused: u64,
    /// Unix milliseconds.
    told: Option<u64>,
}

impl Limits {
    /// Which policies refuse; each at most once in [`REFUSING_EVERY_MS`]. Nothing is told at the first look. `now`: Unix
    /// milliseconds.
    pub fn compare(&mut self, all: Vec<Refusals>, now: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for Refusals { policy, refused, .. } in all {
            let before = self
                .0
                .entry(policy.clone())
                .or_insert(Limit { refused, told: None });
            let is_due = before
                .told
                .is_none_or(|told| now.abs_diff(told) >= REFUSING_EVERY_MS);
            if refused > before.refused && is_due {
                let data = json!({ "policy": policy, "refused": refused - before.refused });
                events.push(event(Kind::LimitRefusing, ["limit/", &policy].concat(), data));
                *before = Limit {
                    refused,
                    told: Some(now),
                };
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_delivery::relay::Snapshot;
    use tollgate_delivery::relay::record::PauseReason;

    fn kinds(events: &[Event]) -> Vec<&'static str> {
        events.iter().map(|event| event.kind.name()).collect()
    }

    fn standing(id: &str, phase: Phase) -> Standing {
        Standing {
            id: id.into(),
            phase,
            quantity: 5,
            remaining: 0,
        }
    }

    #[test]
    fn a_campaign_is_told_once_and_again_when_it_sells_out_again() {
        let old = standing("old", Phase::SoldOut);
        let (phases, events) = campaigns(None, std::slice::from_ref(&old));
        assert!(events.is_empty(), "what was so before is no news");
        let now = [
            old.clone(),
            standing("new", Phase::SoldOut),
            standing("x", Phase::Open),
        ];
        let (phases, events) = campaigns(Some(&phases), &now);
        assert_eq!(kinds(&events), ["campaign.sold-out"]);
        assert_eq!(events[0].data["id"], "new");
        assert!(campaigns(Some(&phases), &now).1.is_empty());
        let (phases, events) = campaigns(Some(&phases), &[standing("new", Phase::Open)]);
        assert!(events.is_empty());
        let (_, events) = campaigns(
            Some(&phases),
            &[standing("new", Phase::SoldOut), standing("x", Phase::Ended)],
        );
        assert_eq!(kinds(&events), ["campaign.sold-out", "campaign.ended"]);
    }

    #[test]
    fn dead_letters_of_a_group_are_told_by_its_id() {
        let group = |id: &str, topic: &str, count| Deaths {
            id: id.into(),
            topic: topic.into(),
            name: "shop".into(),
            count,
        };
        let mut groups = Groups::default();
        assert!(groups.compare(&[group("a", "orders", 3)], None).is_empty());
        let events = groups.compare(&[group("a", "orders", 5)], None);
        assert_eq!(kinds(&events), ["message.dead"]);
        assert_eq!(
            events[0].data,
            json!({ "topic": "orders", "group": "shop", "messages": 2 })
        );
        // Another group of that name: its own are counted from none.
        let all = [group("b", "orders", 1), group("c", "tollgate", 1)];
        let events = groups.compare(&all, Some("tollgate"));
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].data["messages"], 1);
        assert!(groups.compare(&all, Some("tollgate")).is_empty());
    }

    #[test]
    fn many_changes_are_told_by_several_looks() {
        let all: Vec<_> = (0..MAX_CHANGES + 3)
            .map(|index| standing(&index.to_string(), Phase::Ended))
            .collect();
        let (phases, events) = campaigns(Some(&Phases::new()), &all);
        assert_eq!(events.len(), MAX_CHANGES);
        let (phases, events) = campaigns(Some(&phases), &all);
        assert_eq!(events.len(), 3);
        assert!(campaigns(Some(&phases), &all).1.is_empty());
    }

    fn status(topic: &str, paused: bool, breaker: &'static str, dead: u64) -> SubscriptionStatus {
        SubscriptionStatus {
            topic: topic.into(),
            name: "crm".into(),
            attempts: 0,
            delivered: 0,
            unwanted: 0,
            dead,
            machine: Snapshot {
                under_way: 0,
                window: 0,
                held: 0,
                watermark: 0,
                paused,
                pause_reason: paused.then_some(PauseReason::Failing),
                breaker,
            },
        }
    }

    #[test]
    fn a_delivery_is_told_when_it_changes_and_not_of_the_events_own_topic() {
        let mut deliveries = Deliveries::default();
        let mut look = |one: SubscriptionStatus| {
            let own = SubscriptionStatus {
                topic: "tollgate".into(),
                ..one.clone()
            };
            let events = deliveries.compare(&[one, own], Some("tollgate"));
            (kinds(&events), events.first().map(|event| event.data.clone()))
        };
        assert!(look(status("signup", true, "open", 7)).0.is_empty());
        assert!(look(status("signup", true, "half-open", 7)).0.is_empty());
        let (kinds, data) = look(status("signup", false, "closed", 9));
        assert_eq!(kinds, ["message.dead", "subscription.breaker-closed"]);
        assert_eq!(
            data.unwrap(),
            json!({ "topic": "signup", "subscription": "crm", "messages": 2 })
        );
        let (kinds, _) = look(status("signup", true, "open", 9));
        assert_eq!(kinds, ["subscription.paused", "subscription.breaker-open"]);
    }

    #[test]
    fn a_policy_that_refuses_is_told_once_a_minute() {
        let mut limits = Limits::default();
        let mut look = |refused, now| {
            let one = Refusals {
                policy: "default".into(),
                refused,
                would_refuse: 0,
            };
            let events = limits.compare(vec![one], now);
            events.first().map(|event| event.data["refused"].clone())
        };
        assert_eq!(look(5, 1_000), None, "that was before");
        assert_eq!(look(6, 2_000), Some(json!(1)));
        assert_eq!(look(9, 3_000), None);
        assert_eq!(look(9, 62_000), Some(json!(3)));
        assert_eq!(look(9, 200_000), None);
    }
}
