//! What a pool needs of its worker thread's runtime: Tokio, and in tests a thread of our own, on which a seed decides
//! which task goes on next, and time passes only as far as the test wants it to.

#[cfg(not(test))]
pub use tokio::{
    task::{AbortHandle, spawn_local},
    time::{Instant, sleep, timeout},
};

#[cfg(test)]
pub use seeded::{AbortHandle, Instant, sleep, spawn_local, timeout};

#[cfg(test)]
pub mod seeded {
    //! See [`run`].

    use std::cell::{Cell, RefCell};
    use std::collections::{BTreeMap, BTreeSet};
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::rc::Rc;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Wake, Waker};
    use std::time::Duration;

    /// More than any seed needs to come to its end.
    const MAX_STEPS: usize = 1_000_000;

    type Job = Pin<Box<dyn Future<Output = ()>>>;

    /// A thread's tasks and clock. Times are milliseconds since the beginning.
    #[derive(Default)]
    pub struct Thread {
        random: RefCell<fastrand::Rng>,
        tasks: RefCell<BTreeMap<usize, Task>>,
        spawned: Cell<usize>,
        current: Cell<usize>,
        ready: Arc<Mutex<BTreeSet<usize>>>,
        timers: RefCell<BTreeMap<(u64, u64), Waker>>,
        timers_made: Cell<u64>,
        now: Cell<u64>,
        /// How much time may still pass although a task could go on: a thread that is busy, and late.
        lateness: Cell<u64>,
    }

    #[derive(Default)]
    struct Task {
        job: Option<Job>,
        /// Until when it is not polled, and whether that is its end.
        stuck: Option<(u64, bool)>,
    }

    struct Woken {
        task: usize,
        ready: Arc<Mutex<BTreeSet<usize>>>,
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.ready.lock().unwrap().insert(self.task);
        }
    }

    thread_local!(static THREAD: RefCell<Rc<Thread>> = RefCell::default());

    /// The thread of the seed that is run.
    pub fn thread() -> Rc<Thread> {
        THREAD.with_borrow(Rc::clone)
    }

    /// Runs a task, and those that it spawns, until it has ended. The seed decides their order. `lateness`: how many
    /// milliseconds in all may pass while a task could go on.
    pub fn run(seed: u64, lateness: u64, main: impl Future<Output = ()> + 'static) {
        let thread = Rc::new(Thread::default());
        thread.random.borrow_mut().seed(seed);
        thread.lateness.set(lateness);
        THREAD.set(Rc::clone(&thread));
        let main = thread.spawn(Box::pin(main));
        for _ in 0..MAX_STEPS {
            if !thread.tasks.borrow().contains_key(&main) {
                break;
            }
            thread.step();
        }
        let ended = !thread.tasks.borrow().contains_key(&main);
        assert!(ended, "it comes to no end");
        let rest = thread.tasks.take();
        drop(rest);
        THREAD.take();
    }

    impl Thread {
        /// The seed's own randomness.
        pub fn random(&self) -> std::cell::RefMut<'_, fastrand::Rng> {
            self.random.borrow_mut()
        }

        /// Milliseconds since the beginning.
        pub fn now(&self) -> u64 {
            self.now.get()
        }

        /// From the end of this poll on, the current task is not polled for so long; then it goes on, or has ended.
        pub fn stick(&self, millis: u64, ends: bool) {
            let until = self.now() + millis;
            if let Some(task) = self.tasks.borrow_mut().get_mut(&self.current.get()) {
                let (later, ended) = task.stuck.unwrap_or((until, ends));
                task.stuck = Some((until.max(later), ends || ended));
            }
            self.wake_at(until, self.waker(self.current.get()));
        }

        fn spawn(&self, job: Job) -> usize {
            let number = self.spawned.replace(self.spawned.get() + 1);
            let job = Some(job);
            self.tasks.borrow_mut().insert(number, Task { job, stuck: None });
            self.ready.lock().unwrap().insert(number);
            number
        }

        fn waker(&self, task: usize) -> Waker {
            let ready = Arc::clone(&self.ready);
            Arc::new(Woken { task, ready }).into()
        }

        fn wake_at(&self, at: u64, waker: Waker) {
            let nth = self.timers_made.replace(self.timers_made.get() + 1);
            self.timers.borrow_mut().insert((at, nth), waker);
        }

        /// Polls one task that can go on, or lets time pass until one can.
        fn step(&self) {
            let stuck = |task: &usize| {
                let tasks = self.tasks.borrow();
                let stuck = tasks.get(task).and_then(|task| task.stuck);
                stuck.is_some_and(|(until, _)| until > self.now())
            };
            let ready = self.ready.lock().unwrap().clone();
            let ready: Vec<usize> = ready.into_iter().filter(|task| !stuck(task)).collect();
            if ready.is_empty() || self.is_late() {
                return self.pass_time();
            }
            let task = ready[self.random.borrow_mut().usize(..ready.len())];
            self.ready.lock().unwrap().remove(&task);
            self.poll(task);
        }

        fn poll(&self, number: usize) {
            let mut job = None;
            let mut ends = false;
            if let Some(task) = self.tasks.borrow_mut().get_mut(&number) {
                ends = task.stuck.take().is_some_and(|(_, ends)| ends);
                job = task.job.take();
            }
            let Some(mut job) = job else { return };
            self.current.set(number);
            let waker = self.waker(number);
            let done = ends || job.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            let mut tasks = self.tasks.borrow_mut();
            match tasks.get_mut(&number) {
                Some(task) if !done => task.job = Some(job),
                _ => {
                    tasks.remove(&number);
                    drop(tasks);
                    drop(job);
                }
            }
        }

        /// Whether the next timer goes off before what could go on.
        fn is_late(&self) -> bool {
            let next = self.timers.borrow().keys().next().map(|(at, _)| *at);
            let by = next.map_or(u64::MAX, |at| at.saturating_sub(self.now()));
            let late = by <= self.lateness.get() && self.random.borrow_mut().u8(..16) == 0;
            if late {
                self.lateness.set(self.lateness.get() - by);
            }
            late
        }

        fn pass_time(&self) {
            let mut timers = self.timers.borrow_mut();
            let (at, _) = *timers.keys().next().expect("something is still to happen");
            self.now.set(self.now().max(at));
            let later = timers.split_off(&(self.now() + 1, 0));
            for waker in std::mem::replace(&mut *timers, later).into_values() {
                waker.wake();
            }
        }
    }

    /// A task to be ended.
    #[derive(Clone)]
    pub struct AbortHandle(usize);

    impl AbortHandle {
        /// Itself: what Tokio has two types for.
        pub fn abort_handle(&self) -> Self {
            self.clone()
        }

        /// Ends it where it waits.
        pub fn abort(&self) {
            let task = thread().tasks.borrow_mut().remove(&self.0);
            drop(task);
        }
    }

    /// As Tokio's.
    pub fn spawn_local(job: impl Future<Output = ()> + 'static) -> AbortHandle {
        AbortHandle(thread().spawn(Box::pin(job)))
    }

    /// As Tokio's, of the thread's own time.
    #[derive(Clone, Copy, Debug)]
    pub struct Instant(u64);

    impl Instant {
        /// The virtual time.
        pub fn now() -> Self {
            Self(thread().now())
        }

        /// The virtual time since then.
        pub fn elapsed(&self) -> Duration {
            Duration::from_millis(thread().now() - self.0)
        }
    }

    /// As Tokio's.
    pub type Sleep = Pin<Box<dyn Future<Output = ()>>>;

    /// As Tokio's: until so long after this call.
    pub fn sleep(time: Duration) -> Sleep {
        let until = thread().now() + u64::try_from(time.as_millis()).unwrap();
        Box::pin(poll_fn(move |context| {
            let thread = thread();
            if thread.now() >= until {
                return Poll::Ready(());
            }
            thread.wake_at(until, context.waker().clone());
            Poll::Pending
        }))
    }

    /// As Tokio's: the future is polled first.
    pub async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Result<T, ()> {
        let mut future = pin!(future);
        let mut sleep = sleep(time);
        poll_fn(|context| {
            if let Poll::Ready(result) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(result));
            }
            sleep.as_mut().poll(context).map(Err)
        })
        .await
    }
}
