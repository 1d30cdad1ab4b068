//! How the answers of a group go back: each alone, or those of one thread together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tollgate_store::commit::StoreError;

use crate::batcher::Answer;

/// How a commit's caller is answered. Dropped without an answer, it says that the outcome is not known.
#[derive(Debug)]
pub enum Reply {
    /// On its own.
    Alone(oneshot::Sender<Answer>),
    /// Together with others of the same thread.
    Mailed(Letter),
}

/// The answer to one commit of a thread's, on its way.
#[derive(Debug)]
pub struct Letter {
    mailbox: Arc<Mailbox>,
    caller: Address,
    answered: bool,
}

impl Letter {
    /// To the caller that waits at this address.
    pub fn to(mailbox: &Arc<Mailbox>, caller: Address) -> Self {
        Self {
            mailbox: Arc::clone(mailbox),
            caller,
            answered: false,
        }
    }
}

/// The slot in which a caller waits, and a number that tells it from earlier callers in that slot.
pub type Address = (usize, u64);

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

/// An answer with the address that it goes to.
pub type Addressed = (Address, Answer);

/// Answers that are delivered together.
#[derive(Debug, Default)]
pub struct Post(Vec<(Arc<Mailbox>, Vec<Addressed>)>);

impl Post {
    /// Takes an answer; one that goes alone is delivered at once. A caller that no longer waits gets none.
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
pub struct Mailbox {
    answers: Mutex<Vec<Addressed>>,
    /// Told when there is something.
    pub arrived: Notify,
}

impl Mailbox {
    /// Takes what has arrived.
    pub fn take(&self) -> Vec<Addressed> {
        std::mem::take(&mut *self.answers())
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Addressed>> {
        // No code that runs under the lock panics.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds answers.
    pub fn put(&self, answers: impl IntoIterator<Item = Addressed>) {
        self.answers().extend(answers);
        self.arrived.notify_one();
    }
}
