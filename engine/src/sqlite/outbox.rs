//! The commits of one thread, sent to the writer and answered many at a time.
//!
//! A thread that serves many callers finds many of them ready at once. Their commits are handed to the writer together,
//! once the thread has looked at all of them, and the answers of a group come back together: one lock and one wake of the
//! other thread each way, instead of one for each commit, and groups that are as large as the load is heavy. Nothing waits
//! for a timer: a lone commit is handed over as soon as its thread has nothing else to do.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tollgate_core::commit::{Commit, Outcome, StoreError};
use tollgate_core::plan;

use super::SqliteStore;
use super::queue::{Asked, Job};

/// What a commit is answered with.
pub type Answer = Result<Outcome, StoreError>;

/// Commits after which a thread no longer waits for more of its callers. So many share the cost of a sync well, and an
/// answer is not held up for longer than it takes to look at as many requests.
const MAX_BATCH: usize = 256;

/// Looks at the clock in the time that a caller may wait: one is given up by an eighth of it too late at most.
const TICKS: u32 = 8;

/// How a commit's caller is answered. Dropped without an answer, it says that the outcome is not known.
#[derive(Debug)]
pub enum Reply {
    /// On its own.
    Alone(oneshot::Sender<Answer>),
    /// Together with others of the same thread.
    Mailed(Letter),
}

/// The answer to one commit of an [`Outbox`], on its way.
#[derive(Debug)]
pub struct Letter {
    mailbox: Arc<Mailbox>,
    caller: Address,
    answered: bool,
}

/// Where a caller waits, and which of those that waited there over time it is.
type Address = (usize, u64);

impl Drop for Letter {
    fn drop(&mut self) {
        if !self.answered {
            self.mailbox.put([(self.caller, Err(stopped()))]);
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Unknown("the writer has stopped".into())
}

/// An answer with whose it is.
type Addressed = (Address, Answer);

/// Answers that are delivered together.
#[derive(Debug, Default)]
pub struct Post(Vec<(Arc<Mailbox>, Vec<Addressed>)>);

impl Post {
    /// Takes an answer; one that goes alone is delivered at once. Who no longer waits needs none.
    pub fn answer(&mut self, reply: Reply, answer: Answer) {
        let mut letter = match reply {
            Reply::Alone(caller) => return drop(caller.send(answer)),
            Reply::Mailed(letter) => letter,
        };
        letter.answered = true;
        let entry = (letter.caller, answer);
        // There are as many mailboxes as threads that serve.
        let known = self
            .0
            .iter_mut()
            .find(|(mailbox, _)| Arc::ptr_eq(mailbox, &letter.mailbox));
        match known {
            Some((_, answers)) => answers.push(entry),
            None => self.0.push((Arc::clone(&letter.mailbox), vec![entry])),
        }
    }

    /// Delivers what was taken.
    pub fn deliver(self) {
        for (mailbox, answers) in self.0 {
            mailbox.put(answers);
        }
    }
}

/// Where the answers to one thread's commits arrive.
#[derive(Debug, Default)]
struct Mailbox {
    answers: Mutex<Vec<Addressed>>,
    arrived: Notify,
}

impl Mailbox {
    fn answers(&self) -> MutexGuard<'_, Vec<Addressed>> {
        // No code that runs under the lock panics.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, answers: impl IntoIterator<Item = Addressed>) {
        self.answers().extend(answers);
        self.arrived.notify_one();
    }
}

/// Who waits for an answer.
#[derive(Debug)]
struct Caller {
    sender: oneshot::Sender<Answer>,
    number: u64,
    /// The tick at which it began to.
    since: u64,
}

/// See the module. Belongs to one thread, whose executor must poll [`Outbox::run`].
#[derive(Debug)]
pub struct Outbox {
    store: Arc<SqliteStore>,
    mailbox: Arc<Mailbox>,
    callers: RefCell<Slab<Caller>>,
    waiting: RefCell<Vec<Job>>,
    filled: Notify,
    asked: Cell<u64>,
    ticks: Cell<u64>,
    tick: Duration,
}

impl Outbox {
    /// An empty one, whose callers wait no longer than `patience`, or an eighth more.
    pub fn new(store: Arc<SqliteStore>, patience: Duration) -> Self {
        Self {
            store,
            mailbox: Arc::default(),
            callers: RefCell::default(),
            waiting: RefCell::default(),
            filled: Notify::new(),
            asked: Cell::new(0),
            ticks: Cell::new(0),
            tick: (patience / TICKS).max(Duration::from_millis(1)),
        }
    }

    /// See [`SqliteStore::commit`]; `None` if that took longer than a caller waits. Goes on even if its future is dropped
    /// once it was polled.
    pub async fn commit(&self, commit: Commit) -> Option<Answer> {
        match plan::measure(&commit) {
            Ok(bytes) => self.ask(Asked::Commit(commit.into()), bytes).await.ok(),
            Err(invalid) => Some(Err(invalid)),
        }
    }

    /// The same for a commit that is packed ([`tollgate_core::packed::pack`]).
    pub async fn commit_packed(&self, packed: Vec<u8>) -> Option<Answer> {
        let bytes = packed.len();
        self.ask(Asked::Packed(packed), bytes).await.ok()
    }

    fn ask(&self, asked: Asked, bytes: usize) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel();
        let number = self.asked.replace(self.asked.get() + 1);
        let caller = Caller {
            sender,
            number,
            since: self.ticks.get(),
        };
        let letter = Letter {
            mailbox: Arc::clone(&self.mailbox),
            caller: (self.callers.borrow_mut().insert(caller), number),
            answered: false,
        };
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
        answer
    }

    /// Sends commits and delivers answers, for as long as it is polled. Woken by the first commit, it runs after whatever
    /// its thread was about to do anyway, and so finds the others' commits beside it.
    pub async fn run(&self) {
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

    /// Hands to the writer what waits. What it does not take is answered at once.
    fn send(&self) {
        let jobs = self.waiting.take();
        if jobs.is_empty() {
            return;
        }
        let shared = &self.store.shared;
        let Err((refused, jobs)) = shared.queue.push_all(jobs) else {
            return;
        };
        let mut post = Post::default();
        for job in jobs {
            if let Some(reply) = job.reply {
                post.answer(reply, Err(shared.refused(refused)));
            }
        }
        post.deliver();
    }

    fn deliver(&self) {
        let answers = std::mem::take(&mut *self.mailbox.answers());
        let mut callers = self.callers.borrow_mut();
        for ((place, number), answer) in answers {
            // The place of one that was given up may be another's by now.
            if callers.get(place).is_some_and(|caller| caller.number == number) {
                // Who no longer waits needs no answer.
                _ = callers.remove(place).sender.send(answer);
            }
        }
    }

    /// Ends the wait of those that have waited for too long.
    fn give_up(&self) {
        let now = self.ticks.get() + 1;
        self.ticks.set(now);
        // The first of the ticks may have come at once.
        let mut callers = self.callers.borrow_mut();
        callers.retain(|_, caller| now - caller.since <= u64::from(TICKS));
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::commit::{Mutation, Part};
    use tollgate_core::packed;

    use super::*;
    use crate::sqlite::Options;

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

    /// Runs it beside an outbox over a new store.
    fn beside<T>(patience: Duration, what: impl AsyncFnOnce(&Outbox, &SqliteStore) -> T) -> T {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(Options::new(directory.path().join("t.db"))).unwrap();
        let outbox = Outbox::new(Arc::clone(&store), patience);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            tokio::select! {
                () = outbox.run() => unreachable!("it runs for ever"),
                done = what(&outbox, &store) => done,
            }
        })
    }

    #[test]
    fn each_caller_gets_its_own_answer_and_they_share_groups() {
        const MINUTE: Duration = Duration::from_secs(60);
        beside(MINUTE, async |outbox, store| {
            let commits = (0..1_000).map(async |n| {
                let key = format!("k{n}");
                let answer = match n % 3 {
                    0 => outbox.commit(set(&key)).await,
                    1 => {
                        outbox
                            .commit_packed(packed::pack(&set(&key), packed::COMMIT_BYTES))
                            .await
                    }
                    _ => outbox.commit(set("")).await,
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
        beside(Duration::from_secs(60), async |outbox, store| {
            store.close();
            let answer = outbox.commit(set("k")).await;
            assert!(
                matches!(answer, Some(Err(StoreError::Unavailable(_)))),
                "{answer:?}"
            );
        });
    }

    #[test]
    fn who_waits_too_long_is_given_up_and_a_late_answer_is_nobody_elses() {
        let patience = Duration::from_millis(80);
        beside(patience, async |outbox, _| {
            let (sender, first) = oneshot::channel();
            let place = outbox.callers.borrow_mut().insert(Caller {
                sender,
                number: u64::MAX,
                since: outbox.ticks.get(),
            });
            assert!(first.await.is_err(), "nothing answers it");
            let (sender, second) = oneshot::channel();
            let same = outbox.callers.borrow_mut().insert(Caller {
                sender,
                number: 7,
                since: outbox.ticks.get(),
            });
            assert_eq!(place, same);
            outbox.mailbox.put([((place, u64::MAX), Ok(Outcome::Conflict))]);
            assert!(second.await.is_err(), "the answer was the first one's");
        });
    }
}
