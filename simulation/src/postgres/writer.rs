//! A writer, after `crates/engines/src/postgres/{writer,flight}.rs`: takes a group of its own lanes, carries it out, shows it, answers it.

use std::collections::HashMap;
use std::rc::Rc;

use tollgate_store::cache::Moment;
use tollgate_store::commit::{Outcome, StoreError};
use tollgate_store::lane::before_first;
use tollgate_store::plan::asked::{Looked, Wanted};
use tollgate_store::plan::group::{Found, Group};

use super::database;
use super::network::{self, Question};
use super::queue::Waiting;
use super::transaction::{Answer, Session};
use super::{Gateway, LANES, unavailable};
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::engine::writes_of;

/// How often a group is tried.
const TRIES: u64 = 12;
/// How long it is tried to learn what became of a COMMIT, microseconds. Shorter than in production, so that it happens.
const RESOLVE: u64 = 2_500_000;
/// Between two attempts to connect, microseconds.
const RECONNECT: u64 = 250_000;

type Outcomes = Vec<Result<Outcome, StoreError>>;

/// What has become of a group.
struct Written {
    outcomes: Outcomes,
    known: Vec<(String, Found)>,
    now: u64,
}

/// Why a group was not written.
enum Failure {
    /// Nothing was done.
    Again(&'static str),
    /// COMMIT was asked for, and its answer was lost; what is so if it was done.
    Lost(Box<Written>),
}

struct Writer {
    gateway: Rc<Gateway>,
    session: Option<Rc<Session>>,
    id: Option<u64>,
    number: u64,
}

/// One of a gateway's writers, until the process ends.
pub async fn run(gateway: Rc<Gateway>, place: usize) {
    let mut writer = Writer {
        gateway: Rc::clone(&gateway),
        session: None,
        id: None,
        number: 0,
    };
    loop {
        let jobs = gateway.take(place).await;
        if jobs.len() > 1 {
            gateway.sim.saw(Seen::GroupsOfSeveral);
        }
        let outcomes = writer.group(&jobs).await;
        gateway.answer(jobs.into_iter().zip(outcomes));
    }
}

impl Writer {
    /// Tries a group until it is decided, or cannot be.
    async fn group(&mut self, jobs: &[Waiting]) -> Outcomes {
        let sim = Rc::clone(&self.gateway.sim);
        let all = |error: &StoreError| jobs.iter().map(|_| Err(error.clone())).collect();
        let mut tries = 0;
        loop {
            tries += 1;
            let at = self.gateway.moment();
            let why = match self.once(jobs).await {
                Ok(written) => return self.gateway.show(written, at),
                Err(Failure::Lost(written)) if sim.has(Bug::TakeLostForDone) => {
                    return self.gateway.show(*written, at);
                }
                Err(Failure::Lost(_)) if sim.has(Bug::RetryBlindly) => "an answer was lost",
                Err(Failure::Lost(written)) => match self.resolve().await {
                    Some(true) => return self.gateway.show(*written, at),
                    Some(false) => "an answer was lost",
                    None => {
                        sim.saw(Seen::Unresolved);
                        return all(&StoreError::Unknown("an answer was lost".into()));
                    }
                },
                Err(Failure::Again(why)) => why,
            };
            sim.note(|| format!("gateway {}: {why}", self.gateway.place));
            match &self.session {
                Some(session) if session.is_lost.get() => self.session = None,
                Some(session) => drop(network::ask(&sim, session, Question::Undo).await),
                None => {}
            }
            if tries >= TRIES || self.gateway.is_away() {
                return all(&unavailable(why));
            }
            sim.saw(Seen::Retries);
            sim.executor.sleep(tries * sim.between(1, 5) * 1_000).await;
        }
    }

    async fn once(&mut self, jobs: &[Waiting]) -> Result<Written, Failure> {
        let sim = Rc::clone(&self.gateway.sim);
        let (session, id) = self.connect().await.ok_or(Failure::Again("no connection"))?;
        self.number += 1;
        let wanted = Rc::new(Wanted::of(jobs.iter().map(|job| (job.lane, &job.commit))));
        let own = (id, self.number);
        let look = Question::Look(Rc::clone(&wanted), own);
        let looked = match network::ask(&sim, &session, look).await {
            Answer::Looked(looked) => looked,
            Answer::Refused("a topic is new") => {
                let topics = Question::MakeTopics(wanted.topics.clone());
                network::ask(&sim, &session, topics).await;
                return Err(Failure::Again("a topic is new"));
            }
            Answer::Refused(why) => return Err(Failure::Again(why)),
            _ => return Err(Failure::Again("the connection was lost before COMMIT")),
        };
        let revision = looked.seen.iter().copied().max().unwrap_or(0);
        let first = wanted.lanes.first().copied().unwrap_or(0);
        let read = Looked {
            entries: looked.entries.iter().cloned().collect(),
            topics: looked.topics.iter().cloned().collect(),
            records: looked
                .records
                .iter()
                .map(|record| (record.id.clone(), record.clone()))
                .collect(),
        };
        let before = before_first(revision, first, LANES);
        let mut group = Group::spaced(read, looked.now, before, LANES.into());
        let outcomes = jobs.iter().map(|job| match group.decide(job.commit.clone()) {
            Ok(outcome) => outcome,
            Err(never) => match never {},
        });
        let mut written = Written {
            outcomes: outcomes.collect(),
            known: looked.entries.clone(),
            now: looked.now,
        };
        if !group.is_dirty() {
            return match network::ask(&sim, &session, Question::Undo).await {
                Answer::Done => Ok(written),
                _ => Err(Failure::Again("the connection was lost before COMMIT")),
            };
        }
        let mut changes = writes_of(&group);
        changes.lanes.clone_from(&wanted.lanes);
        changes.by.clone_from(&self.gateway.name);
        let writes = Rc::new(database::writes(changes, &looked));
        let mut known: HashMap<String, Found> = written.known.into_iter().collect();
        let changed = group.into_known().filter(|(_, known)| known.written);
        known.extend(changed.map(|(key, known)| (key, known.found)));
        written.known = known.into_iter().collect();
        written.known.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        match network::ask(&sim, &session, Question::Write(writes)).await {
            Answer::Done => Ok(written),
            Answer::Refused(why) => Err(Failure::Again(why)),
            _ => Err(Failure::Lost(Box::new(written))),
        }
    }

    async fn connect(&mut self) -> Option<(Rc<Session>, u64)> {
        let sim = &self.gateway.sim;
        let session = match self.session.take().filter(|session| !session.is_lost.get()) {
            Some(session) => session,
            None => network::connect(sim, self.gateway.place).await?,
        };
        if self.id.is_none() {
            match network::ask(sim, &session, Question::MakeWriter).await {
                Answer::Number(id) => (self.id, self.number) = (id, 0),
                _ => return None,
            }
        }
        self.session = Some(Rc::clone(&session));
        Some((session, self.id?))
    }

    /// What became of the group whose COMMIT was not answered; `None` if that cannot be learned. The row is locked by the
    /// transaction for as long as that lives, so the answer is final.
    async fn resolve(&mut self) -> Option<bool> {
        let sim = Rc::clone(&self.gateway.sim);
        let until = sim.executor.now() + RESOLVE;
        self.session = None;
        while sim.executor.now() < until {
            if let Some((session, id)) = self.connect().await {
                match network::ask(&sim, &session, Question::Own(id)).await {
                    Answer::Number(Some(number)) => {
                        let is_done = number == self.number;
                        sim.saw(if is_done {
                            Seen::ResolvedDone
                        } else {
                            Seen::ResolvedUndone
                        });
                        sim.note(|| format!("gateway {}: its group was done: {is_done}", self.gateway.place));
                        return Some(is_done);
                    }
                    Answer::Number(None) => return None,
                    _ => {}
                }
                if session.is_lost.get() || session.is_ended.get() {
                    self.session = None;
                }
            }
            sim.executor.sleep(RECONNECT).await;
        }
        None
    }
}

impl Gateway {
    /// Shows what a group found and wrote to readers.
    fn show(&self, written: Written, moment: Moment) -> Outcomes {
        let Written { outcomes, known, now } = written;
        self.latest.set(self.latest.get().max(now));
        for (key, found) in known {
            self.showed(&key, &found);
            self.cache.publish(&key, found, moment);
        }
        self.wake_tails();
        outcomes
    }
}
