//! What was answered, or sent, must be durable already.

use tollgate_rules::campaigns::Status;
use tollgate_store::commit::Message;

use super::{Checked, Model, ensure};
use crate::world::TOPICS;

impl Model {
    /// A claim was answered with 201.
    pub fn admitted(&self, campaign: &str, user: &str, id: &str, sequence: u64) -> Checked {
        let claim = self.campaigns.get(campaign).and_then(|c| c.claims.get(&sequence));
        ensure(
            claim.is_some_and(|(known, whose)| known == id && whose == user),
            || format!("{user} was told of the claim {id} of {campaign}, which is not durable"),
        )
    }

    /// A claim was told to be so: it has been, durably.
    pub fn settled(&self, campaign: &str, claim: &str, to: Status) -> Checked {
        let fates = self.fates(campaign, claim);
        ensure(fates.contains(&to), || {
            format!("{claim} was told to be {to:?}, and what is durable is {fates:?}")
        })
    }

    /// A claim could not become so, since something else had become of it.
    pub fn settled_otherwise(&self, campaign: &str, claim: &str, to: Status) -> Checked {
        let fates = self.fates(campaign, claim);
        let otherwise = fates.iter().any(|fate| *fate != to && *fate != Status::Held);
        ensure(otherwise, || {
            format!("{claim} could not be {to:?}, and what is durable is {fates:?}")
        })
    }

    fn fates(&self, campaign: &str, claim: &str) -> &[Status] {
        let known = self
            .campaigns
            .get(campaign)
            .and_then(|known| known.fates.get(claim));
        known.map_or(&[], |fate| &fate.history)
    }

    /// "Sold out" was answered to a claim of so many units that began then.
    pub fn refused_as_sold_out(&self, campaign: &str, units: u64, began: u64) -> Checked {
        let known = self.campaigns.get(campaign);
        ensure(
            known.is_some_and(|c| c.is_short_of(units) || c.short_at[units as usize] >= began),
            || format!("{campaign} was said to be sold out for {units}, and was not"),
        )
    }

    /// A visit was answered with a redirect, which was right then, or later.
    pub fn redirected(&mut self, url: &str, since: u64) -> Result<bool, String> {
        let is_shared = self.is_shared;
        let Some(link) = self.leading_to(url) else {
            return Err(format!("no link leads to {url}"));
        };
        link.granted += 1;
        ensure(!link.deleted || link.deleted_at >= since, || {
            format!(
                "a redirect to {url}, whose link was deleted at {} us, before {since} us",
                link.deleted_at
            )
        })?;
        let unbounded = link.unbounded(is_shared);
        let (granted, counted) = (link.granted, link.visits + link.lost + unbounded);
        let Some(max) = link.max.filter(|_| !link.deleted) else {
            return Ok(false);
        };
        ensure(
            granted <= counted && link.visits <= max.max(link.at_bound) + unbounded,
            || format!("{granted} redirects to {url}, {counted} counted, of {max}"),
        )?;
        Ok(true)
    }

    /// "Exhausted" was answered to a visit that began then.
    pub fn refused_as_exhausted(&self, code: &str, began: u64) -> Checked {
        let link = self.called(code);
        let full = link.is_some_and(|link| link.max.is_some_and(|max| link.visits >= max));
        let was_full = self.codes.get(code).is_some_and(|code| code.full_at >= began);
        ensure(full || was_full, || {
            format!("{code} was said to be exhausted, and was not")
        })
    }

    /// "Not found" was answered to a visit that began then.
    pub fn refused_as_unknown(&self, code: &str, began: u64) -> Checked {
        let known = self.codes.get(code);
        let was_free = known.is_none_or(|code| code.link.is_none() || code.free_at >= began);
        ensure(was_free, || format!("{code} was said to be unknown, and was not"))
    }

    /// All requests for a link to the shared URL get the same link.
    pub fn shares(&mut self, code: &str) -> Checked {
        let shared = self.shared.get_or_insert_with(|| code.to_owned());
        ensure(shared == code, || {
            format!("two links to one URL: {shared} and {code}")
        })
    }

    /// A list of all links of the administrator.
    pub fn listed(&self, listed: &[String]) -> Checked {
        let mut known: Vec<&String> = self
            .codes
            .iter()
            .filter(|(_, code)| code.link.is_some())
            .map(|(name, _)| name)
            .collect();
        let mut listed: Vec<&String> = listed.iter().collect();
        known.sort_unstable();
        listed.sort_unstable();
        ensure(known == listed, || {
            format!("the links {known:?} are listed as {listed:?}")
        })
    }

    /// A sign-up was answered with 202.
    pub fn signed_up(&self, id: &str, sequence: u64, body: &[u8]) -> Checked {
        let log = self.mirror.topics.get(TOPICS[1]);
        let message = log.and_then(|log| log.get(usize::try_from(sequence).ok()?.checked_sub(1)?));
        ensure(message.is_some_and(|m| m.id == id && m.payload == body), || {
            format!("the message {id} was accepted, and is not durable")
        })
    }

    /// A message that is to come was accepted.
    pub fn posted_later(&self, id: &str) -> Checked {
        ensure(self.later.knows(id), || {
            format!("the message {id} was accepted to come, and is not durable")
        })
    }

    /// The answer to a request with this key: always the same.
    pub fn answered(&mut self, key: String, body: &[u8]) -> Checked {
        match self.answers.get(&key) {
            Some(before) => ensure(before == body, || format!("two answers to {key}")),
            None => {
                self.answers.insert(key, body.to_vec());
                Ok(())
            }
        }
    }

    /// The origin is sent this.
    pub fn sent(&self, message: &Message) -> Checked {
        let log = self.mirror.topics.get(&message.topic);
        let durable = log.and_then(|log| log.get(message.sequence as usize - 1));
        ensure(durable.is_some_and(|durable| **durable == *message), || {
            format!("{} was sent, and is not what is durable", message.id)
        })
    }
}
