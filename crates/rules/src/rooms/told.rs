//! A ticket as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). Each answer is one event, and
//! says when to ask for the next: an `EventSource` does so by itself. So a line of any length holds no connection and no memory.

use super::tickets::{State, View};
use tollgate_api::accept;
use tollgate_api::http::{Header, Request, Response};

/// The event that a listener had last; lower case.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";
const MEDIA: &str = "text/event-stream";
/// When the next one is asked for, milliseconds: after a quarter of the time until the turn, within these.
const RETRY_MS: (u64, u64) = (1_000, 15_000);

/// Whether a request asks for events rather than for JSON.
pub(super) fn is_wanted(request: &Request) -> bool {
    accept::named(request, &[MEDIA, "application/json"]) == Some(MEDIA)
}

/// Where the holder stands, as one event. 204 to who knows already that the turn has come, or is over: it ends the listening.
pub(super) fn event(request: &Request, view: &View) -> Response {
    let id = match view.state {
        State::Waiting => "waiting",
        State::Admitted => "admitted",
        State::Expired => "expired",
    };
    if view.state != State::Waiting && request.header(LAST_EVENT_ID) == Some(id) {
        return Response::empty(204);
    }
    let (soonest, latest) = RETRY_MS;
    let wait = view.eta_seconds.map_or(latest, |eta| eta.saturating_mul(250));
    let retry = wait.clamp(soonest, latest);
    let data = serde_json::to_string(view).unwrap_or_default();
    Response {
        status: 200,
        headers: vec![Header::new("content-type", MEDIA)],
        body: format!("retry: {retry}\nid: {id}\nevent: ticket\ndata: {data}\n\n").into_bytes(),
    }
}
