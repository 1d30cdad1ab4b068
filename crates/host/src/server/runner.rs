//! The rules on one thread. A rule says what it waits for, and the request's own future waits for it.

use super::generation::Generation;
use super::settle::{Asked, Visit, Visits};
use crate::metrics::count::Rules as Counters;
use crate::traces::RuleTrace;
use crate::wasm::ports::Engines;
use crate::wasm::rules::Group;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tollgate_engines::{Answer as Decided, Answered, AnyBatcher, CommitBatcher as _, Engine as _};
use tollgate_rules::heads;
use tollgate_rules::machine::{Call, Reply, Stage, Step};
use tollgate_store::commit::Outcome;
use tollgate_store::ports::Store as _;

/// How long deferred changes are combined on their thread before they go to the store.
const FLUSH: Duration = Duration::from_millis(20);

/// Why a request has no answer of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// As many requests wait as may.
    Busy,
    /// The instance that ran the rule has ended, with all that waited in it.
    Ended,
    /// It took longer than it may.
    TimedOut,
}

/// `tollgate_rules::machine::Machine`, wherever it runs. `None`: the instance that ran it has ended, with all
/// that waited in it, and the next call finds a new one.
pub trait Steps {
    /// Judges requests by these settings from now on; see `Machine::configure`.
    fn configure(&self, generation: &Generation) -> Option<()>;
    /// See `Machine::start`.
    fn start(&self, head: &[u8], now: u64, body_follows: bool, stage: Stage) -> Option<Step>;
    /// See `Machine::resume`.
    fn resume(&self, task: u32, reply: Reply) -> Option<Step>;
    /// See `Machine::cancel`.
    fn cancel(&self, task: u32) -> Option<()>;
    /// See `Machine::flush` and `Machine::decisions`.
    fn flush(&self) -> Option<Vec<u64>>;
}

/// The result of a request.
pub enum Answer {
    /// This is the response.
    Done(heads::Response),
    /// It was charged and admitted, and goes on elsewhere; these headers ([`heads::pairs`]) are added to the response.
    Admitted(Vec<u8>),
}

/// One thread's rules.
pub struct Runner<S> {
    steps: S,
    engines: Engines,
    /// Where this thread's commits go.
    batcher: AnyBatcher,
    timeout: Duration,
    /// How often an instance of the rules has ended: tasks that waited before are gone.
    ended: Cell<u64>,
    /// Notified of every call, so that its deferred changes are flushed.
    called: Notify,
    visits: Rc<Visits>,
    counters: Arc<Counters>,
    /// The number of the [`Generation`] that requests are judged by.
    generation: Cell<u64>,
    /// Taken by [`Runner::run`].
    asked: Cell<Option<UnboundedReceiver<Asked>>>,
}

/// How far a request has come at once.
pub enum Progress<S: Steps> {
    /// See [`Answer`].
    Ended(Answer),
    /// Its rule waits.
    Waits(Waiting<S>),
}

/// A rule that waits, and for what.
pub struct Waiting<S: Steps> {
    task: Task<S>,
    call: Call,
    trace: Option<Box<RuleTrace>>,
}

/// A rule that waits; given up when this is dropped before the rule was resumed.
struct Task<S: Steps> {
    runner: Rc<Runner<S>>,
    number: u32,
    ended: u64,
    resumed: bool,
    /// Whether it is a redirect, and its place among those under way once it may have read its link.
    is_visit: bool,
    visit: Option<Visit>,
}

impl<S: Steps> Runner<S> {
    /// `generation`: what the steps judge requests by.
    pub fn new(steps: S, engines: Engines, group: Group, generation: &Generation) -> Self {
        let timeout = generation.request_timeout();
        Self {
            steps,
            generation: Cell::new(generation.number()),
            counters: engines.counted.rules(group),
            batcher: engines.store.batcher(timeout),
            asked: Cell::new(Some(engines.settling.register())),
            engines,
            timeout,
            ended: Cell::new(0),
            called: Notify::new(),
            visits: Rc::default(),
        }
    }

    /// Flushes what calls defer, a moment later or when somebody waits for it, and sends their commits, for as long as it
    /// is polled.
    pub async fn run(&self) {
        let flush = async {
            loop {
                self.called.notified().await;
                tokio::time::sleep(FLUSH).await;
                self.flush();
            }
        };
        let settle = async {
            let Some(mut asked) = self.asked.take() else {
                return;
            };
            while let Some(done) = asked.recv().await {
                self.visits.have_gone().await;
                self.flush();
                let _ = done.send(());
            }
        };
        tokio::join!(self.batcher.run(), flush, settle);
    }

    /// Flushes what calls have deferred so far.
    pub fn flush(&self) {
        // What ended just now was reported where it ran.
        if let Ok(decisions) = self.checked(self.steps.flush()) {
            self.counters.decided(&decisions);
        }
    }

    /// Judges requests by this generation from now on. For the calls that follow on this thread at once: others may want another.
    pub fn under(&self, generation: &Generation) {
        if self.generation.replace(generation.number()) == generation.number() {
            return;
        }
        // What was decided so far belongs to the policies until now.
        self.flush();
        self.counters.limit_by(&generation.settings.config);
        // What ended just now was reported where it ran, and begins anew with these settings.
        let _ = self.checked(self.steps.configure(generation));
    }

    /// Starts a request; see `Machine::start`.
    pub fn start(
        self: &Rc<Self>,
        head: &[u8],
        now: u64,
        body_follows: bool,
        stage: Stage,
    ) -> Result<Progress<S>, CallError> {
        self.called.notify_one();
        let step = self.checked(self.steps.start(head, now, body_follows, stage))?;
        Ok(match step {
            Step::Done(response) => Progress::Ended(Answer::Done(response)),
            Step::Admitted(added) => Progress::Ended(Answer::Admitted(added)),
            Step::Busy => return Err(CallError::Busy),
            Step::Waits(number, call) => {
                self.counters.tasks.add(1);
                let task = Task {
                    runner: Rc::clone(self),
                    number,
                    ended: self.ended.get(),
                    resumed: false,
                    is_visit: false,
                    visit: None,
                };
                Progress::Waits(Waiting {
                    task,
                    call,
                    trace: None,
                })
            }
        })
    }

    /// The store's answer. A rule waits for it no longer than a request may take.
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
    /// Marks a redirect: its deferred click belongs to the link as it was when it was read.
    pub fn mark_as_visit(&mut self) {
        self.task.is_visit = true;
        self.task.enter(&self.call);
    }

    /// Traces it: it waits already.
    pub fn trace(&mut self, mut trace: Box<RuleTrace>) {
        trace.waits_for(&self.call);
        self.trace = Some(trace);
    }

    /// Ends its trace now.
    pub fn end_trace(&mut self) {
        self.trace = None;
    }

    /// Goes on until the request is answered. `body`: reads the request's body, where the rule asks for it; it is told what quotas have
    /// counted the request for.
    pub async fn finish<E: From<CallError>>(
        &mut self,
        mut body: impl AsyncFnMut(Option<String>) -> Result<Vec<u8>, E>,
    ) -> Result<Answer, E> {
        loop {
            let runner = &self.task.runner;
            let store = &runner.engines.store;
            // Rare futures are boxed to keep the common one small.
            let reply = match std::mem::replace(&mut self.call, Call::Body(None)) {
                Call::Body(held) => Reply::Body(Box::pin(body(held)).await?),
                Call::Commit(commit) => {
                    let visit = self.task.is_visit.then(|| commit.clone());
                    let decided = in_patience(runner.batcher.commit(commit).await)?;
                    if let (Some(visit), Ok(Outcome::Committed(_))) = (visit, &decided) {
                        runner.engines.ranking.saw(&[visit]);
                    }
                    Reply::Commit(decided)
                }
                Call::Packed(packed) => {
                    // A visit that is counted before it is answered.
                    let visit = self.task.is_visit.then(|| packed.clone());
                    let decided = in_patience(runner.batcher.commit_packed(packed).await)?;
                    if let (Some(visit), Ok(Outcome::Committed(_))) = (visit, &decided) {
                        runner.engines.ranking.saw_packed(&visit);
                    }
                    Reply::Commit(decided)
                }
                Call::Commits(commits) => {
                    let asked = commits.into_iter().map(|commit| runner.batcher.commit(commit));
                    Reply::Commits(Box::pin(each(asked.collect())).await?)
                }
                Call::PackedEach(commits) => {
                    let asked = commits
                        .into_iter()
                        .map(|commit| runner.batcher.commit_packed(commit));
                    Reply::Commits(Box::pin(each(asked.collect())).await?)
                }
                Call::Get(keys) => Reply::Get(Box::pin(runner.in_time(store.get("", &keys))).await?),
                Call::Scan { prefix, after, limit } => {
                    let page = store.scan(&prefix, after.as_deref(), limit);
                    Reply::Scan(Box::pin(runner.in_time(page)).await?)
                }
                Call::Read {
                    topic,
                    after,
                    limit,
                    wait,
                } => {
                    let messages = store.read(&topic, after, limit, wait);
                    Reply::Read(Box::pin(runner.in_time(messages)).await?)
                }
                Call::Topics { after, limit } => {
                    let topics = store.topics(after.as_deref(), limit);
                    Reply::Topics(Box::pin(runner.in_time(topics)).await?)
                }
                Call::Take(buckets) => {
                    let taken = runner.engines.take(&runner.counters.refused, buckets);
                    Reply::Take(Box::pin(taken).await)
                }
                Call::Post { url, form } => {
                    let asked = runner.engines.outbound.post(&url, form);
                    Reply::Post(Box::pin(runner.in_time(asked)).await?)
                }
                Call::Settle => {
                    let settled = runner.engines.settling.settle();
                    Reply::Settle(Ok(Box::pin(runner.in_time(settled)).await?))
                }
            };
            if let Some(trace) = &mut self.trace {
                trace.goes_on();
            }
            match self.task.resume(reply)? {
                Step::Done(response) => return Ok(Answer::Done(response)),
                Step::Admitted(added) => return Ok(Answer::Admitted(added)),
                Step::Busy => return Err(CallError::Busy.into()),
                Step::Waits(number, call) => {
                    (self.task.number, self.task.resumed) = (number, false);
                    self.task.enter(&call);
                    if let Some(trace) = &mut self.trace {
                        trace.waits_for(&call);
                    }
                    self.call = call;
                }
            }
        }
    }
}

/// The answers to all of these. They were asked for in their order, so they are decided in it.
async fn each(asked: Vec<Answered>) -> Result<Vec<Decided>, CallError> {
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        answers.push(in_patience(answer.await)?);
    }
    Ok(answers)
}

fn in_patience<T>(answer: Option<T>) -> Result<T, CallError> {
    answer.ok_or(CallError::TimedOut)
}

impl<S: Steps> Task<S> {
    /// Takes a place among the redirects under way, or gives it back. A request that waits for its body,
    /// which may take long, has not read its link yet.
    fn enter(&mut self, call: &Call) {
        match call {
            // Nor has one that is not admitted yet.
            Call::Body(_) | Call::Take(_) => self.visit = None,
            _ if self.is_visit && self.visit.is_none() => self.visit = Some(self.runner.visits.enter()),
            _ => {}
        }
    }

    fn resume(&mut self, reply: Reply) -> Result<Step, CallError> {
        self.resumed = true;
        let runner = &self.runner;
        runner.called.notify_one();
        match self.ended == runner.ended.get() {
            true => runner.checked(runner.steps.resume(self.number, reply)),
            false => Err(CallError::Ended),
        }
    }
}

impl<S: Steps> Drop for Task<S> {
    fn drop(&mut self) {
        self.runner.counters.tasks.sub(1);
        if !self.resumed && self.ended == self.runner.ended.get() {
            // What ended just now was reported where it ran.
            let _ = self.runner.checked(self.runner.steps.cancel(self.number));
        }
    }
}

/// The rules without WebAssembly, for benchmarks to compare the component with.
#[cfg(feature = "native-rules")]
pub mod native {
    use super::{Engines, Generation, Reply, Stage, Step, Steps};
    use std::cell::RefCell;
    use tollgate_rules::machine::Machine;
    use tollgate_rules::settings::Settings;

    /// The rules, compiled into the program.
    pub struct Native(RefCell<Machine<Engines>>);

    impl Native {
        /// The rules under these settings.
        pub fn new(settings: Settings, engines: Engines) -> Self {
            let fresh = || fastrand::u128(..).to_le_bytes();
            Self(RefCell::new(Machine::new(settings, engines, fresh)))
        }
    }

    impl Steps for Native {
        fn configure(&self, generation: &Generation) -> Option<()> {
            self.0.borrow_mut().configure(generation.settings.clone());
            Some(())
        }

        fn start(&self, head: &[u8], now: u64, body_follows: bool, stage: Stage) -> Option<Step> {
            Some(self.0.borrow_mut().start(head, now, body_follows, stage))
        }

        fn resume(&self, task: u32, reply: Reply) -> Option<Step> {
            Some(self.0.borrow_mut().resume(task, reply))
        }

        fn cancel(&self, task: u32) -> Option<()> {
            self.0.borrow_mut().cancel(task);
            Some(())
        }

        fn flush(&self) -> Option<Vec<u64>> {
            let mut rules = self.0.borrow_mut();
            rules.flush();
            if let Some(report) = rules.report() {
                tracing::warn!("{report}");
            }
            Some(rules.decisions())
        }
    }
}
