//! Alerts: a condition of the gateway's own state, and a message when it begins to hold and when it ends
//! (`[[alerts]]`). Pure: who reads the state, keeps the record and sends the messages is the host.
//!
//! Each episode has exactly one message for its start and one for its end, also across a restart: what has been decided is in
//! the record before anything is sent, and leaves it once it was taken. A process that is killed between the two sends
//! that message again, under the same id.

mod condition;
mod notice;
mod record;

pub use condition::{Condition, ConditionError, Finding, Readings, Reported, Window};
pub use notice::{Notice, State, message};
pub use record::{MAX_PENDING, Record, key};

/// The most subjects that a message names.
pub const MAX_SUBJECTS: usize = 10;

/// What a condition holds of: a subscription, a campaign.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Subject {
    /// `<topic>/<subscription>`, or the campaign's id.
    pub name: String,
    /// Its value.
    pub value: u64,
}
