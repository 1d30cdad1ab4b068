//! `[[domains]]`: other hosts that have short links of their own.

use serde::{Deserialize, Serialize};

/// `[[domains]]`: a host beside that of `server.public_url`. The same code on two hosts is two links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainSettings {
    /// Its name in lower case, without a port.
    pub host: String,
    /// Where `GET /` leads there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_url: Option<String>,
    /// Where a code leads there that no link has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_found_url: Option<String>,
    /// Where a link leads there that has ended and has no fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_url: Option<String>,
}
