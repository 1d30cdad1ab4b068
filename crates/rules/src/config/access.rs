//! `[[access]]`: who is turned away, and who is not charged.

use serde::{Deserialize, Serialize};

/// What becomes of who is on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "AccessAction")
)]
#[serde(rename_all = "lowercase")]
pub enum AccessAction {
    /// 403, before any bucket.
    Deny,
    /// No limit is charged.
    Exempt,
}

/// `[[access]]`: a list. Whoever is in one of `cidrs`, `clients` and `users` is on it; where all three are empty, everybody is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    /// Unique; see [`super::is_topic_name`].
    pub name: String,
    /// What becomes of who is on it.
    pub action: AccessAction,
    /// A route pattern; see [`tollgate_api::pattern`].
    #[serde(default = "any_path")]
    pub path: String,
    /// Networks or addresses, of the client behind trusted proxies.
    #[serde(default)]
    pub cidrs: Vec<String>,
    /// Client ids: `key:<id>`, `id:<name>`, `ip:<address>`.
    #[serde(default)]
    pub clients: Vec<String>,
    /// Users.
    #[serde(default)]
    pub users: Vec<String>,
}

/// All paths.
pub fn any_path() -> String {
    "/...".into()
}
