//! `[clients]` and `[users]`: by what requests are told apart.

use serde::{Deserialize, Serialize};

use super::jwt::JwtSettings;

/// `[clients]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// The header that names a client; lower case.
    pub header: String,
    /// The header in which trusted proxies tell a visitor's country; lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_header: Option<String>,
    /// A file of networks and their countries, in MaxMind's format; for visitors whose country no trusted proxy tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_file: Option<String>,
    /// Token buckets held in memory; beyond it the oldest idle bucket goes.
    pub max_buckets: u64,
    /// The names that one address may bring to a quota in a window, each with a counter of its own; beyond it they share one.
    pub max_quota_names: u64,
    /// Whether answers that carry `RateLimit` carry the older `X-RateLimit-Limit`, `-Remaining` and `-Reset` too.
    pub x_ratelimit: bool,
}

/// `[users]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    /// The header that names a user; lower case.
    pub header: String,
    /// `[users.jwt]`: where it is set, the header counts for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSettings>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            header: "x-client-id".into(),
            country_header: None,
            country_file: None,
            max_buckets: 1_000_000,
            max_quota_names: 100_000,
            x_ratelimit: false,
        }
    }
}

impl Default for Users {
    fn default() -> Self {
        Self {
            header: "x-user-id".into(),
            jwt: None,
        }
    }
}
