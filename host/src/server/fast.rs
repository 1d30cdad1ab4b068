//! The fast path of a worker: rules that say what they wait for, and the request's own future, which waits for it.

use crate::wasm::pool::CallError;
use crate::wasm::ports::Engines;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tollgate_core::bucket::{Bucket, Level, TakeError};
use tollgate_core::commit::{Commit, Entry};
use tollgate_core::fast_path::{Call, Memory, Reply, Step};
use tollgate_core::packed;
use tollgate_engine::Outbox;

/// How long what was submitted is combined where it arose, before the store hears of it.
const FLUSH: Duration = Duration::from_millis(20);

/// `tollgate_core::fast_path::FastPath`, wherever it runs. `None`: what ran it has ended, with all that waited in it, and
/// the next call finds it new.
pub trait Steps {
    /// See `FastPath::start`.
    fn start(&self, head: &[u8], now: u64, body_follows: bool) -> Option<Step>;
    /// See `FastPath::resume`.
    fn resume(&self, task: u32, reply: Reply) -> Option<Step>;
    /// See `FastPath::cancel`.
    fn cancel(&self, task: u32) -> Option<()>;
    /// See `FastPath::flush`.
    fn flush(&self) -> Option<()>;
}

/// What became of a request.
pub enum Answer {
    /// This is the response.
    Done(packed::Response),
    /// It was charged and admitted, and goes to its component; these headers ([`packed::pairs`]) are added to the response.
    Admitted(Vec<u8>),
}

/// One thread's fast path.
pub struct Fast<S> {
    steps: S,
    engines: Engines,
    /// Where this thread's commits go.
    outbox: Outbox,
    timeout: Duration,
    /// How often what runs the rules has ended: whatever waited before is gone.
    ended: Cell<u64>,
    /// Told of every call, so that what it submitted is flushed.
    called: Notify,
}

/// What became of a request at once.
pub enum Begun<S: Steps> {
    /// See [`Answer`].
    Ended(Answer),
    /// Its rule waits.
    Waits(Waiting<S>),
}

/// A rule that waits, and for what.
pub struct Waiting<S: Steps> {
    task: Task<S>,
    call: Call,
}

/// A rule that waits; given up when this is dropped before the rule was resumed.
struct Task<S: Steps> {
    fast: Rc<Fast<S>>,
    number: u32,
    ended: u64,
    resumed: bool,
}

impl<S: Steps> Fast<S> {
    /// `timeout`: how long a rule may wait for the store at a time.
    pub fn new(steps: S, engines: Engines, timeout: Duration) -> Self {
        Self {
            steps,
            outbox: Outbox::new(Arc::clone(&engines.store), timeout),
            engines,
            timeout,
            ended: Cell::new(0),
            called: Notify::new(),
        }
    }

    /// Flushes what calls submit, a moment later, and sends their commits, for as long as it is polled.
    pub async fn run(&self) {
        let flush = async {
            loop {
                self.called.notified().await;
                tokio::time::sleep(FLUSH).await;
                self.flush();
            }
        };
        tokio::join!(self.outbox.run(), flush);
    }

    /// Flushes what calls have submitted so far.
    pub fn flush(&self) {
        // What ended just now was reported where it ran.
        let _ = self.checked(self.steps.flush());
    }

    /// Charges a request, and answers it as far as that needs no waiting. `head`: see [`packed::head`]. `now`: Unix
    /// milliseconds.
    pub fn begin(self: &Rc<Self>, head: &[u8], now: u64, body_follows: bool) -> Result<Begun<S>, CallError> {
        self.called.notify_one();
        let step = self.checked(self.steps.start(head, now, body_follows))?;
        self.begun(step)
    }

    fn begun(self: &Rc<Self>, step: Step) -> Result<Begun<S>, CallError> {
        Ok(match step {
            Step::Done(response) => Begun::Ended(Answer::Done(response)),
            Step::Admitted(added) => Begun::Ended(Answer::Admitted(added)),
            Step::Busy => return Err(CallError::Busy),
            Step::Waits(number, call) => {
                let task = Task {
                    fast: Rc::clone(self),
                    number,
                    ended: self.ended.get(),
                    resumed: false,
                };
                Begun::Waits(Waiting { task, call })
            }
        })
    }

    /// The store's answer, for which a rule waits no longer than a component's call may take.
    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, CallError> {
        let answer = tokio::time::timeout(self.timeout, answer).await;
        answer.map_err(|_| CallError::TimedOut)
    }

    fn checked<T>(&self, result: Option<T>) -> Result<T, CallError> {
        result.ok_or_else(|| {
            self.ended.set(self.ended.get() + 1);
            CallError::Ended
        })
    }
}

impl<S: Steps> Waiting<S> {
    /// Goes on until the request is answered. `body`: reads the request's body, where the rule asks for it.
    pub async fn finish<E: From<CallError>>(
        &mut self,
        mut body: impl AsyncFnMut() -> Result<Vec<u8>, E>,
    ) -> Result<Answer, E> {
        loop {
            let fast = &self.task.fast;
            let store = &fast.engines.store;
            // In boxes is what few wait for: a claim that waits for its commit should not take the room of all of these.
            let reply = match std::mem::replace(&mut self.call, Call::Body) {
                Call::Body => Reply::Body(Box::pin(body()).await?),
                Call::Commit(commit) => Reply::Commit(told(Box::pin(fast.outbox.commit(commit)).await)?),
                Call::Packed(packed) => Reply::Commit(told(fast.outbox.commit_packed(packed).await)?),
                Call::Get(keys) => Reply::Get(Box::pin(fast.in_time(store.get("", &keys))).await?),
                Call::Scan { prefix, after, limit } => {
                    let page = store.scan(&prefix, after.as_deref(), limit);
                    Reply::Scan(Box::pin(fast.in_time(page)).await?)
                }
            };
            match self.task.resume(reply)? {
                Begun::Ended(answer) => return Ok(answer),
                Begun::Waits(waiting) => *self = waiting,
            }
        }
    }
}

fn told<T>(answer: Option<T>) -> Result<T, CallError> {
    answer.ok_or(CallError::TimedOut)
}

impl<S: Steps> Task<S> {
    fn resume(&mut self, reply: Reply) -> Result<Begun<S>, CallError> {
        self.resumed = true;
        let fast = &self.fast;
        fast.called.notify_one();
        match self.ended == fast.ended.get() {
            true => fast.begun(fast.checked(fast.steps.resume(self.number, reply))?),
            false => Err(CallError::Ended),
        }
    }
}

impl<S: Steps> Drop for Task<S> {
    fn drop(&mut self) {
        if !self.resumed && self.ended == self.fast.ended.get() {
            // What ended just now was reported where it ran.
            let _ = self.fast.checked(self.fast.steps.cancel(self.number));
        }
    }
}

impl Memory for Engines {
    fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        self.buckets.take_now(&buckets)
    }

    fn take_one(&self, bucket: Bucket) -> Result<Level, TakeError> {
        self.buckets.take_one_now(&bucket)
    }

    fn get(&self, key: &str) -> Option<Option<Entry>> {
        let found = self.store.get_now(key)?;
        Some(found.map(|entry| Entry::clone(&entry)))
    }

    fn get_all(&self, keys: &[String]) -> Option<Vec<Option<Entry>>> {
        let found = self.store.get_all_now(keys)?;
        let copied = found
            .into_iter()
            .map(|entry| entry.map(|entry| Entry::clone(&entry)));
        Some(copied.collect())
    }

    fn submit(&self, commits: Vec<Commit>) {
        for commit in commits {
            self.store.submit(commit);
        }
    }
}

/// The fast path without WebAssembly: what a benchmark compares the component with.
#[cfg(feature = "native-rules")]
pub mod native {
    use super::{Engines, Reply, Step, Steps};
    use std::cell::RefCell;
    use tollgate_core::fast_path::FastPath;
    use tollgate_core::settings::Settings;

    /// The rules, compiled into the program.
    pub struct Native(RefCell<FastPath<Engines>>);

    impl Native {
        /// The rules under these settings.
        pub fn new(settings: Settings, engines: Engines) -> Self {
            let fresh = || fastrand::u128(..).to_le_bytes();
            Self(RefCell::new(FastPath::new(settings, engines, fresh)))
        }
    }

    impl Steps for Native {
        fn start(&self, head: &[u8], now: u64, body_follows: bool) -> Option<Step> {
            Some(self.0.borrow_mut().start(head, now, body_follows))
        }

        fn resume(&self, task: u32, reply: Reply) -> Option<Step> {
            Some(self.0.borrow_mut().resume(task, reply))
        }

        fn cancel(&self, task: u32) -> Option<()> {
            self.0.borrow_mut().cancel(task);
            Some(())
        }

        fn flush(&self) -> Option<()> {
            let mut rules = self.0.borrow_mut();
            rules.flush();
            if let Some(report) = rules.report() {
                tracing::warn!("{report}");
            }
            Some(())
        }
    }
}
