//! One window: a ring of buckets, each a sketch of its frequent items.

use std::collections::VecDeque;

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use tollgate_rules::links::top::Window;
use tollgate_store::commit::{Commit, Item, Mutation, literal};

/// What the keys of kept buckets begin with: `ranking/<window>/<number>`.
pub const PREFIX: &str = "ranking/";
/// The most entries of a bucket's table: up to three quarters of it, counts are exact.
const MAX_MAP: usize = 1_024;
/// The same of the buckets that are over, merged.
const MAX_MERGED: usize = 8_192;

type Sketch = FrequentItemsSketch<String>;

fn sketch(most: usize) -> Sketch {
    Sketch::new(most).expect("the bound is a power of two")
}

/// The milliseconds of a bucket. The newest one is in progress: a window is longer than its name by less than this.
const fn width(window: Window) -> u64 {
    match window {
        Window::Hour => 60_000,
        Window::Day => 30 * 60_000,
        Window::Week => 2 * 3_600_000,
    }
}

struct Bucket {
    /// Its time, in units of [`width`].
    number: u64,
    sketch: Sketch,
    /// Whether it has changed since it was written to the store.
    is_unkept: bool,
}

/// See the module.
pub struct Ring {
    window: Window,
    /// Oldest first; the newest is in progress.
    buckets: VecDeque<Bucket>,
    /// All but the newest, merged.
    over: Sketch,
    /// How often it has changed.
    changed: u64,
}

impl Ring {
    /// An empty one.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            buckets: VecDeque::new(),
            over: sketch(MAX_MERGED),
            changed: 0,
        }
    }

    /// Another number after each change.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// The number of buckets that are over and still in the window.
    fn kept(&self) -> u64 {
        self.window.length() / width(self.window)
    }

    /// Begins the bucket of this time if it has not begun, and forgets those that are too old. A clock that goes back goes on in
    /// the newest bucket.
    pub fn turn(&mut self, now: u64) {
        let number = now / width(self.window);
        if self.buckets.back().is_some_and(|newest| newest.number >= number) {
            return;
        }
        self.buckets.push_back(Bucket {
            number,
            sketch: sketch(MAX_MAP),
            is_unkept: false,
        });
        self.merge();
    }

    /// Forgets what is too old, and merges what is over. To be called after [`Ring::resume`].
    pub fn merge(&mut self) {
        self.changed += 1;
        let newest = self.buckets.back().map_or(0, |newest| newest.number);
        let kept = self.kept();
        self.buckets.retain(|bucket| bucket.number + kept >= newest);
        self.over = sketch(MAX_MERGED);
        let over = self.buckets.len().saturating_sub(1);
        for bucket in self.buckets.iter().take(over) {
            self.over.merge(&bucket.sketch);
        }
    }

    /// Counts visits of a link in the newest bucket.
    pub fn add(&mut self, name: &str, count: u64) {
        if let Some(newest) = self.buckets.back_mut() {
            newest.sketch.update_with_count_ref(name, count);
            newest.is_unkept = true;
            self.changed += 1;
        }
    }

    /// The most visited links, at most `most`, with their visits; by name where they are the same.
    pub fn ranked(&self, most: usize) -> Vec<(String, u64)> {
        let mut all = self.over.clone();
        if let Some(newest) = self.buckets.back() {
            all.merge(&newest.sketch);
        }
        let rows = all.frequent_items(ErrorType::NoFalseNegatives);
        let mut ranked: Vec<_> = rows.iter().map(|row| (row.estimate(), row.item())).collect();
        ranked.sort_unstable_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.cmp(other)));
        ranked.truncate(most);
        ranked
            .into_iter()
            .map(|(count, name)| (name.clone(), count))
            .collect()
    }

    /// What is to be written so that the buckets can be read again, with the bucket's number. `since`: from when visits were
    /// counted.
    pub fn unkept(&mut self, since: u64) -> Vec<(u64, Commit)> {
        let (window, kept) = (self.window, self.kept());
        let mut commits = Vec::new();
        for bucket in &mut self.buckets {
            if !std::mem::take(&mut bucket.is_unkept) {
                continue;
            }
            let mut value = since.to_be_bytes().to_vec();
            value.extend(bucket.sketch.serialize());
            let commit = Commit {
                partition: PREFIX.to_owned(),
                mutations: vec![Mutation::Set {
                    key: format!("{PREFIX}{}/{:012}", window.name(), bucket.number),
                    value: literal(value),
                    expires: Some((bucket.number + kept + 2) * width(window)),
                }],
                ..Commit::default()
            };
            commits.push((bucket.number, commit));
        }
        commits
    }

    /// The store did not take the bucket of this number.
    pub fn was_not_kept(&mut self, number: u64) {
        let bucket = self.buckets.iter_mut().find(|bucket| bucket.number == number);
        if let Some(bucket) = bucket {
            bucket.is_unkept = true;
        }
    }

    /// Takes a bucket that was kept: from when its gateway had counted, or `None` if it is not of this window, too old or
    /// damaged.
    pub fn resume(&mut self, item: &Item, now: u64) -> Option<u64> {
        let name = item.key.strip_prefix(PREFIX)?.strip_prefix(self.window.name())?;
        let number: u64 = name.strip_prefix('/')?.parse().ok()?;
        let newest = now / width(self.window);
        let (since, kept) = item.entry.value.split_first_chunk()?;
        let kept = Sketch::deserialize(kept).ok()?;
        if number > newest || number + self.kept() < newest {
            return None;
        }
        let mut own = sketch(MAX_MAP);
        own.merge(&kept);
        let at = self.buckets.partition_point(|bucket| bucket.number < number);
        match self.buckets.get_mut(at).filter(|bucket| bucket.number == number) {
            Some(there) => there.sketch.merge(&own),
            None => self.buckets.insert(
                at,
                Bucket {
                    number,
                    sketch: own,
                    is_unkept: false,
                },
            ),
        }
        Some(u64::from_be_bytes(*since))
    }
}
