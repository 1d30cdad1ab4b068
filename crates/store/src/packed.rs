//! Commits and their outcomes in one piece: one allocation where they cross a border or are kept, not one for each text.

/// Room for packed commits of the usual size, bytes.
pub const COMMIT_BYTES: usize = 1_024;
/// Room for a packed outcome of the usual size, bytes.
pub const OUTCOME_BYTES: usize = 64;

/// A commit or its outcome in one piece, in the format of postcard (<https://postcard.jamesmunns.com/wire-format>). `room`:
/// bytes that it usually takes.
pub fn pack(value: &impl serde::Serialize, room: usize) -> Vec<u8> {
    let room = Vec::with_capacity(room);
    postcard::to_extend(value, room).expect("our own types have no part that cannot be serialised")
}

/// Unpacks the bytes that [`pack`] made; `None` for any others.
pub fn unpack<T: serde::de::DeserializeOwned>(packed: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(packed).ok()?;
    rest.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::commit::{
        Append, Commit, Committed, Condition, Idempotence, Mutation, Outcome, Part, Refusal,
    };

    proptest! {
        #[test]
        fn what_was_never_a_commit_is_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(commit) = unpack::<Commit>(&bytes) {
                prop_assert_eq!(unpack::<Commit>(&pack(&commit, COMMIT_BYTES)), Some(commit));
            }
            let _ = unpack::<Outcome>(&bytes);
        }
    }

    #[test]
    fn a_commit_and_its_outcome_are_unpacked_as_they_were() {
        let parts = || {
            vec![
                Part::Bytes(b"a\xff".into()),
                Part::Sum(1),
                Part::Sequence(0),
                Part::Time,
            ]
        };
        let commit = Commit {
            partition: "p".into(),
            idempotence: Some(Idempotence {
                id: "i".into(),
                fingerprint: vec![0, 255],
                answer: parts(),
                ttl: u64::MAX,
            }),
            conditions: vec![
                Condition::Absent("a".into()),
                Condition::Version {
                    key: "v".into(),
                    version: 300,
                },
                Condition::NowIn {
                    start: None,
                    end: Some(1),
                },
            ],
            mutations: vec![
                Mutation::Set {
                    key: "s".into(),
                    value: parts(),
                    expires: Some(2),
                },
                Mutation::Delete { key: "d".into() },
                Mutation::Add {
                    key: "n".into(),
                    delta: i64::MIN,
                    min: Some(-1),
                    max: None,
                },
            ],
            appends: vec![Append {
                topic: "t".into(),
                id: "m".into(),
                key: "k".into(),
                kind: "e".into(),
                content_type: "text/plain".into(),
                attributes: Vec::new(),
                payload: parts(),
            }],
        };
        let packed = pack(&commit, COMMIT_BYTES);
        assert_eq!(unpack(&packed), Some(commit));
        assert_eq!(unpack::<Commit>(&packed[..packed.len() - 1]), None);
        assert_eq!(unpack::<Commit>(&[&*packed, &[0]].concat()), None);
        for outcome in [
            Outcome::Committed(Committed {
                version: 1,
                sums: vec![-1, i64::MAX],
                sequences: vec![u64::MAX],
                time: 2,
            }),
            Outcome::Replayed(b"\0".into()),
            Outcome::Conflict,
            Outcome::Refused(Refusal::Mutation(7)),
        ] {
            assert_eq!(unpack(&pack(&outcome, OUTCOME_BYTES)), Some(outcome));
        }
    }
}
