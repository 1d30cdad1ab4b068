//! Which messages of its topic a subscription is about.

use serde::{Deserialize, Serialize};

use crate::webhook;
use tollgate_store::commit::Message;

/// The most types of a filter.
pub const MAX_TYPES: usize = 32;
/// The longest of them, bytes.
pub const MAX_TYPE: usize = 128;

/// `filter = { types = […] }`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "SubscriptionFilter")
)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Types of messages, such as `coupon.claimed`, or what they begin with and a `*`.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128)))
    )]
    pub types: Vec<String>,
}

impl Filter {
    /// Whether a message is delivered.
    pub fn passes(&self, message: &Message) -> bool {
        let kind = webhook::kind(message);
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => kind == pattern,
        };
        self.types.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_whole_or_what_they_begin_with() {
        let passes = |types: &[&str], kind: &str| {
            let filter = Filter {
                types: types.iter().map(|&one| one.to_owned()).collect(),
            };
            filter.passes(&Message {
                kind: kind.to_owned(),
                ..Message::default()
            })
        };
        assert!(passes(&["coupon.claimed"], "coupon.claimed"));
        assert!(!passes(&["coupon.claimed"], "coupon.claimed.x"));
        assert!(!passes(&["coupon.claimed"], "coupon"));
        assert!(passes(&["x", "coupon.*"], "coupon.expired"));
        assert!(!passes(&["coupon.*"], "coupon"));
        assert!(passes(&["*"], ""));
        assert!(
            passes(&["tollgate.message"], ""),
            "as it is called when it is sent"
        );
        assert!(!passes(&[], "x"));
    }
}
