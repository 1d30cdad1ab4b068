//! `PATCH /api/links/{code}` and `POST /api/links/{code}/extend`.

use serde::Deserialize;

use super::access::Credential;
use super::manage::{contended, shown};
use super::password::Password;
use super::record::{Link, MAX_RACES, Record, link_key};
use super::rename::{self, taken};
use super::routing::{self, Rule, Weighted};
use super::utm::UtmPatch;
use super::{fields, index, strangers, sweep};
use crate::codes;
use crate::etag::IfMatch;
use crate::settings::Settings;
use crate::target::target;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::{json, time};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::Store;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
struct Time(#[serde(with = "time::rfc3339")] u64);

/// A merge patch (RFC 7396): what is absent stays, null clears. What is not listed cannot be changed.
#[derive(Clone, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkPatch")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Patch {
    /// Another code for it: from then on the old one is free. Cannot be cleared.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "String", regex(pattern = r"^[A-Za-z0-9_-]{3,64}$"))
    )]
    code: Option<Option<String>>,
    /// Where it leads; cannot be cleared.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Uri"))]
    url: Option<Option<String>>,
    /// The status of the redirect; null for the configured one.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [301, 302, 307, 308, null])))]
    redirect: Option<Option<u64>>,
    /// When it begins.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    valid_from: Option<Option<Time>>,
    /// When it ends: in the future.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    expires_at: Option<Option<Time>>,
    /// Seconds without a visit after which it ends.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>", range(min = 1, max = crate::config::MAX_IDLE_SECONDS)))]
    expire_after_idle: Option<Option<u64>>,
    /// How many visits it redirects, exactly, those so far included.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>", range(min = 1, max = super::MAX_VISITS)))]
    max_visits: Option<Option<u64>>,
    /// Where it leads once it has ended.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Uri>"))]
    fallback_url: Option<Option<String>>,
    /// Whether the visitor's query is added to the target's.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    forward_query: Option<Option<bool>>,
    /// Words to find it by.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<Vec<String>>",
            length(max = 10),
            inner(length(min = 1, max = 64))
        )
    )]
    tags: Option<Option<Vec<String>>>,
    /// What it is called.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", length(max = 200)))]
    title: Option<Option<String>>,
    /// The owner's own name of it.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", length(min = 1, max = 128))
    )]
    external_id: Option<Option<String>>,
    /// Whether it is switched off.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    archived: Option<Option<bool>>,
    /// Asked for before it leads anywhere.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", length(min = 1, max = super::password::MAX_CHARS), extend("writeOnly" = true)))]
    password: Option<Option<String>>,
    /// Where it leads under conditions: the first that holds.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<Rule>>", length(max = routing::MAX_RULES)))]
    rules: Option<Option<Vec<Rule>>>,
    /// Where it leads by weights, if no rule holds.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<Weighted>>", length(max = routing::MAX_TARGETS)))]
    targets: Option<Option<Vec<Weighted>>>,
    /// What is added to wherever it leads: what is absent in it stays, null clears.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<UtmPatch>"))]
    utm: Option<Option<UtmPatch>>,
    /// Seconds before its end by time at which a `link.expiring` message is sent.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>", range(min = 1, max = crate::config::MAX_IDLE_SECONDS)))]
    notify_before: Option<Option<u64>>,
    /// Whether each visit is told by a `link.visited` message.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    events: Option<Option<bool>>,
    /// The password's hash, made once.
    #[serde(skip)]
    hashed: Option<Password>,
}

impl Patch {
    /// Does what is done once, however many links are changed and however often it is tried.
    ///
    /// # Errors
    /// A rule that its password or its code breaks.
    pub(super) fn prepare<S>(&mut self, world: &World<'_, S>) -> Result<(), Problem> {
        match &self.code {
            Some(None) => return Err(Problem::field("#/code", "cannot be cleared")),
            Some(Some(code)) => {
                fields::custom_code(&world.settings.config, code)?;
                let folded = codes::folded(&world.settings.config, code).into_owned();
                self.code = Some(Some(folded));
            }
            None => {}
        }
        if let Some(Some(text)) = self.password.take_if(|password| password.is_some()) {
            self.hashed = Some(Password::new(&text, (world.fresh)())?);
        }
        Ok(())
    }

    /// The code that the link is to have.
    pub(super) fn code(&self) -> Option<&str> {
        self.code.as_ref()?.as_deref()
    }

    fn apply_ways(&self, record: &mut Record, settings: &Settings) -> Result<(), Problem> {
        if let Some(rules) = &self.rules {
            record.rules = routing::rules(settings, rules.clone().unwrap_or_default())?;
        }
        if let Some(targets) = &self.targets {
            record.targets = routing::targets(settings, targets.clone().unwrap_or_default())?;
        }
        if let Some(utm) = &self.utm {
            let after = utm.as_ref().map(|utm| utm.apply(record.utm.as_ref()));
            record.utm = after.transpose()?.flatten();
        }
        if let Some(seconds) = self.notify_before {
            seconds.map_or(Ok(()), fields::notify_before)?;
            record.notify_before = seconds;
        }
        if let Some(events) = self.events {
            record.events = events.unwrap_or(false);
        }
        let tells = (
            self.notify_before.flatten().is_some(),
            self.events.flatten() == Some(true),
        );
        fields::may_tell(&settings.config, record.is_anonymous(), tells)?;
        match &self.hashed {
            Some(hashed) => record.password = Some(hashed.clone()),
            None if self.password.is_some() => record.password = None,
            None => {}
        }
        Ok(())
    }

    pub(super) fn apply(&self, record: &mut Record, settings: &Settings, now: u64) -> Result<(), Problem> {
        if let Some(url) = &self.url {
            let url = url
                .as_deref()
                .ok_or_else(|| Problem::field("#/url", "cannot be cleared"))?;
            record.url = target(&settings.own, url, "#/url")?;
        }
        if let Some(status) = self.redirect {
            record.redirect = status.map_or(Ok(settings.config.links.redirect), fields::redirect)?;
        }
        if let Some(url) = &self.fallback_url {
            let url = url
                .as_deref()
                .map(|url| target(&settings.own, url, "#/fallbackUrl"));
            record.fallback_url = url.transpose()?;
        }
        if let Some(tags) = &self.tags {
            record.tags = fields::tags(tags.clone().unwrap_or_default())?;
        }
        if let Some(title) = &self.title {
            title.as_deref().map_or(Ok(()), fields::title)?;
            record.title.clone_from(title);
        }
        if let Some(id) = &self.external_id {
            id.as_deref().map_or(Ok(()), fields::external_id)?;
            record.external_id.clone_from(id);
        }
        if let Some(forward) = self.forward_query {
            record.forward_query = forward.unwrap_or(false);
        }
        self.apply_ways(record, settings)?;
        self.apply_limits(record, now)
    }

    fn apply_limits(&self, record: &mut Record, now: u64) -> Result<(), Problem> {
        let limits = &mut record.limits;
        if let Some(from) = self.valid_from {
            limits.valid_from = from.map(|Time(at)| at);
        }
        if let Some(at) = self.expires_at {
            at.map_or(Ok(()), |Time(at)| fields::future(at, now))?;
            limits.expires_at = at.map(|Time(at)| at);
        }
        limits.expire_after_idle = self.expire_after_idle.unwrap_or(limits.expire_after_idle);
        limits.max_visits = self.max_visits.unwrap_or(limits.max_visits);
        limits.archived = self
            .archived
            .map_or(limits.archived, |archived| archived.unwrap_or(false));
        // The field that was sent is the one at fault.
        fields::limits(
            limits,
            if self.valid_from.is_some() {
                "#/validFrom"
            } else {
                "#/expiresAt"
            },
        )
    }
}

/// Either a new end, or seconds from the present one (or from now, if that is over).
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "LinkExtension", extend("oneOf" = [{ "required": ["expiresAt"] }, { "required": ["seconds"] }])))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Extend {
    /// The new end: in the future, and not before the present one.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    expires_at: Option<u64>,
    /// So much later than the present end, or than now if that is over.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    seconds: Option<u64>,
}

impl Extend {
    fn apply(self, record: &mut Record, now: u64) -> Result<(), Problem> {
        let present = record.limits.expires_at;
        let end = match (self.expires_at, self.seconds) {
            (Some(at), None) => {
                fields::future(at, now)?;
                if present.is_some_and(|present| at < present) {
                    return Err(Problem::field(
                        "#/expiresAt",
                        "must not be before the present end",
                    ));
                }
                at
            }
            (None, Some(0)) => return Err(Problem::field("#/seconds", "must be at least 1")),
            (None, Some(seconds)) => match present {
                Some(present) => fields::later(present.max(now), seconds, "#/seconds")?,
                None => {
                    return Err(Problem::field(
                        "#/seconds",
                        "the link has no end; send expiresAt to give it one",
                    ));
                }
            },
            _ => return Err(Problem::field("#", "send either expiresAt or seconds")),
        };
        record.limits.expires_at = Some(end);
        fields::limits(&record.limits, "#/expiresAt")
    }
}

pub(super) async fn patch<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    let mut patch: Patch = json::body(request)?;
    // Before any work for somebody who may not.
    credential.open(world, code).await?;
    patch.prepare(world)?;
    let apply = |record: &mut Record| patch.apply(record, world.settings, world.now);
    let of = (code, patch.code());
    let link = change(world, &credential, of, &IfMatch::of(request), apply).await?;
    Ok(shown(world, &link))
}

pub(super) async fn extend<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    let extend: Extend = json::body(request)?;
    let apply = |record: &mut Record| extend.apply(record, world.now);
    let link = change(world, &credential, (code, None), &IfMatch::of(request), apply).await?;
    Ok(shown(world, &link))
}

/// Reads, changes and writes a link, again if it changed meanwhile; under another code, if there is one for it.
pub(super) async fn change<S: Store>(
    world: &World<'_, S>,
    credential: &Credential,
    (code, to): (&str, Option<&str>),
    if_match: &IfMatch,
    apply: impl Fn(&mut Record) -> Result<(), Problem>,
) -> Result<Link, Problem> {
    let store = world.store;
    for _ in 0..MAX_RACES {
        let mut link = credential.open(world, code).await?;
        // As it is kept; it may have been asked for in another case.
        let code = &*link.code.clone();
        // On the same domain.
        let to = to.map(|to| codes::name(codes::parts(code).0, to));
        let to = to.as_deref().filter(|to| *to != link.code);
        if_match.check(&link.etag())?;
        let before = link.record.clone();
        apply(&mut link.record)?;
        let idle = |record: &Record| record.limits.expire_after_idle;
        if before.is_anonymous() && idle(&link.record) != idle(&before) {
            strangers::limit_idleness(&world.settings.config, &mut link.record)?;
        }
        // A step that was not followed by the bound it was for ends with the next change.
        link.record.limits.exact = false;
        if link.record == before && to.is_none() {
            return Ok(link);
        }
        if let Some(to) = to
            && Link::read(store, to).await?.is_some()
        {
            return Err(taken(to));
        }
        if before.limits.max_visits.is_none() && link.record.limits.max_visits.is_some() {
            match count_exactly(store, code, &before, link.version).await? {
                Some(version) => link.version = version,
                None => continue,
            }
        }
        link.record.updated_at = world.now.max(before.updated_at);
        link.record.due = sweep::due(&world.settings.config, &link.record, link.visited_at);
        if let Some(to) = to {
            match store.commit(rename::commit(&mut link, &before, to)).await? {
                Outcome::Committed(done) => {
                    link.version = done.version;
                    to.clone_into(&mut link.code);
                    return Ok(link);
                }
                Outcome::Refused(Refusal::Condition(rename::FREE)) => return Err(taken(to)),
                _ => continue,
            }
        }
        let moved = link.record.url != before.url || link.record.external_id != before.external_id;
        if moved {
            // Before the link, like every entry of the index; where the change fails, it leads to a link with
            // another URL and is skipped.
            index::point(store, &link.record, code).await?;
        }
        if let Outcome::Committed(done) = store.commit(replacement(&link, &before)).await? {
            if moved {
                index::unpoint(store, &before, &link.record);
            }
            link.version = done.version;
            return Ok(link);
        }
    }
    Err(contended())
}

/// The step before a bound on a link in use. From here on every visit is counted before it is answered, as
/// with a bound. Visits that were answered before are in the counter when this returns. The commit that then
/// sets the bound is tied to the version that this returns. So from that commit on the counter holds every
/// visit that ever was, and the bound is exact. `None` if the link has changed.
async fn count_exactly<S: Store>(
    store: &S,
    code: &str,
    before: &Record,
    version: u64,
) -> Result<Option<u64>, StoreError> {
    let mut exact = version;
    if !before.limits.exact {
        let mut record = before.clone();
        record.limits.exact = true;
        let key = link_key(code);
        let commit = Commit {
            conditions: vec![Condition::Version {
                key: key.clone(),
                version,
            }],
            mutations: vec![Mutation::Set {
                key: key.clone(),
                value: literal(record.to_bytes()),
                expires: None,
            }],
            partition: key,
            ..Commit::default()
        };
        match store.commit(commit).await? {
            Outcome::Committed(done) => exact = done.version,
            _ => return Ok(None),
        }
    }
    store.settle().await?;
    Ok(Some(exact))
}

/// The commit that writes a changed link; `before`: as it was when it had `link.version`. Condition 0: it still has.
pub(super) fn replacement(link: &Link, before: &Record) -> Commit {
    let key = link_key(&link.code);
    let mut mutations = vec![Mutation::Set {
        key: key.clone(),
        value: literal(link.record.to_bytes()),
        expires: None,
    }];
    mutations.extend(sweep::moved(before, &link.record, &link.code));
    Commit {
        conditions: vec![Condition::Version {
            key: key.clone(),
            version: link.version,
        }],
        mutations,
        partition: key,
        ..Commit::default()
    }
}
