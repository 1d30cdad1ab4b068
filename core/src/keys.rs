//! API keys: `tg_<id>_<secret>`, stored as SHA-256 only.
//!
//! A key's record is the entry `key/<id>` of the partition `keys`; it holds the hash of the whole key.

use serde::{Deserialize, Serialize};

use crate::commit::StoreError;
use crate::http::Request;
use crate::ports::Store;
use crate::problem::Problem;

/// What a key may do. `Admin` may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything.
    Admin,
    /// Links.
    Links,
    /// Campaigns.
    Campaigns,
    /// Topics.
    Topics,
}

/// A verified key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Public; what limits and links refer to.
    pub id: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// The key of the request's `Authorization: Bearer`, or `None` if there is none that is known and unexpired.
pub async fn authenticate<S: Store>(store: &S, request: &Request, now: u64) -> Result<Option<ApiKey>, StoreError> {
    let _ = (store, request, now);
    Ok(None) // HELPER: to be written
}

/// As [`authenticate`], and the key must have `scope`: otherwise 401 or 403.
pub async fn require<S: Store>(store: &S, request: &Request, now: u64, scope: Scope) -> Result<ApiKey, Problem> {
    let _ = (store, request, now, scope);
    Err(Problem::unauthorized("Send an API key: Authorization: Bearer tg_…")) // HELPER: to be written
}
