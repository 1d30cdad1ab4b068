//! Locks of rows: who comes later waits, up to a time, and who would wait for itself is told so.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use super::transaction::Transaction;
use crate::coverage::Seen;
use crate::executor::TaskId;
use crate::world::Sim;

/// `lock_timeout` of the gateways' sessions, microseconds.
const LOCK_TIMEOUT: u64 = 4_000_000;

/// A row that transactions lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Writer(u64),
    Lane(u32),
    Topic(String),
    Entry(String),
    Record(String),
}

/// Who holds which row, and who waits for which.
#[derive(Default)]
pub struct Locks {
    held: RefCell<BTreeMap<Row, u64>>,
    waits: RefCell<BTreeMap<u64, Row>>,
    waiters: RefCell<Vec<TaskId>>,
}

impl Locks {
    /// Waits for the row; it is the transaction's until that ends.
    ///
    /// # Errors
    /// Why it is not, as the database tells it.
    pub async fn lock(&self, sim: &Sim, transaction: &Transaction, row: Row) -> Result<(), &'static str> {
        let (until, number) = (sim.executor.now() + LOCK_TIMEOUT, transaction.number);
        let mut has_waited = false;
        let locked = poll_fn(|_| {
            if transaction.is_over() {
                return Poll::Ready(Err("the transaction has ended"));
            }
            let holder = self.held.borrow().get(&row).copied();
            match holder {
                None => {
                    self.held.borrow_mut().insert(row.clone(), number);
                    return Poll::Ready(Ok(()));
                }
                Some(holder) if holder == number => return Poll::Ready(Ok(())),
                Some(holder) if self.leads_to(holder, number) => {
                    return Poll::Ready(Err("deadlock detected"));
                }
                Some(_) => {}
            }
            if sim.executor.now() >= until {
                sim.saw(Seen::LockTimeouts);
                return Poll::Ready(Err("lock timeout"));
            }
            if !std::mem::replace(&mut has_waited, true) {
                sim.saw(Seen::LockWaits);
                sim.executor.wake_at(until);
            }
            self.waits.borrow_mut().insert(number, row.clone());
            self.waiters.borrow_mut().push(sim.executor.current());
            Poll::Pending
        })
        .await;
        self.waits.borrow_mut().remove(&number);
        locked
    }

    /// Whether one waits for the other, over however many others.
    fn leads_to(&self, from: u64, to: u64) -> bool {
        let (held, waits) = (self.held.borrow(), self.waits.borrow());
        let mut at = from;
        for _ in 0..=waits.len() {
            match waits.get(&at).and_then(|row| held.get(row)) {
                Some(&holder) if holder == to => return true,
                Some(&holder) => at = holder,
                None => return false,
            }
        }
        false
    }

    /// A transaction has ended.
    pub fn release(&self, sim: &Sim, number: u64) {
        self.held.borrow_mut().retain(|_, holder| *holder != number);
        for waiter in self.waiters.take() {
            sim.executor.wake(waiter);
        }
    }
}
