//! The origin that the relay delivers to: it refuses, stalls, fails, answers twice, or dies after it has taken a message.

use std::rc::Rc;

use tollgate_delivery::relay::{Blame, Delivered};
use tollgate_store::commit::Message;

use crate::coverage::Seen;
use crate::world::Sim;

/// How long the relay waits for an answer, microseconds.
const TIMEOUT: u64 = 300_000;
/// One in this many messages is refused until all is calm.
const POISON: u64 = 24;

/// The state of the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Well,
    Refusing,
    Stalling,
    Failing,
    Gone,
}

impl Mode {
    pub const BAD: [Mode; 4] = [Mode::Refusing, Mode::Stalling, Mode::Failing, Mode::Gone];
}

/// One attempt to deliver to the origin of the topic at `index`.
pub async fn attempt(sim: &Rc<Sim>, index: usize, message: &Message) -> Delivered {
    sim.saw(Seen::Deliveries);
    let (mode, until) = sim.weather.origins[index].get();
    let mode = if !sim.calm.get() && sim.executor.now() < until {
        mode
    } else {
        Mode::Well
    };
    sim.executor.sleep(sim.between(300, 15_000)).await;
    let delivered = match mode {
        Mode::Refusing => {
            sim.saw(Seen::OriginRefused);
            Delivered::refused(Blame::Unreachable, "connection refused")
        }
        Mode::Stalling => {
            sim.saw(Seen::OriginStalled);
            if sim.one_of(300) {
                take(sim, index, message);
            }
            sim.executor.sleep(TIMEOUT).await;
            Delivered::refused(Blame::Origin, "no answer in time")
        }
        Mode::Failing if sim.one_of(700) => {
            sim.saw(Seen::OriginFailed);
            failure(sim)
        }
        Mode::Gone if sim.one_of(300) => {
            sim.saw(Seen::OriginGone);
            Delivered::Unwanted
        }
        _ if !sim.calm.get() && message.sequence.is_multiple_of(POISON) => {
            sim.saw(Seen::OriginFailed);
            Delivered::refused(Blame::Message, "poisoned")
        }
        _ => {
            take(sim, index, message);
            if sim.fault(20) {
                sim.saw(Seen::OriginDied);
                Delivered::refused(Blame::Origin, "the connection was reset")
            } else {
                sim.model.borrow_mut().ledgers[index]
                    .acknowledged
                    .insert(message.sequence);
                return Delivered::Accepted;
            }
        }
    };
    let mut model = sim.model.borrow_mut();
    *model.ledgers[index].failures.entry(message.sequence).or_default() += 1;
    delivered
}

fn take(sim: &Rc<Sim>, index: usize, message: &Message) {
    let mut model = sim.model.borrow_mut();
    sim.check(model.sent(message));
    if !model.ledgers[index].taken.insert(message.sequence) {
        sim.saw(Seen::Redelivered);
    }
}

fn failure(sim: &Rc<Sim>) -> Delivered {
    let asking = |retry_after_ms| Delivered::Refused {
        why: "too much".into(),
        blame: Blame::Origin,
        is_final: false,
        retry_after_ms: Some(retry_after_ms),
    };
    match sim.below(5) {
        0 | 1 => Delivered::refused(Blame::Message, "not for me"),
        2 => asking(sim.between(1, 400)),
        3 => asking(sim.between(1, 900)),
        _ => Delivered::refused(Blame::Origin, "broken"),
    }
}
