//! Waits for clicks that are counted a moment later than their redirects are answered. A link that gets a
//! bound while it is in use must know of all of them; `store.settle` in `wit/edge.wit` states the contract.
//!
//! A redirect reads its link and defers its click either within one call of the rules, on its worker's
//! thread, or while the request is one of the thread's [`Visits`]. So a thread waits until the visits that it
//! had are over, and then flushes its rules. After that it holds back no click that was decided on an earlier
//! version of a link. The clicks that it has handed on go, in the store's queue, before every commit from
//! then on. Threads of the rest have no visits, and are asked like any other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

/// Where a thread answers once it holds nothing back.
pub type Asked = oneshot::Sender<()>;

/// The threads that run rules, which can all be asked. As many ask at once as calls may be under way.
#[derive(Clone, Debug, Default)]
pub struct Settling(Arc<Mutex<Vec<mpsc::UnboundedSender<Asked>>>>);

impl Settling {
    /// Adds a thread; its questions arrive at the receiver.
    pub fn register(&self) -> mpsc::UnboundedReceiver<Asked> {
        let (sender, asked) = mpsc::unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        asked
    }

    /// Returns when every thread has handed on the clicks that it held back when this was called. A thread
    /// that has ended handed them on at its end.
    pub async fn settle(&self) {
        let answers: Vec<_> = {
            let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let ask = |thread: &mpsc::UnboundedSender<Asked>| {
                let (sender, answer) = oneshot::channel();
                thread.send(sender).is_ok().then_some(answer)
            };
            threads.iter().filter_map(ask).collect()
        };
        for answer in answers {
            let _ = answer.await;
        }
    }
}

/// The redirects of one thread that wait for something.
#[derive(Debug, Default)]
pub struct Visits {
    under_way: RefCell<BTreeSet<u64>>,
    next: Cell<u64>,
    left: Notify,
}

/// One of [`Visits`], for as long as it lives.
#[derive(Debug)]
pub struct Visit {
    visits: Rc<Visits>,
    number: u64,
}

impl Visits {
    /// Counts one more redirect, until the guard is dropped.
    pub fn enter(self: &Rc<Self>) -> Visit {
        let number = self.next.replace(self.next.get() + 1);
        self.under_way.borrow_mut().insert(number);
        Visit {
            visits: Rc::clone(self),
            number,
        }
    }

    /// Returns when all that are there now have gone.
    pub async fn have_gone(&self) {
        let next = self.next.get();
        let is_old = |first: Option<&u64>| first.is_some_and(|first| *first < next);
        while is_old(self.under_way.borrow().first()) {
            self.left.notified().await;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visits.under_way.borrow_mut().remove(&self.number);
        self.visits.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn those_that_came_later_are_not_waited_for() {
        let visits = Rc::new(Visits::default());
        assert_eq!(visits.have_gone().now_or_never(), Some(()));
        let (first, second) = (visits.enter(), visits.enter());
        let mut waiting = Box::pin(visits.have_gone());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        let _later = visits.enter();
        drop(second);
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(first);
        assert_eq!(waiting.now_or_never(), Some(()));
    }

    #[test]
    fn every_thread_is_asked_and_one_that_has_ended_is_not_waited_for() {
        let settling = Settling::default();
        let (mut one, other) = (settling.register(), settling.register());
        let mut settled = Box::pin(settling.settle());
        assert_eq!(settled.as_mut().now_or_never(), None);
        drop(other);
        assert_eq!(settled.as_mut().now_or_never(), None);
        one.try_recv().unwrap().send(()).unwrap();
        assert_eq!(settled.now_or_never(), Some(()));
    }
}
