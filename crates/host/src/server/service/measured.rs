//! What is counted and told of a request once it is answered.

use super::Answer;
use crate::access_log::Entry;
use crate::clock::since;
use crate::metrics::asked::Asked;
use crate::metrics::count::{GONE, Requests};
use crate::traces::RequestTrace;
use std::sync::Arc;
use std::time::SystemTime;

/// A request that is counted once it is answered, or when its caller has gone before that.
pub(super) struct Measured {
    pub(super) counters: Arc<Requests>,
    pub(super) asked: Asked,
    /// By the wall clock, which was read for the rules anyhow: where it is set meanwhile, one duration is wrong.
    pub(super) began: SystemTime,
    pub(super) is_answered: bool,
    pub(super) entry: Option<Box<Entry>>,
    pub(super) trace: Option<Box<RequestTrace>>,
}

impl Measured {
    pub(super) fn answered(mut self, answer: Answer) -> Answer {
        self.is_answered = true;
        self.counters
            .answered(self.asked, answer.status().as_u16(), since(self.began));
        told(self.entry.take(), self.trace.take(), answer)
    }
}

/// The same answer, told to the access log and to the trace if they want it.
pub(super) fn told(entry: Option<Box<Entry>>, trace: Option<Box<RequestTrace>>, answer: Answer) -> Answer {
    if let Some(trace) = trace {
        trace.answered(answer.status().as_u16());
    }
    match entry {
        None => answer,
        Some(entry) => entry.answered(answer),
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.counters.waiting.sub(1);
        if !self.is_answered {
            self.counters.gone(self.asked, since(self.began));
            if let Some(entry) = &self.entry {
                entry.gone();
            }
            if let Some(trace) = self.trace.take() {
                trace.answered(GONE);
            }
        }
    }
}
