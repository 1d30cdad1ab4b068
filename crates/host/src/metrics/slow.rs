//! What has to be read from the store or asked of the disk: gathered at most every few seconds, by one scrape for all, and
//! bounded in what it reads.

use super::sheet::Sheet;
use super::table::Metric;
use crate::server::Shared;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tollgate_engines::Engine as _;
use tollgate_rules::forward::delayed;
use tollgate_rules::groups::{self, Deaths};
use tollgate_rules::{campaigns, draws, rooms, subscriptions};
use tollgate_store::commit::{StoreError, Topic};
use tollgate_store::deleted;
use tollgate_store::ports::Store as _;
use tollgate_store::settings::StoreSettings;

/// How long it is kept.
const KEPT: Duration = Duration::from_secs(5);
/// How long reading may take, before what was found last is told.
const PATIENCE: Duration = Duration::from_secs(2);
/// Campaigns that are told by name.
pub const MAX_CAMPAIGNS: usize = 100;
/// Draws that are told by name.
const MAX_DRAWS: u32 = 100;
/// Waiting rooms that are told by name.
const MAX_ROOMS: usize = 100;
/// Topics that are told by name.
const MAX_TOPICS: u32 = 500;
/// Subscriptions, and groups, that are told by name.
pub const MAX_SUBSCRIPTIONS: usize = 500;

/// What was found last, and when.
#[derive(Default)]
pub struct Slow(Mutex<Option<(Instant, Arc<Sheet>)>>);

impl Slow {
    /// What was found within the last [`KEPT`]. Where the store does not answer, what was found before that.
    pub async fn read(&self, shared: &Shared, now: u64) -> Arc<Sheet> {
        let mut found = self.0.lock().await;
        if let Some((at, sheet)) = &*found
            && at.elapsed() < KEPT
        {
            return Arc::clone(sheet);
        }
        let sheet = match tokio::time::timeout(PATIENCE, gathered(shared, now)).await {
            Ok(Ok(sheet)) => Arc::new(sheet),
            Ok(Err(_)) | Err(_) => found
                .as_ref()
                .map(|(_, sheet)| Arc::clone(sheet))
                .unwrap_or_default(),
        };
        *found = Some((Instant::now(), Arc::clone(&sheet)));
        sheet
    }
}

async fn gathered(shared: &Shared, now: u64) -> Result<Sheet, StoreError> {
    let mut sheet = Sheet::default();
    let generation = shared.current.get();
    let (store, config) = (&shared.engines.store, &generation.settings.config);
    for stock in campaigns::stocks(store, now, MAX_CAMPAIGNS).await? {
        sheet.level(Metric::CampaignStock, &[&stock.id], stock.remaining as f64);
        sheet.level(Metric::CampaignQuantity, &[&stock.id], stock.quantity as f64);
        if let Some(held) = stock.held {
            sheet.level(Metric::CampaignHeld, &[&stock.id], held as f64);
        }
    }
    for draw in draws::undrawn(store, MAX_DRAWS).await? {
        sheet.level(Metric::DrawEntries, &[&draw.id], draw.entries as f64);
    }
    for room in rooms::counts(store, &generation.settings, now, MAX_ROOMS).await? {
        sheet.level(Metric::RoomWaiting, &[&room.name], room.waiting as f64);
        sheet.count(Metric::RoomAdmitted, &[&room.name], room.admitted);
        sheet.level(Metric::RoomPace, &[&room.name], room.per_second);
    }
    let topics = deleted::without_deleted(store, store.topics(None, MAX_TOPICS).await?).await?;
    for Topic {
        name,
        first,
        last,
        bytes,
        ..
    } in &topics
    {
        sheet.level(Metric::TopicBytes, &[name], *bytes as f64);
        sheet.number(Metric::TopicDepth, &[name], (last + 1).saturating_sub(*first));
        sheet.count(Metric::TopicMessages, &[name], *last);
    }
    let time = store.now();
    for backlog in subscriptions::backlogs(store, config, &topics, MAX_SUBSCRIPTIONS).await? {
        let names = [&*backlog.topic, &*backlog.name];
        sheet.number(Metric::SubscriptionLag, &names, backlog.lag);
        let age = backlog.oldest.map_or(0, |oldest| time.saturating_sub(oldest));
        sheet.level(
            Metric::OldestMessageAge,
            &names,
            Duration::from_millis(age).as_secs_f64(),
        );
    }
    for group in groups::backlogs(store, &topics, MAX_SUBSCRIPTIONS, time).await? {
        let names = [&*group.topic, &*group.name];
        sheet.number(Metric::GroupLag, &names, group.lag);
        sheet.number(Metric::GroupLeased, &names, group.leased);
    }
    let to_come = delayed::to_come(store, time).await?;
    for (topic, bytes) in to_come.topics.iter().take(MAX_TOPICS as usize) {
        sheet.level(Metric::TopicDelayed, &[topic], *bytes as f64);
    }
    let overdue = Duration::from_millis(to_come.overdue_ms);
    sheet.level(Metric::DelayedOverdue, &[], overdue.as_secs_f64());
    for Deaths {
        topic, name, count, ..
    } in groups::deaths(store, MAX_SUBSCRIPTIONS).await?
    {
        sheet.count(Metric::GroupDeadLetters, &[&topic, &name], count);
    }
    if let StoreSettings::Sqlite { path, .. } = &config.store {
        disk(path, &mut sheet);
    }
    Ok(sheet)
}

/// The database's files, and what is free beside them.
fn disk(path: &str, sheet: &mut Sheet) {
    for (file, path) in [("database", path), ("log", &format!("{path}-wal"))] {
        if let Ok(found) = fs::metadata(path) {
            sheet.level(Metric::StoreDisk, &[file], found.len() as f64);
        }
    }
    if let Ok(disk) = rustix::fs::statvfs(path) {
        sheet.level(
            Metric::StoreDiskFree,
            &[],
            disk.f_bavail as f64 * disk.f_frsize as f64,
        );
    }
}
