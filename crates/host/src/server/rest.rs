//! The rest: threads that answer everything that is not on the hot path, each with its own instance of the
//! rules. So a long list, a bulk call, a password hash or a trap delays no redirect.

use super::generation::Generation;
use super::rules::{Program, Rules};
use super::runner::{Answer, CallError, Progress, Runner};
use super::{Shared, threads};
use crate::clock::now;
use crate::traces::RuleTrace;
use crate::wasm::rules::Group;
use anyhow::Result;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tollgate_rules::heads;
use tollgate_rules::machine::Stage;

/// Threads that there are at least, if there are as many workers: one that runs a long call leaves another.
const MIN_THREADS: usize = 2;
/// Requests of one thread that may be under way at once.
const MAX_UNDER_WAY: usize = 128;
/// Requests that may wait for one thread.
const MAX_QUEUED: usize = 512;

/// Calls with large bodies that may be under way at once: their bodies fill half of what the rules of one thread may hold
/// ([`tollgate_rules::machine::MAX_BODIES`]).
const MAX_BULK: usize = 8;

/// The niceness of these threads (Linux): where cores are scarce, the crowd comes first, and they still get a tenth of one.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// The number of threads beside this many workers: half as many, since most requests are on the hot path.
pub fn thread_count(workers: usize) -> usize {
    workers.min(MIN_THREADS.max(workers / 2))
}

/// The way to these threads; they end when it is dropped.
pub struct Rest {
    threads: Vec<Thread>,
    bulk: Arc<Semaphore>,
}

struct Thread {
    calls: mpsc::Sender<Call>,
    load: Arc<AtomicUsize>,
}

/// A request that was admitted, on its way to a thread.
struct Call {
    generation: Arc<Generation>,
    head: Vec<u8>,
    body: Vec<u8>,
    until: Instant,
    reply: oneshot::Sender<Result<heads::Response, CallError>>,
    place: Place,
    trace: Option<Box<RuleTrace>>,
    /// Whether it may be a redirect.
    is_visit: bool,
}

/// A place in the load of a thread, given back when the call ends, however it does.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Rest {
    /// Starts this many threads.
    ///
    /// # Errors
    /// One of them cannot be started.
    pub fn start(count: usize, program: &Program, shared: &Shared) -> Result<(Self, Vec<JoinHandle<()>>)> {
        let (mut ways, mut running) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (sender, calls) = mpsc::channel(MAX_QUEUED);
            let (program, engines) = (program.clone(), shared.engines.clone());
            let generation = shared.current.get();
            running.push(threads::start(format!("rest-{index}"), move || {
                let_others_go_first();
                let rules = program.rules(engines.clone(), Group::Rest, &generation)?;
                Ok(serve(
                    Runner::new(rules, engines, Group::Rest, &generation),
                    calls,
                ))
            })?);
            ways.push(Thread {
                calls: sender,
                load: Arc::default(),
            });
        }
        let rest = Self {
            threads: ways,
            bulk: Arc::new(Semaphore::new(MAX_BULK)),
        };
        Ok((rest, running))
    }

    /// A place for a call with a large body, until it is dropped.
    ///
    /// # Errors
    /// As many are under way as may.
    pub fn bulk_place(&self) -> Result<OwnedSemaphorePermit, CallError> {
        Arc::clone(&self.bulk)
            .try_acquire_owned()
            .map_err(|_| CallError::Busy)
    }

    /// The answer to a request that was charged and admitted under this generation; `is_visit`: it may be a redirect. The rule goes on if its caller has gone.
    ///
    /// # Errors
    /// As many requests wait as may, its thread's rules have ended, or it took longer than a request may.
    pub async fn answer(
        &self,
        generation: &Arc<Generation>,
        head: Vec<u8>,
        body: Vec<u8>,
        trace: Option<Box<RuleTrace>>,
        is_visit: bool,
    ) -> Result<heads::Response, CallError> {
        let until = Instant::now() + generation.request_timeout();
        let least = self
            .threads
            .iter()
            .min_by_key(|thread| thread.load.load(Ordering::Relaxed));
        let thread = least.ok_or(CallError::Busy)?;
        let (reply, answer) = oneshot::channel();
        let call = Call {
            generation: Arc::clone(generation),
            head,
            body,
            until,
            reply,
            place: Place::take(&thread.load),
            trace,
            is_visit,
        };
        thread.calls.try_send(call).map_err(|_| CallError::Busy)?;
        match timeout_at(until, answer).await {
            Ok(answer) => answer.unwrap_or(Err(CallError::Ended)),
            Err(_) => Err(CallError::TimedOut),
        }
    }
}

/// Lowers the priority of this thread, where the system allows it.
fn let_others_go_first() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the priority of a thread stays as it is");
    }
}

/// Answers requests until no more can come, and then those that still wait.
async fn serve(runner: Runner<Rules>, mut calls: mpsc::Receiver<Call>) {
    let runner = Rc::new(runner);
    let running = tokio::task::spawn_local({
        let runner = Rc::clone(&runner);
        async move { runner.run().await }
    });
    let (places, tasks) = (Arc::new(Semaphore::new(MAX_UNDER_WAY)), TaskTracker::new());
    while let Ok(place) = Arc::clone(&places).acquire_owned().await
        && let Some(call) = calls.recv().await
    {
        let runner = Rc::clone(&runner);
        tasks.spawn_local(async move {
            call.run(&runner).await;
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
    running.abort();
    runner.flush();
}

impl Call {
    async fn run(self, runner: &Rc<Runner<Rules>>) {
        let Self {
            generation,
            head,
            body,
            until,
            reply,
            place,
            trace,
            is_visit,
        } = self;
        // A caller that has gone before its call began is not served.
        if reply.is_closed() || until <= Instant::now() {
            return;
        }
        let answer = timeout_at(until, answer(runner, &generation, &head, body, (trace, is_visit))).await;
        // Before the answer: a caller that calls again at once finds the thread less busy.
        drop(place);
        // The caller may have given up; that is its right.
        let _ = reply.send(answer.unwrap_or(Err(CallError::TimedOut)));
    }
}

async fn answer(
    runner: &Rc<Runner<Rules>>,
    generation: &Generation,
    head: &[u8],
    mut body: Vec<u8>,
    (trace, is_visit): (Option<Box<RuleTrace>>, bool),
) -> Result<heads::Response, CallError> {
    runner.under(generation);
    let answer = match runner.start(head, now(), !body.is_empty(), Stage::Admitted)? {
        Progress::Ended(answer) => answer,
        Progress::Waits(mut waiting) => {
            if is_visit {
                waiting.mark_as_visit();
            }
            if let Some(trace) = trace {
                waiting.trace(trace);
            }
            waiting.finish(async |_| Ok(std::mem::take(&mut body))).await?
        }
    };
    match answer {
        Answer::Done(response) => Ok(response),
        // It was admitted before.
        Answer::Admitted(_) => Err(CallError::Ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use tollgate_api::units::Span;
    use tollgate_rules::config::Config;
    use tollgate_rules::settings::Settings;

    const TIMEOUT: Span = Span::from_millis(100);

    /// Threads that nothing runs on, and the calls that arrive there.
    fn rest(count: usize) -> (Rest, Vec<mpsc::Receiver<Call>>) {
        let (threads, arrived) = (0..count)
            .map(|_| {
                let (calls, arrived) = mpsc::channel(MAX_QUEUED);
                let load = Arc::default();
                (Thread { calls, load }, arrived)
            })
            .unzip();
        let bulk = Arc::new(Semaphore::new(MAX_BULK));
        (Rest { threads, bulk }, arrived)
    }

    fn generation() -> Arc<Generation> {
        let mut config = Config::default();
        config.server.request_timeout = TIMEOUT;
        Generation::first(Settings::compile(config).unwrap(), None, None)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(test);
    }

    fn load(rest: &Rest) -> usize {
        let loads = rest.threads.iter().map(|thread| &thread.load);
        loads.map(|load| load.load(Ordering::Relaxed)).sum()
    }

    #[test]
    fn there_are_two_threads_at_least_unless_there_is_one_worker() {
        let counts = [1, 2, 3, 4, 8, 64].map(thread_count);
        assert_eq!(counts, [1, 2, 2, 2, 4, 32]);
    }

    #[test]
    fn the_thread_with_the_fewest_calls_is_asked_and_a_full_one_is_busy() {
        run(async {
            let ((rest, mut arrived), generation) = (rest(2), generation());
            let mut waiting = Vec::new();
            for _ in 0..2 * MAX_QUEUED {
                let mut answer = Box::pin(rest.answer(&generation, Vec::new(), Vec::new(), None, false));
                assert!(answer.as_mut().now_or_never().is_none());
                waiting.push(answer);
            }
            assert_eq!(arrived.iter().map(mpsc::Receiver::len).max(), Some(MAX_QUEUED));
            let beyond = rest
                .answer(&generation, Vec::new(), Vec::new(), None, false)
                .await;
            assert_eq!(beyond, Err(CallError::Busy));
            let call = arrived[0].recv().await.unwrap();
            call.reply.send(Ok(heads::Response::default())).unwrap();
            drop(call.place);
            assert_eq!(waiting.remove(0).await, Ok(heads::Response::default()));
            assert_eq!(load(&rest), 2 * MAX_QUEUED - 1);
            drop(arrived);
            assert_eq!(waiting.remove(0).await, Err(CallError::Ended));
            assert_eq!(load(&rest), 0, "what never began has given its place back");
        });
    }

    #[test]
    fn a_call_that_is_not_answered_in_time_is_given_up() {
        run(async {
            let ((rest, mut arrived), generation) = (rest(1), generation());
            let answer = rest
                .answer(&generation, Vec::new(), Vec::new(), None, false)
                .await;
            assert_eq!(answer, Err(CallError::TimedOut));
            let call = arrived[0].recv().await.unwrap();
            assert!(call.until <= Instant::now() && load(&rest) == 1);
        });
    }
}
