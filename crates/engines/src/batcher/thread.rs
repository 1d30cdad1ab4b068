//! The commits of one thread, sent to the writer and answered many at a time.
//!
//! A thread that serves many callers finds many of them ready at once. Their commits are handed to the writer
//! together, once the thread has looked at all of them. The answers of a group come back together. That takes
//! one lock and one wake of the other thread each way, instead of one for each commit. Groups grow with the
//! load. Nothing waits for a timer: a lone commit is handed over as soon as its thread has nothing else to
//! do.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tollgate_store::commit::Commit;
use tollgate_store::plan;

use super::{Answer, Answered, CommitBatcher, TakesJobs};
use crate::job::{Asked, Job};
use crate::reply::{Letter, Mailbox, Reply};

/// The most commits of one batch: with that many, a thread no longer waits for more of its callers. They
/// share the cost of a sync well, and an answer is held up no longer than it takes to look at as many
/// requests.
const MAX_BATCH: usize = 256;

/// How often the clock is read within the time that a caller may wait: a wait ends at most an eighth of that
/// time too late.
const TICKS: u32 = 8;

/// A caller that waits for an answer.
#[derive(Debug)]
struct Caller {
    sender: oneshot::Sender<Answer>,
    number: u64,
    /// The tick at which its wait began.
    since: u64,
}

/// Commits that wait to be handed to the writer, and callers that wait for its answers. Belongs to one
/// thread, whose executor must poll [`CommitBatcher::run`].
#[derive(Debug)]
pub struct ThreadBatcher {
    engine: Arc<dyn TakesJobs>,
    mailbox: Arc<Mailbox>,
    callers: RefCell<Slab<Caller>>,
    waiting: RefCell<Vec<Job>>,
    filled: Notify,
    asked: Cell<u64>,
    ticks: Cell<u64>,
    tick: Duration,
}

impl ThreadBatcher {
    /// An empty one, whose callers wait no longer than `patience`, or an eighth more.
    pub(crate) fn new(engine: Arc<dyn TakesJobs>, patience: Duration) -> Self {
        Self {
            engine,
            mailbox: Arc::default(),
            callers: RefCell::default(),
            waiting: RefCell::default(),
            filled: Notify::new(),
            asked: Cell::new(0),
            ticks: Cell::new(0),
            tick: (patience / TICKS).max(Duration::from_millis(1)),
        }
    }

    fn ask(&self, asked: Asked, bytes: usize) -> Answered {
        let (sender, answer) = oneshot::channel();
        let number = self.asked.replace(self.asked.get() + 1);
        let caller = Caller {
            sender,
            number,
            since: self.ticks.get(),
        };
        let caller = (self.callers.borrow_mut().insert(caller), number);
        let letter = Letter::to(&self.mailbox, caller);
        let waiting = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push(Job {
                asked,
                bytes,
                reply: Some(Reply::Mailed(letter)),
            });
            waiting.len()
        };
        match waiting {
            1 => self.filled.notify_one(),
            MAX_BATCH.. => self.send(),
            _ => {}
        }
        Answered::by(answer)
    }

    /// Hands the waiting commits to the writer. Those that it does not take are answered at once.
    fn send(&self) {
        let jobs = self.waiting.take();
        if !jobs.is_empty() {
            self.engine.take_jobs(jobs);
        }
    }

    fn deliver(&self) {
        let answers = self.mailbox.take();
        let mut callers = self.callers.borrow_mut();
        for ((place, number), answer) in answers {
            // The place of one that was given up may be another's by now.
            if callers.get(place).is_some_and(|caller| caller.number == number) {
                // Who no longer waits needs no answer.
                _ = callers.remove(place).sender.send(answer);
            }
        }
    }

    /// Ends the wait of callers that have waited for too long.
    fn give_up(&self) {
        let now = self.ticks.get() + 1;
        self.ticks.set(now);
        // The first of the ticks may have come at once.
        let mut callers = self.callers.borrow_mut();
        callers.retain(|_, caller| now - caller.since <= u64::from(TICKS));
    }
}

impl CommitBatcher for ThreadBatcher {
    fn commit(&self, commit: Commit) -> Answered {
        match plan::measure(&commit) {
            Ok(bytes) => self.ask(Asked::Commit(commit.into()), bytes),
            Err(invalid) => Answered::now(Err(invalid)),
        }
    }

    fn commit_packed(&self, packed: Vec<u8>) -> Answered {
        let bytes = packed.len();
        self.ask(Asked::Packed(packed), bytes)
    }

    /// Woken by the first commit, it runs after whatever its thread was about to do anyway, and so finds the others'
    /// commits beside it.
    async fn run(&self) {
        // One clock for all: a timer for each commit would cost as much as the way to the writer.
        let mut clock = interval(self.tick);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.filled.notified() => self.send(),
                () = self.mailbox.arrived.notified() => self.deliver(),
                _ = clock.tick() => self.give_up(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_store::commit::{Mutation, Outcome, Part, StoreError};
    use tollgate_store::packed;

    use super::*;
    use crate::Engine as _;
    use crate::sqlite::{Options, SqliteStore};

    fn set(key: &str) -> Commit {
        let set = Mutation::Set {
            key: key.into(),
            value: vec![Part::Time],
            expires: None,
        };
        Commit {
            partition: "p".into(),
            mutations: vec![set],
            ..Commit::default()
        }
    }

    /// Runs it beside a batcher over a new store.
    fn beside<T>(patience: Duration, what: impl AsyncFnOnce(&ThreadBatcher, &SqliteStore) -> T) -> T {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(Options::new(directory.path().join("t.db"))).unwrap();
        let batcher = store.batcher(patience);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            tokio::select! {
                () = batcher.run() => unreachable!("it runs for ever"),
                done = what(&batcher, &store) => done,
            }
        })
    }

    #[test]
    fn each_caller_gets_its_own_answer_and_they_share_groups() {
        const MINUTE: Duration = Duration::from_secs(60);
        beside(MINUTE, async |batcher, store| {
            let commits = (0..1_000).map(async |n| {
                let key = format!("k{n}");
                let answer = match n % 3 {
                    0 => batcher.commit(set(&key)).await,
                    1 => {
                        batcher
                            .commit_packed(packed::pack(&set(&key), packed::COMMIT_BYTES))
                            .await
                    }
                    _ => batcher.commit(set("")).await,
                };
                (n, key, answer.expect("nothing takes a minute"))
            });
            for (n, key, answer) in futures::future::join_all(commits).await {
                let found = store.get("p", &[key]).await.unwrap().remove(0);
                match answer {
                    Ok(Outcome::Committed(done)) => assert_eq!(found.unwrap().version, done.version),
                    Err(StoreError::Invalid(_)) => assert!(n % 3 == 2 && found.is_none()),
                    other => panic!("{other:?}"),
                }
            }
            let stats = store.stats();
            assert!(stats.groups < 50, "{} groups", stats.groups);
        });
    }

    #[test]
    fn a_store_that_is_closed_says_so() {
        beside(Duration::from_secs(60), async |batcher, store| {
            store.close();
            let answer = batcher.commit(set("k")).await;
            assert!(
                matches!(answer, Some(Err(StoreError::Unavailable(_)))),
                "{answer:?}"
            );
        });
    }

    #[test]
    fn who_waits_too_long_is_given_up_and_a_late_answer_is_nobody_elses() {
        let patience = Duration::from_millis(80);
        beside(patience, async |batcher, _| {
            let (sender, first) = oneshot::channel();
            let place = batcher.callers.borrow_mut().insert(Caller {
                sender,
                number: u64::MAX,
                since: batcher.ticks.get(),
            });
            assert!(first.await.is_err(), "nothing answers it");
            let (sender, second) = oneshot::channel();
            let same = batcher.callers.borrow_mut().insert(Caller {
                sender,
                number: 7,
                since: batcher.ticks.get(),
            });
            assert_eq!(place, same);
            batcher.mailbox.put([((place, u64::MAX), Ok(Outcome::Conflict))]);
            assert!(second.await.is_err(), "the answer was the first one's");
        });
    }
}
