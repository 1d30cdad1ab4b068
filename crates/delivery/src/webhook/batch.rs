//! Several messages as one delivery: a JSON array, under an id of its own.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Reference, attribute};
use crate::view::MessageView;
use tollgate_store::commit::Message;

/// The header that names the messages of a batch, in its order, separated by commas: receivers drop those they know.
pub const IDS: &str = "tollgate-message-ids";
/// The type of the batch itself.
pub const KIND: &str = "tollgate.batch";

/// A batch on its way.
#[derive(Debug)]
pub struct Batch {
    /// What is sent, as a message: its id is that of the batch, and the same for the same messages.
    pub message: Message,
    /// The value of [`IDS`].
    pub ids: String,
}

/// The messages, each as `GET …/messages` shows it; there is at least one.
pub fn of(messages: &[&Message]) -> Batch {
    put_together(
        messages,
        &messages
            .iter()
            .map(|one| MessageView::new(one))
            .collect::<Vec<_>>(),
    )
}

/// Of each, what a [`reference`](super::reference) tells; there is at least one.
pub fn of_references(messages: &[&Message], source: &str) -> Batch {
    put_together(
        messages,
        &messages
            .iter()
            .map(|one| Reference::of(one, source))
            .collect::<Vec<_>>(),
    )
}

fn put_together(messages: &[&Message], body: &impl Serialize) -> Batch {
    let mut hash = Sha256::new();
    let mut ids = Vec::with_capacity(messages.len());
    for message in messages {
        hash.update(message.id.as_bytes());
        hash.update(b"\n");
        // A comma in an id would end it.
        ids.push(attribute(&message.id).replace(',', "%2C"));
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let last = messages.last();
    Batch {
        message: Message {
            topic: last.map(|last| last.topic.clone()).unwrap_or_default(),
            sequence: messages.iter().map(|one| one.sequence).max().unwrap_or(0),
            id: format!("batch-{hex}"),
            kind: KIND.to_owned(),
            content_type: "application/json".to_owned(),
            time: messages.iter().map(|one| one.time).max().unwrap_or(0),
            payload: serde_json::to_vec(body)
                .expect("our own types hold string keys only, so they serialise"),
            ..Message::default()
        },
        ids: ids.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, id: &str) -> Message {
        Message {
            topic: "t".into(),
            sequence,
            id: id.into(),
            content_type: "application/json".into(),
            payload: b"{\"n\":1.0}".to_vec(),
            ..Message::default()
        }
    }

    #[test]
    fn a_batch_is_an_array_with_an_id_of_its_messages() {
        let (one, two) = (message(3, "a"), message(4, "b,c"));
        let batch = of(&[&one, &two]);
        let body = String::from_utf8(batch.message.payload.clone()).unwrap();
        assert!(
            body.starts_with("[{\"id\":\"a\",\"sequence\":3,") && body.contains("\"data\":{\"n\":1.0}}"),
            "{body}"
        );
        assert_eq!((batch.ids.as_str(), batch.message.sequence), ("a,b%2Cc", 4));
        assert_eq!(of(&[&one, &two]).message.id, batch.message.id);
        assert_ne!(of(&[&two, &one]).message.id, batch.message.id);
        assert_ne!(of(&[&one]).message.id, batch.message.id);
        let told = of_references(&[&one], "/api/topics/t").message.payload;
        let told = String::from_utf8(told).unwrap();
        assert!(
            told.starts_with("[{\"id\":\"a\"") && !told.contains("1.0"),
            "{told}"
        );
    }
}
