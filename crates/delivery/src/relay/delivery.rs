//! The state of one message's delivery, from the durable form alone.

use serde::Serialize;

use super::progress::Progress;
use super::record::{DeadLetter, Waiting};

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DeliveryState")
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not attempted yet, or not attempted again since it was redriven.
    Pending,
    /// Attempted without success; to be attempted again.
    Delivering,
    /// Acknowledged by the origin (or removed by retention before it could be).
    Delivered,
    /// Given up.
    Dead,
    /// The subscription's filter does not pass it.
    Filtered,
}

/// The delivery of one message to one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Delivery")
)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Where it stands.
    pub state: State,
    /// Attempts that failed; null once it is delivered, when they are no longer kept.
    pub attempts: Option<u32>,
    /// When it is attempted again at the earliest.
    #[serde(with = "tollgate_api::time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    pub next_attempt_at: Option<u64>,
    /// The last failure.
    pub last_error: Option<String>,
}

impl Delivery {
    /// The subscription's filter does not pass the message. That it was tried, or given up, before there was this filter, stays
    /// true.
    pub fn is_not_wanted(&mut self) {
        if matches!(self.state, State::Pending | State::Delivered) {
            (self.state, self.attempts) = (State::Filtered, None);
        }
    }
}

/// The delivery of `sequence`, from a subscription's progress (the default if it has none) and the entries of this sequence.
pub fn of(
    progress: &Progress,
    waiting: Option<&Waiting>,
    dead: Option<&DeadLetter>,
    sequence: u64,
) -> Delivery {
    // A retry entry comes first: a redriven message lies below the watermark.
    if let Some(waiting) = waiting {
        let tried = waiting.attempts > 0;
        return Delivery {
            state: if tried { State::Delivering } else { State::Pending },
            attempts: Some(waiting.attempts),
            next_attempt_at: tried.then_some(waiting.next_at),
            last_error: waiting.last_error.clone(),
        };
    }
    if let Some(dead) = dead {
        return Delivery {
            state: State::Dead,
            attempts: Some(dead.attempts),
            next_attempt_at: None,
            last_error: Some(dead.last_error.clone()),
        };
    }
    let finished = progress.contains(sequence);
    Delivery {
        state: if finished {
            State::Delivered
        } else {
            State::Pending
        },
        attempts: (!finished).then_some(0),
        next_attempt_at: None,
        last_error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_durable_form_has_its_state() {
        let progress = Progress::up_to(5);
        let waiting = Waiting {
            attempts: 2,
            next_at: 1_800_000_000_000,
            ..Waiting::default()
        };
        let redriven = Waiting {
            redriven: true,
            ..Waiting::default()
        };
        let dead = DeadLetter {
            id: "m".into(),
            sequence: 4,
            attempts: 12,
            last_error: "the origin answered 500".into(),
            first_at: 1,
            died_at: 2,
            message: None,
        };
        assert_eq!(of(&progress, None, None, 5).state, State::Delivered);
        assert_eq!(of(&progress, None, None, 6).state, State::Pending);
        assert_eq!(of(&progress, None, Some(&dead), 4).state, State::Dead);
        assert_eq!(of(&progress, Some(&redriven), None, 4).state, State::Pending);
        let json = serde_json::to_value(of(&progress, Some(&waiting), None, 6)).unwrap();
        assert_eq!(json["state"], "delivering");
        assert_eq!(json["nextAttemptAt"], "2027-01-15T08:00:00Z");
        assert_eq!(json["attempts"], 2);
    }
}
