//! What is kept of an alert: whether it holds, and what has not been sent yet.

use serde::{Deserialize, Serialize};

use super::condition::Finding;
use super::notice::{Notice, State};

/// The most messages that wait to be sent. Beyond them the oldest start goes, with its end: whoever could not be told of
/// eight episodes will not miss the first.
pub const MAX_PENDING: usize = 16;

/// The key of an alert's record.
pub fn key(name: &str) -> String {
    ["alert/", name].concat()
}

/// What is kept of an alert. Times are Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// How often it has begun to hold.
    pub episode: u64,
    /// Since when it holds, if it does.
    pub since: Option<u64>,
    /// When it was last told that it holds.
    pub told: u64,
    /// How often it was told in this episode that it still holds.
    pub repeats: u64,
    /// What is to be sent, the oldest first.
    pub pending: Vec<Notice>,
}

impl Record {
    /// Takes in what was found; whether anything has changed. `repeat_after_ms`: after how long it is told again that it
    /// holds, if ever.
    pub fn observe(&mut self, finding: &Finding, now: u64, repeat_after_ms: Option<u64>) -> bool {
        match (self.since, finding.holds) {
            (None, false) => false,
            (None, true) => {
                self.episode += 1;
                self.repeats = 0;
                self.since = Some(now);
                self.tell(State::Started, now, now, finding);
                true
            }
            (Some(since), false) => {
                self.since = None;
                self.tell(State::Ended, since, now, finding);
                true
            }
            (Some(since), true) => {
                let is_due = repeat_after_ms.is_some_and(|after| now.saturating_sub(self.told) >= after);
                // While one waits to be sent, another says no more.
                if is_due && self.pending.is_empty() {
                    self.repeats += 1;
                    self.tell(State::Continues, since, now, finding);
                    return true;
                }
                false
            }
        }
    }

    /// The oldest message was taken.
    pub fn sent(&mut self, id: &str) {
        if self.pending.first().is_some_and(|first| first.id == id) {
            self.pending.remove(0);
        }
    }

    fn tell(&mut self, state: State, since: u64, now: u64, finding: &Finding) {
        self.told = now;
        let id = match state {
            State::Started => format!("{}-started", self.episode),
            State::Ended => format!("{}-ended", self.episode),
            State::Continues => format!("{}-continues-{}", self.episode, self.repeats),
        };
        self.pending.push(Notice {
            id,
            state,
            since,
            time: now,
            value: finding.value,
            subjects: finding.subjects.clone(),
        });
        while self.pending.len() > MAX_PENDING {
            // The first may be under way: it stays.
            self.pending.drain(1..3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(holds: bool) -> Finding {
        Finding {
            holds,
            ..Finding::default()
        }
    }

    fn states(record: &Record) -> Vec<State> {
        record.pending.iter().map(|notice| notice.state).collect()
    }

    #[test]
    fn an_episode_has_one_start_and_one_end() {
        let mut record = Record::default();
        assert!(!record.observe(&found(false), 1, None));
        assert!(record.observe(&found(true), 2, None));
        for now in 3..100 {
            assert!(!record.observe(&found(true), now, None));
        }
        assert!(record.observe(&found(false), 100, None));
        assert!(!record.observe(&found(false), 101, None));
        assert_eq!(states(&record), [State::Started, State::Ended]);
        assert_eq!((record.pending[1].since, record.pending[1].time), (2, 100));
    }

    #[test]
    fn a_restart_begins_nothing_anew() {
        let mut record = Record::default();
        record.observe(&found(true), 2, None);
        record.sent("1-started");
        let stored = serde_json::to_vec(&record).unwrap();
        let mut again: Record = serde_json::from_slice(&stored).unwrap();
        assert!(!again.observe(&found(true), 3, None));
        assert!(again.observe(&found(false), 4, None));
        assert_eq!(states(&again), [State::Ended]);
    }

    #[test]
    fn it_is_told_again_after_a_while_if_what_was_told_has_arrived() {
        let mut record = Record::default();
        record.observe(&found(true), 0, Some(100));
        assert!(
            !record.observe(&found(true), 500, Some(100)),
            "the start still waits"
        );
        record.sent("1-started");
        assert!(record.observe(&found(true), 501, Some(100)));
        record.sent("1-continues-1");
        assert!(!record.observe(&found(true), 600, Some(100)));
        assert!(record.observe(&found(true), 601, Some(100)));
        assert_eq!(record.pending[0].id, "1-continues-2");
    }

    proptest! {
        #[test]
        fn whatever_happens_starts_and_ends_take_turns_and_are_bounded(
            steps in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..200)
        ) {
            let (mut record, mut sent, mut episodes) = (Record::default(), Vec::new(), 0);
            let mut held = false;
            for (now, (holds, takes)) in (0_u64..).zip(steps) {
                episodes += u64::from(holds && !held);
                held = holds;
                record.observe(&found(holds), now, None);
                if takes && let Some(first) = record.pending.first().cloned() {
                    record.sent(&first.id);
                    sent.push(first);
                }
                prop_assert!(record.pending.len() <= MAX_PENDING);
            }
            sent.append(&mut record.pending);
            prop_assert_eq!(record.episode, episodes);
            for pair in sent.windows(2) {
                prop_assert!(pair[0].state != pair[1].state, "{:?}", sent);
            }
            if let Some(first) = sent.first() {
                prop_assert_eq!(first.state, State::Started);
            }
        }
    }
}
