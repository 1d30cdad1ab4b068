//! The commits of one thread, handed to an engine many at a time.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tollgate_store::commit::{Commit, Outcome, StoreError};

use crate::job::Job;

mod thread;

pub use thread::ThreadBatcher;

/// The answer to a commit.
pub type Answer = Result<Outcome, StoreError>;

/// An engine that takes many commits at once.
pub(crate) trait TakesJobs: std::fmt::Debug + Send + Sync {
    /// Takes them in their order, and answers those at once that it does not take.
    fn take_jobs(&self, jobs: Vec<Job>);
}

/// Takes the commits of one thread, whose executor must poll [`CommitBatcher::run`].
pub trait CommitBatcher {
    /// Takes a commit. It goes on even if the answer is not awaited.
    fn commit(&self, commit: Commit) -> Answered;

    /// The same for a commit that is packed ([`tollgate_store::packed::pack`]).
    fn commit_packed(&self, packed: Vec<u8>) -> Answered;

    /// Hands over commits and answers them, for as long as it is polled.
    fn run(&self) -> impl Future<Output = ()>;
}

/// The answer to a commit, once there is one; `None` if that took longer than a caller waits.
#[derive(Debug)]
#[must_use = "a commit without its answer may or may not have happened"]
pub struct Answered(oneshot::Receiver<Answer>);

impl Answered {
    /// An answer that will come over this channel.
    pub(crate) fn by(answer: oneshot::Receiver<Answer>) -> Self {
        Self(answer)
    }

    /// An answer that is known already.
    pub(crate) fn now(answer: Answer) -> Self {
        let (sender, receiver) = oneshot::channel();
        // It is in the other hand.
        _ = sender.send(answer);
        Self(receiver)
    }
}

impl Future for Answered {
    type Output = Option<Answer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}
