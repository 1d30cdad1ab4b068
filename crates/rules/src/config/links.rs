//! `[links]`: how short links are made, counted and kept.

use serde::{Deserialize, Serialize};
use tollgate_api::units::Span;

/// When a redirect's click becomes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clicks {
    /// With the next group; the redirect does not wait.
    #[default]
    Submitted,
    /// Before the redirect is answered.
    Durable,
    /// Not counted (except for links with `maxVisits`).
    Off,
}

/// `[links]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// The default status: 301, 302, 307 or 308.
    pub redirect: u16,
    /// The default length of generated codes, 4 to 32.
    pub code_length: u8,
    /// Whether callers without a key may create links.
    pub anonymous: bool,
    /// After how long without a visit their links end, at the latest.
    pub anonymous_idle: Span,
    /// How many of them an address (IPv6 by /64) may create in a day (UTC).
    pub anonymous_per_day: u64,
    /// How many of them the store may hold.
    pub anonymous_max: u64,
    /// How long a link that has ended by time is kept and answers 410, before its code is free.
    pub keep_expired: Span,
    /// How long a link is kept that was archived, from its last change on; for ever, unless it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_archived: Option<Span>,
    /// How clicks are recorded.
    pub clicks: Clicks,
    /// Whether visits are noted beside their number; see [`crate::links::stats`].
    pub stats: bool,
    /// How many of a link's newest visits are kept one by one, where `stats` is on; 0 to 10,000.
    pub visit_log: u32,
    /// Where `GET /` leads; without one, browsers get a page of ours, and others a 404.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_url: Option<String>,
    /// Where a code leads that no link has; without one, browsers get a page, and others a 404.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_found_url: Option<String>,
    /// Where a link leads that has ended and has no fallback; without one, browsers get a page, and others a 410.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_url: Option<String>,
    /// Whether new codes are in lower case, and found in any.
    pub case_insensitive: bool,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            redirect: 302,
            code_length: 7,
            anonymous: true,
            anonymous_idle: Span::from_secs(30 * 86_400),
            anonymous_per_day: 100,
            anonymous_max: 100_000,
            keep_expired: Span::from_secs(30 * 86_400),
            keep_archived: None,
            clicks: Clicks::Submitted,
            stats: true,
            visit_log: 1_000,
            root_url: None,
            not_found_url: None,
            gone_url: None,
            case_insensitive: false,
        }
    }
}
