//! The commits of one thread, sent to the writer and answered many at a time.
//!
//! A thread that serves many callers finds many of them ready at once. Their commits are handed to the writer together,
//! once the thread has looked at all of them, and the answers of a group come back together: one lock and one wake of the
//! other thread each way, instead of one for each commit, and groups that are as large as the load is heavy. Nothing waits
//! for a timer: a lone commit is handed over as soon as its thread has nothing else to do.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::sync::{Notify, oneshot};
use tollgate_core::commit::{Commit, Outcome, StoreError};
use tollgate_core::plan;

use super::SqliteStore;
use super::queue::Job;

/// What a commit is answered with.
pub type Answer = Result<Outcome, StoreError>;

/// Commits after which a thread no longer waits for more of its callers. So many share the cost of a sync well, and an
/// answer is not held up for longer than it takes to look at as many requests.
const MAX_BATCH: usize = 256;

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
    caller: usize,
    answered: bool,
}

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

/// Answers that are delivered together.
#[derive(Debug, Default)]
pub struct Post(Vec<(Arc<Mailbox>, Vec<(usize, Answer)>)>);

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
    answers: Mutex<Vec<(usize, Answer)>>,
    arrived: Notify,
}

impl Mailbox {
    fn answers(&self) -> MutexGuard<'_, Vec<(usize, Answer)>> {
        // No code that runs under the lock panics.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, answers: impl IntoIterator<Item = (usize, Answer)>) {
        self.answers().extend(answers);
        self.arrived.notify_one();
    }
}

/// See the module. Belongs to one thread, whose executor must poll [`Outbox::run`].
#[derive(Debug)]
pub struct Outbox {
    store: Arc<SqliteStore>,
    mailbox: Arc<Mailbox>,
    callers: RefCell<Slab<oneshot::Sender<Answer>>>,
    waiting: RefCell<Vec<Job>>,
    filled: Notify,
}

impl Outbox {
    /// An empty one.
    pub fn new(store: Arc<SqliteStore>) -> Self {
        Self {
            store,
            mailbox: Arc::default(),
            callers: RefCell::default(),
            waiting: RefCell::default(),
            filled: Notify::new(),
        }
    }

    /// See [`SqliteStore::commit`]. Goes on even if its future is dropped once it was polled.
    pub async fn commit(&self, commit: Commit) -> Answer {
        let bytes = plan::measure(&commit)?;
        let (sender, answer) = oneshot::channel();
        let letter = Letter {
            mailbox: Arc::clone(&self.mailbox),
            caller: self.callers.borrow_mut().insert(sender),
            answered: false,
        };
        let waiting = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push(Job {
                commit,
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
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Sends commits and delivers answers, for as long as it is polled. Woken by the first commit, it runs after whatever
    /// its thread was about to do anyway, and so finds the others' commits beside it.
    pub async fn run(&self) {
        loop {
            tokio::select! {
                () = self.filled.notified() => self.send(),
                () = self.mailbox.arrived.notified() => self.deliver(),
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
        for (caller, answer) in answers {
            if let Some(sender) = callers.try_remove(caller) {
                // Who no longer waits needs no answer.
                _ = sender.send(answer);
            }
        }
    }
}
