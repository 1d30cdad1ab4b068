//! `GET /api/campaigns/{id}` as server-sent events, on the thread of the connection: the campaign at once and whenever its numbers
//! have changed. Open to anyone, so the streams are few of one address, and a stream costs one look a second.

use super::Shared;
use super::generation::Generation;
use super::patience::in_time;
use super::service::{Answer, Caller};
use super::sse::{self, BEAT, SILENCE};
use crate::clock::now;
use bytes::Bytes;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_rules::campaigns;
use tollgate_rules::identity::subscriber;

/// Streams of all callers.
const MAX_STREAMS: usize = 1_024;
/// Streams of one address.
const MAX_OF_ADDRESS: usize = 16;

/// The places of those who watch campaigns.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<HashMap<IpAddr, usize>>);

/// One of them, until it is dropped.
struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Watchers {
    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more at this address, if it may have one.
    fn enter(&self, address: IpAddr) -> bool {
        let mut addresses = self.addresses();
        let all: usize = addresses.values().sum();
        let own = addresses.get(&address).copied().unwrap_or(0);
        let may = all < MAX_STREAMS && own < MAX_OF_ADDRESS;
        if may {
            addresses.insert(address, own + 1);
        }
        may
    }

    fn leave(&self, address: IpAddr) {
        let mut addresses = self.addresses();
        match addresses.get_mut(&address) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(addresses.remove(&address)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.watchers.leave(self.address);
    }
}

/// Opens a stream.
///
/// # Errors
/// 404: there is no such campaign; 503: as many watch as may, or the store does not answer.
pub async fn open(
    shared: &Arc<Shared>,
    generation: &Generation,
    request: Request,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let id = request.path.rsplit('/').next().unwrap_or_default().to_owned();
    let first = look(shared, &id).await?;
    let client = generation.settings.proxies.resolve(&request);
    let address = subscriber(client.unwrap_or(caller.address));
    if !shared.watchers.enter(address) {
        return Err(sse::full(
            "As many watch campaigns as may, in all or from this address.",
        ));
    }
    let place = Place {
        shared: Arc::clone(shared),
        address,
    };
    let shared = Arc::clone(shared);
    Ok(sse::open(place, caller, |to| run(shared, id, first, to)))
}

/// The campaign as it is now.
async fn look(shared: &Shared, id: &str) -> Result<Response, Problem> {
    in_time(campaigns::read(&shared.engines.store, id, now())).await
}

/// Sends until the listener has gone or takes nothing, the campaign is removed, or the gateway drains.
async fn run(shared: Arc<Shared>, id: String, first: Response, to: mpsc::Sender<Bytes>) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut last) = (Vec::new(), Instant::now());
    let mut found = Some(first);
    loop {
        tokio::select! {
            () = to.closed() => return,
            _ = beat.tick() => {}
        }
        if shared.draining.load(Ordering::Relaxed) {
            return;
        }
        let now = match found.take() {
            Some(first) => Ok(first),
            None => look(&shared, &id).await,
        };
        let now = match now {
            Ok(now) => Some(now.body),
            Err(problem) if problem.kind.status() < 500 => return,
            // What cannot be looked at now is looked at with the next beat.
            Err(_) => None,
        };
        let frame = match now.filter(|now| *now != told) {
            Some(now) => {
                let frame = [b"event: campaign\ndata: ", &*now, b"\n\n"].concat();
                told = now;
                frame.into()
            }
            None if last.elapsed() >= SILENCE => sse::COMMENT,
            None => continue,
        };
        last = Instant::now();
        if !sse::send(&to, frame).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let watchers = Watchers::default();
        let address = |last: u32| IpAddr::V4((0x0a00_0000 | last).into());
        for _ in 0..MAX_OF_ADDRESS {
            assert!(watchers.enter(address(1)));
        }
        assert!(!watchers.enter(address(1)) && watchers.enter(address(2)));
        watchers.leave(address(1));
        assert!(watchers.enter(address(1)));
        for other in 0..MAX_STREAMS as u32 {
            watchers.enter(address(1_000 + other));
        }
        assert!(!watchers.enter(address(9_999_999)), "there are as many as may be");
        for other in 0..MAX_STREAMS as u32 {
            watchers.leave(address(1_000 + other));
        }
        watchers.leave(address(2));
        for _ in 0..MAX_OF_ADDRESS {
            watchers.leave(address(1));
        }
        assert!(watchers.addresses().is_empty());
    }
}
