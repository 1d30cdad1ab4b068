//! The rules as a machine: every call of the contract, in steps that say what they wait for.
//!
//! The rules are `async fn`s over the ports ([`crate::limiter::check`], and `handle` of each component). A
//! request that need not wait is answered in one plain call ([`Machine::start`]). A rule that has to wait is
//! kept here as a future, and the caller is told what it waits for ([`Call`]). The caller waits, in whatever
//! way is cheapest for it, and gives the [`Reply`] to [`Machine::resume`]. So neither side needs an executor.
//!
//! A host runs two groups of machines. The first group receives every request and charges it. It answers the
//! hot path, the calls that a crowd makes: redirects, claims and sign-ups. It admits everything else, which
//! the other group answers ([`Stage::Admitted`]), so that a long list or a trap delays no redirect.
//!
//! A redirect is first tried on ports that answer at once or never. That is sound because in our rules the
//! effect (a take, a commit, a defer) comes after the last wait. A rule that did not finish there has done
//! nothing, and runs anew.

mod ports;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::heads;
use crate::limiter::{self, Verdict};
use crate::links::Place;
use crate::links::stats::{ROUND, Round};
use crate::settings::Settings;
use crate::world::World;
use crate::{admin, campaigns, forward, links, quotas};
use tollgate_api::calls;
use tollgate_api::components::Component;
use tollgate_api::http::{Header, Request};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::plan::coalescer::{Coalescer, Note};

use ports::{Asking, Immediate, poll_once};

/// Rules that may wait at once.
pub const MAX_TASKS: usize = 4_096;
/// Bytes of request bodies that waiting rules may hold together.
pub const MAX_BODIES: usize = 16 << 20;

/// What memory makes of a take.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken<Asked, Told> {
    /// It is decided.
    Decided(Result<Told, TakeError>),
    /// Another decides: nothing was taken, and [`Call::Take`] asks for it.
    Elsewhere(Asked),
}

/// The part of the store and the buckets that a host can answer without waiting; `interface memory` in
/// `wit/edge.wit`.
pub trait Memory {
    /// Takes every cost or none.
    fn take(&self, buckets: Vec<Bucket>) -> Taken<Vec<Bucket>, Vec<Level>>;
    /// The same of one bucket; refused, it has one level.
    fn take_one(&self, bucket: Bucket) -> Taken<Bucket, Level>;
    /// The key's entry (`Some(None)`: it is absent), or `None` where memory does not know.
    fn get(&self, key: &str) -> Option<Option<Entry>>;
    /// The entries of several keys, at one moment, or `None` where memory does not know one of them.
    fn get_all(&self, keys: &[String]) -> Option<Vec<Option<Entry>>>;
    /// See [`tollgate_store::ports::Store::defer`], for each.
    fn defer(&self, commits: Vec<Commit>);
}

/// A call to the host that a rule waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// [`tollgate_store::ports::Store::commit`].
    Commit(Commit),
    /// The same, by [`tollgate_store::packed::pack`]: for a caller that hands it on to where it is decided.
    Packed(Vec<u8>),
    /// [`tollgate_store::ports::Store::commit_each`].
    Commits(Vec<Commit>),
    /// The same, each packed.
    PackedEach(Vec<Vec<u8>>),
    /// [`tollgate_store::ports::Store::get`] of these keys, all of one partition.
    Get(Vec<String>),
    /// [`tollgate_store::ports::Store::scan`].
    Scan {
        /// The prefix of keys.
        prefix: String,
        /// The key before the first.
        after: Option<String>,
        /// The most entries.
        limit: u32,
    },
    /// [`tollgate_store::ports::Store::read`].
    Read {
        /// The topic.
        topic: String,
        /// The sequence before the first.
        after: u64,
        /// The most messages.
        limit: u32,
        /// How long to wait for the first, milliseconds.
        wait: u32,
    },
    /// [`tollgate_store::ports::Store::topics`].
    Topics {
        /// The name before the first.
        after: Option<String>,
        /// The most topics.
        limit: u32,
    },
    /// [`tollgate_store::ports::Store::settle`].
    Settle,
    /// [`tollgate_store::ports::Buckets::take`], where [`Memory`] does not decide it.
    Take(Vec<Bucket>),
    /// [`tollgate_store::ports::Outbound::post`].
    Post {
        /// Where to.
        url: String,
        /// The form.
        form: String,
    },
    /// The body of the request; with what quotas have counted it for ([`quotas::HELD`]), which the host gives back where the body cannot
    /// be had.
    Body(Option<String>),
}

/// The answer to a [`Call`], of the same kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Call::Commit`] or [`Call::Packed`].
    Commit(Result<Outcome, StoreError>),
    /// To [`Call::Commits`] or [`Call::PackedEach`]: one for each.
    Commits(Vec<Result<Outcome, StoreError>>),
    /// To [`Call::Get`].
    Get(Result<Vec<Option<Entry>>, StoreError>),
    /// To [`Call::Scan`].
    Scan(Result<Vec<Item>, StoreError>),
    /// To [`Call::Read`].
    Read(Result<Vec<Message>, StoreError>),
    /// To [`Call::Topics`].
    Topics(Result<Vec<Topic>, StoreError>),
    /// To [`Call::Settle`].
    Settle(Result<(), StoreError>),
    /// To [`Call::Take`].
    Take(Result<Vec<Level>, TakeError>),
    /// To [`Call::Post`].
    Post(Result<Vec<u8>, String>),
    /// To [`Call::Body`]; within the adapter's bound.
    Body(Vec<u8>),
}

/// How far a request has come; `stage` in the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No machine has looked at it: it is charged, and answered if it is on the hot path.
    Arrived,
    /// Another machine has charged and admitted it: it is answered.
    Admitted,
}

/// How far a call of the machine has brought a request; `step` in the WIT.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// This is the response.
    Done(heads::Response),
    /// It was charged and admitted, and is not on the hot path; these headers (see [`heads::headers`]) belong on its
    /// response.
    Admitted(Vec<u8>),
    /// The rule waits, under this number. The caller owes it a reply, or its end ([`Machine::cancel`]).
    Waits(u32, Call),
    /// As many rules wait as may. Nothing was done but the charge.
    Busy,
}

/// The rule that answers a request, and how it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    component: Component,
    /// Whether it is on the hot path: a call that a crowd makes.
    is_hot: bool,
    /// Whether its body may be larger than others, so that it is only admitted from who may send it.
    is_bulk: bool,
    /// Whether it is a redirect, which most often need not wait, and never takes a body.
    is_redirect: bool,
}

/// The settings that requests are judged by, and the source of randomness.
struct Rules {
    settings: Settings,
    fresh: fn() -> [u8; 16],
}

/// A [`Memory`], and the changes deferred to it that are still being combined.
#[derive(Clone)]
struct Near<M> {
    memory: M,
    deferred: Rc<RefCell<Coalescer>>,
    /// What memory said of it at the last flush.
    takes_notes: Rc<Cell<bool>>,
}

impl<M: Memory> Near<M> {
    fn get(&self, keys: &[String]) -> Option<Vec<Option<Entry>>> {
        match keys {
            [key] => self.memory.get(key).map(|found| vec![found]),
            _ => self.memory.get_all(keys),
        }
    }

    fn get_each(&self, keys: &[String]) -> Option<Vec<Option<Entry>>> {
        keys.iter().map(|key| self.memory.get(key)).collect()
    }

    fn defer_again(&self, partition: &str, mark: u64) -> bool {
        self.deferred.borrow_mut().again(partition, mark)
    }

    fn defer(&self, commit: Commit, mark: Option<u64>, note: Option<Note>) {
        let handed_on = self.deferred.borrow_mut().add(commit, mark, note);
        if !handed_on.is_empty() {
            self.memory.defer(handed_on);
        }
    }
}

/// The rules on a [`Memory`], and those that wait.
pub struct Machine<M> {
    rules: Rc<Rules>,
    near: Near<M>,
    tasks: Vec<Option<Task>>,
    free: Vec<u32>,
    bodies: usize,
    /// When the last request began, Unix milliseconds.
    now: u64,
}

/// A rule that waits.
struct Task {
    future: Pin<Box<dyn Future<Output = Step>>>,
    exchange: Rc<RefCell<Exchange>>,
    body: usize,
}

/// The exchange between a rule and its host.
#[derive(Default)]
enum Exchange {
    #[default]
    Quiet,
    Asked(Call),
    Replied(Reply),
}

impl<M: Memory + Clone + 'static> Machine<M> {
    /// The rules under these settings. `fresh`: sixteen unpredictable bytes, different on every call.
    pub fn new(settings: Settings, memory: M, fresh: fn() -> [u8; 16]) -> Self {
        Self {
            rules: Rc::new(Rules { settings, fresh }),
            near: Near {
                memory,
                deferred: Rc::default(),
                takes_notes: Rc::new(Cell::new(true)),
            },
            tasks: Vec::new(),
            free: Vec::new(),
            bodies: 0,
            now: 0,
        }
    }

    /// Judges requests by these settings from now on; those that wait go on under the settings that they began with.
    pub fn configure(&mut self, mut settings: Settings) {
        settings.policies.go_on_from(&self.rules.settings.policies);
        settings.keep_run_time(&self.rules.settings);
        self.rules = Rc::new(Rules {
            settings,
            fresh: self.rules.fresh,
        });
    }

    /// Judges requests by what is set over the API from now on: `record` is what [`crate::run_time::entry`] holds, empty for none.
    ///
    /// # Errors
    /// It is damaged; nothing has changed.
    pub fn set_run_time(&mut self, record: &[u8]) -> Result<(), String> {
        let mut settings = self.rules.settings.clone();
        settings.set_run_time(record)?;
        self.rules = Rc::new(Rules {
            settings,
            fresh: self.rules.fresh,
        });
        Ok(())
    }

    /// Charges a request, and answers it as far as that needs no waiting. `head`: see [`heads::head`]; `body_follows`
    /// says that there is a body. `now`: Unix milliseconds.
    pub fn start(&mut self, head: &[u8], now: u64, body_follows: bool, stage: Stage) -> Step {
        self.now = now;
        let Some(request) = heads::request(head) else {
            let problem = Problem::new(Kind::Internal, "The request did not arrive whole.");
            return Step::Done(problem.into_response().into());
        };
        if stage == Stage::Admitted {
            return self.spawn(request, now, body_follows, stage, Some(Vec::new()));
        }
        let rules = Rc::clone(&self.rules);
        let port = Immediate(self.near.clone());
        let world = rules.world(&port, now);
        // What would take tokens before it waits for a commit is not tried: it would take them twice.
        let tried = match limiter::takes_a_commit(&rules.settings, &request) {
            true => None,
            false => poll_once(limiter::check(&world, &port, &request)),
        };
        let added = match tried {
            Some(Verdict::Admit(added)) => Some(added),
            Some(Verdict::Answer(response)) => return Step::Done(response.into()),
            None => None,
        };
        if let Some(added) = &added {
            let rule = rules.rule(&request);
            if !rule.is_hot && !rule.is_bulk {
                return Step::Admitted(heads::headers(added));
            }
            if rule.is_redirect
                && let Some(segment) = calls::one_segment(&request.path)
                && let Some(answered) = poll_once(links::follow(&world, &request, segment, Place::Crowd))
            {
                let Some(mut response) = answered else {
                    return Step::Admitted(heads::headers(added));
                };
                response.headers.extend_from_slice(added);
                return Step::Done(response.into());
            }
        }
        self.spawn(request, now, body_follows, stage, added)
    }

    /// Goes on with a rule that waited. A number that nobody waits under is [`Step::Busy`].
    pub fn resume(&mut self, number: u32, reply: Reply) -> Step {
        let Some(mut task) = self.take(number) else {
            return Step::Busy;
        };
        if let Reply::Body(body) = &reply {
            if self.bodies + body.len() > MAX_BODIES {
                self.free.push(number);
                return Step::Busy;
            }
            task.body = body.len();
        }
        task.exchange.replace(Exchange::Replied(reply));
        self.poll(number, task)
    }

    /// Gives up a waiting rule: its caller has gone.
    pub fn cancel(&mut self, number: u32) {
        if self.take(number).is_some() {
            self.free.push(number);
        }
    }

    /// Hands on the changes deferred so far; to be called soon after any other call.
    pub fn flush(&mut self) {
        let mut deferred = self.near.deferred.take();
        // Of notes that nobody makes, nobody asks.
        if deferred.has_notes() || !self.near.takes_notes.get() {
            let round = self.near.memory.get(ROUND).flatten();
            self.near.takes_notes.set(!Round::of(round.as_ref()).is_full());
        }
        let deferred = deferred.take();
        if !deferred.is_empty() {
            self.near.memory.defer(deferred);
        }
    }

    /// See [`crate::settings::Settings::decisions`].
    pub fn decisions(&self) -> Vec<u64> {
        self.rules.settings.decisions()
    }

    /// A line for the log, if there is something to say; see [`crate::policies::Policies::shadow_report`].
    pub fn report(&self) -> Option<String> {
        self.rules.settings.policies.shadow_report(self.now, u64::MAX)
    }

    fn spawn(
        &mut self,
        request: Request,
        now: u64,
        body_follows: bool,
        stage: Stage,
        added: Option<Vec<Header>>,
    ) -> Step {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.tasks.len() < MAX_TASKS => {
                self.tasks.push(None);
                u32::try_from(self.tasks.len() - 1).unwrap_or(u32::MAX)
            }
            None => return Step::Busy,
        };
        let exchange = Rc::new(RefCell::default());
        let port = Asking {
            near: self.near.clone(),
            exchange: Rc::clone(&exchange),
        };
        let rules = Rc::clone(&self.rules);
        let future =
            Box::pin(async move { rules.run(&port, request, now, body_follows, stage, added).await });
        let task = Task {
            future,
            exchange,
            body: 0,
        };
        self.poll(number, task)
    }

    fn take(&mut self, number: u32) -> Option<Task> {
        let task = self.tasks.get_mut(number as usize)?.take()?;
        self.bodies -= task.body;
        Some(task)
    }

    fn poll(&mut self, number: u32, mut task: Task) -> Step {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(step) = task.future.as_mut().poll(&mut context) {
            self.free.push(number);
            return step;
        }
        match task.exchange.take() {
            Exchange::Asked(call) => {
                self.bodies += task.body;
                if let Some(slot) = self.tasks.get_mut(number as usize) {
                    *slot = Some(task);
                }
                Step::Waits(number, call)
            }
            // No rule waits for anything but its ports.
            Exchange::Quiet | Exchange::Replied(_) => {
                self.free.push(number);
                Step::Busy
            }
        }
    }
}

impl Rules {
    fn world<'a, S>(&'a self, store: &'a S, now: u64) -> World<'a, S> {
        World {
            store,
            settings: &self.settings,
            now,
            fresh: &self.fresh,
        }
    }

    fn rule(&self, request: &Request) -> Rule {
        let (method, path) = (&*request.method, request.path.as_str());
        let component = self.settings.component(path);
        let is_hot = calls::is_hot(component, method, path);
        Rule {
            component,
            is_hot,
            is_bulk: !is_hot && calls::is_bulk(path),
            is_redirect: is_hot && component == Component::Shortener,
        }
    }

    /// A request from where [`Machine::start`] left it: `added` is what the limiter added, if it has
    /// judged.
    async fn run<M: Memory>(
        &self,
        port: &Asking<M>,
        mut request: Request,
        now: u64,
        body_follows: bool,
        stage: Stage,
        added: Option<Vec<Header>>,
    ) -> Step {
        let world = self.world(port, now);
        let rule = self.rule(&request);
        let arrived = stage == Stage::Arrived;
        let added = match added {
            Some(added) => added,
            None => match limiter::check(&world, port, &request).await {
                Verdict::Admit(added) => added,
                Verdict::Answer(response) => return Step::Done(response.into()),
            },
        };
        if arrived && !rule.is_hot {
            if rule.is_bulk {
                let may_send = match rule.component {
                    Component::Coupon => campaigns::may_send_many(&world, &request).await,
                    _ => links::may_send_many(&world, &request).await,
                };
                if let Err(problem) = may_send {
                    let mut response = problem.into_response();
                    response.headers.extend(added);
                    return Step::Done(response.into());
                }
            }
            return Step::Admitted(heads::headers(&added));
        }
        if body_follows
            && !rule.is_redirect
            && let Reply::Body(body) = port.ask(Call::Body(held(&added))).await
        {
            request.body = body;
        }
        let segment = calls::one_segment(&request.path).filter(|_| arrived && rule.is_redirect);
        let mut response = match (rule.component, segment) {
            (_, Some(segment)) => match links::follow(&world, &request, segment, Place::Crowd).await {
                Some(response) => response,
                None => return Step::Admitted(heads::headers(&added)),
            },
            (Component::Shortener, None) => links::handle(&world, &request).await,
            (Component::Coupon, None) => campaigns::handle(&world, &request).await,
            (Component::Forward, None) => forward::handle(&world, &request).await,
            // Boxed to keep the future of a claim small.
            (Component::Admin, None) => Box::pin(admin::handle(&world, port, &request)).await,
        };
        response.headers.extend(added);
        Step::Done(response.into())
    }
}

/// The reservation among what the limiter added.
fn held(added: &[Header]) -> Option<String> {
    let held = added.iter().find(|header| header.name == quotas::HELD)?;
    String::from_utf8(held.value.clone()).ok()
}
