//! Commits of an instance that travel together, as one statement: one transaction, one wait for the disk. Nobody waits for others to
//! come; but everything of the instance that can run does so first, since a statement holds it up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use tollgate_store::commit::{Commit, Committed};
use tollgate_store::encoded::encode_all;
use tollgate_store::plan;

use crate::database::{Database, Failure, Purpose, Value, Way, run};
use crate::{sql, verdict};

/// The most commits of one statement, and the most bytes of more than one.
const MAX_COMMITS: usize = 32;
const MAX_BYTES: usize = 1 << 20;
/// Between two looks at what became of a commit that somebody else writes while the database is busy, milliseconds.
const AGAIN_MS: u64 = 5;

/// What became of a commit; `None`: nothing, another host has the database.
type Done = Result<Option<Committed>, Failure>;

/// A commit, until it is taken to the database, and then what became of it.
enum Job {
    Waits(Commit),
    IsAway,
    Done(Done),
}

type Shared = Rc<RefCell<Job>>;

/// Who waits keeps its job; a job of which nobody waits is left out.
#[derive(Default)]
pub struct Batcher {
    waiting: RefCell<VecDeque<Weak<RefCell<Job>>>>,
    /// Somebody writes, for itself and for others.
    is_writing: Cell<bool>,
}

impl Batcher {
    /// Carries out a commit that was validated.
    pub async fn commit<D: Database>(&self, database: &D, commit: Commit) -> Done {
        let job = Rc::new(RefCell::new(Job::Waits(commit)));
        self.waiting.borrow_mut().push_back(Rc::downgrade(&job));
        loop {
            database.give_way().await;
            while matches!(*job.borrow(), Job::Waits(_)) && !self.is_writing.get() {
                self.write(database).await;
            }
            if matches!(*job.borrow(), Job::Done(_))
                && let Job::Done(done) = job.replace(Job::IsAway)
            {
                return done;
            }
            // Tasks of a component cannot wake each other in every version of its runtime.
            database.pause(AGAIN_MS).await;
        }
    }

    /// Takes what waits to the database, as much as goes together.
    async fn write<D: Database>(&self, database: &D) {
        let batch = self.take();
        let commits = &batch.commits;
        match write(database, commits).await {
            Err(refused) if commits.len() > 1 && verdict::is_refusal(&refused) => {
                // One was, and which is not said: the others need not be.
                for (job, commit) in batch.jobs.iter().zip(commits) {
                    let alone = write(database, std::slice::from_ref(commit)).await;
                    job.replace(Job::Done(alone.map(|mut all| all.pop().flatten())));
                }
            }
            Err(failure) => {
                for job in &batch.jobs {
                    job.replace(Job::Done(Err(failure.clone())));
                }
            }
            Ok(all) => {
                for (job, done) in batch.jobs.iter().zip(all) {
                    job.replace(Job::Done(Ok(done)));
                }
            }
        }
    }

    fn take(&self) -> Batch<'_> {
        let (mut jobs, mut commits, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut waiting = self.waiting.borrow_mut();
        while commits.len() < MAX_COMMITS
            && let Some(job) = waiting.pop_front()
        {
            let Some(job) = job.upgrade() else { continue };
            let Job::Waits(commit) = job.replace(Job::IsAway) else {
                continue;
            };
            bytes += plan::measure(&commit).unwrap_or(MAX_BYTES);
            if bytes > MAX_BYTES && !commits.is_empty() {
                job.replace(Job::Waits(commit));
                waiting.push_front(Rc::downgrade(&job));
                break;
            }
            jobs.push(job);
            commits.push(commit);
        }
        self.is_writing.set(true);
        Batch {
            batcher: self,
            jobs,
            commits,
        }
    }
}

/// What was taken, in order.
struct Batch<'a> {
    batcher: &'a Batcher,
    jobs: Vec<Shared>,
    commits: Vec<Commit>,
}

impl Drop for Batch<'_> {
    /// Whoever leaves while the database is busy has done nothing for the others yet: they wait again.
    fn drop(&mut self) {
        self.batcher.is_writing.set(false);
        let mut waiting = self.batcher.waiting.borrow_mut();
        for (job, commit) in self.jobs.drain(..).zip(self.commits.drain(..)).rev() {
            if matches!(*job.borrow(), Job::IsAway) {
                job.replace(Job::Waits(commit));
                waiting.push_front(Rc::downgrade(&job));
            }
        }
    }
}

/// In one statement: all of them, or none.
async fn write<D: Database>(database: &D, commits: &[Commit]) -> Result<Vec<Option<Committed>>, Failure> {
    let (bodies, bytes) = encode_all(commits);
    let mut all = vec![None; commits.len()];
    let mut keep = |row| {
        let (place, committed) = verdict::committed(row)?;
        if let Some(slot) = all.get_mut(place) {
            *slot = Some(committed);
        }
        Ok(true)
    };
    let parameters = vec![Value::Text(bodies), Value::Blob(bytes)];
    let how = (Purpose::Durable, Way::Now);
    run(database, how, sql::COMMIT, parameters, &mut keep).await?;
    Ok(all)
}
