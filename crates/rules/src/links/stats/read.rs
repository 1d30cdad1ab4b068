//! `GET /api/links/{code}/stats` and `GET /api/links/stats`.

use std::collections::BTreeMap;

use serde::Serialize;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_api::time;
use tollgate_store::commit::{Entry, MAX_PAGE, StoreError};
use tollgate_store::ports::Store;

use super::super::access::Credential;
use super::super::list;
use super::fold::{day_key, fold, hour_key};
use super::tally::{Tally, Together, Values};
use super::{DAY, Dimension, HOUR, HOURS_KEPT, notes_of};
use crate::world::World;

/// Hours up to which periods are hours, unless the caller says otherwise.
const BY_HOUR: u64 = 7 * 24;
/// The longest interval in days; what is older is in `all`.
pub const MAX_DAYS: u64 = 3_650;
/// The most links whose statistics are told together.
pub const MAX_LINKS: usize = 1_000;
/// The most tallies of links that are told together.
const MAX_TALLIES: u64 = 50_000;
/// How often a reader folds what is noted, a page each time.
const MAX_FOLDS: usize = 16;

/// The periods that visits are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Hour,
    Day,
}

impl Unit {
    /// Milliseconds.
    const fn length(self) -> u64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    fn key(self, id: &str, period: u64) -> String {
        match self {
            Self::Hour => hour_key(id, period),
            Self::Day => day_key(id, period),
        }
    }
}

/// What a caller asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    interval: String,
    /// `None`: by time.
    by: Option<Dimension>,
    unit: Unit,
    /// The first period and the last one.
    periods: [u64; 2],
}

impl Asked {
    /// `since`: from when there can be visits, Unix milliseconds.
    fn of(query: &Query, since: u64, now: u64) -> Result<Self, Problem> {
        let interval = query.text("interval").unwrap_or("24h");
        let rule = "must be hours to 2160h, days to 3650d, or all";
        let hours = hours(interval).ok_or_else(|| Problem::field("query:interval", rule))?;
        let by = match query.text("groupBy") {
            None | Some("time") => None,
            Some(name) => {
                let found = Dimension::ALL.into_iter().find(|one| one.name() == name);
                let rule = "must be time, referrer, device, os, browser, country or language";
                Some(found.ok_or_else(|| Problem::field("query:groupBy", rule))?)
            }
        };
        let hours = hours.unwrap_or_else(|| now.saturating_sub(since) / HOUR + 1);
        let unit = match query.text("unit") {
            None if hours <= BY_HOUR => Unit::Hour,
            None | Some("day") => Unit::Day,
            Some("hour") if hours <= HOURS_KEPT => Unit::Hour,
            Some("hour") => return Err(Problem::field("query:unit", "hours are kept for 90 days")),
            Some(_) => return Err(Problem::field("query:unit", "must be hour or day")),
        };
        let first = now.saturating_sub(hours.saturating_mul(HOUR)) / unit.length();
        Ok(Self {
            interval: interval.to_owned(),
            by,
            unit,
            periods: [first, now / unit.length()],
        })
    }
}

/// An interval in hours; `Some(None)` for all, `None` for one that is out of bounds.
fn hours(interval: &str) -> Option<Option<u64>> {
    if interval == "all" {
        return Some(None);
    }
    let unit = interval.len().checked_sub(1)?;
    let (number, unit) = interval.split_at_checked(unit)?;
    let digits = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    let hours = match unit {
        "h" => Some(number).filter(|hours| *hours <= HOURS_KEPT),
        "d" => Some(number)
            .filter(|days| *days <= MAX_DAYS)
            .map(|days| days * 24),
        _ => None,
    };
    hours.map(Some)
}

/// The visits of an interval.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkStats")
)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// How far it looks back.
    interval: String,
    /// What the rows are by.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["time", "referrer", "device", "os", "browser", "country", "language"])))]
    group_by: &'static str,
    /// The beginning of the first period, whole hours or days (UTC).
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    from: u64,
    /// Until when visits are counted here.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    to: u64,
    /// Visits.
    visits: u64,
    /// Clients that made them, roughly: the standard error is 2.3 %, and up to 190 are counted exactly.
    unique_visitors: u64,
    /// Visits of machines, which are not counted among the others.
    bots: u64,
    /// By time: every period, oldest first. By anything else: most visits first.
    rows: Vec<Row>,
}

/// A part of the visits.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkStatsRow")
)]
#[serde(untagged)]
enum Row {
    /// Of a period.
    #[serde(rename_all = "camelCase")]
    Period {
        /// Its beginning.
        #[serde(with = "time::rfc3339")]
        #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
        time: u64,
        /// Visits.
        visits: u64,
        /// Clients that made them, roughly.
        unique_visitors: u64,
        /// Visits of machines.
        bots: u64,
    },
    /// With a value.
    #[serde(rename_all = "camelCase")]
    Value {
        /// Null where it is not known; `other` for the visits of all values that are not named.
        value: Option<String>,
        /// Visits.
        visits: u64,
    },
}

/// Sums over periods, and over links.
#[derive(Default)]
struct Sums {
    visits: u64,
    bots: u64,
    clients: Together,
    values: Values,
    /// By period: visits, machines, clients.
    periods: BTreeMap<u64, (u64, u64, Together)>,
}

impl Sums {
    fn add(&mut self, asked: &Asked, period: u64, tally: &Tally) {
        self.visits += tally.visits;
        self.bots += tally.bots;
        self.clients.add(&tally.clients);
        let values = asked.by.and_then(|by| {
            Dimension::ALL
                .iter()
                .zip(&tally.values)
                .find(|(one, _)| **one == by)
        });
        match values {
            Some((_, values)) => self.values.merge(values),
            None => {
                let (visits, bots, clients) = self.periods.entry(period).or_default();
                *visits += tally.visits;
                *bots += tally.bots;
                clients.add(&tally.clients);
            }
        }
    }

    /// Adds a link's tallies, and says how many there were. One that cannot be read is left out.
    async fn load<S: Store>(&mut self, store: &S, asked: &Asked, id: &str) -> Result<u64, StoreError> {
        let [first, last] = asked.periods;
        let key = |period| asked.unit.key(id, period);
        let (prefix, end) = (key(0).trim_end_matches('0').to_owned(), key(last));
        let mut after = first.checked_sub(1).map(key);
        let mut count = 0;
        loop {
            let items = store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
            let is_last = items.is_empty();
            for item in &items {
                if item.key > end {
                    return Ok(count);
                }
                count += 1;
                let period = item
                    .key
                    .strip_prefix(&prefix)
                    .and_then(|period| period.parse().ok());
                if let (Some(period), Some(tally)) = (period, Tally::from_bytes(&item.entry.value)) {
                    self.add(asked, period, &tally);
                }
            }
            if is_last {
                return Ok(count);
            }
            after = items.into_iter().last().map(|item| item.key);
        }
    }

    fn answer(mut self, asked: Asked, now: u64) -> Response {
        let [first, last] = asked.periods;
        let length = asked.unit.length();
        let rows = match asked.by {
            None => (first..=last)
                .map(|period| {
                    let (visits, bots, clients) = self.periods.remove(&period).unwrap_or_default();
                    Row::Period {
                        time: period * length,
                        visits,
                        unique_visitors: clients.count(),
                        bots,
                    }
                })
                .collect(),
            Some(_) => {
                self.values.bound();
                let Values { named, rest } = self.values;
                let value = |(value, visits): (String, u64)| Row::Value {
                    value: Some(value).filter(|value| !value.is_empty()),
                    visits,
                };
                let other = (rest > 0).then(|| Row::Value {
                    value: Some("other".to_owned()),
                    visits: rest,
                });
                named.into_iter().map(value).chain(other).collect()
            }
        };
        let stats = Stats {
            group_by: asked.by.map_or("time", Dimension::name),
            interval: asked.interval,
            from: first * length,
            to: now,
            visits: self.visits,
            unique_visitors: self.clients.count(),
            bots: self.bots,
            rows,
        };
        Response::json(200, &stats)
    }
}

const FIELDS: [&str; 3] = ["interval", "groupBy", "unit"];

pub(in crate::links) async fn get<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    let query = Query::of(request, &FIELDS)?;
    let link = credential.open(world, code).await?;
    let asked = Asked::of(&query, link.record.created_at, world.now)?;
    count_noted(world, &link.record.id).await;
    let mut sums = Sums::default();
    sums.load(world.store, &asked, &link.record.id).await?;
    Ok(sums.answer(asked, world.now))
}

/// Before the tallies or the log of a link are read, what is noted is counted. Where that fails, they are a moment behind.
pub(in crate::links) async fn count_noted<S: Store>(world: &World<'_, S>, id: &str) {
    let keep = world.settings.config.links.visit_log;
    for _ in 0..MAX_FOLDS {
        match fold(world.store, &notes_of(id), keep).await {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
}

/// Of the caller's links together; an admin's are those of everybody, or of `owner`.
pub(in crate::links) async fn get_all<S: Store>(
    world: &World<'_, S>,
    request: &Request,
) -> Result<Response, Problem> {
    let query = Query::of(request, &["interval", "groupBy", "unit", "owner"])?;
    let links = list::all_of(world, request, &query, MAX_LINKS).await?;
    let Some(links) = links else {
        return Err(Problem::field(
            "query:owner",
            "has more than 1,000 links, whose statistics are not told together",
        ));
    };
    let since = links.iter().map(|(_, created_at)| *created_at).min();
    let asked = Asked::of(&query, since.unwrap_or(world.now), world.now)?;
    if !links.is_empty() {
        let _ = super::round::step(world.store, world.settings.config.links.visit_log, world.now).await;
    }
    let mut sums = Sums::default();
    let mut count = 0;
    for (id, _) in &links {
        count += sums.load(world.store, &asked, id).await?;
        if count > MAX_TALLIES {
            let rule = "is too long for so many links: ask for a shorter one, or by day";
            return Err(Problem::field("query:interval", rule));
        }
    }
    Ok(sums.answer(asked, world.now))
}

/// The clients of a link so far, and the visits of machines, by the entry of [`super::all_key`]. One that cannot be read counts as none.
pub(in crate::links) fn told(entry: Option<&Entry>) -> (u64, u64) {
    entry
        .and_then(|entry| Tally::told(&entry.value))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_bounded() {
        for (interval, expected) in [
            ("24h", Some(Some(24))),
            ("2160h", Some(Some(2_160))),
            ("2161h", None),
            ("1d", Some(Some(24))),
            ("3650d", Some(Some(87_600))),
            ("3651d", None),
            ("all", Some(None)),
            ("", None),
            ("h", None),
            ("0h", None),
            ("+1h", None),
            ("1", None),
            ("1w", None),
            ("99999999999999999999h", None),
            ("1\u{e4}", None),
        ] {
            assert_eq!(hours(interval), expected, "{interval}");
        }
    }
}
