use proptest::prelude::*;

use super::*;

/// A partition as its leader keeps it: the last batch of each producer, and what was appended.
#[derive(Default)]
struct Leader {
    last: Option<(Identity, i32, i32)>,
    log: Vec<String>,
}

impl Leader {
    /// Appends a batch, unless it is the last one again or out of its order.
    fn append(&mut self, batch: &Batch) -> Meaning {
        let number = |at: usize, length: usize| {
            let bytes = &batch.bytes[at..at + length];
            bytes
                .iter()
                .fold(0_i64, |value, byte| value << 8 | i64::from(*byte))
        };
        // As the format has them.
        let identity = Identity {
            id: number(43, 8),
            epoch: number(51, 2) as i16,
        };
        let (sequence, count) = (number(53, 4) as i32, number(57, 4) as i32);
        assert_eq!(count as usize, batch.ids.len());
        match self.last {
            Some((of, last, of_count)) if of == identity => {
                if sequence == last && count == of_count {
                    return Meaning::Taken;
                }
                if sequence != after(last, of_count as usize) {
                    return Meaning::Anew;
                }
            }
            _ if sequence != 0 => return Meaning::Anew,
            _ => {}
        }
        self.last = Some((identity, sequence, count));
        self.log.extend(batch.ids.iter().cloned());
        Meaning::Taken
    }
}

fn record(id: u32) -> Arc<Record> {
    let message = tollgate_store::commit::Message {
        id: format!("m{id}"),
        ..Default::default()
    };
    Arc::new(Record::of(&message, "s", None))
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
enum Luck {
    Answered,
    AnswerLost,
    RequestLost,
    Elsewhere,
    Refused,
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        3 => Just(Luck::Answered),
        3 => Just(Luck::AnswerLost),
        2 => Just(Luck::RequestLost),
        1 => Just(Luck::Elsewhere),
        1 => Just(Luck::Refused),
    ]
}

proptest! {
    /// Messages are sent until the ledger says that they are there. Whatever is lost, each is there once, and in the order of what was sent first.
    #[test]
    fn whatever_is_lost_each_is_there_once(fates in prop::collection::vec((luck(), 1_u32..4), 1..200)) {
        let (mut ledger, mut leader) = (Ledger::default(), Leader::default());
        let identity = Identity { id: 1_000, epoch: 0 };
        let (mut next, mut told) = (0, Vec::new());
        for (luck, count) in fates.into_iter().chain(std::iter::repeat_n((Luck::Answered, 1), 3)) {
            let batch = ledger.open().cloned().unwrap_or_else(|| {
                let records: Vec<_> = (next..next + count).map(record).collect();
                ledger.begin(identity, &records)
            });
            ledger.sends();
            let meaning = match luck {
                Luck::Answered => leader.append(&batch),
                Luck::AnswerLost => {
                    leader.append(&batch);
                    Meaning::Unknown
                }
                Luck::RequestLost => Meaning::Unknown,
                Luck::Elsewhere => Meaning::Elsewhere,
                Luck::Refused => Meaning::Refused,
            };
            prop_assert_ne!(meaning, Meaning::Anew);
            ledger.settle(batch.number, meaning);
            if meaning == Meaning::Taken {
                told.extend(batch.ids.iter().cloned());
                next += batch.ids.len() as u32;
            }
        }
        let expected: Vec<String> = (0..next).map(|id| format!("m{id}")).collect();
        prop_assert!(ledger.open().is_none() && next > 0);
        prop_assert_eq!(&told, &expected);
        prop_assert_eq!(leader.log, expected);
    }
}

#[test]
fn an_answer_to_an_older_batch_says_nothing() {
    let mut ledger = Ledger::default();
    let identity = Identity { id: 1, epoch: 0 };
    let first = ledger.begin(identity, &[record(1)]);
    ledger.sends();
    ledger.settle(first.number, Meaning::Taken);
    let second = ledger.begin(identity, &[record(2)]);
    ledger.sends();
    ledger.settle(first.number, Meaning::Taken);
    assert_eq!(ledger.open().map(|open| open.number), Some(second.number));
}

#[test]
fn a_producer_that_begins_anew_begins_at_the_first_sequence() {
    let (mut ledger, mut leader) = (Ledger::default(), Leader::default());
    let first = ledger.begin(Identity { id: 1, epoch: 0 }, &[record(1), record(2)]);
    ledger.sends();
    ledger.settle(first.number, leader.append(&first));
    // The leader has lost what it knew.
    leader.last = None;
    let second = ledger.begin(Identity { id: 1, epoch: 0 }, &[record(3)]);
    ledger.sends();
    assert_eq!(leader.append(&second), Meaning::Anew);
    ledger.settle(second.number, Meaning::Anew);
    let third = ledger.begin(Identity { id: 2, epoch: 0 }, &[record(3)]);
    assert_eq!(leader.append(&third), Meaning::Taken);
    assert_eq!(leader.log, ["m1", "m2", "m3"]);
}

#[test]
fn after_the_largest_sequence_comes_the_first() {
    assert_eq!(after(0, 100), 100);
    assert_eq!(after(i32::MAX, 1), 0);
    assert_eq!(after(i32::MAX - 1, 5), 3);
}
