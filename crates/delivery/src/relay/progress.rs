//! The progress of a subscription: a watermark, and the finished ranges above it. Messages that wait apart
//! (see [`super::record::Waiting::parked`]) count as finished here.

use serde::{Deserialize, Serialize};

/// Finished means acknowledged by the origin, recorded as a dead letter, or removed by retention. Every sequence up to the
/// watermark is finished, and those of the ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    watermark: u64,
    /// Inclusive, ascending, with an unfinished sequence before each of them.
    #[serde(default)]
    ranges: Vec<(u64, u64)>,
    /// How many of them are parked.
    #[serde(default)]
    parked: u64,
}

impl Progress {
    /// Everything up to and including `watermark`.
    pub fn up_to(watermark: u64) -> Self {
        Self {
            watermark,
            ranges: Vec::new(),
            parked: 0,
        }
    }

    /// How many messages wait apart, although their sequences count as finished.
    pub fn parked(&self) -> u64 {
        self.parked
    }

    /// Corrects [`Self::parked`].
    pub fn set_parked(&mut self, parked: u64) {
        self.parked = parked;
    }

    /// The highest sequence up to which all are finished.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// What is finished above the watermark: inclusive ranges, ascending.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Whether `sequence` is finished.
    pub fn contains(&self, sequence: u64) -> bool {
        if sequence <= self.watermark {
            return true;
        }
        let next = self.ranges.partition_point(|&(start, _)| start <= sequence);
        next.checked_sub(1)
            .and_then(|i| self.ranges.get(i))
            .is_some_and(|&(_, end)| sequence <= end)
    }

    /// Marks `start..=end` as finished. An empty range changes nothing.
    pub fn finish(&mut self, start: u64, end: u64) {
        if start > end {
            return;
        }
        let (mut start, mut end) = (start, end);
        // Everything that overlaps or touches becomes one range.
        let from = self.ranges.partition_point(|&(_, e)| e.saturating_add(1) < start);
        let to = self
            .ranges
            .partition_point(|&(s, _)| s <= end.saturating_add(1))
            .max(from);
        if let Some(merged) = self.ranges.get(from..to)
            && let (Some(first), Some(last)) = (merged.first(), merged.last())
        {
            (start, end) = (start.min(first.0), end.max(last.1));
        }
        self.ranges.splice(from..to, [(start, end)]);
        let reached = self.ranges.iter().take_while(|&&(s, e)| {
            let touches = s <= self.watermark.saturating_add(1);
            if touches {
                self.watermark = self.watermark.max(e);
            }
            touches
        });
        let absorbed = reached.count();
        self.ranges.drain(..absorbed);
    }

    /// Marks as finished whatever `other` has finished.
    pub fn merge(&mut self, other: &Progress) {
        self.finish(1, other.watermark);
        for &(start, end) in &other.ranges {
            self.finish(start, end);
        }
    }

    /// How many messages of `first..=last` (a topic's extent) are not finished, those that wait apart included.
    pub fn lag(&self, first: u64, last: u64) -> u64 {
        self.unfinished(first, last).saturating_add(self.parked)
    }

    /// How many of `first..=last` are not finished here.
    pub fn unfinished(&self, first: u64, last: u64) -> u64 {
        let from = first.max(self.watermark.saturating_add(1));
        if from > last {
            return 0;
        }
        let finished: u64 = self
            .ranges
            .iter()
            .map(|&(start, end)| (end.min(last) + 1).saturating_sub(start.max(from)))
            .sum();
        (last - from + 1).saturating_sub(finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_watermark_follows_once_the_hole_is_closed() {
        let mut progress = Progress::default();
        progress.finish(2, 2);
        progress.finish(4, 5);
        assert_eq!(
            (progress.watermark(), progress.ranges()),
            (0, &[(2, 2), (4, 5)][..])
        );
        progress.finish(3, 3);
        assert_eq!((progress.watermark(), progress.ranges()), (0, &[(2, 5)][..]));
        progress.finish(1, 1);
        assert_eq!((progress.watermark(), progress.ranges()), (5, &[][..]));
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_what_was_finished(
            spans in prop::collection::vec((1u64..60, 0u64..6), 0..40), first in 1u64..70, last in 0u64..70,
        ) {
            let (mut progress, mut model) = (Progress::default(), BTreeSet::new());
            for (start, more) in spans {
                progress.finish(start, start + more);
                model.extend(start..=start + more);
            }
            for sequence in 1..80 {
                prop_assert_eq!(progress.contains(sequence), model.contains(&sequence));
            }
            let unfinished = (first..=last).filter(|s| !model.contains(s)).count() as u64;
            prop_assert_eq!(progress.lag(first, last), unfinished);
            prop_assert!(!progress.contains(progress.watermark() + 1));
            for pair in progress.ranges().windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0);
            }
            let text = serde_json::to_vec(&progress).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Progress>(&text).unwrap(), progress.clone());
            let mut merged = Progress::up_to(3);
            merged.merge(&progress);
            prop_assert!((1..80).all(|s| merged.contains(s) == (s <= 3 || model.contains(&s))));
        }
    }
}
