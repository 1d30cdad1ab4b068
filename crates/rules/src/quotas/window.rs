//! Calendar windows in a time zone: a day may have 23 or 25 hours.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

use crate::config::QuotaWindow;

const HOUR_MS: u64 = 3_600_000;
/// A window that no calendar gives, as of a time beyond the year 9999: a day of UTC.
const DAY_MS: u64 = 24 * HOUR_MS;

/// A time zone.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// Of a name of the IANA database, as it was when this program was built.
    pub(crate) fn named(name: &str) -> Option<Self> {
        jiff::tz::TimeZoneDatabase::bundled().get(name).ok().map(Self)
    }

    /// The window that `now` is in, from its first moment to that of the next: Unix milliseconds.
    pub(crate) fn window(&self, window: QuotaWindow, now: u64) -> (u64, u64) {
        let day = now / DAY_MS * DAY_MS;
        self.of_calendar(window, now).unwrap_or((day, day + DAY_MS))
    }

    fn of_calendar(&self, window: QuotaWindow, now: u64) -> Option<(u64, u64)> {
        let time = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?;
        let here = time.to_zoned(self.0.clone());
        let date = here.date();
        let (first, next) = match window {
            QuotaWindow::Hour => return Some(hour(&here, now)),
            QuotaWindow::Day => (date, date.tomorrow().ok()?),
            QuotaWindow::Week => {
                let since = i32::from(date.weekday().to_monday_zero_offset());
                let monday = date.checked_sub(since.days()).ok()?;
                (monday, monday.checked_add(7.days()).ok()?)
            }
            QuotaWindow::Month => (date.first_of_month(), date.last_of_month().tomorrow().ok()?),
        };
        Some((self.begins(first)?, self.begins(next)?))
    }

    /// The first moment of a day, which is not always midnight.
    fn begins(&self, date: Date) -> Option<u64> {
        let first = date.to_zoned(self.0.clone()).ok()?;
        u64::try_from(first.timestamp().as_millisecond()).ok()
    }
}

/// From a full hour of the clock on the wall, which may be half an hour off, to the next.
fn hour(here: &Zoned, now: u64) -> (u64, u64) {
    let offset = i64::from(here.offset().seconds()) * 1_000;
    let now_here = i64::try_from(now).unwrap_or(i64::MAX).saturating_add(offset);
    let into = u64::try_from(now_here.rem_euclid(3_600_000)).unwrap_or(0);
    let start = now.saturating_sub(into);
    (start, start + HOUR_MS)
}
