//! Records of idempotence ids, as the journal and the memtable hold them: as entries, under keys that no commit can
//! write, since keys hold no NUL. Their ids come in no order either; so they go the same way into their table.

use std::sync::Arc;

use serde_bytes::{ByteBuf, Bytes};
use tollgate_store::commit::Entry;
use tollgate_store::packed;
use tollgate_store::plan::Record;

/// The prefix of their keys, which come before all others.
const MARK: char = '\0';
/// The first key that is not a record's.
pub const FIRST_KEY: &str = "\u{1}";
/// What a record takes besides its parts, bytes, roughly.
const RECORD_BYTES: usize = 8;

/// The key of an id.
pub fn key(id: &str) -> String {
    let mut key = String::with_capacity(MARK.len_utf8() + id.len());
    key.push(MARK);
    key.push_str(id);
    key
}

/// The id, if the key is that of one.
pub fn id(key: &str) -> Option<&str> {
    key.strip_prefix(MARK)
}

/// A record as an entry.
pub fn entry(record: &Record) -> (String, Arc<Entry>) {
    let parts = (Bytes::new(&record.fingerprint), Bytes::new(&record.answer));
    let room = RECORD_BYTES + record.fingerprint.len() + record.answer.len();
    let entry = Entry {
        value: packed::pack(&parts, room),
        version: 0,
        expires: Some(record.expires),
    };
    (key(&record.id), Arc::new(entry))
}

/// The record that [`entry`] made an entry of; `None` if it is none.
pub fn record(id: &str, entry: &Entry) -> Option<Record> {
    let (fingerprint, answer): (ByteBuf, ByteBuf) = packed::unpack(&entry.value)?;
    Some(Record {
        id: id.to_owned(),
        fingerprint: fingerprint.into_vec(),
        answer: answer.into_vec(),
        expires: entry.expires?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_its_key_is_before_all_others() {
        let mut before = Record {
            id: "an id".into(),
            fingerprint: vec![1, 2],
            answer: b"done".into(),
            expires: 7,
        };
        let (key, entry) = entry(&before);
        assert!(key.as_str() < FIRST_KEY && FIRST_KEY <= "\u{1}");
        assert_eq!(id(&key), Some("an id"));
        assert_eq!(id("an id"), None);
        assert_eq!(record("an id", &entry), Some(before.clone()));
        before.answer.clear();
        assert_eq!(record("an id", &super::entry(&before).1), Some(before));
        assert_eq!(
            record(
                "an id",
                &Entry {
                    value: b"x".into(),
                    version: 1,
                    expires: Some(7)
                }
            ),
            None
        );
    }
}
