//! The relay under Spin: drains that run after a response, or when a tick asks for one. Spin ends them at any moment; the lease and the
//! progress in the store say where to go on. A trap here would end every request of the instance, so nothing here may panic.

mod key_value;
mod post;
mod tick;
mod trial;
mod upkeep;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use spin_sdk::wasip3;
use spin_sdk::wasip3::clocks::monotonic_clock;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Kind;
use tollgate_delivery::drain::{self, Outside, Report, Until};
use tollgate_delivery::relay::attempt::Answered;
use tollgate_delivery::relay::{Delivered, Note};
use tollgate_delivery::subscription::SinkKind;
use tollgate_delivery::subscriptions::Defined;
use tollgate_rules::settings::Settings;
use tollgate_store::commit::{Message, StoreError};

use crate::port::Port;
use crate::settings;
pub use tick::answer as tick;
pub use trial::answer as trial;
pub use upkeep::takes_notes;

/// Between two looks of one instance for something to deliver, milliseconds.
const LOOK_EVERY_MS: u64 = 250;
const NANOS_PER_MS: u64 = 1_000_000;

thread_local! {
    /// A drain runs on this instance.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    /// A request of this instance has appended a message.
    static APPENDED: Cell<bool> = const { Cell::new(false) };
    /// When this instance looked last, milliseconds of its clock.
    static LOOKED_AT: Cell<Option<u64>> = const { Cell::new(None) };
    /// Something may have to be delivered since then.
    static AGAIN: Rc<Cell<bool>> = Rc::new(Cell::new(false));
}

/// A message was appended: its delivery begins after the response.
pub fn appended() {
    APPENDED.set(true);
}

/// After a request was answered, at `now` (Unix milliseconds): begins a drain if there may be something to deliver, at most one for
/// each instance, and the upkeep if it is its turn.
pub fn after(request: &Request, response: &Response, now: u64) {
    match Kind::BacklogFull.is_of(response) {
        true => upkeep::after_full(now),
        false => upkeep::after_response(now),
    }
    let changes = !matches!(&*request.method, "GET" | "HEAD") && request.path.starts_with("/api/topics/");
    // What is due while nobody calls is found by whoever looks whether we are well.
    let probes = request.path == "/health/ready";
    if APPENDED.take() || (changes || probes) && response.status < 300 {
        begin();
    }
}

/// Begins a drain if something was appended meanwhile.
fn after_appends() {
    if APPENDED.take() {
        begin();
    }
}

fn begin() {
    let again = AGAIN.with(Rc::clone);
    again.set(true);
    if RUNS.replace(true) {
        return;
    }
    wasip3::spawn(async move {
        while again.take() {
            let since = LOOKED_AT
                .get()
                .map_or(LOOK_EVERY_MS, |at| uptime_ms().saturating_sub(at));
            if since < LOOK_EVERY_MS {
                sleep(LOOK_EVERY_MS - since).await;
            }
            LOOKED_AT.set(Some(uptime_ms()));
            if let Ok(configured) = settings::load() {
                // What fails is left to the next request, or to a tick.
                let _ = run(&configured.settings, Until::Empty, &again).await;
            }
        }
        RUNS.set(false);
    });
}

/// Drains what nobody else does.
async fn run(settings: &Settings, until: Until, again: &Cell<bool>) -> Result<Report, StoreError> {
    let world = Under {
        settings,
        wall_ms: crate::now(),
        from_ms: uptime_ms(),
    };
    drain::drain(&Port, &world, || settings.config.subscriptions(), until, again).await
}

/// What Spin offers to a drain.
struct Under<'s> {
    settings: &'s Settings,
    /// The wall clock when the drain began, Unix milliseconds.
    wall_ms: u64,
    /// The clock that never jumps, then.
    from_ms: u64,
}

impl Outside for Under<'_> {
    fn now(&self) -> u64 {
        self.wall_ms
            .saturating_add(uptime_ms().saturating_sub(self.from_ms))
    }

    fn random(&self) -> u64 {
        wasip3::random::random::get_random_u64()
    }

    fn serves(&self, of: &Defined) -> bool {
        self.settings.unserved(of.settings.kind).is_none()
    }

    async fn sleep(&self, ms: u64) {
        sleep(ms).await;
    }

    async fn deliver(&self, to: &Defined, message: Arc<Message>) -> (Delivered, Answered) {
        one(&self.settings.public_url, to, &message).await
    }

    async fn deliver_together(
        &self,
        to: &Defined,
        messages: &[(Arc<Message>, u32)],
    ) -> (Delivered, Answered) {
        let messages: Vec<&Message> = messages.iter().map(|(message, _)| &**message).collect();
        post::together(&self.settings.public_url, to, &messages).await
    }

    fn note(&self, of: &Defined, note: &Note) {
        let (topic, name) = (&of.topic, &of.settings.name);
        match note {
            Note::Dead { sequence, error, .. } => {
                eprintln!("tollgate: {topic}/{name}: message {sequence} is a dead letter: {error}");
            }
            Note::Breaker(change) => eprintln!("tollgate: {topic}/{name}: circuit breaker: {change:?}"),
            Note::Paused(_) => {
                eprintln!("tollgate: {topic}/{name}: paused, the origin wants no more messages")
            }
            Note::Skipped { .. } | Note::Lost { .. } => {}
        }
    }
}

/// Delivers one message.
async fn one(public_url: &str, to: &Defined, message: &Message) -> (Delivered, Answered) {
    match to.settings.kind {
        SinkKind::KeyValue => key_value::one(public_url, to, message).await,
        _ => post::one(public_url, to, message).await,
    }
}

/// Milliseconds of a clock that never jumps.
fn uptime_ms() -> u64 {
    monotonic_clock::now() / NANOS_PER_MS
}

async fn sleep(ms: u64) {
    spin_sdk::time::sleep(Duration::from_millis(ms)).await;
}
