//! The numbers that the dashboard shows: gathered once for all who watch, and only while somebody does. Campaigns and topics are
//! asked for as their API's calls, on the threads of the rest, with the key of somebody who watches and may see them.

use super::super::rest::Rest;
use super::super::{Shared, rest, worker_count};
use super::origins;
use super::sessions::Session;
use crate::clock::now;
use crate::metrics::asked::Asked;
use crate::metrics::refused::{self, HALF};
use bytes::Bytes;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tollgate_api::calls::{Call, Scope};
use tollgate_engines::{AnyEngine, Engine as _};
use tollgate_rules::{heads, keys, policies};

/// How often campaigns are looked at; everything else every second time.
const TICK: Duration = Duration::from_millis(500);
/// What is asked for: the first page, which bounds what a look costs.
const CAMPAIGNS: (&str, &str) = ("/api/campaigns", "limit=100");
const TOPICS: (&str, &str) = ("/api/topics", "limit=100");

/// What was gathered last, each as an event that is ready to be sent; empty where nobody who may see it watches.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// For everybody.
    pub gateway: Bytes,
    /// For the scope `limits`.
    pub limits: Bytes,
    /// For the scope `admin`.
    pub origins: Bytes,
    /// For the scope `campaigns`.
    pub campaigns: Bytes,
    /// For the scope `topics`.
    pub topics: Bytes,
}

/// Who watches, and what they are shown.
pub struct Numbers {
    watched: Mutex<Watched>,
    feed: watch::Sender<Moment>,
}

#[derive(Default)]
struct Watched {
    by: Vec<Arc<Viewer>>,
    /// Whether the numbers are being gathered.
    gathering: bool,
}

/// Somebody who watches.
pub struct Viewer {
    /// Who it is.
    pub session: Arc<Session>,
    /// What its key may see.
    pub scopes: Vec<Scope>,
}

impl Viewer {
    /// Whether it may see what takes this scope.
    pub fn may_see(&self, scope: Scope) -> bool {
        self.scopes.contains(&Scope::Admin) || self.scopes.contains(&scope)
    }
}

/// Somebody watches until this is dropped.
pub struct Watching {
    shared: Arc<Shared>,
    /// Who it is.
    pub viewer: Arc<Viewer>,
    /// What there is to see.
    pub feed: watch::Receiver<Moment>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            watched: Mutex::default(),
            feed: watch::Sender::new(Moment::default()),
        }
    }
}

impl Numbers {
    /// How many watch.
    pub fn viewers(&self) -> usize {
        self.watched().by.len()
    }

    /// One more watches; whoever is the first sets the gathering going.
    pub fn watch(shared: &Arc<Shared>, rest: &Arc<Rest>, viewer: Viewer) -> Watching {
        let numbers = &shared.dashboard.numbers;
        let viewer = Arc::new(viewer);
        let mut watched = numbers.watched();
        watched.by.push(Arc::clone(&viewer));
        if !std::mem::replace(&mut watched.gathering, true) {
            let (shared, rest) = (Arc::clone(shared), Arc::downgrade(rest));
            numbers.feed.send_replace(Moment::default());
            let runtime = &shared.dashboard.runtime.clone();
            runtime.spawn(gather(shared, rest));
        }
        drop(watched);
        Watching {
            feed: numbers.feed.subscribe(),
            shared: Arc::clone(shared),
            viewer,
        }
    }

    /// Somebody who may see what takes this scope.
    fn with(&self, scope: Scope) -> Option<Arc<Viewer>> {
        let watched = self.watched();
        let found = watched.by.iter().find(|viewer| viewer.may_see(scope));
        found.map(Arc::clone)
    }

    /// Whether anybody watches still; if not, the gathering is over.
    fn goes_on(&self) -> bool {
        let mut watched = self.watched();
        watched.gathering = !watched.by.is_empty();
        watched.gathering
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = self.shared.dashboard.numbers.watched();
        watched.by.retain(|viewer| !Arc::ptr_eq(viewer, &self.viewer));
    }
}

/// Gathers until nobody watches any more, or the gateway drains.
async fn gather(shared: Arc<Shared>, rest: Weak<Rest>) {
    let numbers = &shared.dashboard.numbers;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut moment, mut campaigns, mut topics) = (Moment::default(), Vec::new(), Vec::new());
    let (mut limits, mut fronted) = (Vec::new(), Vec::new());
    let mut is_second = true;
    while numbers.goes_on() && !shared.draining.load(Ordering::Relaxed) {
        ticks.tick().await;
        let Some(rest) = rest.upgrade() else { break };
        renew(
            &mut moment.campaigns,
            &mut campaigns,
            "campaigns",
            ask(&shared, &rest, Scope::Campaigns, CAMPAIGNS).await,
        );
        if is_second {
            renew(
                &mut moment.topics,
                &mut topics,
                "topics",
                ask(&shared, &rest, Scope::Topics, TOPICS).await,
            );
            let refusals = numbers.with(Scope::Limits).map(|_| limit_counts(&shared));
            renew(&mut moment.limits, &mut limits, "limits", refusals);
            let all = numbers.with(Scope::Admin).map(|_| origins::told(&shared));
            renew(&mut moment.origins, &mut fronted, "origins", all);
            moment.gateway = event("gateway", gateway(&shared).to_string().as_bytes());
        }
        is_second = !is_second;
        numbers.feed.send_replace(moment.clone());
    }
}

/// What the call answers, if anybody watches who may see it.
async fn ask(shared: &Shared, rest: &Rest, scope: Scope, (path, query): (&str, &str)) -> Option<Vec<u8>> {
    let viewer = shared.dashboard.numbers.with(scope)?;
    let credential = viewer.session.credential();
    let headers = [(keys::HEADER, credential.as_bytes())];
    let head = heads::head(["GET", path, "127.0.0.1"], Some(query), headers.into_iter());
    let answer = rest
        .answer(&shared.current.get(), head, Vec::new(), None, false)
        .await
        .ok()?;
    (answer.status == 200).then_some(answer.body)
}

/// Makes a new event where the answer is another one than before. Without an answer what was told stays.
fn renew(told: &mut Bytes, before: &mut Vec<u8>, name: &str, answer: Option<Vec<u8>>) {
    let Some(answer) = answer.filter(|answer| answer != before) else {
        return;
    };
    if let Some(fields) = answer.strip_prefix(b"{") {
        let time = format!("{{\"time\":{},", now());
        *told = event(name, &[time.as_bytes(), fields].concat());
    }
    *before = answer;
}

/// A server-sent event of a JSON document, which has no line break.
fn event(name: &str, document: &[u8]) -> Bytes {
    [b"event: ", name.as_bytes(), b"\ndata: ", document, b"\n\n"]
        .concat()
        .into()
}

/// What the limits have refused, by name, and whom most; would have, in shadow.
fn limit_counts(shared: &Shared) -> Vec<u8> {
    let refusals = shared.engines.counted.refusals().into_iter();
    let counts: serde_json::Map<_, _> = refusals
        .map(|one| (one.policy, json!({ "refused": one.refused + one.would_refuse })))
        .collect();
    let most: Vec<_> = shared
        .engines
        .counted
        .refused_most()
        .into_iter()
        .filter_map(most)
        .collect();
    let minutes = [HALF, 2 * HALF].map(|time| time.as_secs() / 60);
    let generation = shared.current.get();
    let at_once: serde_json::Map<_, _> = generation
        .settings
        .config
        .concurrency
        .iter()
        .map(|limit| {
            let numbers = shared.under_way.numbers(&limit.name);
            let told = json!({ "underWay": numbers.under_way, "refused": numbers.refused });
            (limit.name.clone(), told)
        })
        .collect();
    json!({ "limits": counts, "concurrency": at_once, "most": most, "minutes": minutes })
        .to_string()
        .into_bytes()
}

fn most(count: refused::Count) -> Option<serde_json::Value> {
    let (policy, who) = policies::parts(&count.key);
    (count.refused > 0)
        .then(|| json!({ "policy": policy, "who": who, "refused": count.refused, "atLeast": count.is_least }))
}

/// In place of a URL that cannot be read without its password.
const MASK: &str = "********";

/// Over what limits are shared, and whether it can be asked; `None` where none are.
fn limits_store(shared: &Shared) -> Option<String> {
    let limits = shared.engines.buckets.shared()?;
    let config = &shared.current.get().settings.config;
    let named = config.limits_store.masked_url(MASK);
    let at = named.unwrap_or_else(|| "the store".to_owned());
    let is_away = limits.exact.counts().is_away || limits.debts.counts().2;
    Some(match is_away {
        true => format!("{at}, which does not answer"),
        false => at,
    })
}

/// What is told of the gateway itself.
fn gateway(shared: &Shared) -> serde_json::Value {
    let store = &shared.engines.store;
    let stats = store.stats();
    let looked = stats.cache_hits + stats.cache_misses;
    let hits = (looked > 0).then(|| stats.cache_hits as f64 / looked as f64);
    let workers = worker_count(&shared.current.get().settings.config);
    let answered = |call, status| shared.engines.counted.answered(call, status);
    let claims = |status| answered(Some(Asked::call(Call::Claim)), Some(status));
    json!({
        "time": now(),
        "status": store.health().map_or_else(|why| why, |()| "ready".to_owned()),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": shared.dashboard.began.elapsed().as_secs(),
        "engine": match store {
            AnyEngine::Sqlite(_) => "SQLite, each group of commits synced",
            AnyEngine::Memory(_) => "memory; nothing outlives the process",
            AnyEngine::Postgres(_) => "Postgres, which gateways may share",
        },
        "limits": limits_store(shared),
        "workers": workers,
        "others": rest::thread_count(workers),
        "events": shared.events.topic(),
        "watchers": shared.dashboard.numbers.viewers(),
        "cache": hits,
        "counters": {
            "requests": answered(None, None),
            "refusals": answered(None, Some(429)),
            "commits": stats.commits,
            "groups": stats.groups,
        },
        "claims": {
            "admitted": claims(201),
            "alreadyClaimed": claims(409),
            "soldOut": claims(410),
            "notOpen": claims(403),
            "limited": claims(429),
        },
        "levels": { "queued": stats.queued },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_made_anew_only_where_the_answer_has_changed() {
        let (mut told, mut before) = (Bytes::new(), Vec::new());
        renew(
            &mut told,
            &mut before,
            "topics",
            Some(br#"{"topics":[]}"#.to_vec()),
        );
        let first = told.clone();
        let text = String::from_utf8(first.to_vec()).unwrap();
        assert!(
            text.starts_with("event: topics\ndata: {\"time\":1") && text.ends_with(",\"topics\":[]}\n\n"),
            "{text}"
        );
        for same in [Some(br#"{"topics":[]}"#.to_vec()), None] {
            renew(&mut told, &mut before, "topics", same);
            assert_eq!(told.as_ptr(), first.as_ptr());
        }
        renew(
            &mut told,
            &mut before,
            "topics",
            Some(br#"{"topics":[1]}"#.to_vec()),
        );
        assert_ne!(told, first);
    }
}
