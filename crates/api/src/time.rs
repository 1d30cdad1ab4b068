//! RFC 3339 times in UTC, as Unix milliseconds in memory.

/// The latest time accepted: the end of the year 9999, Unix milliseconds.
pub const MAX_TIME: u64 = 253_402_300_799_999;

/// The rule that an error states for a field that holds a time.
const RULE: &str = "must be an RFC 3339 time with an offset, e.g. 2027-01-31T12:00:00Z";
const MS_PER_DAY: i64 = 86_400_000;
/// Days from the first day of the year 0 of the calendar that begins its years in March, to 1970.
const DAYS_TO_1970: i64 = 719_468;
const DAYS_PER_400_YEARS: i64 = 146_097;

/// RFC 3339 text in UTC; milliseconds only where they are not zero. A later time than [`MAX_TIME`] is written as that.
pub fn format(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms.min(MAX_TIME)).unwrap_or(0);
    let (year, month, day) = date(ms / MS_PER_DAY);
    let of_day = ms % MS_PER_DAY;
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    let ms = of_day % 1_000;
    if ms > 0 {
        text.push_str(format!(".{ms:03}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Unix milliseconds of an RFC 3339 time with an offset, of the years 1 to 9999 in UTC; what is finer is cut off. A time
/// before 1970 is as good as 1970: nothing here is that old. `None` for anything else, so also for the other forms of
/// ISO 8601, for names of zones, and for the second 60: Unix time has no leap seconds.
pub fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.strip_prefix(['T', 't'])?.split_at_checked(8)?;
    let (year, month, day) = three(date, b'-', [4, 2, 2])?;
    let (hour, minute, second) = three(clock, b':', [2, 2, 2])?;
    let (ms, offset) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let end = fraction.bytes().position(|byte| !byte.is_ascii_digit())?;
            let (digits, offset) = fraction.split_at_checked(end).filter(|_| end > 0)?;
            let digit = |at| {
                digits
                    .as_bytes()
                    .get(at)
                    .map_or(0, |digit| i64::from(digit - b'0'))
            };
            (digit(0) * 100 + digit(1) * 10 + digit(2), offset)
        }
        None => (0, rest),
    };
    let offset_minutes = match offset.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(offset.get(1..3)?)?, number(offset.get(4..6)?)?);
            let distance = Some(hours * 60 + minutes).filter(|_| hours < 24 && minutes < 60)?;
            if *sign == b'-' { -distance } else { distance }
        }
        _ => return None,
    };
    let in_range =
        year >= 1 && (1..=days_of(year, month)?).contains(&day) && hour < 24 && minute < 60 && second < 60;
    let seconds = (hour * 60 + minute - offset_minutes) * 60 + second;
    let at = days(year, month, day) * MS_PER_DAY + seconds * 1_000 + ms;
    let from_year_1 = at >= days(1, 1, 1) * MS_PER_DAY;
    let at = u64::try_from(at.max(0)).ok().filter(|at| *at <= MAX_TIME);
    at.filter(|_| in_range && from_year_1)
}

/// Three numbers of so many digits each, and nothing but `between` between them.
fn three(text: &str, between: u8, digits: [usize; 3]) -> Option<(i64, i64, i64)> {
    let mut parts = text.split(char::from(between));
    let mut next = |digits| number(parts.next().filter(|part| part.len() == digits)?);
    let [first, second, third] = digits;
    let found = (next(first)?, next(second)?, next(third)?);
    parts.next().is_none().then_some(found)
}

fn number(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The days of a month; `None` if there is no such month.
fn days_of(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

/// Days since 1970 of a date of the Gregorian calendar, by Howard Hinnant's `days_from_civil`
/// (<https://howardhinnant.github.io/date_algorithms.html>): years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * DAYS_PER_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970
}

/// The date so many days after 1970; the inverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let (era, of_era) = (
        days.div_euclid(DAYS_PER_400_YEARS),
        days.rem_euclid(DAYS_PER_400_YEARS),
    );
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let since_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * since_march + 2) / 5 + 1;
    let month = (since_march + 2) % 12 + 1;
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// For `#[serde(with = "time::rfc3339")]`: `Option<u64>` as RFC 3339 text or null.
pub mod rfc3339_option {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    /// Writes RFC 3339 or null.
    pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(super::format).serialize(serializer)
    }

    /// Reads RFC 3339 or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| super::parse(&t).ok_or_else(|| D::Error::custom(super::RULE)))
            .transpose()
    }
}

/// For `#[serde(with = "time::rfc3339")]`: `u64` as RFC 3339 text.
pub mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    /// Writes RFC 3339.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        super::format(*value).serialize(serializer)
    }

    /// Reads RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).ok_or_else(|| D::Error::custom(super::RULE))
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TIME, format, parse};
    use proptest::prelude::*;

    #[test]
    fn times_round_trip_and_offsets_are_understood() {
        assert_eq!(format(1_800_000_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(format(1_800_000_000_250), "2027-01-15T08:00:00.25Z");
        assert_eq!(parse("2027-01-15T09:00:00+01:00"), Some(1_800_000_000_000));
        assert_eq!(parse("2027-01-14T08:01:00-23:59"), Some(1_800_000_000_000));
        assert_eq!(parse("2027-01-15t08:00:00z"), Some(1_800_000_000_000));
        assert_eq!(parse("2027-01-15T08:00:00-00:00"), Some(1_800_000_000_000));
        assert_eq!(parse("2027-01-15T08:00:00.250Z"), Some(1_800_000_000_250));
        assert_eq!(
            parse("2027-01-15T08:00:00.2509999999999Z"),
            Some(1_800_000_000_250)
        );
        assert_eq!(
            parse("2028-02-29T00:00:00Z").map(format).as_deref(),
            Some("2028-02-29T00:00:00Z")
        );
    }

    #[test]
    fn nothing_but_rfc_3339_is_a_time() {
        for bad in [
            "",
            "soon",
            "2027-01-15",
            "2027-01-15T08:00:00",
            "2027-01-15T08:00Z",
            "2027-01-15T08Z",
            "20270115T080000Z",
            "2027-01-15 08:00:00Z",
            "2027-01-15T08:00:00,250Z",
            "2027-01-15T08:00:00.Z",
            "2027-01-15T08:00:00.5",
            "2027-01-15T08:00:00Z[UTC]",
            "2027-01-15T08:00:00+01:00[Europe/Berlin]",
            "2027-01-15T08:00:00[Europe/Berlin]",
            "2027-01-15T08:00:00+25:59",
            "2027-01-15T08:00:00+24:00",
            "2027-01-15T08:00:00+01:60",
            "2027-01-15T08:00:00+01",
            "2027-01-15T08:00:00+0100",
            "2027-01-15T08:00:00+01:00:00",
            "2027-01-15T08:00:00 +01:00",
            "2027-01-15T08:00:00UTC",
            "2027-01-15T24:00:00Z",
            "2027-01-15T08:60:00Z",
            "2027-01-15T23:59:60Z",
            "2027-01-15T08:00:61Z",
            "2027-02-30T00:00:00Z",
            "2027-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-00-01T00:00:00Z",
            "2027-01-00T00:00:00Z",
            "2027-01-32T00:00:00Z",
            "2027-1-15T08:00:00Z",
            "+2027-01-15T08:00:00Z",
            "+002027-01-15T08:00:00Z",
            "-000001-01-15T08:00:00Z",
            "10000-01-01T00:00:00Z",
            "2027-W02-5T08:00:00Z",
            "2027-015T08:00:00Z",
            " 2027-01-15T08:00:00Z",
            "2027-01-15T08:00:00Z ",
            "2027-01-15T08:00:+5Z",
            "\u{662}027-01-15T08:00:00Z",
            "0000-01-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T23:59:59.999-23:59",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_years_1_to_9999_are_times_and_what_was_before_1970_is_1970() {
        assert_eq!(parse("9999-12-31T23:59:59.999Z"), Some(MAX_TIME));
        assert_eq!(
            parse("9999-12-31T23:59:59.999+23:59"),
            Some(MAX_TIME - 86_340_000)
        );
        assert_eq!(format(MAX_TIME), "9999-12-31T23:59:59.999Z");
        assert_eq!(format(MAX_TIME - 999), "9999-12-31T23:59:59Z");
        assert_eq!(format(u64::MAX), "9999-12-31T23:59:59.999Z");
        for old in [
            "1969-12-31T23:59:59Z",
            "0001-01-01T00:00:00Z",
            "1900-02-28T00:00:00-05:00",
        ] {
            assert_eq!(parse(old), Some(0), "{old}");
        }
        assert_eq!(format(0), "1970-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(at in 0..=MAX_TIME) {
            prop_assert_eq!(parse(&format(at)), Some(at));
        }

        #[test]
        fn another_calendar_agrees(at in 0..=253_370_764_800_000_u64) {
            let theirs = jiff::Timestamp::from_millisecond(i64::try_from(at).unwrap()).unwrap();
            prop_assert_eq!(format(at), theirs.to_string());
        }

        #[test]
        fn no_text_breaks_it(text in "[-0-9TtZz:.+ ]{0,40}|\\PC{0,40}") {
            if let Some(at) = parse(&text) {
                prop_assert!(at <= MAX_TIME);
            }
        }
    }
}
