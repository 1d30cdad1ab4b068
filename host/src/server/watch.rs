//! The connections of a worker, watched together: which of them has kept the worker waiting for a request's head for too
//! long, and that all must end when it stops.
//!
//! One clock serves all of them. A timer for each head would be set and cancelled with every request, and a channel that
//! tells of the stop would be asked with every wake: together they cost as much as taking the head apart.

use hyper::rt::{Sleep, Timer};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long the head of a request may take to arrive, and a connection may idle, at least; at most a [`TICK`] more. A new
/// connection must make its first request within it, whatever version of HTTP it turns out to speak.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the connections are looked at.
const TICK: Duration = Duration::from_secs(5);

/// All connections of one worker.
#[derive(Debug, Default)]
pub struct Watch {
    connections: RefCell<Slab<Connection>>,
    stopping: Cell<bool>,
}

#[derive(Debug)]
struct Connection {
    heads: Heads,
    waker: Waker,
    /// The turn that was last seen, and how often since.
    seen: u32,
    ticks: u32,
}

impl Watch {
    /// Looks at the connections, for as long as it is polled.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(TICK).await;
            self.tick();
        }
    }

    fn tick(&self) {
        for (_, connection) in &mut *self.connections.borrow_mut() {
            let turn = connection.heads.0.turn.load(Ordering::Relaxed);
            if turn != connection.seen {
                (connection.seen, connection.ticks) = (turn, 0);
                continue;
            }
            connection.ticks += 1;
            if is_waiting(turn) && TICK * connection.ticks >= HEAD_TIMEOUT {
                connection.heads.0.late.store(turn, Ordering::Relaxed);
                connection.waker.wake_by_ref();
            }
        }
    }

    /// Tells all connections, also those to come, to finish what they do.
    pub fn stop(&self) {
        self.stopping.set(true);
        for (_, connection) in &*self.connections.borrow() {
            connection.waker.wake_by_ref();
        }
    }

    /// Watches one more connection.
    pub fn enter(self: &Rc<Self>) -> Watched {
        let heads = Heads(Arc::default());
        let connection = Connection {
            heads: heads.clone(),
            waker: Waker::noop().clone(),
            seen: 0,
            ticks: 0,
        };
        Watched {
            place: self.connections.borrow_mut().insert(connection),
            watch: Rc::clone(self),
            heads,
        }
    }
}

/// A connection that is watched until this is dropped.
#[derive(Debug)]
pub struct Watched {
    watch: Rc<Watch>,
    place: usize,
    heads: Heads,
}

impl Watched {
    /// Whom to wake for [`Watched::is_late`] and [`Watched::is_stopping`].
    pub fn wakes(&self, context: &Context<'_>) {
        if let Some(connection) = self.watch.connections.borrow_mut().get_mut(self.place) {
            connection.waker.clone_from(context.waker());
        }
    }

    /// Whether the head that is waited for has taken too long.
    pub fn is_late(&self) -> bool {
        self.heads.is_late()
    }

    /// Whether the worker stops.
    pub fn is_stopping(&self) -> bool {
        self.watch.stopping.get()
    }

    /// The connection's heads.
    pub fn heads(&self) -> Heads {
        self.heads.clone()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.connections.borrow_mut().remove(self.place);
    }
}

/// When a connection waits for a head. As the timer of hyper's HTTP/1 it says when one is overdue; hyper sets it with every
/// head that it begins to wait for, and drops it when that has come.
#[derive(Clone, Debug)]
pub struct Heads(Arc<State>);

/// Shared by one thread only, but hyper cannot know that.
#[derive(Debug)]
struct State {
    /// Counts on whenever a head begins to be waited for, and whenever it has come.
    turn: AtomicU32,
    /// The turn that took too long; 0 before there is one.
    late: AtomicU32,
    since: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self {
            turn: AtomicU32::new(1),
            late: AtomicU32::new(0),
            since: Instant::now(),
        }
    }
}

fn is_waiting(turn: u32) -> bool {
    turn % 2 == 1
}

impl Heads {
    fn count(&self, on: u32) {
        let turn = self.0.turn.load(Ordering::Relaxed);
        self.0.turn.store(turn.wrapping_add(on), Ordering::Relaxed);
    }

    fn is_waiting(&self) -> bool {
        is_waiting(self.0.turn.load(Ordering::Relaxed))
    }

    fn is_late(&self) -> bool {
        let turn = self.0.turn.load(Ordering::Relaxed);
        is_waiting(turn) && turn == self.0.late.load(Ordering::Relaxed)
    }

    /// A head has come. HTTP/2 says so with its first request only, and has pings after it.
    pub fn came(&self) {
        if self.is_waiting() {
            self.count(1);
        }
    }
}

impl Timer for Heads {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now())
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        if !self.is_waiting() {
            self.count(1);
        }
        Box::pin(Overdue(self.clone()))
    }

    /// No deadline is looked at: the clock of [`Watch`] counts.
    fn now(&self) -> Instant {
        self.0.since
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, _: Instant) {
        self.count(2);
    }
}

/// Ready when the head that is waited for is overdue.
#[derive(Debug)]
struct Overdue(Heads);

impl Future for Overdue {
    type Output = ();

    /// Wakes nobody: [`Watch`] wakes the connection's task, which polls this.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.is_late() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Sleep for Overdue {}

impl Drop for Overdue {
    fn drop(&mut self) {
        self.0.came();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(watch: &Watch, count: u32) {
        (0..count).for_each(|_| watch.tick());
    }

    /// Ticks in [`HEAD_TIMEOUT`], and the one that sees a turn for the first time.
    const TIMEOUT: u32 = 1 + (HEAD_TIMEOUT.as_secs() / TICK.as_secs()) as u32;

    #[test]
    fn a_first_request_that_never_comes_is_late() {
        let watch = Rc::new(Watch::default());
        let connection = watch.enter();
        ticks(&watch, TIMEOUT - 1);
        assert!(!connection.is_late());
        watch.tick();
        assert!(connection.is_late());
    }

    #[test]
    fn each_head_has_its_own_time_and_a_request_under_way_has_no_end() {
        let watch = Rc::new(Watch::default());
        let connection = watch.enter();
        let heads = connection.heads();
        for _ in 0..3 {
            let head = heads.sleep(HEAD_TIMEOUT);
            ticks(&watch, TIMEOUT - 1);
            assert!(!connection.is_late());
            drop(head);
            ticks(&watch, 10 * TIMEOUT);
            assert!(!connection.is_late(), "it has come, and is answered");
        }
        let mut head = heads.sleep(HEAD_TIMEOUT);
        let mut poll = || head.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        ticks(&watch, TIMEOUT - 1);
        assert!(poll().is_pending());
        watch.tick();
        assert!(poll().is_ready());
        drop(head);
        assert!(!connection.is_late(), "it came at the last moment");
    }

    #[test]
    fn http_2_is_watched_until_its_first_request() {
        let watch = Rc::new(Watch::default());
        let connection = watch.enter();
        connection.heads().came();
        ticks(&watch, 10 * TIMEOUT);
        connection.heads().came();
        assert!(!connection.is_late());
    }

    #[test]
    fn all_are_told_to_stop_and_none_is_kept_once_it_has_gone() {
        let watch = Rc::new(Watch::default());
        let first = watch.enter();
        assert!(!first.is_stopping());
        watch.stop();
        let second = watch.enter();
        assert!(first.is_stopping() && second.is_stopping());
        drop((first, second));
        assert!(watch.connections.borrow().is_empty());
    }
}
