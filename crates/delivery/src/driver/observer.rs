//! Whoever wants to hear of deliveries, such as traces.

use std::time::SystemTime;

use tollgate_api::traceparent::Traceparent;
use tollgate_store::commit::Message;

use crate::relay::Delivered;

/// One attempt to deliver a message, which has ended.
pub struct Attempt<'a> {
    /// What was sent.
    pub message: &'a Message,
    /// Whom to.
    pub subscription: &'a str,
    /// From 1, as the relay counts them.
    pub number: u32,
    /// When it was sent.
    pub began: SystemTime,
    /// The place of what made the message.
    pub of_message: Traceparent,
    /// The place of this attempt, which the receiver was told.
    pub place: Traceparent,
    /// How it ended.
    pub delivered: &'a Delivered,
}

/// Hears of the attempts to deliver messages that have a place in a trace. Called on the relay's thread: it must not wait.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// The place of the next attempt, below that of the message; `None` if it is not to be recorded.
    fn place(&self, of_message: Traceparent) -> Option<Traceparent>;
    /// An attempt with such a place has ended.
    fn ended(&self, attempt: &Attempt<'_>);
}
