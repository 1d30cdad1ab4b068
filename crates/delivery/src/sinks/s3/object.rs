//! An object: its name and its lines.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tollgate_api::time;
use tollgate_store::commit::Message;

use crate::view::MessageView;

/// Of lines of JSON.
pub(super) const MEDIA_TYPE: &str = "application/x-ndjson";

/// What is stored of some messages.
pub(super) struct Object {
    /// `topic/date/first-last-hash.ndjson`: the sequences of the first and the last one, 20 digits each, and a hash of all of their ids. Other
    /// messages never have the same name, also where others between these two were removed, or are delivered again.
    pub name: String,
    /// A line for each, by sequence: the message as `GET …/messages` shows it.
    pub body: Bytes,
}

impl Object {
    /// Of these messages of one topic; there is at least one.
    pub fn of(messages: &[Arc<Message>]) -> Self {
        let mut messages: Vec<&Message> = messages.iter().map(|message| &**message).collect();
        messages.sort_unstable_by_key(|message| message.sequence);
        let (mut body, mut hash) = (Vec::new(), Sha256::new());
        for message in &messages {
            hash.update(message.id.as_bytes());
            hash.update(b"\n");
            let begin = body.len();
            serde_json::to_writer(&mut body, &MessageView::new(message))
                .expect("our own types hold string keys only, so they serialise");
            // Data is as it was sent, perhaps over several lines. Within strings JSON escapes line ends: these are between its parts.
            for byte in body.get_mut(begin..).unwrap_or_default() {
                if matches!(byte, b'\n' | b'\r') {
                    *byte = b' ';
                }
            }
            body.push(b'\n');
        }
        let hex: String = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (first, last) = (messages.first(), messages.last());
        let topic = first.map_or("", |first| &first.topic);
        let at = time::format(first.map_or(0, |first| first.time));
        let date = at.get(..10).unwrap_or_default();
        let [first, last] = [first, last].map(|one| one.map_or(0, |one| one.sequence));
        Self {
            name: format!("{topic}/{date}/{first:020}-{last:020}-{hex}.ndjson"),
            body: body.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64) -> Arc<Message> {
        Arc::new(Message {
            topic: "t".into(),
            sequence,
            id: format!("m{sequence}"),
            content_type: "application/json".into(),
            time: 1_800_000_000_000,
            payload: b"{\r\n\"n\": \"a\\nb\"}".to_vec(),
            ..Message::default()
        })
    }

    #[test]
    fn the_same_messages_are_the_same_object_and_others_never() {
        let of = |sequences: &[u64]| Object::of(&sequences.iter().map(|n| message(*n)).collect::<Vec<_>>());
        let object = of(&[9, 3, 5]);
        let begin = "t/2027-01-15/00000000000000000003-00000000000000000009-";
        assert!(
            object.name.starts_with(begin) && object.name.ends_with(".ndjson"),
            "{}",
            object.name
        );
        let again = of(&[3, 5, 9]);
        assert_eq!((&object.name, &object.body), (&again.name, &again.body));
        assert_ne!(
            object.name,
            of(&[3, 9]).name,
            "or the one between them would be gone"
        );
        let lines: Vec<serde_json::Value> = object
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let sequences: Vec<_> = lines
            .iter()
            .map(|line| line["sequence"].as_u64().unwrap())
            .collect();
        assert_eq!(sequences, [3, 5, 9]);
        assert_eq!(lines[0]["data"]["n"], "a\nb");
    }
}
