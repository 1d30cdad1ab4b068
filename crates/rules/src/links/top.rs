//! `GET /api/links/top`: the links that are visited most. The host ranks them in its memory, by what the rules
//! count ([`visits`]); here is who may ask, and what they are answered.

use serde::Serialize;

use super::access::key_owner;
use super::record::{Link, State, View};
use crate::keys::{self, ApiKey};
use crate::settings::Settings;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_api::time;
use tollgate_store::commit::{Commit, Mutation, StoreError};
use tollgate_store::ports::Store;

/// Links of an answer unless the caller says otherwise.
pub(super) const DEFAULT_LINKS: u64 = 10;
/// The most links of an answer.
pub(super) const MAX_LINKS: u64 = 100;
/// The links of a window that are looked at, most visits first: those of one owner are found among them.
pub const MAX_RANKED: usize = 1_000;

/// How far a ranking looks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
}

impl Window {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Its name in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    /// Milliseconds.
    pub const fn length(self) -> u64 {
        match self {
            Self::Hour => 3_600_000,
            Self::Day => 24 * 3_600_000,
            Self::Week => 7 * 24 * 3_600_000,
        }
    }
}

/// The visits that a commit counts: `<code>/<id>` of each link (see [`super::record::counter_keys`]), and how many.
pub fn visits(commit: &Commit) -> impl Iterator<Item = (&str, u64)> {
    commit.mutations.iter().filter_map(|mutation| match mutation {
        Mutation::Add { key, delta, .. } => Some((key.strip_prefix("visits/")?, u64::try_from(*delta).ok()?)),
        _ => None,
    })
}

/// What a caller asks for.
#[derive(Debug)]
pub struct Asked {
    /// How far it looks back.
    pub window: Window,
    limit: usize,
    /// Whose links; everybody's for an admin.
    owner: Option<String>,
}

impl Asked {
    /// What the request asks for.
    ///
    /// # Errors
    /// 401 or 403 without a key of the scope `links`; 400 for a field of the query; those of the store.
    pub async fn of<S: Store>(store: &S, request: &Request, now: u64) -> Result<Self, Problem> {
        let key = keys::require(store, request, now, Scope::Links).await?;
        let query = Query::of(request, &["window", "limit"])?;
        let named = query.text("window").unwrap_or(Window::Day.name());
        let window = Window::ALL.into_iter().find(|window| window.name() == named);
        let window = window.ok_or_else(|| Problem::field("query:window", "must be 1h, 24h or 7d"))?;
        let limit = query.number("limit", 1..=MAX_LINKS, DEFAULT_LINKS)?;
        let is_admin = |key: &ApiKey| key.allows(Scope::Admin);
        Ok(Self {
            window,
            limit: usize::try_from(limit).unwrap_or(1),
            owner: (!is_admin(&key)).then(|| key_owner(&key)),
        })
    }

    /// Looks for links to answer among some, most visits first ([`visits`] has their names): those that redirect at `now`, Unix
    /// milliseconds. `true`: there are enough.
    ///
    /// # Errors
    /// Those of the store. A record that cannot be read is left out.
    pub async fn look<S: Store>(
        &self,
        store: &S,
        ranked: &[(String, u64)],
        now: u64,
        found: &mut Found,
    ) -> Result<bool, StoreError> {
        for (name, visits) in ranked {
            if found.0.len() == self.limit {
                return Ok(true);
            }
            let (code, id) = match name.split_once('/') {
                Some((code, id)) => (code, Some(id)),
                None => (&**name, None),
            };
            let link = match Link::read(store, code).await {
                Err(StoreError::Invalid(_)) => None,
                read => read?,
            };
            let is_theirs = |owner: &str| self.owner.as_ref().is_none_or(|theirs| theirs == owner);
            let is_ranked = |link: &Link| {
                let is_it = match id {
                    Some(id) => link.record.id == id,
                    None => !link.record.by_id,
                };
                is_it && is_theirs(&link.record.owner) && link.state(now) == State::Live
            };
            if let Some(link) = link.filter(is_ranked) {
                found.0.push((*visits, link));
            }
        }
        Ok(found.0.len() == self.limit)
    }

    /// The answer. `since`: from when visits were counted, Unix milliseconds.
    pub fn answer(&self, settings: &Settings, found: &Found, since: u64) -> Response {
        let links = found.0.iter().map(|(visits, link)| Ranked {
            visits: *visits,
            link: link.view(settings),
        });
        let top = Top {
            window: self.window.name(),
            since,
            links: links.collect(),
        };
        Response::json(200, &top).with("cache-control", "private, no-store")
    }
}

/// Links with their visits in the window.
#[derive(Debug, Default)]
pub struct Found(Vec<(u64, Link)>);

/// The links that are visited most.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "TopLinks")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Top<'a> {
    /// How far it looks back.
    window: &'a str,
    /// From when visits were counted: the window's beginning, or later.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    since: u64,
    /// Most visits first.
    links: Vec<Ranked<'a>>,
}

/// A link with its visits in a window.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "RankedLink")
)]
#[serde(rename_all = "camelCase")]
struct Ranked<'a> {
    /// Visits in the window.
    visits: u64,
    /// The link as it is now.
    link: View<'a>,
}
