//! One thread, virtual time. Which of the tasks that can go on goes next is drawn from the seed; time moves only when
//! none can. Nothing here waits for anything real.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// A task; stale once its task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId {
    index: usize,
    generation: u32,
}

/// What a crash ends, and what it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The process of a gateway, by its place.
    Process(u8),
    /// Everything else.
    World,
}

struct Slot {
    generation: u32,
    home: Home,
    queued: bool,
    job: Option<Job>,
}

/// The scheduler of a simulated world: one thread, virtual time, an order of tasks drawn from the seed.
pub struct Executor {
    tasks: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: RefCell<Vec<TaskId>>,
    /// A process that stands still, and those of its tasks that would go on.
    stopped: Cell<Option<Home>>,
    held: RefCell<Vec<TaskId>>,
    /// Called when another process than before goes on.
    pub on_switch: Cell<Option<fn()>>,
    last: Cell<u8>,
    timers: RefCell<BinaryHeap<Reverse<(u64, u64, TaskId)>>>,
    timer_count: Cell<u64>,
    current: Cell<TaskId>,
    /// Microseconds since the beginning.
    now: Cell<u64>,
}

impl Executor {
    pub fn new() -> Self {
        Self {
            tasks: RefCell::default(),
            free: RefCell::default(),
            ready: RefCell::default(),
            stopped: Cell::new(None),
            held: RefCell::default(),
            on_switch: Cell::new(None),
            last: Cell::new(0),
            timers: RefCell::default(),
            timer_count: Cell::new(0),
            current: Cell::new(TaskId {
                index: usize::MAX,
                generation: 0,
            }),
            now: Cell::new(0),
        }
    }

    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    pub fn spawn(&self, home: Home, job: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        let job: Option<Job> = Some(Box::pin(job));
        let index = match self.free.borrow_mut().pop() {
            Some(index) => {
                let slot = &mut tasks[index];
                (slot.home, slot.queued, slot.job) = (home, true, job);
                index
            }
            None => {
                tasks.push(Slot {
                    generation: 0,
                    home,
                    queued: true,
                    job,
                });
                tasks.len() - 1
            }
        };
        let generation = tasks[index].generation;
        self.ready.borrow_mut().push(TaskId { index, generation });
    }

    /// The task that is being polled.
    pub fn current(&self) -> TaskId {
        self.current.get()
    }

    pub fn wake(&self, task: TaskId) {
        let mut tasks = self.tasks.borrow_mut();
        if let Some(slot) = tasks.get_mut(task.index)
            && slot.generation == task.generation
            && !slot.queued
        {
            slot.queued = true;
            self.ready.borrow_mut().push(task);
        }
    }

    /// Wakes the current task at `at`, microseconds since the beginning.
    pub fn wake_at(&self, at: u64) {
        // The count keeps timers of one moment in an order that does not depend on the heap.
        self.timer_count.set(self.timer_count.get() + 1);
        let timer = (at, self.timer_count.get(), self.current());
        self.timers.borrow_mut().push(Reverse(timer));
    }

    /// Until so many microseconds have passed.
    pub async fn sleep(&self, micros: u64) {
        let until = self.now() + micros;
        self.wake_at(until);
        poll_fn(|_| {
            if self.now() >= until {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Lets any other task go first.
    pub async fn give_way(&self) {
        let mut gave = false;
        poll_fn(|_| {
            if std::mem::replace(&mut gave, true) {
                return Poll::Ready(());
            }
            self.wake(self.current());
            Poll::Pending
        })
        .await;
    }

    /// Lets one task go on, `pick` of so many; moves time where none can. `false` when nothing will happen any more.
    pub fn step(&self, pick: impl FnOnce(usize) -> usize) -> bool {
        if self.ready.borrow().is_empty() && !self.pass_time() {
            return false;
        }
        let task = {
            let mut ready = self.ready.borrow_mut();
            let count = ready.len();
            if count == 0 {
                return true;
            }
            ready.swap_remove(if count == 1 { 0 } else { pick(count) })
        };
        let job = {
            let mut tasks = self.tasks.borrow_mut();
            let slot = &mut tasks[task.index];
            if slot.generation != task.generation {
                return true;
            }
            if self.stopped.get() == Some(slot.home) {
                self.held.borrow_mut().push(task);
                return true;
            }
            if let Home::Process(place) = slot.home
                && self.last.replace(place) != place
                && let Some(on_switch) = self.on_switch.get()
            {
                on_switch();
            }
            slot.queued = false;
            slot.job.take()
        };
        let Some(mut job) = job else { return true };
        self.current.set(task);
        let done = job
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready();
        let mut tasks = self.tasks.borrow_mut();
        if done {
            Self::end(&mut tasks[task.index]);
            self.free.borrow_mut().push(task.index);
            drop(tasks);
            drop(job);
        } else {
            tasks[task.index].job = Some(job);
        }
        true
    }

    fn end(slot: &mut Slot) -> Option<Job> {
        slot.generation += 1;
        slot.queued = false;
        slot.job.take()
    }

    fn pass_time(&self) -> bool {
        let mut timers = self.timers.borrow_mut();
        let Some(&Reverse((at, ..))) = timers.peek() else {
            return false;
        };
        self.now.set(self.now().max(at));
        while let Some(&Reverse((due, _, task))) = timers.peek()
            && due <= self.now()
        {
            timers.pop();
            self.wake(task);
        }
        true
    }

    /// Which process stands still.
    pub fn stopped(&self) -> Option<Home> {
        self.stopped.get()
    }

    /// Lets a process stand still, and whichever stood still go on.
    pub fn stop(&self, home: Option<Home>) {
        self.stopped.set(home);
        self.ready.borrow_mut().append(&mut self.held.borrow_mut());
    }

    /// Ends every task of `home` where it stands.
    pub fn kill(&self, home: Home) {
        let mut killed = Vec::new();
        {
            let mut tasks = self.tasks.borrow_mut();
            for (index, slot) in tasks.iter_mut().enumerate() {
                if slot.home == home && slot.job.is_some() {
                    killed.extend(Self::end(slot));
                    self.free.borrow_mut().push(index);
                }
            }
        }
        // Whatever they hold is dropped when nothing here is borrowed.
        drop(killed);
    }
}

/// A value on its way from one task to another.
pub struct Parcel<T> {
    value: RefCell<Option<T>>,
    waiter: Cell<Option<TaskId>>,
}

impl<T> Parcel<T> {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            value: RefCell::new(None),
            waiter: Cell::new(None),
        })
    }

    /// The first one counts.
    pub fn send(&self, executor: &Executor, value: T) {
        self.value.borrow_mut().get_or_insert(value);
        if let Some(waiter) = self.waiter.take() {
            executor.wake(waiter);
        }
    }

    pub async fn receive(&self, executor: &Executor) -> T {
        poll_fn(|_| self.poll(executor)).await
    }

    /// `None` when it has not come within so many microseconds.
    pub async fn receive_within(&self, executor: &Executor, micros: u64) -> Option<T> {
        let until = executor.now() + micros;
        executor.wake_at(until);
        poll_fn(|_| match self.poll(executor) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if executor.now() >= until => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn poll(&self, executor: &Executor) -> Poll<T> {
        if let Some(value) = self.value.borrow_mut().take() {
            return Poll::Ready(value);
        }
        self.waiter.set(Some(executor.current()));
        Poll::Pending
    }
}
