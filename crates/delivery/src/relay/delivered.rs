//! The result of one attempt, in terms that every kind of sink shares.

/// How an attempt ended. What a receiver's answer means (a status of HTTP, a reply of SMTP) is the sink's to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The receiver has the message.
    Accepted,
    /// It has not, as far as is known.
    Refused {
        /// For people; cut to [`MAX_ERROR_BYTES`](super::record::MAX_ERROR_BYTES) where it is kept.
        why: String,
        /// The likely cause: the message or the receiver.
        blame: Blame,
        /// Another attempt would end the same way: the message becomes a dead letter at once.
        is_final: bool,
        /// How long the receiver asked to be left alone, milliseconds. Bounded by
        /// [`MAX_RETRY_AFTER_MS`](crate::retry::MAX_RETRY_AFTER_MS) for the message, and by
        /// [`OPEN_ASKED_MS`](crate::breaker::OPEN_ASKED_MS) for the breaker.
        retry_after_ms: Option<u64>,
    },
    /// The receiver wants no more messages, this one or others: the subscription is paused, and no attempt is counted.
    Unwanted,
}

/// The likely cause of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This message; the receiver works.
    Message,
    /// The receiver: a circuit breaker counts it.
    Origin,
    /// There was no connection to the receiver, which has seen nothing of the message. A circuit breaker counts it; a probe that ends
    /// so costs its message no attempt.
    Unreachable,
}

impl Delivered {
    /// Refused, to be tried again as the schedule says.
    pub fn refused(blame: Blame, why: impl Into<String>) -> Self {
        Self::Refused {
            why: why.into(),
            blame,
            is_final: false,
            retry_after_ms: None,
        }
    }
}
