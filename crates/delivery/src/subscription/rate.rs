//! Deliveries per second, which may be fewer than one.

use serde::{Deserialize, Serialize, Serializer};

/// Deliveries per second. A whole number is written as one, as every version before did.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct Rate(pub f64);

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&self.0) {
            return serializer.serialize_u64(self.0 as u64);
        }
        serializer.serialize_f64(self.0)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_rate_is_written_and_read_as_it_was_before_there_were_others() {
        for (rate, text) in [(500.0, "500"), (0.01, "0.01"), (1.5, "1.5")] {
            assert_eq!(serde_json::to_string(&Rate(rate)).unwrap(), text);
            assert_eq!(serde_json::from_str::<Rate>(text).unwrap(), Rate(rate));
        }
        assert_eq!(Rate(0.01).to_string(), "0.01");
    }
}
