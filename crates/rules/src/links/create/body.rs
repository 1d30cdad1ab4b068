//! What `POST /api/links` is sent, and the link that it describes.

use serde::Deserialize;

use crate::codes;
use crate::links::again::Repeat;
use crate::links::password::Password;
use crate::links::record::{Limits, Link, Record, State};
use crate::links::routing::{self, Rule, Weighted};
use crate::links::utm::Utm;
use crate::links::{domain, fields};
use crate::target::{comparable, target};
use crate::world::World;
use tollgate_api::problem::Problem;
use tollgate_api::time;

/// The action when the caller already has a link to the URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "IfExists")
)]
#[serde(rename_all = "lowercase")]
pub(super) enum IfExists {
    /// Makes a new link.
    #[default]
    New,
    /// Gives the caller's newest live link to this URL, if every other field that is sent fits it.
    Return,
}

/// A link to be.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewLink")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::links) struct Body {
    /// Where it leads: http or https, a host that is not the gateway itself, no user name or password.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Uri"))]
    url: String,
    /// The code; a fresh one where it is left out. Names of the gateway itself are reserved.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[A-Za-z0-9_-]{3,64}$")))]
    code: Option<String>,
    /// The host that it is on: one of `[[domains]]`; that of `server.public_url` where it is left out. Takes a key.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253)))]
    domain: Option<String>,
    /// Characters of a fresh code.
    #[cfg_attr(feature = "schema", schemars(range(min = crate::config::MIN_CODE_LENGTH, max = crate::config::MAX_CODE_LENGTH)))]
    code_length: Option<u64>,
    /// The status of the redirect; the configured one, 302, where it is left out.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [301, 302, 307, 308, null])))]
    redirect: Option<u64>,
    /// It ends here: in the future.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    expires_at: Option<u64>,
    /// It begins here; before `expiresAt`.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    valid_from: Option<u64>,
    /// Seconds without a visit after which it ends.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::config::MAX_IDLE_SECONDS)))]
    expire_after_idle: Option<u64>,
    /// How many visits it redirects, exactly.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::links::MAX_VISITS)))]
    max_visits: Option<u64>,
    /// Where it leads once it has ended.
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Uri>"))]
    fallback_url: Option<String>,
    /// Whether the visitor's query is added to the target's.
    forward_query: Option<bool>,
    /// Words to find it by.
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 10), inner(length(min = 1, max = 64)))
    )]
    tags: Option<Vec<String>>,
    /// What it is called.
    #[cfg_attr(feature = "schema", schemars(length(max = 200)))]
    title: Option<String>,
    /// The caller's own name of it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 128)))]
    external_id: Option<String>,
    /// Asked for before it leads anywhere. A link with one is always made anew, whatever `ifExists` says.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::links::password::MAX_CHARS), extend("writeOnly" = true)))]
    password: Option<String>,
    /// Where it leads under conditions: the first that holds.
    #[cfg_attr(feature = "schema", schemars(length(max = routing::MAX_RULES)))]
    rules: Option<Vec<Rule>>,
    /// Where it leads by weights, if no rule holds; a client is led to the same place each time.
    #[cfg_attr(feature = "schema", schemars(length(max = routing::MAX_TARGETS)))]
    targets: Option<Vec<Weighted>>,
    /// What is added to wherever it leads, but not to `fallbackUrl`.
    utm: Option<Utm>,
    /// Seconds before its end by time at which a `link.expiring` message is sent. Needs a key, and `[events] topic`.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::config::MAX_IDLE_SECONDS)))]
    pub(super) notify_before: Option<u64>,
    /// Whether each visit is told by a `link.visited` message. Needs a key, and `[events] topic`.
    pub(super) events: Option<bool>,
    /// What happens if the caller has a link to this URL.
    if_exists: Option<IfExists>,
}

/// A link to be, without what only its creation decides.
pub(super) struct Draft {
    pub(super) record: Record,
    /// The name that was asked for: its code, with its host if it is on a domain.
    pub(super) custom: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) code_length: u8,
    pub(super) if_exists: IfExists,
    pub(super) given: Given,
    /// Whether it was counted among what strangers may create.
    pub(super) charged: bool,
    /// How the request may be repeated, if it may.
    pub(super) repeat: Option<Repeat>,
}

/// The fields that were sent. A field that was not sent is no reason to make another link.
pub(super) struct Given {
    pub(super) code_length: bool,
    pub(super) redirect: bool,
    pub(super) expires_at: bool,
    pub(super) valid_from: bool,
    pub(super) expire_after_idle: bool,
    pub(super) max_visits: bool,
    pub(super) fallback_url: bool,
    pub(super) forward_query: bool,
    pub(super) tags: bool,
    pub(super) title: bool,
    pub(super) external_id: bool,
    pub(super) password: bool,
    pub(super) rules: bool,
    pub(super) targets: bool,
    pub(super) utm: bool,
    pub(super) notify_before: bool,
    pub(super) events: bool,
}

impl Body {
    pub(super) fn given(&self) -> Given {
        Given {
            code_length: self.code_length.is_some(),
            redirect: self.redirect.is_some(),
            expires_at: self.expires_at.is_some(),
            valid_from: self.valid_from.is_some(),
            expire_after_idle: self.expire_after_idle.is_some(),
            max_visits: self.max_visits.is_some(),
            fallback_url: self.fallback_url.is_some(),
            forward_query: self.forward_query.is_some(),
            tags: self.tags.is_some(),
            title: self.title.is_some(),
            external_id: self.external_id.is_some(),
            password: self.password.is_some(),
            rules: self.rules.is_some(),
            targets: self.targets.is_some(),
            utm: self.utm.is_some(),
            notify_before: self.notify_before.is_some(),
            events: self.events.is_some(),
        }
    }

    pub(super) fn check<S>(self, world: &World<'_, S>) -> Result<Draft, Problem> {
        let (settings, now) = (world.settings, world.now);
        let given = self.given();
        let url = target(&settings.own, &self.url, "#/url")?;
        if let Some(code) = &self.code {
            fields::custom_code(&settings.config, code)?;
        }
        let code_length = self
            .code_length
            .map_or(Ok(settings.config.links.code_length), fields::code_length)?;
        let redirect = self
            .redirect
            .map_or(Ok(settings.config.links.redirect), fields::redirect)?;
        if let Some(at) = self.expires_at {
            fields::future(at, now)?;
        }
        let limits = Limits {
            valid_from: self.valid_from,
            expires_at: self.expires_at,
            expire_after_idle: self.expire_after_idle,
            max_visits: self.max_visits,
            ..Limits::default()
        };
        fields::limits(&limits, "#/validFrom")?;
        let fallback = self
            .fallback_url
            .map(|url| target(&settings.own, &url, "#/fallbackUrl"));
        let tags = fields::tags(self.tags.unwrap_or_default())?;
        self.title.as_deref().map_or(Ok(()), fields::title)?;
        self.external_id.as_deref().map_or(Ok(()), fields::external_id)?;
        self.notify_before.map_or(Ok(()), fields::notify_before)?;
        let rules = routing::rules(settings, self.rules.unwrap_or_default())?;
        let targets = routing::targets(settings, self.targets.unwrap_or_default())?;
        let utm = self.utm.map(Utm::checked).transpose()?;
        // Last, since it is work.
        let password = self.password.map(|text| Password::new(&text, (world.fresh)()));
        let record = Record {
            url,
            redirect,
            limits,
            forward_query: self.forward_query.unwrap_or(false),
            fallback_url: fallback.transpose()?,
            rules,
            targets,
            password: password.transpose()?,
            events: self.events.unwrap_or(false),
            utm,
            created_at: now,
            updated_at: now,
            id: String::new(),
            owner: String::new(),
            title: self.title,
            tags,
            external_id: self.external_id,
            manage: None,
            idle_imposed: false,
            by_id: true,
            due: None,
            counters: None,
            notify_before: self.notify_before,
            told_end: None,
            goes_on: false,
        };
        let domain = domain::asked(world, self.domain.as_deref(), "#/domain")?.map(str::to_owned);
        let custom = self.code.map(|code| {
            let code = codes::folded(&settings.config, &code);
            codes::name(domain.as_deref(), &code).into_owned()
        });
        let if_exists = self.if_exists.unwrap_or_default();
        Ok(Draft {
            record,
            custom,
            domain,
            code_length,
            if_exists,
            given,
            charged: false,
            repeat: None,
        })
    }
}

impl Draft {
    /// Whether a link is what the caller asks for: live, and every field that was sent is as it was sent.
    pub(super) fn fits(&self, link: &Link, now: u64) -> bool {
        let (wanted, given, there) = (&self.record, &self.given, &link.record);
        let (ours, theirs) = (&wanted.limits, &there.limits);
        let state = match link.state(now) {
            State::Live => true,
            State::NotYetValid => given.valid_from,
            _ => false,
        };
        let same = [
            (given.redirect, wanted.redirect == there.redirect),
            (given.expires_at, ours.expires_at == theirs.expires_at),
            (given.valid_from, ours.valid_from == theirs.valid_from),
            (
                given.expire_after_idle,
                ours.expire_after_idle == theirs.expire_after_idle,
            ),
            (given.max_visits, ours.max_visits == theirs.max_visits),
            (given.fallback_url, wanted.fallback_url == there.fallback_url),
            (given.forward_query, wanted.forward_query == there.forward_query),
            (given.title, wanted.title == there.title),
            (given.external_id, wanted.external_id == there.external_id),
            (given.rules, wanted.rules == there.rules),
            (given.targets, wanted.targets == there.targets),
            (given.utm, wanted.utm == there.utm),
            (given.notify_before, wanted.notify_before == there.notify_before),
            (given.events, wanted.events == there.events),
            // To try it would be work for each link that there is.
            (given.password, false),
            (given.tags, same_tags(&wanted.tags, &there.tags)),
            (
                given.code_length,
                codes::parts(&link.code).1.len() == usize::from(self.code_length),
            ),
        ];
        state
            && codes::parts(&link.code).0 == self.domain.as_deref()
            && wanted.owner == there.owner
            && comparable(&wanted.url) == comparable(&there.url)
            && self.custom.as_ref().is_none_or(|code| *code == link.code)
            && same.into_iter().all(|(given, same)| !given || same)
    }
}

/// Neither list repeats a tag.
fn same_tags(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|tag| b.contains(tag))
}
