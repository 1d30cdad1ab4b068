//! What must be true, in plain maps and counters. It is told what became durable and what was answered, and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tollgate_delivery::relay::progress::Progress;
use tollgate_delivery::relay::record::{Keys, Waiting};
use tollgate_store::commit::Message;
use tollgate_store::deleted;

use crate::disk::{GroupWrites, State};
use crate::world::{DRAWS, SCRATCH, TOPICS};

mod after;
mod answers;
mod claims;
mod codes;
mod draw;
pub mod group;
mod lanes;
mod later;
mod ledger;
mod line;
mod links;
mod quota;
pub mod room;
mod scratch;

pub use claims::Campaign;
pub use draw::Draw;
pub use group::Group;
pub use lanes::Lanes;
pub use later::Later;
pub use ledger::Ledger;
pub use line::Line;
pub use links::{Code, Link};
pub use quota::Quota;
pub use room::Room;
pub use scratch::Scratch;

/// What is broken, if anything.
pub type Checked = Result<(), String>;

pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

/// The model: everything that must be true, in plain maps and counters.
#[derive(Default)]
pub struct Model {
    /// What is durable.
    pub mirror: State,
    in_doubt: Vec<Rc<GroupWrites>>,
    pub campaigns: BTreeMap<String, Campaign>,
    /// By id.
    pub links: BTreeMap<String, Link>,
    pub codes: BTreeMap<String, Code>,
    /// The ids of links, by where they lead.
    urls: BTreeMap<String, String>,
    /// The code that everybody gets who asks for the same URL.
    pub shared: Option<String>,
    pub ledgers: [Ledger; 2],
    pub draw: Draw,
    pub room: Room,
    pub quota: Quota,
    /// The consumer group of each topic.
    pub groups: [Group; 2],
    /// Messages that are to come.
    pub later: Later,
    /// The topic that is deleted now and then.
    pub scratch: Scratch,
    /// Whether gateways share the store; if so, whether clicks may have been lost, and its lanes.
    pub is_shared: bool,
    pub is_lossy: bool,
    pub lanes: Lanes,
    ids: BTreeSet<String>,
    /// Messages per sign-up.
    pub sign_ups: BTreeMap<String, u32>,
    /// The answer to each idempotency key.
    answers: BTreeMap<String, Vec<u8>>,
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| format!("{key} cannot be read: {error}"))
}

impl Model {
    /// Written, not synced: it may be there after a crash, or not.
    pub fn in_doubt(&mut self, writes: Rc<GroupWrites>) {
        self.in_doubt.push(writes);
    }

    fn follows(&self, writes: &GroupWrites) -> Checked {
        ensure(writes.revision > self.mirror.revision, || {
            format!("revision {} follows {}", writes.revision, self.mirror.revision)
        })?;
        ensure(writes.now >= self.mirror.now, || {
            format!(
                "the store's time ran back from {} to {}",
                self.mirror.now, writes.now
            )
        })
    }

    /// A group is durable, and shown.
    pub fn published(&mut self, writes: &Rc<GroupWrites>, now: u64) -> Checked {
        self.in_doubt.retain(|group| group.revision > writes.revision);
        if self.is_shared {
            self.lanes.written(writes)?;
        } else {
            self.follows(writes)?;
        }
        let mut written = Vec::new();
        let mut touched = BTreeSet::new();
        let mut records = 0;
        let mut progressed = Vec::new();
        let mut visits = Vec::new();
        let mut lined = Vec::new();
        let mut gone = Vec::new();
        let mut grouped = [const { Vec::new() }; TOPICS.len()];
        let come: BTreeSet<&str> = writes
            .messages
            .iter()
            .map(|message| message.id.as_str())
            .collect();
        for (key, entry) in &writes.entries {
            let value = entry.as_ref().map(|entry| entry.value.as_slice());
            let key: &str = key;
            let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
            match (kind, value) {
                ("campaign", Some(value)) => {
                    self.campaign_changed(key, value, now)?;
                    touched.insert(rest.to_owned());
                }
                ("claim", value) => written.extend(self.claim_written(key, value)?),
                ("remaining" | "sequence" | "held" | "released" | "waiting" | "codes", _) => {
                    touched.insert(rest.to_owned());
                }
                ("line", value) => lined.push((key, value)),
                ("campaign", None) => return Err(format!("{key} was removed")),
                ("link", value) => self.link_changed(key, rest, value, now)?,
                ("groups", _) => {
                    let topic = rest.split('/').next();
                    if let Some(index) = TOPICS.iter().position(|name| topic == Some(name)) {
                        grouped[index].push((key, entry.as_deref()));
                    }
                }
                ("room", Some(value)) => self.room.changed(key, value, writes.now)?,
                ("room-turns", Some(value)) => self.room.counted(key, value)?,
                ("draw", Some(value)) => self.draw.changed(key, value)?,
                ("seed", Some(value)) => self.draw.seeded(value),
                ("entrant", Some(value)) => self.draw.entered(key, value)?,
                ("draw" | "entrant", None) => return Err(format!("{key} was removed")),
                ("visits", Some(value)) => visits.push((rest, value)),
                ("quota-held", value) => self.quota.reserved(key, value, writes.now)?,
                ("quota", value) => self.quota.counted(key, value),
                ("message", Some(_)) => records += 1,
                ("topic-deleted", Some(value)) => gone.push((key, value)),
                ("delayed", value) => {
                    // It has its record before its message.
                    records -= i32::from(value.is_some());
                    self.later.changed(rest, value.is_some(), writes.now, &come)?;
                }
                ("relay", value) if rest.ends_with("/lease") => self.lanes.leased(key, value)?,
                ("relay", Some(value)) if rest.ends_with("/progress") => {
                    self.lanes.wrote(key, &writes.by)?;
                    progressed.push((key, value));
                }
                ("relay", value) if rest.contains("/retry/") => self.waits(key, value)?,
                _ => {}
            }
        }
        for (key, value) in progressed {
            self.progressed(key, value)?;
        }
        for ((changes, group), ledger) in grouped.iter().zip(&mut self.groups).zip(&self.ledgers) {
            group.changed(changes, ledger, writes.now)?;
        }
        // In the order of their keys, links come before their counters; the bounds are those that hold after the group.
        for (rest, value) in visits {
            self.visited(rest, value, now)?;
        }
        for link in self.links.values_mut() {
            link.before = None;
        }
        let before = if self.is_shared { 0 } else { self.mirror.now };
        for (key, value) in lined {
            self.line_changed(key, value)?;
        }
        self.mirror.apply(writes);
        let mut told = BTreeMap::new();
        for message in &writes.messages {
            if message.topic == DRAWS {
                ensure(self.ids.insert(message.id.clone()), || {
                    format!("the id {} came twice", message.id)
                })?;
                self.draw.told(message)?;
                continue;
            }
            if message.topic == SCRATCH {
                ensure(message.sequence == self.scratch.last + 1, || {
                    format!("{SCRATCH} {} follows {}", message.sequence, self.scratch.last)
                })?;
                ensure(self.ids.insert(message.id.clone()), || {
                    format!("the id {} came twice", message.id)
                })?;
                self.scratch.last = message.sequence;
                records -= i32::from(message.kind != deleted::ENDING);
                continue;
            }
            self.appended(message, before)?;
            self.later.came(&message.id)?;
            match message.topic == TOPICS[0] {
                true => {
                    let (campaign, claim) = self.told(message)?;
                    touched.insert(campaign.clone());
                    told.insert(claim, campaign);
                }
                false => records -= 1,
            }
        }
        for (key, value) in gone {
            self.scratch.changed(key, value, now)?;
        }
        ensure(records == 0, || format!("{records} records without a message"))?;
        self.agree(&written, &told)?;
        self.check_lines(&told)?;
        self.draw.check()?;
        self.room.check()?;
        self.quota.check()?;
        touched.iter().try_for_each(|id| self.check_campaign(id, now))
    }

    fn ledger(&mut self, key: &str) -> Result<&mut Ledger, String> {
        let topic = key.split('/').nth(1);
        let index = TOPICS.iter().position(|name| topic == Some(name));
        let ledger = index.and_then(|index| self.ledgers.get_mut(index));
        ledger.ok_or_else(|| format!("{key} belongs to no topic"))
    }

    /// A message waits, or does no more: then it is finished.
    fn waits(&mut self, key: &str, value: Option<&[u8]>) -> Checked {
        let ledger = self.ledger(key)?;
        let sequence = Keys::sequence_of(key).unwrap_or(0);
        if let Some(value) = value {
            let waiting: Waiting = read(key, value)?;
            if waiting.parked {
                ledger.parked.insert(sequence);
            }
            return Ok(());
        }
        let gone = ledger.parked.remove(&sequence);
        ensure(!gone || ledger.is_finished(sequence), || {
            format!("{key} is gone, and its message was not delivered")
        })
    }

    /// The progress moves over what the origin has acknowledged, what is a dead letter, or what is parked, and over nothing
    /// else.
    fn progressed(&mut self, key: &str, value: &[u8]) -> Checked {
        let progress: Progress = read(key, value)?;
        let ledger = self.ledger(key)?;
        ensure(progress.watermark() >= ledger.watermark, || {
            format!(
                "{key} went back from {} to {}",
                ledger.watermark,
                progress.watermark()
            )
        })?;
        let ranges = progress.ranges().iter().flat_map(|&(start, end)| start..=end);
        let missing = (ledger.watermark + 1..=progress.watermark())
            .chain(ranges)
            .find(|&sequence| !ledger.is_finished(sequence) && !ledger.parked.contains(&sequence));
        ledger.watermark = progress.watermark();
        match missing {
            Some(sequence) => Err(format!(
                "{key} passed message {sequence}, which was not delivered"
            )),
            None => Ok(()),
        }
    }

    fn appended(&mut self, message: &Arc<Message>, earliest: u64) -> Checked {
        let Some(index) = TOPICS.iter().position(|topic| *topic == message.topic) else {
            return Err(format!("a message in the topic {}", message.topic));
        };
        let there = self
            .mirror
            .topics
            .get(&message.topic)
            .and_then(|log| log.get(message.sequence as usize - 1));
        ensure(
            there.is_some_and(|there| there.sequence == message.sequence),
            || format!("{} {} is not dense", message.topic, message.sequence),
        )?;
        let before = self.mirror.topics[&message.topic]
            .iter()
            .rev()
            .find(|before| before.sequence < message.sequence);
        let earliest = before.map_or(earliest, |before| before.time.max(earliest));
        ensure(message.time >= earliest, || {
            format!("{} is older than the one before", message.id)
        })?;
        ensure(self.ids.insert(message.id.clone()), || {
            format!("the id {} came twice", message.id)
        })?;
        let lane = self.ledgers[index].lanes.entry(message.key.clone()).or_default();
        lane.sequences.push(message.sequence);
        if index == 1 {
            ensure(
                self.mirror
                    .entries
                    .contains_key(format!("message/{}", message.id).as_str()),
                || format!("the message {} has no record", message.id),
            )?;
            let body = String::from_utf8_lossy(&message.payload).into_owned();
            *self.sign_ups.entry(body).or_default() += 1;
        }
        Ok(())
    }
}
