//! The fast path: the calls that a crowd makes (a redirect, a claim, a sign-up, and the limiter's verdict before each),
//! run without a task, a fiber or a channel of the host.
//!
//! The rules are the ordinary ones: [`crate::limiter::check`], [`crate::links::handle`], [`crate::campaigns::handle`],
//! [`crate::forward::handle`]. What needs no waiting is answered in one plain call ([`FastPath::start`]). A rule that has
//! to wait is kept here as a future, and the caller is told what it waits for ([`Call`]); the caller waits, in whatever way
//! is cheapest for it, and gives the [`Reply`] to [`FastPath::resume`]. So neither side needs an executor.
//!
//! A redirect is first tried on ports that answer at once or never. That is sound because in our rules the effect (a
//! take, a commit, a submit) comes after the last wait: a rule that did not finish there has done nothing, and runs anew.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::bucket::{Bucket, Level, TakeError};
use crate::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use crate::http::{Header, Request};
use crate::limiter::{self, Verdict};
use crate::packed;
use crate::plan::combined::Combined;
use crate::ports::{Buckets, Store, World, one_level};
use crate::problem::{Kind, Problem};
use crate::router::Component;
use crate::settings::Settings;
use crate::{campaigns, forward, links};

#[cfg(test)]
mod tests;

/// Rules that may wait at once.
pub const MAX_TASKS: usize = 4_096;
/// Bytes of request bodies that waiting rules may hold together.
pub const MAX_BODIES: usize = 16 << 20;

/// What a host can answer without waiting; `interface memory` in `wit/edge.wit`.
pub trait Memory {
    /// Takes every cost or none.
    fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError>;
    /// The same of one bucket; refused, it has one level.
    fn take_one(&self, bucket: Bucket) -> Result<Level, TakeError> {
        one_level(&self.take(vec![bucket])?)
    }
    /// What the key holds (`Some(None)`: nothing), or `None` where that is not in memory.
    fn get(&self, key: &str) -> Option<Option<Entry>>;
    /// What several keys hold, at one moment, or `None` where any of that is not in memory.
    fn get_all(&self, keys: &[String]) -> Option<Vec<Option<Entry>>>;
    /// See [`Store::submit`], for each.
    fn submit(&self, commits: Vec<Commit>);
}

/// What a rule waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// [`Store::commit`].
    Commit(Commit),
    /// The same, by [`packed::pack`]: for whoever hands it on to where it is decided.
    Packed(Vec<u8>),
    /// [`Store::get`] of these keys, all of one partition.
    Get(Vec<String>),
    /// [`Store::scan`].
    Scan {
        /// What keys begin with.
        prefix: String,
        /// The key before the first.
        after: Option<String>,
        /// The most entries.
        limit: u32,
    },
    /// The body of the request.
    Body,
}

/// The answer to a [`Call`], of the same kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Call::Commit`] or [`Call::Packed`].
    Commit(Result<Outcome, StoreError>),
    /// To [`Call::Get`].
    Get(Result<Vec<Option<Entry>>, StoreError>),
    /// To [`Call::Scan`].
    Scan(Result<Vec<Item>, StoreError>),
    /// To [`Call::Body`]; within the door's bound.
    Body(Vec<u8>),
}

/// What became of a request; `step` in the WIT.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// This is the response.
    Done(packed::Response),
    /// It was charged and admitted, and goes to its component; these headers (see [`packed::headers`]) belong on its
    /// response.
    Admitted(Vec<u8>),
    /// The rule waits, under this number. The caller owes it a reply, or its end ([`FastPath::cancel`]).
    Waits(u32, Call),
    /// As many rules wait as may. Nothing was done but the charge.
    Busy,
}

/// The rules that the fast path runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Redirect,
    Claim,
    SignUp,
}

/// What requests are judged by.
struct Rules {
    settings: Settings,
    fresh: fn() -> [u8; 16],
}

/// A [`Memory`], and what was submitted to it and is still combined.
#[derive(Clone)]
struct Near<M> {
    memory: M,
    submitted: Rc<RefCell<Combined>>,
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

    fn submit_again(&self, partition: &str, mark: u64) -> bool {
        self.submitted.borrow_mut().again(partition, mark)
    }

    fn submit(&self, commit: Commit, mark: Option<u64>) {
        let handed_on = self.submitted.borrow_mut().add(commit, mark);
        if !handed_on.is_empty() {
            self.memory.submit(handed_on);
        }
    }
}

/// The rules on a [`Memory`], and those that wait.
pub struct FastPath<M> {
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

/// Between a rule and who runs it.
#[derive(Default)]
enum Exchange {
    #[default]
    Quiet,
    Asked(Call),
    Replied(Reply),
}

impl<M: Memory + Clone + 'static> FastPath<M> {
    /// The rules under these settings. `fresh`: sixteen unpredictable bytes, different on every call.
    pub fn new(settings: Settings, memory: M, fresh: fn() -> [u8; 16]) -> Self {
        Self {
            rules: Rc::new(Rules { settings, fresh }),
            near: Near {
                memory,
                submitted: Rc::default(),
            },
            tasks: Vec::new(),
            free: Vec::new(),
            bodies: 0,
            now: 0,
        }
    }

    /// Charges a request, and answers it as far as that needs no waiting. `head`: see [`packed::head`]; `body_follows`
    /// says that there is a body. `now`: Unix milliseconds.
    pub fn start(&mut self, head: &[u8], now: u64, body_follows: bool) -> Step {
        self.now = now;
        let Some(request) = packed::request(head) else {
            let problem = Problem::new(Kind::Internal, "The request did not arrive whole.");
            return Step::Done(problem.into_response().into());
        };
        let rules = Rc::clone(&self.rules);
        let port = AtOnce(self.near.clone());
        let world = rules.world(&port, now);
        let added = match at_once(limiter::check(&world, &port, &request)) {
            Some(Verdict::Admit(added)) => Some(added),
            Some(Verdict::Answer(response)) => return Step::Done(response.into()),
            None => None,
        };
        if let Some(added) = &added {
            match rules.rule(&request) {
                None => return Step::Admitted(packed::headers(added)),
                Some(Rule::Redirect) => {
                    if let Some(mut response) = at_once(links::handle(&world, &request)) {
                        response.headers.extend_from_slice(added);
                        return Step::Done(response.into());
                    }
                }
                Some(Rule::Claim | Rule::SignUp) => {}
            }
        }
        self.spawn(request, now, body_follows, added)
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

    /// Gives a waiting rule up: whoever asked has gone.
    pub fn cancel(&mut self, number: u32) {
        if self.take(number).is_some() {
            self.free.push(number);
        }
    }

    /// Hands on what was submitted so far; to be called soon after any other call.
    pub fn flush(&mut self) {
        let submitted = self.near.submitted.take().take();
        if !submitted.is_empty() {
            self.near.memory.submit(submitted);
        }
    }

    /// A line for the log, if there is something to say; see [`limiter::Policies::shadow_report`].
    pub fn report(&self) -> Option<String> {
        self.rules.settings.policies.shadow_report(self.now, u64::MAX)
    }

    fn spawn(&mut self, request: Request, now: u64, body_follows: bool, added: Option<Vec<Header>>) -> Step {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.tasks.len() < MAX_TASKS => {
                self.tasks.push(None);
                u32::try_from(self.tasks.len() - 1).unwrap_or(u32::MAX)
            }
            None => return Step::Busy,
        };
        let exchange = Rc::new(RefCell::default());
        let port = Waiting {
            near: self.near.clone(),
            exchange: Rc::clone(&exchange),
        };
        let rules = Rc::clone(&self.rules);
        let future = Box::pin(async move { rules.run(&port, request, now, body_follows, added).await });
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

    fn rule(&self, request: &Request) -> Option<Rule> {
        let (method, path) = (&*request.method, request.path.as_str());
        match self.settings.component(path) {
            Component::Shortener if !path.starts_with("/api/") => {
                matches!(method, "GET" | "HEAD").then_some(Rule::Redirect)
            }
            Component::Coupon => (method == "POST" && path.ends_with("/claims")).then_some(Rule::Claim),
            Component::Forward => (!path.starts_with("/api/")).then_some(Rule::SignUp),
            Component::Shortener | Component::Admin => None,
        }
    }

    /// A request from where [`FastPath::start`] left it: `added` is what the limiter said, if it could.
    async fn run<M: Memory>(
        &self,
        port: &Waiting<M>,
        mut request: Request,
        now: u64,
        body_follows: bool,
        added: Option<Vec<Header>>,
    ) -> Step {
        let world = self.world(port, now);
        let added = match added {
            Some(added) => added,
            None => match limiter::check(&world, port, &request).await {
                Verdict::Admit(added) => added,
                Verdict::Answer(response) => return Step::Done(response.into()),
            },
        };
        let Some(rule) = self.rule(&request) else {
            return Step::Admitted(packed::headers(&added));
        };
        if body_follows
            && rule != Rule::Redirect
            && let Reply::Body(body) = port.ask(Call::Body).await
        {
            request.body = body;
        }
        let mut response = match rule {
            Rule::Redirect => links::handle(&world, &request).await,
            Rule::Claim => campaigns::handle(&world, &request).await,
            Rule::SignUp => forward::handle(&world, &request).await,
        };
        response.headers.extend(added);
        Step::Done(response.into())
    }
}

/// The result of a rule if it needs no waiting.
fn at_once<T>(rule: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(rule).poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// The ports on a [`Memory`]: what would have to wait never answers.
struct AtOnce<M>(Near<M>);

impl<M: Memory> Store for AtOnce<M> {
    async fn commit(&self, _: Commit) -> Result<Outcome, StoreError> {
        pending().await
    }

    fn submit(&self, commit: Commit) {
        self.0.submit(commit, None);
    }

    fn submit_repeatable(&self, commit: Commit, mark: u64) {
        self.0.submit(commit, Some(mark));
    }

    fn submit_again(&self, partition: &str, mark: u64) -> bool {
        self.0.submit_again(partition, mark)
    }

    async fn settle(&self) -> Result<(), StoreError> {
        pending().await
    }

    async fn get(&self, _: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        match self.0.get(keys) {
            Some(entries) => Ok(entries),
            None => pending().await,
        }
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: u32) -> Result<Vec<Item>, StoreError> {
        pending().await
    }

    async fn read(&self, _: &str, _: u64, _: u32, _: u32) -> Result<Vec<Message>, StoreError> {
        pending().await
    }

    async fn topics(&self, _: Option<&str>, _: u32) -> Result<Vec<Topic>, StoreError> {
        pending().await
    }
}

impl<M: Memory> Buckets for AtOnce<M> {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        self.0.memory.take(buckets)
    }

    async fn take_one(&self, bucket: Bucket) -> Result<Level, TakeError> {
        self.0.memory.take_one(bucket)
    }
}

/// The ports on a [`Memory`]: what has to wait is asked of the caller.
struct Waiting<M> {
    near: Near<M>,
    exchange: Rc<RefCell<Exchange>>,
}

impl<M> Waiting<M> {
    async fn ask(&self, call: Call) -> Reply {
        self.exchange.replace(Exchange::Asked(call));
        poll_fn(|_| match self.exchange.take() {
            Exchange::Replied(reply) => Poll::Ready(reply),
            other => {
                self.exchange.replace(other);
                Poll::Pending
            }
        })
        .await
    }
}

/// A host that replied with something else than it was asked for.
fn mismatch<T>() -> Result<T, StoreError> {
    Err(StoreError::Unknown("the reply is not to what was asked".into()))
}

impl<M: Memory> Store for Waiting<M> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        match self.ask(Call::Commit(commit)).await {
            Reply::Commit(outcome) => outcome,
            _ => mismatch(),
        }
    }

    fn submit(&self, commit: Commit) {
        self.near.submit(commit, None);
    }

    fn submit_repeatable(&self, commit: Commit, mark: u64) {
        self.near.submit(commit, Some(mark));
    }

    /// No rule of the fast path waits for what was submitted, and one that did would wait for itself.
    async fn settle(&self) -> Result<(), StoreError> {
        Err(StoreError::Invalid("nothing is settled on the fast path".into()))
    }

    fn submit_again(&self, partition: &str, mark: u64) -> bool {
        self.near.submit_again(partition, mark)
    }

    async fn get(&self, _: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        if let Some(entries) = self.near.get(keys) {
            return Ok(entries);
        }
        match self.ask(Call::Get(keys.to_vec())).await {
            Reply::Get(entries) => entries,
            _ => mismatch(),
        }
    }

    async fn get_each(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        match self.near.get_each(keys) {
            Some(entries) => Ok(entries),
            None => self.get(partition, keys).await,
        }
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        match self.ask(Call::Scan { prefix, after, limit }).await {
            Reply::Scan(items) => items,
            _ => mismatch(),
        }
    }

    /// No rule of the fast path reads topics.
    async fn read(&self, _: &str, _: u64, _: u32, _: u32) -> Result<Vec<Message>, StoreError> {
        Err(StoreError::Invalid("topics are not read on the fast path".into()))
    }

    /// See [`Waiting::read`].
    async fn topics(&self, _: Option<&str>, _: u32) -> Result<Vec<Topic>, StoreError> {
        Err(StoreError::Invalid("topics are not read on the fast path".into()))
    }
}

impl<M: Memory> Buckets for Waiting<M> {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        self.near.memory.take(buckets)
    }

    async fn take_one(&self, bucket: Bucket) -> Result<Level, TakeError> {
        self.near.memory.take_one(bucket)
    }
}
