//! One part of the table: its buckets in a dense list, and an index into it.

use hashbrown::HashTable;
use tollgate_store::bucket::State;

/// Buckets looked at, for each newcomer, to be dropped if they are full. More than one, so that a table
/// empties faster than it fills once its clients have gone.
const SWEPT: usize = 2;
/// Buckets among which the fullest gives way when there is no room.
const SAMPLE: usize = 16;

/// Buckets under one lock.
pub(super) struct Shard {
    /// Dense, so that any of them can be looked at without a search.
    entries: Vec<Entry>,
    /// Positions in `entries`, by the lower half of the id.
    index: HashTable<u32>,
    /// Where the next look at `entries` begins.
    hand: usize,
    max: usize,
}

struct Entry {
    id: u128,
    state: State,
}

impl Shard {
    /// For at most `max` buckets, at least one.
    pub(super) fn new(max: usize) -> Self {
        let max = max.clamp(1, u32::MAX as usize);
        Self {
            entries: Vec::new(),
            index: HashTable::new(),
            hand: 0,
            max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.index.allocation_size()
    }

    pub(super) fn get(&self, id: u128) -> Option<State> {
        self.find(id)
            .and_then(|at| self.entries.get(at))
            .map(|entry| entry.state)
    }

    /// Keeps a bucket's new state. One that is full need not be kept.
    pub(super) fn put(&mut self, id: u128, state: Option<State>, now: u64) {
        let Some(state) = state else { return };
        if let Some(entry) = self.find(id).and_then(|at| self.entries.get_mut(at)) {
            entry.state = state;
            return;
        }
        if state.full_at() <= now {
            return;
        }
        self.sweep(now);
        if self.entries.len() >= self.max {
            self.evict();
        }
        let at = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry { id, state });
        let entries = &self.entries;
        self.index.insert_unique(hash(id), at, |&at| {
            entries.get(at as usize).map_or(0, |entry| hash(entry.id))
        });
    }

    /// The positions that the index holds, in order.
    #[cfg(test)]
    pub(super) fn positions(&self) -> Vec<usize> {
        let mut positions: Vec<usize> = self.index.iter().map(|&at| at as usize).collect();
        positions.sort_unstable();
        positions
    }

    fn find(&self, id: u128) -> Option<usize> {
        let same = |&at: &u32| self.entries.get(at as usize).is_some_and(|entry| entry.id == id);
        self.index.find(hash(id), same).map(|&at| at as usize)
    }

    /// Drops the full ones among the next few.
    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEPT {
            let at = self.advance();
            if self
                .entries
                .get(at)
                .is_some_and(|entry| entry.state.full_at() <= now)
            {
                self.remove(at);
            }
        }
    }

    /// Drops the one among the next few that is full first.
    fn evict(&mut self) {
        let sample = (0..SAMPLE.min(self.entries.len()))
            .map(|_| self.advance())
            .collect::<Vec<_>>();
        let full_at = |at: &usize| {
            self.entries
                .get(*at)
                .map_or(u64::MAX, |entry| entry.state.full_at())
        };
        if let Some(at) = sample.into_iter().min_by_key(full_at) {
            self.remove(at);
        }
    }

    /// The next position to look at, round and round.
    fn advance(&mut self) -> usize {
        self.hand = if self.hand + 1 < self.entries.len() {
            self.hand + 1
        } else {
            0
        };
        self.hand
    }

    fn remove(&mut self, at: usize) {
        let Some(last) = self.entries.len().checked_sub(1).filter(|&last| at <= last) else {
            return;
        };
        let removed = self.entries.swap_remove(at);
        // No two entries of the index hold the same position.
        if let Ok(slot) = self
            .index
            .find_entry(hash(removed.id), |&held| held as usize == at)
        {
            slot.remove();
        }
        if let Some(moved) = self.entries.get(at)
            && let Some(held) = self.index.find_mut(hash(moved.id), |&held| held as usize == last)
            && let Ok(at) = u32::try_from(at)
        {
            *held = at;
        }
    }
}

fn hash(id: u128) -> u64 {
    id as u64
}
