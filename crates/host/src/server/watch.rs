//! The connections of a worker, watched together. It finds connections that have kept the worker waiting for
//! too long, for the head of a request or to take an answer. It chooses those that give way to newcomers, and
//! ends all of them when the worker stops.
//!
//! One clock serves all of them. A timer for each head would be set and cancelled with every request. A
//! channel that tells of the stop would be asked with every wake. Together they cost as much as parsing the
//! head.

use super::traffic::Traffic;
use hyper::rt::{Sleep, Timer};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a connection may make us wait, at least; at most a [`TICK`] more. Counts while no request is
/// being answered: for the head of its first or next request, in any version of HTTP, or until it takes more
/// of an answer. A connection of HTTP/2 is then asked to end, and has one more [`TICK`] for that.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the connections are looked at.
const TICK: Duration = Duration::from_secs(5);
/// Where newcomers find no place, this share of the connections ends at once (one in 64), and one more.
const GIVE_WAY_OF: usize = 64;
/// How often, at most.
const GIVE_WAY_EVERY: Duration = Duration::from_millis(100);

/// All connections of one worker.
#[derive(Debug, Default)]
pub struct Watch {
    connections: RefCell<Slab<Connection>>,
    stopping: Cell<bool>,
    lingering: Rc<Cell<u32>>,
}

#[derive(Debug)]
struct Connection {
    heads: Heads,
    traffic: Rc<Traffic>,
    waker: Waker,
    /// The turn that was last seen, and how often since.
    seen: u32,
    ticks: u32,
}

impl Watch {
    /// Looks at the connections, for as long as it is polled; `crowded`: newcomers find no place.
    pub async fn run(&self, crowded: &Notify) {
        let mut ticks = tokio::time::interval_at(Instant::now() + TICK, TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tick(),
                () = crowded.notified() => {
                    self.give_way();
                    // Another call meanwhile is kept.
                    tokio::time::sleep(GIVE_WAY_EVERY).await;
                }
            }
        }
    }

    fn tick(&self) {
        for (_, connection) in &mut *self.connections.borrow_mut() {
            let turn = connection.heads.0.turn.load(Ordering::Relaxed);
            if turn != connection.seen || !connection.traffic.is_idle() {
                (connection.seen, connection.ticks) = (turn, 0);
                continue;
            }
            connection.ticks = connection.ticks.saturating_add(1);
            if TICK * connection.ticks >= HEAD_TIMEOUT {
                connection.end(TICK * connection.ticks > HEAD_TIMEOUT);
            }
        }
    }

    /// Ends the connections that have been idle for longest, at least since the last tick.
    fn give_way(&self) {
        let connections = self.connections.borrow();
        let idle = connections.iter().filter(|(_, connection)| {
            let turn = connection.heads.0.turn.load(Ordering::Relaxed);
            connection.ticks > 0 && turn == connection.seen && connection.traffic.is_idle()
        });
        let mut idle: Vec<&Connection> = idle.map(|(_, connection)| connection).collect();
        idle.sort_unstable_by_key(|connection| std::cmp::Reverse(connection.ticks));
        let count = 1 + connections.len() / GIVE_WAY_OF;
        idle.iter()
            .take(count)
            .for_each(|connection| connection.end(true));
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
        let (heads, traffic) = (Heads(Arc::default()), Rc::<Traffic>::default());
        let connection = Connection {
            heads: heads.clone(),
            traffic: Rc::clone(&traffic),
            waker: Waker::noop().clone(),
            seen: 0,
            ticks: 0,
        };
        Watched {
            place: self.connections.borrow_mut().insert(connection),
            watch: Rc::clone(self),
            heads,
            traffic,
        }
    }
}

impl Connection {
    /// Tells the connection that it has taken too long or, with `now`, that it is over.
    fn end(&self, now: bool) {
        let turn = self.heads.0.turn.load(Ordering::Relaxed);
        self.heads.0.late.store(turn, Ordering::Relaxed);
        if now {
            self.heads.0.over.store(turn, Ordering::Relaxed);
        }
        self.waker.wake_by_ref();
    }
}

/// A connection that is watched until this is dropped.
#[derive(Debug)]
pub struct Watched {
    watch: Rc<Watch>,
    place: usize,
    heads: Heads,
    traffic: Rc<Traffic>,
}

impl Watched {
    /// Sets the task to wake for [`Watched::is_late`] and [`Watched::is_stopping`].
    pub fn wakes(&self, context: &Context<'_>) {
        if let Some(connection) = self.watch.connections.borrow_mut().get_mut(self.place) {
            connection.waker.clone_from(context.waker());
        }
    }

    /// Whether the peer has kept us waiting for too long.
    pub fn is_late(&self) -> bool {
        self.heads.is_late()
    }

    /// Whether it had the time to end after that, too.
    pub fn is_over(&self) -> bool {
        let turn = self.heads.0.turn.load(Ordering::Relaxed);
        turn == self.heads.0.over.load(Ordering::Relaxed)
    }

    /// The connection's requests.
    pub fn traffic(&self) -> &Rc<Traffic> {
        &self.traffic
    }

    /// How many connections of this worker linger.
    pub fn lingering(&self) -> Rc<Cell<u32>> {
        Rc::clone(&self.watch.lingering)
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

/// When a connection waits for a head. As the timer of hyper's HTTP/1, it tells hyper when a head is overdue.
/// hyper sets the timer with every head that it begins to wait for, and drops it when the head has come.
#[derive(Clone, Debug)]
pub struct Heads(Arc<State>);

/// Shared by one thread only, but hyper cannot know that.
#[derive(Debug)]
struct State {
    /// Counts on whenever a head begins to be waited for, and whenever it has come.
    turn: AtomicU32,
    /// The turn that took too long; 0 before there is one.
    late: AtomicU32,
    /// The same, and the connection is over.
    over: AtomicU32,
    since: std::time::Instant,
}

impl Default for State {
    fn default() -> Self {
        Self {
            turn: AtomicU32::new(1),
            late: AtomicU32::new(0),
            over: AtomicU32::new(0),
            since: std::time::Instant::now(),
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

    /// Whether a head is waited for.
    pub fn is_waiting(&self) -> bool {
        is_waiting(self.0.turn.load(Ordering::Relaxed))
    }

    fn is_late(&self) -> bool {
        let turn = self.0.turn.load(Ordering::Relaxed);
        turn == self.0.late.load(Ordering::Relaxed)
    }

    /// A head has come.
    pub fn came(&self) {
        self.count(if self.is_waiting() { 1 } else { 2 });
    }

    /// The peer has taken more of an answer.
    pub fn moved(&self) {
        self.count(2);
    }
}

impl Timer for Heads {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now())
    }

    fn sleep_until(&self, _: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        if !self.is_waiting() {
            self.count(1);
        }
        Box::pin(Overdue(self.clone()))
    }

    /// No deadline is looked at: the clock of [`Watch`] counts.
    fn now(&self) -> std::time::Instant {
        self.0.since
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, _: std::time::Instant) {
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
        if self.0.is_waiting() {
            self.0.count(1);
        }
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
            let under_way = connection.traffic().under_way();
            ticks(&watch, 10 * TIMEOUT);
            assert!(!connection.is_late(), "it has come, and is answered");
            drop(under_way);
            assert!(!connection.is_late());
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
    fn http_2_may_idle_as_long_and_has_a_little_more_to_end() {
        let watch = Rc::new(Watch::default());
        let connection = watch.enter();
        for _ in 0..3 {
            connection.heads().came();
            ticks(&watch, TIMEOUT - 1);
            assert!(!connection.is_late());
        }
        connection.heads().came();
        ticks(&watch, TIMEOUT);
        assert!(connection.is_late() && !connection.is_over());
        watch.tick();
        assert!(connection.is_over());
        connection.heads().came();
        assert!(
            !connection.is_late() && !connection.is_over(),
            "a request came after all"
        );
    }

    #[test]
    fn an_answer_that_is_not_taken_ends_the_connection_and_one_that_is_does_not() {
        let watch = Rc::new(Watch::default());
        let connection = watch.enter();
        let head = connection.heads().sleep(HEAD_TIMEOUT);
        drop(head);
        for _ in 0..5 {
            connection.heads().moved();
            ticks(&watch, TIMEOUT - 1);
            assert!(!connection.is_late());
        }
        watch.tick();
        assert!(connection.is_late());
    }

    #[test]
    fn who_idles_longest_gives_way_and_who_just_came_does_not() {
        let watch = Rc::new(Watch::default());
        let first = watch.enter();
        ticks(&watch, 2);
        let (second, busy) = (watch.enter(), watch.enter());
        let _under_way = busy.traffic().under_way();
        ticks(&watch, 2);
        let third = watch.enter();
        watch.give_way();
        assert!(first.is_over());
        assert!(!second.is_over() && !third.is_over());
        drop(first);
        watch.give_way();
        assert!(second.is_over() && !third.is_over());
        drop(second);
        watch.give_way();
        assert!(!busy.is_over() && !third.is_over());
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
