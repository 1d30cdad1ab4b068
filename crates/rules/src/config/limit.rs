//! `[[limits]]`: token buckets.

use serde::{Deserialize, Serialize};
use tollgate_api::units::Span;

use super::access::any_path;
use super::per::Per;

/// What happens when the buckets, or whoever else decides, cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "OnStoreFailure")
)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The request goes on.
    #[default]
    Allow,
    /// 503.
    Deny,
}

/// `[[limits]]`: a token bucket policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Unique; visible in headers and problems.
    pub name: String,
    /// A route pattern; see [`tollgate_api::pattern`].
    #[serde(default = "any_path")]
    pub path: String,
    /// Upper case methods, or `*`.
    #[serde(default = "any_method")]
    pub methods: Vec<String>,
    /// What it counts by.
    #[serde(default = "per_client")]
    pub per: Vec<Per>,
    /// Tokens a full bucket holds.
    pub capacity: u64,
    /// Tokens gained per interval.
    pub refill: u64,
    /// The interval.
    #[serde(default = "one_second")]
    pub interval: Span,
    /// Tokens a request costs.
    #[serde(default = "one")]
    pub cost: u64,
    /// Counted and reported, never refused.
    #[serde(default)]
    pub shadow: bool,
    /// When the buckets cannot be asked.
    #[serde(default)]
    pub on_store_failure: OnFailure,
    /// Whether gateways over one store count together.
    #[serde(default, skip_serializing_if = "Shared::is_local")]
    pub shared: Shared,
    /// The domain of the descriptors that it counts, instead of requests; see [`crate::limiter::described`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The entries of those descriptors, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptor: Vec<DescriptorEntry>,
}

/// Who counts under a limit where several gateways have one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shared {
    /// Each gateway for itself.
    #[default]
    Local,
    /// All together: each admits at once, and tells the others soon; see [`tollgate_store::bucket::debt`].
    Debt,
    /// All together: their store decides each request, which waits for it; see [`tollgate_store::bucket::exact`].
    Exact,
}

impl Shared {
    fn is_local(&self) -> bool {
        *self == Self::Local
    }
}

/// An entry of the descriptors that a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DescriptorEntry {
    /// What it is.
    pub key: String,
    /// The one value; without it every value has a bucket of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

pub(super) fn any_method() -> Vec<String> {
    vec!["*".into()]
}

pub(super) fn per_client() -> Vec<Per> {
    vec![Per::Client]
}

fn one_second() -> Span {
    Span::from_secs(1)
}

fn one() -> u64 {
    1
}
