//! What is gathered anew with each scrape: numbers that are in memory, and a few questions to the operating system.

use super::sheet::{Distribution, Sheet};
use super::table::Metric;
use super::{process, slow};
use crate::logging;
use crate::proxy::cache::Use;
use crate::proxy::counts::Outcome;
use crate::server::Shared;
use crate::server::places::Places;
use crate::upkeep;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;
use tollgate_delivery::driver::SubscriptionStatus;
use tollgate_engines::{Engine as _, GROUP_COMMITS, Observed, SYNC_MICROS, Stats};
use tollgate_store::settings::StoreSettings;

const MICROS_PER_SECOND: f64 = 1e6;

/// Writes it.
pub fn report(shared: &Shared, sheet: &mut Sheet) {
    let generation = shared.current.get();
    let config = &generation.settings.config;
    let health = shared.engines.store.health();
    let draining = shared.draining.load(Ordering::Relaxed);
    sheet.number(Metric::StoreUp, &[], u32::from(health.is_ok()));
    sheet.number(Metric::Ready, &[], u32::from(health.is_ok() && !draining));
    shared.engines.counted.report(sheet);
    store(&shared.engines.store.stats(), sheet);
    sheet.number(Metric::Buckets, &[], shared.engines.buckets.len());
    sheet.number(Metric::BucketsMax, &[], config.clients.max_buckets);
    let limits = shared.engines.buckets.shared();
    let (kept, reports, apart) = limits.map_or((0, 0, false), |limits| limits.debts.counts());
    let exact = limits.map(|limits| limits.exact.counts()).unwrap_or_default();
    sheet.number(Metric::SharedBuckets, &[], kept);
    sheet.count(Metric::SharedReports, &[], reports);
    sheet.number(Metric::SharedApart, &[], u32::from(apart));
    sheet.count(Metric::ExactTakes, &["answered"], exact.takes);
    sheet.count(Metric::ExactTakes, &["failed"], exact.failed);
    sheet.count(Metric::ExactFlights, &[], exact.flights);
    sheet.number(Metric::ExactAway, &[], u32::from(exact.is_away));
    for limit in &config.concurrency {
        let numbers = shared.under_way.numbers(&limit.name);
        sheet.number(Metric::ConcurrencyUnderWay, &[&limit.name], numbers.under_way);
        sheet.number(Metric::ConcurrencyMax, &[&limit.name], limit.max);
        sheet.count(Metric::ConcurrencyRefused, &[&limit.name], numbers.refused);
    }
    connections(shared, sheet);
    components(shared, sheet);
    origins(shared, sheet);
    if let Some(relay) = shared.metrics.relay.get() {
        deliveries(&relay.all(), sheet);
    }
    let streams = u32::try_from(shared.events.streams()).unwrap_or(u32::MAX);
    sheet.number(Metric::EventStreams, &[], streams);
    sheet.count(Metric::EventsDropped, &[], shared.events.dropped());
    sheet.level(Metric::VisitNotes, &[], upkeep::notes_waiting() as f64);
    let ranking = &shared.engines.ranking;
    let streams = u32::try_from(ranking.streams()).unwrap_or(u32::MAX);
    sheet.number(Metric::RankingStreams, &[], streams);
    sheet.count(Metric::RankingDropped, &[], ranking.dropped());
    let (dropped, folded) = logging::left_out();
    sheet.count(Metric::LogDropped, &[], dropped);
    sheet.count(Metric::LogFolded, &[], folded);
    let (sent, without_room, not_taken) = shared.traces.as_ref().map_or((0, 0, 0), |traces| traces.counts());
    sheet.count(Metric::SpansSent, &[], sent);
    sheet.count(Metric::SpansDropped, &["full"], without_room);
    sheet.count(Metric::SpansDropped, &["collector"], not_taken);
    let access_log = generation.access_log.as_ref();
    sheet.count(
        Metric::AccessLogDropped,
        &[],
        access_log.map_or(0, |log| log.dropped()),
    );
    let engine = match &config.store {
        StoreSettings::Sqlite { .. } => "sqlite",
        StoreSettings::Memory { .. } => "memory",
        StoreSettings::Postgres(_) => "postgres",
    };
    sheet.info(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION"), engine]);
    let began = shared
        .metrics
        .began
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    sheet.level(Metric::StartTime, &[], began.as_secs_f64());
    sheet.number(Metric::ConfigReloaded, &[], u32::from(shared.reloads.is_good()));
    sheet.level(Metric::ConfigTime, &[], shared.reloads.time().as_secs_f64());
    process::report(sheet);
}

fn store(stats: &Stats, sheet: &mut Sheet) {
    sheet.count(Metric::StoreCommits, &[], stats.commits);
    sheet.count(Metric::StoreGroups, &[], stats.groups);
    let groups = distribution(&stats.group_commits, &GROUP_COMMITS, 1.0);
    sheet.distribution(Metric::StoreGroupCommits, &[], groups);
    let syncs = distribution(&stats.syncs, &SYNC_MICROS, MICROS_PER_SECOND);
    sheet.distribution(Metric::StoreSync, &[], syncs);
    sheet.number(Metric::StoreQueued, &[], stats.queued);
    sheet.count(Metric::StoreErrors, &["group"], stats.failed);
    sheet.count(Metric::StoreErrors, &["overflow"], stats.overflowed);
    sheet.count(Metric::StoreErrors, &["dropped"], stats.dropped);
    sheet.count(Metric::StoreCacheHits, &[], stats.cache_hits);
    sheet.count(Metric::StoreCacheMisses, &[], stats.cache_misses);
    sheet.number(Metric::StoreCacheEntries, &[], stats.cached.entries);
    sheet.level(Metric::StoreCacheBytes, &[], stats.cached.bytes as f64);
    sheet.number(Metric::StoreMemtableEntries, &[], stats.journaled.entries);
    sheet.level(Metric::StoreMemtableBytes, &[], stats.journaled.bytes as f64);
    sheet.count(Metric::StoreFlushed, &[], stats.flushed);
    sheet.count(Metric::StoreSwept, &[], stats.swept);
    sheet.count(Metric::StoreCheckpoints, &[], stats.checkpoints);
    sheet.number(Metric::StoreLanes, &[], stats.lanes);
    sheet.count(Metric::StoreRetries, &[], stats.retries);
    sheet.count(Metric::StoreResolved, &[], stats.resolved);
    sheet.count(Metric::StoreRevalidated, &[], stats.revalidated);
}

/// `scale`: of the bounds' unit to the metric's.
fn distribution<const N: usize>(observed: &Observed<N>, bounds: &[u64; N], scale: f64) -> Distribution {
    let bound = |bound: &u64| match *bound {
        u64::MAX => f64::INFINITY,
        bound => bound as f64 / scale,
    };
    Distribution {
        sum: observed.sum as f64 / scale,
        buckets: bounds.iter().map(bound).zip(observed.counts).collect(),
    }
}

fn connections(shared: &Shared, sheet: &mut Sheet) {
    let places = [Some(&shared.places), shared.admin_places.as_ref()];
    let sum = |of: fn(&Places) -> u64| places.into_iter().flatten().map(|places| of(places)).sum::<u64>();
    sheet.number(Metric::Connections, &[], sum(|places| places.taken() as u64));
    sheet.number(Metric::ConnectionsMax, &[], shared.places.total());
    sheet.count(
        Metric::ConnectionsAccepted,
        &[],
        sum(|places| places.accepted.get()),
    );
    sheet.count(Metric::ConnectionsRefused, &[], sum(Places::refused));
    sheet.count(Metric::ConnectionsFailed, &[], sum(|places| places.failed.get()));
    for (name, tls) in [("public", &shared.tls), ("admin", &shared.admin_tls)] {
        let Some(tls) = tls else { continue };
        for (outcome, count) in tls.handshakes() {
            sheet.count(Metric::TlsHandshakes, &[name, outcome], count);
        }
        for (outcome, count) in ["taken", "refused"].into_iter().zip(tls.reloads()) {
            sheet.count(Metric::TlsReloads, &[name, outcome], count);
        }
        for (outcome, count) in ["issued", "failed"]
            .into_iter()
            .zip(tls.orders().into_iter().flatten())
        {
            sheet.count(Metric::TlsOrders, &[outcome], count);
        }
        for certificate in tls.certificates() {
            let expires = certificate.expires_at().as_secs_f64();
            sheet.level(Metric::TlsExpiry, &[name, &certificate.file], expires);
        }
    }
}

fn components(shared: &Shared, sheet: &mut Sheet) {
    for handler in shared.handlers.iter().flat_map(|handlers| handlers.all()) {
        let name = &**handler.name();
        sheet.number(Metric::ComponentUnderWay, &[name], handler.under_way());
        sheet.number(Metric::ComponentWaiting, &[name], handler.waiting());
        for (reason, count) in handler.failures() {
            sheet.count(Metric::ComponentFailures, &[name, reason], count);
        }
    }
}

fn origins(shared: &Shared, sheet: &mut Sheet) {
    let generation = shared.current.get();
    for origin in generation.origins.iter().flat_map(|origins| origins.all()) {
        let name = &*origin.settings().name;
        let counts = &origin.counts;
        for outcome in Outcome::ALL {
            sheet.count(
                Metric::OriginRequests,
                &[name, outcome.name()],
                counts.of(outcome),
            );
        }
        sheet.number(Metric::OriginUnderWay, &[name], origin.under_way());
        sheet.number(Metric::OriginWaiting, &[name], origin.waiting());
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        sheet.count(Metric::OriginRetries, &[name], count(&counts.retries));
        sheet.count(Metric::OriginCut, &[name], count(&counts.cut));
        sheet.count(Metric::OriginConnections, &[name], count(&counts.connections));
        sheet.number(Metric::OriginTunnels, &[name], count(&counts.tunnels));
        if let Some(cache) = &origin.cache {
            for how in Use::ALL {
                sheet.count(Metric::OriginCache, &[name, how.name()], cache.uses(how));
            }
            sheet.level(Metric::OriginCacheBytes, &[name], cache.weight() as f64);
        }
        for address in origin.addresses() {
            let labels = [name, &*address.url];
            let circuit: u32 = match address.breaker() {
                "open" => 2,
                "half-open" => 1,
                _ => 0,
            };
            sheet.number(Metric::OriginCircuit, &labels, circuit);
            sheet.number(Metric::OriginHealthy, &labels, u32::from(address.is_well()));
        }
    }
}

fn deliveries(all: &[SubscriptionStatus], sheet: &mut Sheet) {
    for status in all.iter().take(slow::MAX_SUBSCRIPTIONS) {
        let names = [&*status.topic, &*status.name];
        let [topic, name] = names;
        for (outcome, count) in [
            ("accepted", status.delivered),
            (
                "refused",
                status.attempts.saturating_sub(status.delivered + status.unwanted),
            ),
            ("unwanted", status.unwanted),
        ] {
            sheet.count(Metric::DeliveryAttempts, &[topic, name, outcome], count);
        }
        sheet.number(Metric::DeliveriesUnderWay, &names, status.machine.under_way);
        sheet.count(Metric::DeadLetters, &names, status.dead);
        let circuit: u32 = match status.machine.breaker {
            "open" => 2,
            "half-open" => 1,
            _ => 0,
        };
        sheet.number(Metric::CircuitState, &names, circuit);
        sheet.number(
            Metric::SubscriptionPaused,
            &names,
            u32::from(status.machine.paused),
        );
    }
}
