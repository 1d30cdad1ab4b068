//! A writer: takes a group of its own lanes, carries it out, shows it, answers it. What became of a COMMIT whose answer was
//! lost is read from the writer's own row, which the transaction held since its first flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_store::commit::{Outcome, StoreError};

use super::Shared;
use super::connect::{Session, told};
use super::flight::{self, Failure, Own, Statements, Written};
use super::queue::Waiting;

/// How often a group is tried.
const TRIES: u32 = 12;
/// How long it is tried to learn what became of a COMMIT.
const RESOLVE: Duration = Duration::from_secs(20);
/// How long the database may take to connect, to undo, or to look at one row, before the connection counts as lost. More than
/// a session waits for a lock.
const ANSWER: Duration = Duration::from_secs(6);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(250);

type Outcomes = Vec<Result<Outcome, StoreError>>;

struct Open {
    session: Session,
    statements: Statements,
}

/// One of a gateway's writers.
pub struct Writer {
    shared: Arc<Shared>,
    /// Its place among them.
    place: usize,
    open: Option<Open>,
    id: Option<String>,
    number: i64,
}

impl Writer {
    /// One that is not connected yet.
    pub fn new(shared: Arc<Shared>, place: usize) -> Self {
        Self {
            shared,
            place,
            open: None,
            id: None,
            number: 0,
        }
    }

    /// Until the queue is closed and empty.
    pub async fn run(mut self) {
        while let Some(jobs) = self.shared.queue.take(self.place).await {
            self.shared.counts.commits.add(jobs.len() as u64);
            let outcomes = self.outcomes(&jobs).await;
            self.shared.answer(jobs, outcomes);
        }
        if let (Some(open), Some(id)) = (&self.open, &self.id) {
            let sql = "DELETE FROM tollgate_writers WHERE id = $1";
            _ = tokio::time::timeout(RECONNECT, open.session.client.execute(sql, &[id])).await;
        }
    }

    async fn outcomes(&mut self, jobs: &[Waiting]) -> Outcomes {
        match self.group(jobs).await {
            Ok(outcomes) => outcomes,
            Err(Failure::Refused(why)) if jobs.len() > 1 && self.open.is_some() => {
                // One of them may be what the database does not take: the others need not fail with it.
                tracing::warn!(
                    why,
                    commits = jobs.len(),
                    "a group was refused; its commits are tried one by one"
                );
                let mut outcomes = Vec::with_capacity(jobs.len());
                for one in jobs.chunks(1) {
                    match self.group(one).await {
                        Ok(mut outcome) => outcomes.append(&mut outcome),
                        Err(failure) => outcomes.push(Err(self.failed(failure))),
                    }
                }
                outcomes
            }
            Err(failure) => {
                let error = self.failed(failure);
                jobs.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn failed(&self, failure: Failure) -> StoreError {
        self.shared.counts.failed.add(1);
        match failure {
            Failure::Again(why) | Failure::Refused(why) => {
                tracing::warn!(why, "a group was not written");
                StoreError::Unavailable(why)
            }
            Failure::Lost(why, _) | Failure::Warned(why) => {
                tracing::error!(why, "it is not known what became of a group");
                StoreError::Unknown(why)
            }
        }
    }

    /// Tries a group until it is decided, or cannot be.
    async fn group(&mut self, jobs: &[Waiting]) -> Result<Outcomes, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let at = self.shared.moment();
            let failure = match self.once(jobs).await {
                Ok(written) => return Ok(self.shared.show(written, at)),
                Err(Failure::Lost(why, written)) => match self.resolve().await {
                    Some(true) => return Ok(self.shared.show(*written, at)),
                    Some(false) => Failure::Again(why),
                    None => return Err(Failure::Lost(why, written)),
                },
                Err(failure) => failure,
            };
            self.shared.counts.retries.add(1);
            if let Some(open) = &self.open {
                match open.session.client.is_closed() {
                    true => self.open = None,
                    false => {
                        let undone =
                            tokio::time::timeout(ANSWER / 6, open.session.client.batch_execute("ROLLBACK"));
                        // Perhaps what was asked before still stands before it.
                        if undone.await.is_err() {
                            self.open = None;
                        }
                    }
                }
            }
            match failure {
                Failure::Again(_) if tries < TRIES && self.shared.queue.away().is_none() => {
                    // So that two who meet do not meet again.
                    let millis = u64::from(tries) * (1 + self.shared.moment().number % 5);
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
                failure => return Err(failure),
            }
        }
    }

    async fn once(&mut self, jobs: &[Waiting]) -> Result<Written, Failure> {
        self.connect().await?;
        let (Some(open), Some(id)) = (&self.open, &self.id) else {
            return Err(Failure::Again("there is no connection".into()));
        };
        self.number += 1;
        let own = Own {
            id,
            number: self.number,
        };
        let shared = &self.shared;
        let began = Instant::now();
        let ahead = shared.ahead();
        let done = flight::carry_out(&open.session, &open.statements, own, jobs, shared.lanes, ahead).await;
        if let Err(Failure::Again(why)) = &done
            && why.contains("row is gone")
        {
            self.id = None;
        }
        if done.as_ref().is_ok_and(|written| written.dirty) {
            shared.counts.groups.add(1);
            shared.counts.group_commits.add(jobs.len() as u64);
            shared
                .counts
                .syncs
                .add(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        done
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let connected = tokio::time::timeout(ANSWER, self.connected()).await;
        connected.unwrap_or_else(|_| Err(Failure::Again("the database does not answer".into())))
    }

    async fn connected(&mut self) -> Result<(), Failure> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.session.client.is_closed())
        {
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let again = |error: tokio_postgres::Error| Failure::Again(told(&error));
                let session = Session::open(&self.shared.address).await.map_err(again)?;
                let statements = Statements::prepare(&session.client).await.map_err(again)?;
                Open { session, statements }
            }
        };
        if self.id.is_none() {
            let sql = "INSERT INTO tollgate_writers (id, number, seen)
                 VALUES (gen_random_uuid()::text, 0, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) RETURNING id";
            let row = open.session.client.query_one(sql, &[]).await;
            self.id = Some(row.map_err(|error| Failure::Again(told(&error)))?.get(0));
            self.number = 0;
        }
        self.open = Some(open);
        Ok(())
    }

    /// What became of the group whose COMMIT was not answered; `None` if that cannot be learned. The row is locked by the
    /// transaction for as long as that lives, so the answer is final.
    async fn resolve(&mut self) -> Option<bool> {
        let until = Instant::now() + RESOLVE;
        self.open = None;
        while Instant::now() < until {
            if self.connect().await.is_ok()
                && let (Some(open), Some(id)) = (&self.open, &self.id)
            {
                let sql = "SELECT number FROM tollgate_writers WHERE id = $1 FOR UPDATE";
                let told_in_time =
                    tokio::time::timeout(ANSWER, open.session.client.query_opt(sql, &[id])).await;
                let Ok(answer) = told_in_time else {
                    self.open = None;
                    continue;
                };
                match answer {
                    Ok(Some(row)) => {
                        self.shared.counts.resolved.add(1);
                        let is_done = row.get::<_, i64>(0) == self.number;
                        tracing::info!(is_done, "it was learned what became of a group");
                        return Some(is_done);
                    }
                    Ok(None) => return None,
                    Err(error) => {
                        tracing::debug!(error = told(&error), "what became of a group is asked again")
                    }
                }
            }
            tokio::time::sleep(RECONNECT).await;
        }
        None
    }
}
