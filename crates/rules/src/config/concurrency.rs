//! `[[concurrency]]`: how many requests may be under way at once.

use serde::{Deserialize, Serialize};

use super::limit::{any_method, per_client};
use super::{Per, any_path};

/// `[[concurrency]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencySettings {
    /// Unique, among limits and quotas too; visible in problems.
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
    /// Requests under way at once.
    pub max: u32,
    /// What one too many is answered: 429 or 503.
    #[serde(default = "too_many")]
    pub status: u16,
}

fn too_many() -> u16 {
    429
}
