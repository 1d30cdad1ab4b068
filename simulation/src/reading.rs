//! What a store answers of what it holds: pages, whoever keeps it.

use std::ops::Bound;

use tollgate_store::commit::{Entry, Item, Message, Topic, weight};
use tollgate_store::deleted;
use tollgate_store::plan;
use tollgate_store::plan::page::{self, Page};

use crate::disk::State;

impl State {
    /// The sequence up to which messages went with a topic that was deleted.
    pub fn gone(&self, topic: &str) -> u64 {
        let entry = self.entries.get(deleted::key(topic).as_str());
        deleted::through(entry.map(|entry| &**entry))
    }

    /// See `Store::scan`.
    pub fn scan(&self, prefix: &str, after: Option<&str>, limit: u32, now: u64) -> Vec<Item> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = Page::new(limit);
        let from_start = self.entries.range::<str, _>((start, Bound::Unbounded));
        let found = from_start
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, entry)| plan::is_live(entry, now));
        for (key, entry) in found {
            let (key, entry) = (key.to_string(), Entry::clone(entry));
            let item = Item { key, entry };
            let bytes = page::item_bytes(&item);
            if !page.push(item, bytes) {
                break;
            }
        }
        page.into_items()
    }

    /// See `Store::read`, without a wait.
    pub fn read(&self, topic: &str, after: u64, limit: u32) -> Vec<Message> {
        let mut page = Page::new(limit);
        let log = self.topics.get(topic).map_or(&[][..], Vec::as_slice);
        for message in log.iter().skip(after as usize) {
            if !page.push(Message::clone(message), page::message_bytes(message)) {
                break;
            }
        }
        page.into_items()
    }

    /// See `Store::topics`. `gone`: up to where a topic's messages are not shown.
    pub fn topics(&self, after: Option<&str>, limit: u32, gone: impl Fn(&str) -> u64) -> Vec<Topic> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let named = self.topics.range::<str, _>((start, Bound::Unbounded));
        let topics = named.take(page::limit(limit) as usize).map(|(name, log)| {
            let mut topic = Topic {
                name: name.clone(),
                first: 1,
                last: log.len() as u64,
                first_time: log.first().map(|message| message.time),
                last_time: log.last().map(|message| message.time),
                bytes: log.iter().map(|message| weight(message)).sum(),
            };
            deleted::clamp(&mut topic, gone(name));
            topic
        });
        topics.collect()
    }
}
