//! The messages of an alert.

use serde::{Deserialize, Serialize};

use super::Subject;
use super::condition::Condition;
use crate::config::{Alert, AlertFormat};
use tollgate_api::time;
use tollgate_store::commit::Message;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The condition begins to hold.
    Started,
    /// It still holds.
    Continues,
    /// It holds no longer.
    Ended,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Continues => "continues",
            Self::Ended => "ended",
        }
    }
}

/// One message, before it is written. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Unique for its alert.
    pub id: String,
    /// What is told.
    pub state: State,
    /// When the episode began.
    pub since: u64,
    /// When this was found.
    pub time: u64,
    /// See [`super::Finding::value`].
    pub value: u64,
    /// See [`super::Finding::subjects`].
    pub subjects: Vec<Subject>,
}

#[derive(Serialize)]
struct Json<'a> {
    alert: &'a str,
    state: State,
    when: String,
    value: u64,
    subjects: &'a [Subject],
    since: String,
    time: String,
    gateway: &'a str,
}

#[derive(Serialize)]
struct Slack {
    text: String,
}

/// What is posted. `gateway`: its public URL, since a channel may hear of several.
pub fn message(alert: &Alert, condition: &Condition, notice: &Notice, gateway: &str) -> Message {
    let payload = match alert.format {
        AlertFormat::Json => serde_json::to_vec(&Json {
            alert: &alert.name,
            state: notice.state,
            when: condition.to_string(),
            value: notice.value,
            subjects: &notice.subjects,
            since: time::format(notice.since),
            time: time::format(notice.time),
            gateway,
        }),
        AlertFormat::Slack => serde_json::to_vec(&Slack {
            text: text(alert, condition, notice, gateway),
        }),
    };
    Message {
        topic: String::new(),
        sequence: 0,
        id: format!("alert-{}-{}", alert.name, notice.id),
        key: String::new(),
        kind: ["tollgate.alert.", notice.state.word()].concat(),
        content_type: "application/json".into(),
        time: notice.time,
        attributes: Vec::new(),
        payload: payload.expect("our own types hold string keys only, so they serialise"),
    }
}

/// A line for people, with Slack's marks.
fn text(alert: &Alert, condition: &Condition, notice: &Notice, gateway: &str) -> String {
    let mark = match notice.state {
        State::Started | State::Continues => ":red_circle:",
        State::Ended => ":large_green_circle:",
    };
    let mut text = format!(
        "{mark} *{}* {}: {} (now {})",
        escaped(&alert.name),
        notice.state.word(),
        escaped(&condition.to_string()),
        notice.value
    );
    if notice.state != State::Started {
        text.push_str(&format!(", since {}", time::format(notice.since)));
    }
    let named: Vec<String> = notice
        .subjects
        .iter()
        .map(|subject| format!("`{}` {}", escaped(&subject.name), subject.value))
        .collect();
    if !named.is_empty() {
        text.push_str(": ");
        text.push_str(&named.join(", "));
    }
    text.push_str(&format!(" ({})", escaped(gateway)));
    text
}

/// <https://docs.slack.dev/messaging/formatting-message-text>: three characters are control characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn alert(format: &str) -> Alert {
        let text = format!(
            "[[alerts]]\nname = \"errors\"\nwhen = \"lag > 10\"\nurl = \"https://hooks.example/x\"\nformat = \"{format}\"\n"
        );
        Config::read(&text, "test").unwrap().alerts.remove(0)
    }

    fn notice(state: State) -> Notice {
        Notice {
            id: "3-started".into(),
            state,
            since: 1_800_000_000_000,
            time: 1_800_000_060_000,
            value: 12,
            subjects: vec![Subject {
                name: "signup/<b>".into(),
                value: 12,
            }],
        }
    }

    fn payload(format: &str, state: State) -> serde_json::Value {
        let condition = Condition::Lag { above: 10 };
        let message = message(&alert(format), &condition, &notice(state), "https://go.example");
        assert_eq!(message.id, "alert-errors-3-started");
        serde_json::from_slice(&message.payload).unwrap()
    }

    #[test]
    fn json_says_everything() {
        let expected = serde_json::json!({
            "alert": "errors", "state": "started", "when": "lag > 10", "value": 12,
            "subjects": [{"name": "signup/<b>", "value": 12}],
            "since": "2027-01-15T08:00:00Z", "time": "2027-01-15T08:01:00Z", "gateway": "https://go.example",
        });
        assert_eq!(payload("json", State::Started), expected);
    }

    #[test]
    fn slack_gets_one_line_without_marks_of_others() {
        assert_eq!(
            payload("slack", State::Started)["text"],
            ":red_circle: *errors* started: lag &gt; 10 (now 12): `signup/&lt;b&gt;` 12 (https://go.example)"
        );
        let ended = payload("slack", State::Ended)["text"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            ended.starts_with(":large_green_circle: *errors* ended: "),
            "{ended}"
        );
        assert!(ended.contains("since 2027-01-15T08:00:00Z"), "{ended}");
    }
}
