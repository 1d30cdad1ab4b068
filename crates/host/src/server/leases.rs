//! Leases that are asked for at once share a call of the rules. A lease of a consumer group begins where the one before it ended, so it
//! waits until that one is on disk. Requests that come meanwhile wait too, and then the next call leases for all of them.
//!
//! They are alike: of one group, by one key, for the same time. Each gets messages up to its own limit, in the order in which they came. One
//! that nothing is left for is served by the call after that, unless there was nothing at all.

use super::generation::Generation;
use super::rest::Rest;
use super::runner::CallError;
use crate::traces::RuleTrace;
use hyper::header::HeaderValue;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tollgate_rules::groups::{LeaseWish, MAX_LEASED, join_leases, split_leases};
use tollgate_rules::heads;

/// Requests for leases of one group that may wait; beyond it they are refused.
const MAX_WAITING: usize = 4_096;

/// What requests have in common that share a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alike {
    /// The path of the call.
    pub path: String,
    /// The caller's credential.
    pub authorization: Option<HeaderValue>,
    /// For how long; see [`LeaseWish`].
    pub seconds: Option<u64>,
}

/// A request for leases that was admitted.
pub struct Asked {
    /// The settings that it was admitted under.
    pub generation: Arc<Generation>,
    /// As [`Rest::answer`] takes it.
    pub head: Vec<u8>,
    /// The trace of its call, if it is one that is traced.
    pub trace: Option<Box<RuleTrace>>,
}

struct Waiting<A = Asked> {
    /// The most messages that it gets.
    limit: usize,
    asked: A,
    tell: oneshot::Sender<Result<heads::Response, CallError>>,
}

/// The requests that wait, by what they have in common. There is an entry while a call is under way.
pub struct Leases<A = Asked> {
    waiting: Mutex<HashMap<Alike, VecDeque<Waiting<A>>>>,
}

impl<A> Default for Leases<A> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
        }
    }
}

impl Leases {
    /// The answer to a request. Goes on for others if its caller has gone.
    ///
    /// # Errors
    /// Those of [`Rest::answer`].
    pub async fn answer(
        self: &Arc<Self>,
        rest: &Arc<Rest>,
        alike: Alike,
        limit: usize,
        asked: Asked,
    ) -> Result<heads::Response, CallError> {
        let (tell, told) = oneshot::channel();
        let patience = asked.generation.request_timeout();
        let waiting = Waiting { limit, asked, tell };
        if let Some(rounds) = self.line_up(alike, waiting)? {
            tokio::spawn(rounds.run(Arc::clone(rest)));
        }
        match timeout(patience, told).await {
            Ok(told) => told.unwrap_or(Err(CallError::Ended)),
            Err(_) => Err(CallError::TimedOut),
        }
    }
}

impl<A> Leases<A> {
    /// `Some`: nobody makes calls for those who wait.
    fn line_up(self: &Arc<Self>, alike: Alike, waiting: Waiting<A>) -> Result<Option<Rounds<A>>, CallError> {
        let mut all = self.all();
        if let Some(line) = all.get_mut(&alike) {
            if line.len() >= MAX_WAITING {
                return Err(CallError::Busy);
            }
            line.push_back(waiting);
            return Ok(None);
        }
        all.insert(alike.clone(), VecDeque::from([waiting]));
        Ok(Some(Rounds {
            leases: Arc::clone(self),
            alike,
            is_over: false,
        }))
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Alike, VecDeque<Waiting<A>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls for requests that are alike, one after the other.
struct Rounds<A = Asked> {
    leases: Arc<Leases<A>>,
    alike: Alike,
    is_over: bool,
}

impl Rounds {
    async fn run(mut self, rest: Arc<Rest>) {
        while let Some(mut together) = self.next() {
            let limit = together.iter().map(|one| one.limit).sum();
            let seconds = self.alike.seconds;
            let body = LeaseWish { limit, seconds }.to_body();
            let Some(first) = together.first_mut().map(|one| &mut one.asked) else {
                return;
            };
            let (head, trace) = (first.head.clone(), first.trace.take());
            let answer = rest.answer(&first.generation, head, body, trace, false).await;
            let left = share(answer, together);
            if let Some(line) = self.leases.all().get_mut(&self.alike) {
                left.into_iter().rev().for_each(|one| line.push_front(one));
            }
        }
    }
}

impl<A> Rounds<A> {
    /// Those whose call is the next one; `None` if nobody waits, and then there is no entry any more.
    fn next(&mut self) -> Option<Vec<Waiting<A>>> {
        let mut all = self.leases.all();
        let line = all.get_mut(&self.alike)?;
        // Who has gone wants nothing.
        line.retain(|waiting| !waiting.tell.is_closed());
        let (mut limit, mut together) = (0, Vec::new());
        while let Some(next) = line.front()
            && (together.is_empty() || limit + next.limit <= MAX_LEASED)
        {
            limit += next.limit;
            together.extend(line.pop_front());
        }
        if together.is_empty() {
            all.remove(&self.alike);
            self.is_over = true;
            return None;
        }
        Some(together)
    }
}

impl<A> Drop for Rounds<A> {
    /// Nobody waits for calls that nobody makes any more.
    fn drop(&mut self) {
        if !self.is_over {
            self.leases.all().remove(&self.alike);
        }
    }
}

/// Tells each its share. Gives back those that nothing was left for, though there was something for others.
fn share<A>(answer: Result<heads::Response, CallError>, together: Vec<Waiting<A>>) -> Vec<Waiting<A>> {
    let leases = match &answer {
        Ok(response) if response.status == 200 && together.len() > 1 => split_leases(&response.body),
        _ => Vec::new(),
    };
    let there_are_some = !leases.is_empty();
    let (mut leases, mut left) = (leases.into_iter().peekable(), Vec::new());
    for one in together {
        if one.tell.is_closed() {
            continue;
        }
        if there_are_some && leases.peek().is_none() {
            left.push(one);
            continue;
        }
        let answer = match &answer {
            Ok(response) if there_are_some => {
                let share: Vec<_> = leases.by_ref().take(one.limit).collect();
                Ok(heads::Response {
                    status: response.status,
                    headers: response.headers.clone(),
                    body: join_leases(&share),
                })
            }
            answer => answer.clone(),
        };
        let _ = one.tell.send(answer);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = oneshot::Receiver<Result<heads::Response, CallError>>;

    fn waiting(limit: usize) -> (Waiting<()>, Told) {
        let (tell, told) = oneshot::channel();
        let asked = ();
        (Waiting { limit, asked, tell }, told)
    }

    fn alike(path: &str) -> Alike {
        Alike {
            path: path.to_owned(),
            authorization: None,
            seconds: None,
        }
    }

    fn answer(body: &str) -> Result<heads::Response, CallError> {
        Ok(heads::Response {
            status: 200,
            headers: b"h".to_vec(),
            body: body.into(),
        })
    }

    fn told(told: &mut Told) -> Option<String> {
        let answer = told.try_recv().ok()?.unwrap();
        assert_eq!((answer.status, &*answer.headers), (200, &b"h"[..]));
        Some(String::from_utf8(answer.body).unwrap())
    }

    #[test]
    fn each_gets_up_to_its_limit_and_who_gets_nothing_waits_on() {
        let ((one, mut first), (two, gone), (three, mut third), (four, mut fourth)) =
            (waiting(2), waiting(2), waiting(2), waiting(2));
        drop(gone);
        let left = share(
            answer(r#"{"leases":[{"a":1},{"a":"]"},{"a":3}]}"#),
            vec![one, two, three, four],
        );
        assert_eq!(told(&mut first).unwrap(), r#"{"leases":[{"a":1},{"a":"]"}]}"#);
        assert_eq!(told(&mut third).unwrap(), r#"{"leases":[{"a":3}]}"#);
        assert_eq!((left.len(), told(&mut fourth)), (1, None));
    }

    #[test]
    fn where_there_is_nothing_all_are_told_so() {
        let ((one, mut first), (two, mut second)) = (waiting(1), waiting(1));
        assert!(share(answer(r#"{"leases":[]}"#), vec![one, two]).is_empty());
        assert_eq!(
            [told(&mut first), told(&mut second)].map(Option::unwrap),
            [r#"{"leases":[]}"#; 2]
        );
        let ((one, mut first), (two, mut second)) = (waiting(1), waiting(1));
        assert!(share(Err(CallError::TimedOut), vec![one, two]).is_empty());
        for told in [&mut first, &mut second] {
            assert_eq!(told.try_recv().unwrap().unwrap_err(), CallError::TimedOut);
        }
    }

    #[test]
    fn those_that_come_meanwhile_share_the_next_call() {
        let leases = Arc::new(Leases::default());
        let mut kept = Vec::new();
        let mut come = |path: &str, limit| {
            let (one, told) = waiting(limit);
            kept.push(told);
            leases.line_up(alike(path), one).unwrap()
        };
        let mut rounds = come("/a", 10).unwrap();
        let _others = come("/b", 10).unwrap();
        let limits = |together: Option<Vec<Waiting<()>>>| {
            together.map(|all| all.iter().map(|one| one.limit).collect::<Vec<_>>())
        };
        assert_eq!(limits(rounds.next()), Some(vec![10]));
        for limit in [600, 300, 100, 1, MAX_LEASED] {
            assert!(come("/a", limit).is_none(), "somebody calls for them");
        }
        assert_eq!(limits(rounds.next()), Some(vec![600, 300, 100]));
        assert_eq!(limits(rounds.next()), Some(vec![1]));
        assert_eq!(limits(rounds.next()), Some(vec![MAX_LEASED]));
        assert_eq!(limits(rounds.next()), None);
        let again = come("/a", 1);
        drop(rounds);
        assert!(come("/a", 1).is_none(), "what is over ends nothing of others");
        drop(again);
        let newest = come("/a", 1);
        let closed = |told: &mut Told| told.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        let last = kept.len() - 1;
        assert!(newest.is_some() && !closed(&mut kept[last]) && closed(&mut kept[last - 1]));
    }
}
