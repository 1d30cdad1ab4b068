//! The live numbers on their way to one page: server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). Who takes them slowly gets the newest, not all.

use super::super::Shared;
use super::super::rest::Rest;
use super::super::service::{Answer, Caller};
use super::super::sse::{self, ASK_AGAIN, BEAT, SILENCE};
use super::numbers::{Moment, Numbers, Viewer, Watching};
use super::sessions::Session;
use super::verify;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::time::interval;
use tollgate_api::calls::Scope;
use tollgate_api::problem::Problem;
use tollgate_rules::keys::ApiKey;

/// Streams at once.
pub const MAX_STREAMS: usize = 256;
/// Those of one session.
pub const MAX_OF_A_SESSION: usize = 8;

/// One more stream of a session, until this is dropped.
struct Place(Arc<Session>);

impl Place {
    fn take(session: &Arc<Session>) -> Option<Self> {
        let before = session.streams.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(session));
        (before < MAX_OF_A_SESSION).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens a stream.
///
/// # Errors
/// 503 where there are as many as there may be.
pub fn open(
    shared: &Arc<Shared>,
    rest: &Arc<Rest>,
    session: Arc<Session>,
    key: ApiKey,
    caller: &Caller,
) -> Result<Answer, Problem> {
    if shared.dashboard.numbers.viewers() >= MAX_STREAMS {
        return Err(sse::full("As many pages watch the numbers as may."));
    }
    let place = Place::take(&session);
    let place =
        place.ok_or_else(|| sse::full("This session watches the numbers on as many pages as it may."))?;
    let scopes = key.scopes;
    let watching = Numbers::watch(shared, rest, Viewer { session, scopes });
    Ok(sse::open(place, caller, |to| {
        send(Arc::clone(shared), watching, to)
    }))
}

/// Sends until the page has gone, the session is over, its key opens nothing any more, or the gateway drains.
async fn send(shared: Arc<Shared>, mut watching: Watching, to: mpsc::Sender<Bytes>) {
    let viewer = Arc::clone(&watching.viewer);
    let mut beat = interval(BEAT);
    let (mut sent, mut asked) = (Moment::default(), Instant::now());
    let mut last = asked;
    loop {
        tokio::select! {
            () = to.closed() => return,
            changed = watching.feed.changed() => if changed.is_err() { return },
            _ = beat.tick() => {}
        }
        let now = Instant::now();
        if viewer.session.is_over(now) || shared.draining.load(Ordering::Relaxed) {
            return;
        }
        viewer.session.touch(now);
        if now - asked >= ASK_AGAIN {
            asked = now;
            // Where the store does not answer, the page sees that by other means.
            if matches!(verify(&shared, viewer.session.key_text()).await, Ok(None)) {
                shared.dashboard.sessions.end(&viewer.session);
                return;
            }
        }
        let news = news(&mut sent, &watching.feed.borrow_and_update(), &viewer);
        let news = match news.is_empty() {
            true if now - last < SILENCE => continue,
            true => sse::COMMENT,
            false => news,
        };
        last = now;
        if !sse::send(&to, news).await {
            return;
        }
    }
}

/// What the viewer may see and was not sent yet.
fn news(sent: &mut Moment, now: &Moment, viewer: &Viewer) -> Bytes {
    let mut news = BytesMut::new();
    for (sent, now, may_see) in [
        (&mut sent.gateway, &now.gateway, true),
        (
            &mut sent.campaigns,
            &now.campaigns,
            viewer.may_see(Scope::Campaigns),
        ),
        (&mut sent.topics, &now.topics, viewer.may_see(Scope::Topics)),
        (&mut sent.limits, &now.limits, viewer.may_see(Scope::Limits)),
        (&mut sent.origins, &now.origins, viewer.may_see(Scope::Admin)),
    ] {
        if may_see && sent.as_ptr() != now.as_ptr() {
            news.extend_from_slice(now);
            sent.clone_from(now);
        }
    }
    news.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(number: u8) -> Moment {
        let event = |name: &str| Bytes::from(format!("{name}{number};"));
        Moment {
            gateway: event("g"),
            campaigns: event("c"),
            topics: event("t"),
            limits: event("l"),
            origins: event("o"),
        }
    }

    fn viewer(scopes: &[Scope]) -> Viewer {
        let sessions = super::super::Sessions::default();
        let token = sessions.begin("tg_key", "key", false).unwrap();
        Viewer {
            session: sessions.find(&token, false).unwrap(),
            scopes: scopes.to_vec(),
        }
    }

    #[test]
    fn a_viewer_is_sent_what_its_scopes_reach_and_each_once() {
        for (scopes, expected) in [
            (&[Scope::Admin][..], "g1;c1;t1;l1;o1;"),
            (&[Scope::Limits], "g1;l1;"),
            (&[Scope::Campaigns], "g1;c1;"),
            (&[Scope::Topics], "g1;t1;"),
            (&[Scope::Links], "g1;"),
        ] {
            let (viewer, mut sent, first) = (viewer(scopes), Moment::default(), moment(1));
            assert_eq!(news(&mut sent, &first, &viewer), expected);
            assert!(news(&mut sent, &first, &viewer).is_empty());
            let second = Moment {
                gateway: moment(2).gateway,
                ..first
            };
            assert_eq!(news(&mut sent, &second, &viewer), "g2;");
        }
    }

    #[test]
    fn a_session_has_so_many_streams_and_gets_their_places_back() {
        let session = viewer(&[]).session;
        let places: Vec<_> = (0..MAX_OF_A_SESSION)
            .map(|_| Place::take(&session).unwrap())
            .collect();
        assert!(Place::take(&session).is_none());
        drop(places);
        assert!(Place::take(&session).is_some());
        assert_eq!(session.streams.load(Ordering::Relaxed), 0);
    }
}
