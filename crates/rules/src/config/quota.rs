//! `[[quotas]]`: how many requests a calendar window takes.

use serde::{Deserialize, Serialize};

use super::{Per, any_path};

/// A calendar window, in a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "QuotaWindow")
)]
#[serde(rename_all = "lowercase")]
pub enum QuotaWindow {
    /// From a full hour to the next.
    Hour,
    /// From the first moment of a day to that of the next: 23, 24 or 25 hours.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to that of the next.
    Month,
}

/// Which requests count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuotaCount {
    /// Those that are let through.
    #[default]
    Admitted,
}

/// `[[quotas]]`: durable and exact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaSettings {
    /// Unique, among limits too; visible in headers and problems.
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
    /// Requests of a window.
    pub limit: u64,
    /// The window.
    pub window: QuotaWindow,
    /// Where the window begins and ends: a name of the IANA time zone database.
    #[serde(default = "utc")]
    pub timezone: String,
    /// Which requests count.
    #[serde(default)]
    pub count: QuotaCount,
}

fn any_method() -> Vec<String> {
    vec!["*".into()]
}
fn per_client() -> Vec<Per> {
    vec![Per::Client]
}
fn utc() -> String {
    "UTC".into()
}
