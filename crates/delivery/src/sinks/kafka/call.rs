//! The six calls that a producer needs, in versions that every server from Kafka 1.0 to 4 has: what is asked, and what is answered.

use super::record::Identity;
use super::wire::{Malformed, Reader, Writer};

/// A call: its key, and the versions of it that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub name: &'static str,
    pub key: i16,
    pub versions: (i16, i16),
    /// The first version whose messages may have tagged fields (KIP-482).
    pub tagged_from: i16,
}

const NEVER: i16 = i16::MAX;

pub(super) const PRODUCE: Call = call("Produce", 0, (3, 8), NEVER);
pub(super) const METADATA: Call = call("Metadata", 3, (4, 7), NEVER);
pub(super) const SASL_HANDSHAKE: Call = call("SaslHandshake", 17, (1, 1), NEVER);
pub(super) const API_VERSIONS: Call = call("ApiVersions", 18, (0, 0), NEVER);
pub(super) const INIT_PRODUCER_ID: Call = call("InitProducerId", 22, (0, 4), 2);
pub(super) const SASL_AUTHENTICATE: Call = call("SaslAuthenticate", 36, (0, 1), NEVER);

const fn call(name: &'static str, key: i16, versions: (i16, i16), tagged_from: i16) -> Call {
    Call {
        name,
        key,
        versions,
        tagged_from,
    }
}

/// The newest versions that both sides speak, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions(Vec<(i16, i16, i16)>);

impl Versions {
    /// The answer to [`API_VERSIONS`]: its code and the versions.
    pub fn read(answer: &[u8]) -> Result<(i16, Self), Malformed> {
        let mut reader = Reader(answer);
        let code = reader.i16()?;
        let found = reader.array(|reader| Ok((reader.i16()?, reader.i16()?, reader.i16()?)))?;
        Ok((code, Self(found)))
    }

    /// The version to speak.
    pub fn of(&self, call: Call) -> Option<i16> {
        let (_, oldest, newest) = self.0.iter().find(|(key, ..)| *key == call.key)?;
        let (ours_oldest, ours_newest) = call.versions;
        let version = ours_newest.min(*newest);
        (version >= ours_oldest.max(*oldest)).then_some(version)
    }
}

/// What is known of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topic {
    pub code: i16,
    /// Number, host and port of each server.
    pub brokers: Vec<(i32, String, i32)>,
    /// Number and leader of each partition; a negative one is none.
    pub partitions: Vec<(i32, i32)>,
}

impl Topic {
    /// Asks about one topic. It is not made where it is not there.
    pub fn ask(name: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.length(1).string(name).i8(0);
        body.0
    }

    pub fn read(answer: &[u8], version: i16) -> Result<Self, Malformed> {
        let mut reader = Reader(answer);
        reader.i32()?;
        let brokers = reader.array(|reader| {
            let broker = (reader.i32()?, reader.string()?.to_owned(), reader.i32()?);
            reader.string().map(|_| broker)
        })?;
        reader.string()?;
        reader.i32()?;
        let mut topics = reader.array(|reader| {
            let code = reader.i16()?;
            reader.string()?;
            reader.i8()?;
            let partitions = reader.array(|reader| partition(reader, version))?;
            Ok((code, partitions))
        })?;
        let (code, partitions) = topics.pop().ok_or(Malformed)?;
        Ok(Self {
            code,
            brokers,
            partitions,
        })
    }
}

fn partition(reader: &mut Reader<'_>, version: i16) -> Result<(i32, i32), Malformed> {
    reader.i16()?;
    let found = (reader.i32()?, reader.i32()?);
    if version >= 7 {
        reader.i32()?;
    }
    reader.array(Reader::i32)?;
    reader.array(Reader::i32)?;
    if version >= 5 {
        reader.array(Reader::i32)?;
    }
    Ok(found)
}

/// Asks for an identity. The time-out is of transactions, which there are none of.
pub(super) fn ask_identity(version: i16) -> Vec<u8> {
    const TIMEOUT_MS: i32 = 60_000;
    let mut body = Writer::default();
    match version {
        0..2 => body.i16(-1).i32(TIMEOUT_MS),
        2 => body.unsigned_varint(0).i32(TIMEOUT_MS).unsigned_varint(0),
        _ => body
            .unsigned_varint(0)
            .i32(TIMEOUT_MS)
            .i64(-1)
            .i16(-1)
            .unsigned_varint(0),
    };
    body.0
}

/// Its code and the identity.
pub(super) fn read_identity(answer: &[u8]) -> Result<(i16, Identity), Malformed> {
    let mut reader = Reader(answer);
    reader.i32()?;
    let code = reader.i16()?;
    let (id, epoch) = (reader.i64()?, reader.i16()?);
    Ok((code, Identity { id, epoch }))
}

/// Asks to append batches to partitions of a topic, on every replica that is in step.
pub(super) fn produce<'a>(
    topic: &str,
    timeout_ms: i32,
    batches: impl ExactSizeIterator<Item = (i32, &'a [u8])>,
) -> Vec<u8> {
    const ALL_IN_STEP: i16 = -1;
    let mut body = Writer::default();
    body.i16(-1)
        .i16(ALL_IN_STEP)
        .i32(timeout_ms)
        .length(1)
        .string(topic)
        .length(batches.len());
    for (partition, batch) in batches {
        body.i32(partition).bytes(batch);
    }
    body.0
}

/// The code of each partition.
pub(super) fn read_produced(answer: &[u8], version: i16) -> Result<Vec<(i32, i16)>, Malformed> {
    let mut reader = Reader(answer);
    let topics = reader.array(|reader| {
        reader.string()?;
        reader.array(|reader| {
            let found = (reader.i32()?, reader.i16()?);
            reader.i64()?;
            reader.i64()?;
            if version >= 5 {
                reader.i64()?;
            }
            if version >= 8 {
                reader.array(|reader| reader.i32().and(reader.string().map(drop)))?;
                reader.string()?;
            }
            Ok(found)
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}

/// Asks to log in by a mechanism.
pub(super) fn handshake(mechanism: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(mechanism);
    body.0
}

/// Its code, and which mechanisms the server knows.
pub(super) fn read_handshake(answer: &[u8]) -> Result<(i16, Vec<String>), Malformed> {
    let mut reader = Reader(answer);
    let code = reader.i16()?;
    Ok((code, reader.array(|reader| reader.string().map(str::to_owned))?))
}

/// A step of a login.
pub(super) fn authenticate(message: &[u8]) -> Vec<u8> {
    let mut body = Writer::default();
    body.bytes(message);
    body.0
}

/// Its code, what the server says of it to people, and to the mechanism.
pub(super) fn read_authenticated(answer: &[u8]) -> Result<(i16, String, Vec<u8>), Malformed> {
    let mut reader = Reader(answer);
    let (code, said) = (reader.i16()?, reader.string()?.to_owned());
    Ok((code, said, reader.bytes()?.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_version_is_spoken_that_both_sides_know() {
        let mut answer = Writer::default();
        answer.i16(0).length(3);
        for (key, oldest, newest) in [(0_i16, 3_i16, 12_i16), (3, 0, 5), (22, 5, 9)] {
            answer.i16(key).i16(oldest).i16(newest);
        }
        let (code, versions) = Versions::read(&answer.0).unwrap();
        assert_eq!(code, 0);
        assert_eq!(versions.of(PRODUCE), Some(8));
        assert_eq!(versions.of(METADATA), Some(5));
        assert_eq!(versions.of(INIT_PRODUCER_ID), None, "all of them newer");
        assert_eq!(versions.of(SASL_HANDSHAKE), None, "none");
    }

    proptest! {
        #[test]
        fn no_answer_is_too_short_or_too_odd_to_be_refused(answer in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..200)) {
            let _ = Versions::read(&answer);
            let _ = read_identity(&answer);
            let _ = read_handshake(&answer);
            let _ = read_authenticated(&answer);
            for version in 3..=8 {
                let _ = Topic::read(&answer, version);
                let _ = read_produced(&answer, version);
            }
        }
    }
}
