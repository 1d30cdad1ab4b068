//! Links and the visits of each: what is counted, and what a bound allows.

use serde::Deserialize;
use tollgate_store::commit::{Commit, Mutation};
use tollgate_store::plan;

use super::{Checked, Model, ensure, read};

#[derive(Debug, Default)]
pub struct Link {
    pub max: Option<u64>,
    pub visits: u64,
    /// Redirects that were answered.
    pub granted: u64,
    /// Visits at the beginning of this life of the process, and deferred since.
    pub(super) base: u64,
    pub(super) deferred: u64,
    /// Clicks that the store was ever told of.
    pub(super) clicks: u64,
    /// Deferred, and neither written nor lost.
    pub(super) pending: u64,
    /// Deferred, and perhaps lost.
    pub(super) lost: u64,
    /// Visits when its bound was set.
    pub(super) at_bound: u64,
    /// The bound before the group that is being looked at, if that changes it.
    pub(super) before: Option<Option<u64>>,
    /// Whether visits were ever counted before they were answered.
    pub(super) exact: bool,
    pub(super) deleted: bool,
    /// When it was deleted, microseconds.
    pub(super) deleted_at: u64,
}

impl Link {
    /// Clicks that may come beyond its bound: where gateways share a store, one of them may not know of it yet.
    pub(super) fn unbounded(&self, is_shared: bool) -> u64 {
        if is_shared { self.deferred } else { 0 }
    }
}

/// What is known of a code.
#[derive(Debug, Default)]
pub struct Code {
    /// The id of the link that has it.
    pub link: Option<String>,
    /// When a link with it was last exhausted, or no link had it, microseconds.
    pub(super) full_at: u64,
    pub(super) free_at: u64,
}

impl Model {
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

    pub(super) fn link_changed(&mut self, key: &str, code: &str, value: Option<&[u8]>, now: u64) -> Checked {
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
                (link.deleted, link.deleted_at) = (true, now);
            }
            return Ok(());
        };
        let record: Record = read(key, value)?;
        if let Some(before) = known.link.replace(record.id.clone())
            && before != record.id
            && let Some(link) = self.links.get_mut(&before)
        {
            // Deleted and made again in one group.
            (link.deleted, link.deleted_at) = (true, now);
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

    pub(super) fn visited(&mut self, rest: &str, value: &[u8], now: u64) -> Checked {
        let is_shared = self.is_shared;
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
        ensure(visits <= most.saturating_add(link.unbounded(is_shared)), || {
            format!("{visits} visits of {rest}, which allows {:?}", link.max)
        })?;
        if link.before.is_some() {
            link.at_bound = visits;
        }
        Ok(())
    }
}
