//! Messages as records, and records as a batch of the format that Kafka has had since its version 0.11.

use std::sync::Arc;

use tollgate_api::traceparent::{self, Traceparent};
use tollgate_store::commit::Message;

use super::wire::Writer;
use crate::attributes::{self, Attributes};
use crate::webhook::kind;

/// What a batch and each record have besides key, value and headers, at most, bytes.
const OVERHEAD: usize = 64;
/// The version of the format.
const MAGIC: i8 = 2;

/// Who writes a batch: what the servers gave to this producer. Together with its sequence, a batch that comes again is known by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub id: i64,
    pub epoch: i16,
}

/// A message, as it is kept by Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Of the message, which its partition is told by where it has no key.
    pub id: String,
    /// Unix milliseconds.
    time: i64,
    /// Key, value and headers, in the format of a record.
    body: Vec<u8>,
}

impl Record {
    /// CloudEvents in binary mode, as the protocol binding of Kafka has it (version 1.0.2, section 3.2). `source`: the topic as a URI;
    /// `place`: of this attempt in a trace, in the place of the message's own.
    pub fn of(message: &Message, source: &str, place: Option<Traceparent>) -> Self {
        let mut body = Writer::default();
        match &*message.key {
            "" => body.varint(-1),
            key => body.short(key.as_bytes()),
        };
        body.short(&message.payload);
        let headers = headers(message, source, place);
        body.varint(headers.len() as i64);
        for (name, value) in headers {
            body.short(name.as_bytes()).short(value.as_bytes());
        }
        Self {
            id: message.id.clone(),
            time: message.time.cast_signed(),
            body: body.0,
        }
    }

    /// At least what it adds to a batch, bytes.
    pub fn size(&self) -> usize {
        self.body.len() + OVERHEAD
    }
}

/// Names and values; values are UTF-8 as they are.
fn headers(message: &Message, source: &str, place: Option<Traceparent>) -> Vec<(String, String)> {
    let mut headers = vec![("content-type".to_owned(), message.content_type.clone())];
    headers.retain(|(_, value)| !value.is_empty());
    let mut attribute = |name: &str, value: String| headers.push((format!("ce_{name}"), value));
    attribute("specversion", "1.0".to_owned());
    attribute("id", message.id.clone());
    attribute("source", source.to_owned());
    attribute("type", kind(message).to_owned());
    attribute("time", tollgate_api::time::format(message.time));
    attribute("sequence", message.sequence.to_string());
    if !message.key.is_empty() {
        attribute("partitionkey", message.key.clone());
    }
    if let Some(request) = Attributes::read(message) {
        attribute("method", request.method);
        attribute("path", request.path);
        if let Some(query) = request.query.filter(|query| !query.is_empty()) {
            attribute("query", query);
        }
        headers.extend(request.headers);
    }
    if let Some(place) = place.or_else(|| attributes::traceparent(message)) {
        headers.push((traceparent::HEADER.to_owned(), place.to_string()));
    }
    headers
}

/// A batch of these records, of which there is at least one; the first has this sequence.
pub(super) fn batch(records: &[Arc<Record>], identity: Identity, sequence: i32) -> Vec<u8> {
    let first = records.first().map_or(0, |record| record.time);
    let newest = records.iter().map(|record| record.time).max();
    let count = i32::try_from(records.len()).expect("what is sent at once is bounded");
    // What the checksum is of.
    let mut checked = Writer::default();
    checked
        .i16(0) // Not compressed; the times are the records' own.
        .i32(count - 1)
        .i64(first)
        .i64(newest.unwrap_or(first))
        .i64(identity.id)
        .i16(identity.epoch)
        .i32(sequence)
        .i32(count);
    for (offset, record) in records.iter().enumerate() {
        let mut head = Writer::default();
        head.i8(0)
            .varint(record.time.wrapping_sub(first))
            .varint(offset as i64);
        checked
            .varint((head.0.len() + record.body.len()) as i64)
            .raw(&head.0)
            .raw(&record.body);
    }
    let mut batch = Writer::default();
    // What follows the length: the leader's epoch, the version and the checksum, 9 bytes.
    batch
        .i64(0)
        .length(checked.0.len() + 9)
        .i32(-1)
        .i8(MAGIC)
        .raw(&crc32c::crc32c(&checked.0).to_be_bytes())
        .raw(&checked.0);
    batch.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &str) -> Message {
        Message {
            topic: "t".into(),
            sequence: 7,
            id: "m7".into(),
            key: key.into(),
            kind: "shop.ordered".into(),
            content_type: "application/json".into(),
            time: 1_800_000_000_000,
            payload: b"{}".to_vec(),
            ..Message::default()
        }
    }

    #[test]
    fn a_message_is_an_event_in_binary_mode_with_its_key() {
        let record = Record::of(&message("k é"), "https://x.example/t", None);
        let text = String::from_utf8_lossy(&record.body).into_owned();
        for part in [
            "ce_specversion",
            "ce_id",
            "m7",
            "ce_partitionkey",
            "k é",
            "ce_type",
            "shop.ordered",
            "content-type",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(record.body[..5], [8, b'k', b' ', 0xc3, 0xa9], "the key, as it is");
        assert_eq!(Record::of(&message(""), "s", None).body[0], 1, "no key");
    }

    /// As `kafka-python` 3.0.12 builds it, but for the epoch of the leader, which only servers know (-1 in the Java client).
    #[test]
    fn a_batch_is_what_others_make_of_the_same_records() {
        let record = |time, body: &[u8]| {
            Arc::new(Record {
                id: String::new(),
                time,
                body: body.to_vec(),
            })
        };
        let records = [
            record(1_800_000_000_000, b"\x02k\x02a\x00"),
            record(1_800_000_000_005, b"\x01\x02b\x02\x04id\x04m1"),
        ];
        let identity = Identity { id: 2_000, epoch: 3 };
        let bytes: String = batch(&records, identity, 40)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(bytes, BATCH);
    }

    const BATCH: &str = "000000000000000000000048ffffffff027ba915ea000000000001000001a3185c5000000001a3185c500500000000000007d00003000000280000000210000000026b0261001a000a0201026202046964046d31";
}
