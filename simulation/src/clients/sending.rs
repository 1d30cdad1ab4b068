//! Requests on their way: lost, delivered twice, answered too late, and tried again.

use std::rc::Rc;

use tollgate_api::http::{Request, Response};

use super::judge::judge;
use super::request::Wish;
use crate::coverage::Seen;
use crate::executor::Parcel;
use crate::world::Sim;

/// How often a client sends one request at most.
const TRIES: usize = 6;

/// Sends it once; `None` if no answer came.
async fn send(sim: &Rc<Sim>, wish: &Rc<Wish>, request: &Rc<Request>) -> Option<Response> {
    sim.saw(Seen::Requests);
    let bad = sim.is_on(&sim.weather.network_until);
    sim.executor.sleep(sim.below(400)).await;
    if bad && sim.one_of(150) {
        sim.saw(Seen::RequestsLost);
        sim.executor.sleep(sim.between(5_000, 100_000)).await;
        return None;
    }
    let parcel = Parcel::new();
    if !deliver(sim, wish, request, &parcel) {
        sim.executor.sleep(sim.between(1_000, 20_000)).await;
        return None;
    }
    if sim.fault(if bad { 200 } else { 10 }) {
        sim.saw(Seen::RequestsDoubled);
        // Both are carried out; whichever is answered first is what the client sees.
        deliver(sim, wish, request, &parcel);
    }
    let patience = if sim.calm.get() {
        30_000_000
    } else {
        sim.between(10_000, 500_000)
    };
    let response = parcel.receive_within(&sim.executor, patience).await;
    if response.is_none() {
        sim.saw(Seen::ClientTimeouts);
    } else if bad && sim.one_of(200) {
        sim.saw(Seen::RepliesLost);
        return None;
    }
    response
}

/// `false` if no process is there to take it.
fn deliver(sim: &Rc<Sim>, wish: &Rc<Wish>, request: &Rc<Request>, parcel: &Rc<Parcel<Response>>) -> bool {
    let Some(server) = sim.any_server() else {
        return false;
    };
    let (wish, request, parcel) = (Rc::clone(wish), Rc::clone(request), Rc::clone(parcel));
    let process = Rc::clone(&server);
    process.spawn(async move {
        let began = server.sim.executor.now();
        let response = server.answer(&request).await;
        // From here on a client may have seen it.
        let (sim, status) = (&server.sim, response.status);
        sim.note(|| {
            format!(
                "{}: {status} to {wish:?}: {}",
                server.place,
                String::from_utf8_lossy(&response.body)
            )
        });
        let late = server.store.late_since(began);
        sim.check(judge(sim, &wish, &response, began, late));
        parcel.send(&sim.executor, response);
    });
    true
}

/// Sends it until there is an answer that is worth keeping; `None` if there was none.
pub async fn ask(sim: &Rc<Sim>, wish: Wish) -> Option<Response> {
    let request = Rc::new(wish.request());
    let wish = Rc::new(wish);
    let tries = if sim.calm.get() { 100 } else { TRIES };
    for _ in 0..tries {
        let response = send(sim, &wish, &request).await;
        match response {
            Some(response) if !matches!(response.status, 429 | 503) => return Some(response),
            Some(_) => sim.executor.sleep(sim.between(30_000, 150_000)).await,
            None => sim.executor.sleep(sim.between(1_000, 30_000)).await,
        }
    }
    None
}
