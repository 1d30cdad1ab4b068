//! RFC 3339 times in UTC, as Unix milliseconds in memory.

/// The latest time accepted: the end of the year 9999, Unix milliseconds.
pub const MAX_TIME: u64 = 253_402_300_799_999;

/// RFC 3339 text in UTC; milliseconds only where they are not zero.
pub fn format(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms.min(MAX_TIME)).unwrap_or(0);
    jiff::Timestamp::from_millisecond(ms)
        .map(|t| t.to_string())
        .unwrap_or_default()
}

/// Unix milliseconds of an RFC 3339 time with an offset; `None` if it is not one, or lies before 1970 or after 9999.
pub fn parse(text: &str) -> Option<u64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond())
        .ok()
        .filter(|&ms| ms <= MAX_TIME)
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
        text.map(|t| {
            super::parse(&t)
                .ok_or_else(|| D::Error::custom("must be an RFC 3339 time, e.g. 2027-01-31T12:00:00Z"))
        })
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
        super::parse(&text)
            .ok_or_else(|| D::Error::custom("must be an RFC 3339 time, e.g. 2027-01-31T12:00:00Z"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_round_trip_and_offsets_are_understood() {
        assert_eq!(super::format(1_800_000_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(super::parse("2027-01-15T09:00:00+01:00"), Some(1_800_000_000_000));
        assert_eq!(super::parse("2027-01-15T08:00:00.250Z"), Some(1_800_000_000_250));
        for bad in [
            "",
            "2027-01-15",
            "1969-12-31T23:59:59Z",
            "2027-02-30T00:00:00Z",
            "soon",
            "2027-01-15T08:00:00",
        ] {
            assert_eq!(super::parse(bad), None, "{bad}");
        }
    }
}
