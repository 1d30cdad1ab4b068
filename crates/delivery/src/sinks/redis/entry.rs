//! Messages as entries of a stream, and the command that adds them: all or none.

use std::sync::Arc;

use redis::{Cmd, cmd};
use tollgate_api::time;
use tollgate_api::traceparent::Traceparent;
use tollgate_store::commit::Message;

use crate::attributes::{self, Attributes};
use crate::webhook::kind;

/// See the file: atomic, as every script of Redis.
const ADD: &str = include_str!("add.lua");

/// What every entry goes to.
pub(super) struct Target {
    /// Its key; the topic's name where there is none.
    pub stream: Option<String>,
    /// About how many entries it keeps.
    pub max_length: Option<u64>,
    /// For how long an entry is known, so that it is not added again; 0: not at all.
    pub known_ms: u64,
}

/// One message.
pub(super) struct Entry {
    message: Arc<Message>,
    place: Option<Traceparent>,
}

impl Entry {
    /// `place`: of this attempt in a trace, in the place of the message's own.
    pub fn new(message: Arc<Message>, place: Option<Traceparent>) -> Self {
        Self { message, place }
    }

    /// Names and values, in turns.
    fn fields(&self) -> Vec<Vec<u8>> {
        let message = &*self.message;
        let mut fields = Vec::with_capacity(20);
        let mut field = |name: &str, value: &[u8]| {
            fields.push(name.as_bytes().to_vec());
            fields.push(value.to_vec());
        };
        field("id", message.id.as_bytes());
        field("topic", message.topic.as_bytes());
        field("sequence", message.sequence.to_string().as_bytes());
        if !message.key.is_empty() {
            field("key", message.key.as_bytes());
        }
        field("type", kind(message).as_bytes());
        field("time", time::format(message.time).as_bytes());
        field("contentType", message.content_type.as_bytes());
        field("data", &message.payload);
        if let Some(request) = Attributes::read(message) {
            let request = serde_json::to_vec(&request);
            field(
                "request",
                &request.expect("our own types hold string keys only, so they serialise"),
            );
        }
        if let Some(place) = self.place.or_else(|| attributes::traceparent(message)) {
            field("traceparent", place.to_string().as_bytes());
        }
        fields
    }
}

impl Target {
    /// Adds these entries, all or none. There is at least one.
    pub fn command(&self, entries: &[Entry]) -> Cmd {
        let topic = entries.first().map_or("", |first| &first.message.topic);
        let stream = self.stream.as_deref().unwrap_or(topic);
        let mut add = cmd("EVAL");
        add.arg(ADD).arg(entries.len() + 1).arg(stream);
        for entry in entries {
            add.arg(mark(stream, &entry.message));
        }
        add.arg(self.known_ms).arg(self.max_length.unwrap_or(0));
        for entry in entries {
            let fields = entry.fields();
            add.arg(fields.len()).arg(fields);
        }
        add
    }
}

/// The key that says that a message was added: of the same slot as the stream, unless that one has braces of its own.
fn mark(stream: &str, message: &Message) -> String {
    format!("tollgate:{{{stream}}}:{}:{}", message.topic, message.id)
}
