//! Durations and sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration, written as `"500ms"`, `"1s"`, `"10m"`, `"24h"`, `"7d"`; held in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

/// A size, written as `"64KiB"`, `"1GiB"` or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Largest first, so that the first unit that divides a value without remainder writes it shortest.
const SPAN_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Span {
    /// Of whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl From<Span> for std::time::Duration {
    fn from(span: Span) -> Self {
        Self::from_nanos(span.0)
    }
}

/// `<whole number><unit>`; `None` for anything else and for what exceeds 64 bits.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units
        .iter()
        .find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn write(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let whole = |(_, scale): &&(&str, u64)| value > 0 && value.is_multiple_of(*scale);
    match units.iter().find(whole) {
        Some((name, scale)) => write!(f, "{}{name}", value / scale),
        None => write!(f, "0{}", if units.len() == SPAN_UNITS.len() { "s" } else { "B" }),
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, SPAN_UNITS, f)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, SIZE_UNITS, f)
    }
}

/// Why a text is not a duration or a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error(r#"must be a duration of a whole number and a unit, e.g. "500ms", "1s", "10m", "24h" or "7d""#)]
    Span,
    /// Not a size.
    #[error(r#"must be a size of a whole number and a unit, e.g. "64KiB" or "1GiB", or a number of bytes"#)]
    Bytes,
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, SPAN_UNITS).map(Self).ok_or(UnitError::Span)
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, SIZE_UNITS).map(Self).ok_or(UnitError::Bytes)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a duration such as "500ms", "1s", "10m", "24h" or "7d""#)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a size such as "64KiB" or "1GiB", or a number of bytes"#)
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Bytes, E> {
                u64::try_from(bytes)
                    .map(Bytes)
                    .map_err(|_| E::custom(UnitError::Bytes))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_and_written_in_their_shortest_unit() {
        for (text, ns) in [
            ("500ms", 500_000_000),
            ("1s", 1_000_000_000),
            ("10m", 600_000_000_000),
            ("36h", 129_600_000_000_000),
            ("7d", 604_800_000_000_000),
            ("0s", 0),
            ("1500us", 1_500_000),
        ] {
            assert_eq!(text.parse(), Ok(Span(ns)), "{text}");
            assert_eq!(Span(ns).to_string(), text);
        }
        assert_eq!(Span(86_400_000_000_000).to_string(), "1d");
    }

    #[test]
    fn sizes_are_read_and_written_in_their_shortest_unit() {
        for (text, bytes) in [("64KiB", 65_536), ("1GiB", 1 << 30), ("1000B", 1_000), ("0B", 0)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_whole_number_with_a_unit_is_refused() {
        for bad in [
            "",
            "1",
            "s",
            "1.5s",
            "-1s",
            "1 week",
            "1S",
            "99999999999999999999s",
            "213504d",
            "1s1s",
        ] {
            assert_eq!(bad.parse::<Span>(), Err(UnitError::Span), "{bad}");
        }
        for bad in ["", "1", "KiB", "1kB", "1GB", "-1KiB", "16777216TiB"] {
            assert_eq!(bad.parse::<Bytes>(), Err(UnitError::Bytes), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_value_survives_being_written_and_read(value: u64) {
            prop_assert_eq!(Span(value).to_string().parse(), Ok(Span(value)));
            prop_assert_eq!(Bytes(value).to_string().parse(), Ok(Bytes(value)));
        }
    }
}
