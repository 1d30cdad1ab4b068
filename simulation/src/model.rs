//! What must be true, in plain maps and counters. It is told what became durable and what was answered, and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tollgate_delivery::relay::progress::Progress;
use tollgate_delivery::relay::record::{Keys, Waiting};
use tollgate_store::commit::{Commit, Message, Mutation};
use tollgate_store::deleted;
use tollgate_store::plan;

use crate::disk::{GroupWrites, State};
use crate::world::{DRAWS, SCRATCH, TOPICS};

mod after;
mod answers;
mod claims;
mod codes;
mod draw;
pub mod group;
mod later;
mod ledger;
mod line;
mod quota;
pub mod room;
mod scratch;

pub use claims::Campaign;
pub use draw::Draw;
pub use group::Group;
pub use later::Later;
pub use ledger::Ledger;
pub use line::Line;
pub use quota::Quota;
pub use room::Room;
pub use scratch::Scratch;

/// What is broken, if anything.
pub type Checked = Result<(), String>;

pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

#[derive(Debug, Default)]
pub struct Link {
    pub max: Option<u64>,
    pub visits: u64,
    /// Redirects that were answered.
    pub granted: u64,
    /// Visits at the beginning of this life of the process, and deferred since.
    base: u64,
    deferred: u64,
    /// Clicks that the store was ever told of.
    clicks: u64,
    /// Deferred, and neither written nor lost.
    pending: u64,
    /// Deferred, and perhaps lost.
    lost: u64,
    /// Visits when its bound was set.
    at_bound: u64,
    /// The bound before the group that is being looked at, if that changes it.
    before: Option<Option<u64>>,
    /// Whether visits were ever counted before they were answered.
    exact: bool,
    deleted: bool,
}

/// What is known of a code.
#[derive(Debug, Default)]
pub struct Code {
    /// The id of the link that has it.
    pub link: Option<String>,
    /// When a link with it was last exhausted, or no link had it, microseconds.
    full_at: u64,
    free_at: u64,
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

    /// The store is asked to count a click.
    pub fn clicked(&mut self, commit: &Commit) {
        self.each_click(&commit.mutations, |link, count| link.clicks += count);
    }

    /// The same once more, for the link that has the code.
    pub fn clicked_again(&mut self, code: &str) {
        let id = self.codes.get(code).and_then(|code| code.link.as_ref());
        if let Some(link) = id.and_then(|id| self.links.get_mut(id)) {
            link.clicks += 1;
            link.deferred += 1;
            link.pending += 1;
        }
    }

    /// A deferred change was taken.
    pub fn deferred(&mut self, commit: &Commit) {
        self.each_click(&commit.mutations, |link, count| {
            link.deferred += count;
            link.pending += count;
        });
    }

    /// A deferred change found no room.
    pub fn not_taken(&mut self, commit: &Commit) {
        self.each_click(&commit.mutations, |link, count| link.lost += count);
    }

    /// Deferred changes were in a group that was written.
    pub fn counted(&mut self, changes: &[Mutation]) {
        self.each_click(changes, |link, count| {
            link.pending = link.pending.saturating_sub(count);
        });
    }

    /// Deferred changes were in a group that was not written.
    pub fn dropped(&mut self, changes: &[Mutation]) {
        self.each_click(changes, |link, count| {
            link.deferred = link.deferred.saturating_sub(count);
            link.pending = link.pending.saturating_sub(count);
            link.lost += count;
        });
    }

    fn each_click(&mut self, changes: &[Mutation], mut each: impl FnMut(&mut Link, u64)) {
        for change in changes {
            if let Mutation::Add { key, delta, .. } = change
                && let Some((_, id)) = key.strip_prefix("visits/").and_then(|rest| rest.split_once('/'))
                && let Some(link) = self.links.get_mut(id)
            {
                each(link, delta.unsigned_abs());
            }
        }
    }

    /// The link that leads to a URL; each has another.
    pub fn leading_to(&mut self, url: &str) -> Option<&mut Link> {
        self.urls.get(url).and_then(|id| self.links.get_mut(id))
    }

    /// The link that has a code.
    pub fn called(&self, code: &str) -> Option<&Link> {
        let id = self.codes.get(code)?.link.as_ref()?;
        self.links.get(id)
    }

    /// A group is durable, and shown.
    pub fn published(&mut self, writes: &Rc<GroupWrites>, now: u64) -> Checked {
        self.in_doubt.retain(|group| group.revision > writes.revision);
        ensure(writes.revision > self.mirror.revision, || {
            format!("revision {} follows {}", writes.revision, self.mirror.revision)
        })?;
        ensure(writes.now >= self.mirror.now, || {
            format!(
                "the store's time ran back from {} to {}",
                self.mirror.now, writes.now
            )
        })?;
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
                ("relay", Some(value)) if rest.ends_with("/progress") => progressed.push((key, value)),
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
        let before = self.mirror.now;
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

    fn link_changed(&mut self, key: &str, code: &str, value: Option<&[u8]>, now: u64) -> Checked {
        #[derive(Deserialize)]
        struct Record {
            id: String,
            url: String,
            #[serde(default)]
            limits: tollgate_rules::links::Limits,
        }
        let known = self.codes.entry(code.to_owned()).or_default();
        match &known.link {
            None => known.free_at = now,
            Some(id) => {
                let link = self.links.entry(id.clone()).or_default();
                // The last visits may be in this very group, before the change: how many, only the group knows.
                if link.max.is_some_and(|max| link.clicks >= max) {
                    known.full_at = now;
                }
            }
        }
        let Some(value) = value else {
            known.free_at = now;
            let id = known.link.take();
            if let Some(link) = id.and_then(|id| self.links.get_mut(&id)) {
                link.deleted = true;
            }
            return Ok(());
        };
        let record: Record = read(key, value)?;
        if let Some(before) = known.link.replace(record.id.clone())
            && before != record.id
            && let Some(link) = self.links.get_mut(&before)
        {
            // Deleted and made again in one group.
            link.deleted = true;
            known.free_at = now;
        }
        self.urls.insert(record.url, record.id.clone());
        let link = self.links.entry(record.id).or_default();
        if record.limits.max_visits != link.max {
            (link.before, link.at_bound) = (Some(link.max), link.visits);
        }
        link.exact |= record.limits.exact || record.limits.max_visits.is_some();
        link.max = record.limits.max_visits;
        Ok(())
    }

    fn visited(&mut self, rest: &str, value: &[u8], now: u64) -> Checked {
        let visits = plan::counter(value)
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0);
        let (code, id) = rest
            .split_once('/')
            .ok_or_else(|| format!("visits/{rest} names no link"))?;
        let link = self.links.entry(id.to_owned()).or_default();
        if link.deleted {
            return Ok(());
        }
        ensure(visits >= link.visits, || {
            format!("visits/{rest} went from {} to {visits}", link.visits)
        })?;
        ensure(visits <= link.clicks, || {
            format!("{visits} visits of {rest}, on which were {} clicks", link.clicks)
        })?;
        link.visits = visits;
        if link.max.is_some_and(|max| visits >= max) {
            self.codes.entry(code.to_owned()).or_default().full_at = now;
        }
        // Which of its visits came before the bound that a group sets, only the group knows.
        let most = match (link.max, link.before) {
            (None, _) | (_, Some(None)) => u64::MAX,
            (Some(max), before) => max.max(before.flatten().unwrap_or(0)).max(link.at_bound),
        };
        ensure(visits <= most, || {
            format!("{visits} visits of {rest}, which allows {:?}", link.max)
        })?;
        if link.before.is_some() {
            link.at_bound = visits;
        }
        Ok(())
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
