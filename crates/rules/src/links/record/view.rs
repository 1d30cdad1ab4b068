//! A link as answers show it.

use serde::Serialize;

use crate::links::domain;
use crate::links::routing::{Rule, Weighted};
use crate::links::utm::Utm;
use crate::settings::Settings;
use tollgate_api::time;

/// The address that people are given for the link of a name.
pub(in crate::links) fn short_url(settings: &Settings, name: &str) -> String {
    domain::short_url(settings, name)
}

/// A link in an answer.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Link"))]
#[serde(rename_all = "camelCase")]
pub(in crate::links) struct View<'a> {
    /// Unique, for ever.
    pub(super) id: &'a str,
    /// What the short address ends with.
    pub(super) code: &'a str,
    /// The address that people are given.
    #[cfg_attr(feature = "schema", schemars(url))]
    pub(super) short_url: String,
    /// Where it leads.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::WebUrl"))]
    pub(super) url: &'a str,
    /// Its host, if that is not the one of `server.public_url`: the same code on two hosts is two links.
    pub(super) domain: Option<&'a str>,
    /// The status of the redirect.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [301, 302, 307, 308])))]
    pub(super) redirect: u16,
    /// When it was made.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    pub(super) created_at: u64,
    /// When it was changed last.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    pub(super) updated_at: u64,
    /// When it begins.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    pub(super) valid_from: Option<u64>,
    /// When it ends.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    pub(super) expires_at: Option<u64>,
    /// Seconds without a visit after which it ends.
    pub(super) expire_after_idle: Option<u64>,
    /// When somebody came last.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    pub(super) last_visited_at: Option<u64>,
    /// Visits so far.
    pub(super) visits: u64,
    /// Clients that made them, roughly, and a few seconds behind; 0 where `[links] stats` is off.
    pub(super) unique_visitors: u64,
    /// Visits of machines, which are not among the others; a few seconds behind, and 0 where `[links] stats` is off.
    pub(super) bots: u64,
    /// How many visits it redirects.
    pub(super) max_visits: Option<u64>,
    /// Where it leads once it has ended.
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Uri>"))]
    pub(super) fallback_url: Option<&'a str>,
    /// Whether the visitor's query is added to the target's.
    pub(super) forward_query: bool,
    /// Words to find it by.
    pub(super) tags: &'a [String],
    /// What it is called.
    pub(super) title: Option<&'a str>,
    /// The owner's own name of it.
    pub(super) external_id: Option<&'a str>,
    /// Whose it is: `key:<id>` or `client:<id>`.
    pub(super) owner: &'a str,
    /// Whether it is switched off.
    pub(super) archived: bool,
    /// Whether it asks for a password.
    pub(super) has_password: bool,
    /// Where it leads under conditions: the first that holds.
    pub(super) rules: &'a [Rule],
    /// Where it leads by weights, if no rule holds.
    pub(super) targets: &'a [Weighted],
    /// What is added to wherever it leads.
    pub(super) utm: Option<&'a Utm>,
    /// Seconds before its end by time at which a `link.expiring` message is sent.
    pub(super) notify_before: Option<u64>,
    /// Whether each visit is told by a `link.visited` message.
    pub(super) events: bool,
}
