//! What was answered, or sent, must be durable already.

use tollgate_core::commit::Message;

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

    /// "Sold out" was answered to a request that began then.
    pub fn refused_as_sold_out(&self, campaign: &str, began: u64) -> Checked {
        let known = self.campaigns.get(campaign);
        ensure(
            known.is_some_and(|c| c.is_sold_out() || c.full_at >= began),
            || format!("{campaign} was said to be sold out, and was not"),
        )
    }

    /// A sign-up was answered with 202.
    pub fn signed_up(&self, id: &str, sequence: u64, body: &[u8]) -> Checked {
        let log = self.mirror.topics.get(TOPICS[1]);
        let message = log.and_then(|log| log.get(usize::try_from(sequence).ok()?.checked_sub(1)?));
        ensure(message.is_some_and(|m| m.id == id && m.payload == body), || {
            format!("the message {id} was accepted, and is not durable")
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
