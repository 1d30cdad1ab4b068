//! `[[challenges]]`: what a caller has to solve first.

use serde::{Deserialize, Serialize};

use super::any_method;
use tollgate_api::units::Span;

/// What is to be solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ChallengeKind")
)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeKind {
    /// A proof of work, in the form of ALTCHA.
    Altcha,
}

/// `[[challenges]]`: requests that take a solved challenge, each another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeSettings {
    /// Unique; see [`super::is_topic_name`].
    pub name: String,
    /// A route pattern; see [`tollgate_api::pattern`].
    pub path: String,
    /// Upper case methods, or `*`.
    #[serde(default = "any_method")]
    pub methods: Vec<String>,
    /// What is to be solved.
    pub kind: ChallengeKind,
    /// The numbers among which a solution is searched for: a solver tries half of them on average.
    #[serde(default = "fifty_thousand")]
    pub max_number: u64,
    /// For how long one can be solved and sent.
    #[serde(default = "ten_minutes")]
    pub expires: Span,
}

fn fifty_thousand() -> u64 {
    50_000
}
fn ten_minutes() -> Span {
    Span::from_secs(600)
}
