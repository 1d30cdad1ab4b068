//! `[[quotas]]`: how many requests a calendar window takes.

use serde::{Deserialize, Serialize};

use super::limit::{any_method, per_client};
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

/// Which requests count: `admitted`, `status:2xx`, `status:201`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum QuotaCount {
    /// Those that are let through.
    #[default]
    Admitted,
    /// Of those, the ones whose answer has a status from the first to the last of these.
    Status(u16, u16),
}

impl TryFrom<String> for QuotaCount {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const RULE: &str = "must be \"admitted\", or e.g. \"status:2xx\" or \"status:201\"";
        if text == "admitted" {
            return Ok(Self::Admitted);
        }
        let status = text.strip_prefix("status:").ok_or(RULE)?;
        let (first, last) = match status.strip_suffix("xx") {
            Some(class) => (format!("{class}00"), format!("{class}99")),
            None => (status.to_owned(), status.to_owned()),
        };
        let number = |text: &str| {
            let is_status = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number: Option<u16> = text.parse().ok();
            number.filter(|number| is_status && (200..600).contains(number))
        };
        let both = number(&first).zip(number(&last));
        both.map(|(first, last)| Self::Status(first, last)).ok_or(RULE)
    }
}

impl From<QuotaCount> for String {
    fn from(count: QuotaCount) -> Self {
        match count {
            QuotaCount::Admitted => "admitted".into(),
            QuotaCount::Status(first, last) if first == last => format!("status:{first}"),
            QuotaCount::Status(first, _) => format!("status:{}xx", first / 100),
        }
    }
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

fn utc() -> String {
    "UTC".into()
}
