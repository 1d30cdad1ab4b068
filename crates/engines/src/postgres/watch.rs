//! What is looked at again and again: the database's clock, the entries in memory that were used, the ends of topics that
//! somebody waits for; and, beside it, what has expired.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Shared;
use super::connect::{Address, Session, told};
use super::sweep::Turns;

/// The most keys of one look.
const KEYS: usize = 4_096;
/// The most looks of one turn: what is beyond is read anew when it is used.
const LOOKS: usize = 16;
/// Between two looks at the ends of topics.
const TOPICS: Duration = Duration::from_millis(100);
/// How long a look may take before the database counts as away.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(250);
/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);

const CHANGED: &str = "SELECT w.key FROM unnest($1::text[], $2::bigint[]) AS w(key, version)
    LEFT JOIN tollgate_entries e ON e.key = w.key WHERE coalesce(e.version, 0) <> w.version";
const NEWEST: &str = "SELECT name, last FROM tollgate_topics WHERE name = ANY($1)";

/// Looks until it is told to end. `Shared::queue` is away while the database does not answer.
pub async fn run(shared: Arc<Shared>, first: Session, mut end: watch::Receiver<bool>) {
    let mut session = Some(first);
    let pause = (shared.revalidate / 2).min(TOPICS).max(Duration::from_millis(5));
    while !*end.borrow() {
        let looked = match &session {
            Some(open) => tokio::time::timeout(PATIENCE, look(&shared, open)).await,
            None => match tokio::time::timeout(PATIENCE, Session::open(&shared.address)).await {
                Ok(Ok(open)) => {
                    let looked = tokio::time::timeout(PATIENCE, look(&shared, &open)).await;
                    session = Some(open);
                    looked
                }
                Ok(Err(error)) => Ok(Err(error)),
                Err(late) => Err(late),
            },
        };
        let why = match looked {
            Ok(Ok(())) => match tokio::time::timeout(PATIENCE, shared.readers.fill(&shared.address)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(told(&error)),
                Err(_) => Some("the database does not answer".to_owned()),
            },
            Ok(Err(error)) => Some(told(&error)),
            Err(_) => {
                shared.readers.give_up();
                Some("the database does not answer".to_owned())
            }
        };
        let is_away = why.is_some();
        if is_away {
            session = None;
        }
        shared.set_away(why);
        let pause = if is_away { RECONNECT } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = end.changed() => {}
        }
    }
}

async fn look(shared: &Shared, session: &Session) -> Result<(), tokio_postgres::Error> {
    let asked = Instant::now();
    let row = session.client.query_one(super::flight::CLOCK, &[]).await?;
    shared.saw_clock(row.get(0), asked);
    for _ in 0..LOOKS {
        let (keys, versions) = shared.cache.take_used(KEYS);
        if keys.is_empty() {
            break;
        }
        // Before the question: what it shows is not older.
        let moment = shared.moment();
        let changed = session.client.query(CHANGED, &[&keys, &versions]).await?;
        let changed: hashbrown::HashSet<String> = changed.iter().map(|row| row.get(0)).collect();
        shared.counts.revalidated.add(keys.len() as u64);
        for (key, version) in keys.iter().zip(&versions) {
            match changed.contains(key) {
                true => shared.cache.forget(key),
                false => shared.cache.confirm(key, *version, moment),
            }
        }
        if keys.len() < KEYS {
            break;
        }
    }
    let waited = shared.tails.waited();
    if !waited.is_empty() {
        for row in session.client.query(NEWEST, &[&waited]).await? {
            let (name, last): (String, i64) = (row.get(0), row.get(1));
            shared
                .tails
                .publish_newer(&name, u64::try_from(last).unwrap_or(0));
        }
    }
    Ok(())
}

/// Sweeps until it is told to end.
pub async fn sweep(shared: Arc<Shared>, mut end: watch::Receiver<bool>) {
    let mut session: Option<Session> = None;
    let mut turns = Turns::default();
    while !*end.borrow() {
        let mut has_more = false;
        if shared.sweeps.load(Ordering::Relaxed) && shared.queue.away().is_none() {
            if session.as_ref().is_none_or(|open| open.client.is_closed()) {
                session = open_quietly(&shared.address).await;
            }
            if let Some(open) = &session {
                match super::sweep::sweep(&open.client, &mut turns, &shared.keeping(), shared.now()).await {
                    Ok(swept) => {
                        shared.counts.swept.add(swept.rows);
                        has_more = swept.more;
                    }
                    Err(error) => tracing::debug!(error = told(&error), "a sweep is tried again"),
                }
            }
        }
        let pause = if has_more { SWEEP / 10 } else { SWEEP };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = end.changed() => {}
        }
    }
}

async fn open_quietly(address: &Address) -> Option<Session> {
    tokio::time::timeout(PATIENCE, Session::open(address))
        .await
        .ok()?
        .ok()
}
