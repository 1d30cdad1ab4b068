//! Short URLs: our links.

use serde_json::{Map, Value, json};

use super::page::{Fields, Page};
use super::problem::Fault;
use super::{host, is_on, links, named};
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::{json as body, time};
use tollgate_store::ports::Store;

use super::super::access::{self, Credential};
use super::super::create::{self, Made};
use super::super::list::matches;
use super::super::record::{Link, State, short_url};
use super::super::{edit, manage};
use crate::codes;
use crate::etag::IfMatch;

/// Links of a page unless the caller says otherwise.
const PAGE: i64 = 10;
/// What they call the fields that a body may have, and we.
const FIELDS: &[(&str, &str)] = &[
    ("longUrl", "url"),
    ("customSlug", "code"),
    ("shortCodeLength", "codeLength"),
    ("validSince", "validFrom"),
    ("validUntil", "expiresAt"),
    ("maxVisits", "maxVisits"),
    ("tags", "tags"),
    ("title", "title"),
    ("forwardQuery", "forwardQuery"),
];

/// A visits' summary.
pub(super) fn summary(visits: u64, bots: u64) -> Value {
    json!({ "total": visits + bots, "nonBots": visits, "bots": bots })
}

pub(super) fn view<S>(world: &World<'_, S>, link: &Link) -> Value {
    let record = &link.record;
    let limits = &record.limits;
    json!({
        "shortCode": codes::parts(&link.code).1,
        "shortUrl": short_url(world.settings, &link.code),
        "longUrl": record.url,
        "dateCreated": time::format(record.created_at),
        "visitsSummary": summary(link.visits, link.bots),
        "tags": record.tags,
        "meta": {
            "validSince": limits.valid_from.map(time::format),
            "validUntil": limits.expires_at.map(time::format),
            "maxVisits": limits.max_visits,
        },
        "domain": codes::parts(&link.code).0,
        "title": record.title,
        "crawlable": false,
        "forwardQuery": record.forward_query,
        "hasRedirectRules": !record.rules.is_empty(),
    })
}

/// Which links are listed.
struct Filter<'a> {
    search: Option<String>,
    tags: Vec<&'a str>,
    all_tags: bool,
    without: Vec<&'a str>,
    from: Option<u64>,
    to: Option<u64>,
    skip_exhausted: bool,
    skip_expired: bool,
}

impl<'a> Filter<'a> {
    fn of(fields: &'a Fields) -> Result<Self, Fault> {
        Ok(Self {
            search: fields.text("searchTerm").map(str::to_lowercase),
            tags: fields.all("tags"),
            all_tags: fields.text("tagsMode") == Some("all"),
            without: fields.all("excludeTags"),
            from: fields.time("startDate")?,
            to: fields.time("endDate")?,
            skip_exhausted: fields.flag("excludeMaxVisitsReached"),
            skip_expired: fields.flag("excludePastValidUntil"),
        })
    }

    fn takes(&self, link: &Link, now: u64) -> bool {
        let has = |tag: &&str| link.record.tags.iter().any(|there| there == tag);
        let tagged = match self.all_tags {
            true => self.tags.iter().all(has),
            false => self.tags.is_empty() || self.tags.iter().any(has),
        };
        let created = link.record.created_at;
        let ended = link.state(now);
        tagged
            && !self.without.iter().any(has)
            && self.from.is_none_or(|from| created >= from)
            && self.to.is_none_or(|to| created <= to)
            && !(self.skip_exhausted && ended == State::Exhausted)
            && !(self.skip_expired && ended == State::Expired)
            && self
                .search
                .as_ref()
                .is_none_or(|search| matches(search, &link.code, &link.record))
    }
}

/// Puts links in the order that is asked for, newest first where none is.
fn sort(links: &mut [Link], order: Option<&str>) -> Result<(), Fault> {
    let (field, direction) = order.map_or(("dateCreated", "DESC"), |order| {
        order.rsplit_once('-').unwrap_or((order, "ASC"))
    });
    match field {
        "dateCreated" => links.sort_by_key(|link| link.record.created_at),
        "shortCode" => links.sort_by(|a, b| a.code.cmp(&b.code)),
        "longUrl" => links.sort_by(|a, b| a.record.url.cmp(&b.record.url)),
        "title" => links.sort_by(|a, b| a.record.title.cmp(&b.record.title)),
        "visits" => links.sort_by_key(|link| link.visits + link.bots),
        "nonBotVisits" => links.sort_by_key(|link| link.visits),
        _ => return Err(Fault::invalid("orderBy", "There is no such order.")),
    }
    match direction {
        "ASC" => {}
        "DESC" => links.reverse(),
        _ => return Err(Fault::invalid("orderBy", "An order ends with -ASC or -DESC.")),
    }
    Ok(())
}

pub(super) async fn list<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    let fields = Fields::of(request);
    let mut links = links(world, request).await?;
    let page = Page::of(&fields, PAGE)?;
    let filter = Filter::of(&fields)?;
    if let Some(domain) = fields.text("domain").filter(|domain| !domain.is_empty()) {
        let host = host(world, Some(domain));
        links.retain(|link| is_on(&link.code, host));
    }
    links.retain(|link| filter.takes(link, world.now));
    sort(&mut links, fields.text("orderBy"))?;
    let body = page.of_items("shortUrls", &links, |link| view(world, link));
    Ok(Response::json(200, &body))
}

/// The request's body.
pub(super) fn object(request: &Request) -> Result<Map<String, Value>, Fault> {
    match request.body.is_empty() {
        true => Ok(Map::new()),
        false => Ok(body::body(request)?),
    }
}

/// A request to our own call, with this body.
fn translated(request: &Request, body: &Map<String, Value>) -> Request {
    let body = serde_json::to_vec(body).unwrap_or_default();
    Request {
        body,
        ..request.clone()
    }
}

pub(super) async fn create<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    super::signed_in(world, request).await?;
    let creator = access::creator(world, request).await?;
    let sent = object(request)?;
    let host = host(world, sent.get("domain").and_then(Value::as_str));
    let host = host.ok_or_else(|| Fault::invalid("domain", "There is no such domain here."))?;
    let mut ours = Map::new();
    if let Some(host) = host {
        ours.insert("domain".into(), host.into());
    }
    for (theirs, name) in FIELDS {
        if let Some(value) = sent.get(*theirs).filter(|value| !value.is_null()) {
            ours.insert((*name).to_owned(), value.clone());
        }
    }
    // As Shlink does.
    ours.entry("forwardQuery").or_insert(Value::Bool(true));
    if ours.get("code").is_some_and(|code| code == "") {
        ours.remove("code");
    }
    if sent.get("findIfExists") == Some(&Value::Bool(true)) {
        ours.insert("ifExists".into(), json!("return"));
    }
    let request = translated(request, &ours);
    let link = match create::make(world, &request, &creator, None, body::body(&request)?).await? {
        Made::New { link, .. } | Made::Found(link) => link,
        Made::Before(response) => return Ok(response),
    };
    Ok(Response::json(200, &view(world, &link)))
}

/// The link that a call is about.
pub(super) async fn found<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<(Credential, Link), Fault> {
    let credential = Credential::of(world, request).await?;
    let name = named(world, &Fields::of(request), code)?;
    let link = credential.open(world, &name).await?;
    Ok((credential, link))
}

pub(super) async fn read<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Fault> {
    let (_, link) = found(world, request, code).await?;
    Ok(Response::json(200, &view(world, &link)))
}

pub(super) async fn edit<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Fault> {
    let (credential, link) = found(world, request, code).await?;
    let code = &*link.code;
    let sent = object(request)?;
    let mut ours = Map::new();
    for (theirs, name) in FIELDS.iter().filter(|(_, name)| !name.starts_with("code")) {
        // Null clears what can be cleared.
        let value = sent.get(*theirs);
        let value = value.filter(|value| !(value.is_null() && matches!(*name, "url" | "forwardQuery")));
        if let Some(value) = value {
            ours.insert((*name).to_owned(), value.clone());
        }
    }
    edit::patch(world, &translated(request, &ours), code).await?;
    let link = credential.open(world, code).await?;
    Ok(Response::json(200, &view(world, &link)))
}

pub(super) async fn delete<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Fault> {
    let (credential, link) = found(world, request, code).await?;
    manage::remove(world, &credential, &link.code, &IfMatch::of(request)).await?;
    Ok(Response::empty(204))
}

/// Systems that are devices there.
const SYSTEMS: &[&str] = &["android", "ios", "windows", "macos", "linux", "chromeos"];

/// A condition of ours as theirs.
fn condition(name: &str, value: &Value) -> Value {
    let kind = match name {
        "device" | "os" => "device",
        "language" => "language",
        "country" => "geolocation-country-code",
        "after" => "after-date",
        _ => "before-date",
    };
    json!({ "type": kind, "matchKey": null, "matchValue": value })
}

pub(super) async fn rules<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Fault> {
    let (_, link) = found(world, request, code).await?;
    Ok(shown_rules(&link))
}

fn shown_rules(link: &Link) -> Response {
    let rules = serde_json::to_value(&link.record.rules).unwrap_or_default();
    let rules = rules.as_array().into_iter().flatten().enumerate();
    let rules = rules.map(|(index, rule)| {
        let when = rule.get("when").and_then(Value::as_object).into_iter().flatten();
        let conditions: Vec<_> = when.map(|(name, value)| condition(name, value)).collect();
        json!({ "longUrl": rule.get("url"), "priority": index + 1, "conditions": conditions })
    });
    let body = json!({ "defaultLongUrl": link.record.url, "redirectRules": rules.collect::<Vec<_>>() });
    Response::json(200, &body)
}

/// A rule of theirs as ours.
fn rule(sent: &Value) -> Result<Value, Fault> {
    let mut when = Map::new();
    for condition in sent
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let kind = condition.get("type").and_then(Value::as_str).unwrap_or_default();
        let value = condition.get("matchValue").cloned().unwrap_or_default();
        let name = match (kind, value.as_str()) {
            ("device", Some(device)) if SYSTEMS.contains(&device) => "os",
            ("device", Some("mobile" | "desktop")) => "device",
            ("language", _) => "language",
            ("geolocation-country-code", _) => "country",
            ("after-date", _) => "after",
            ("before-date", _) => "before",
            _ => {
                let detail = format!("Conditions of type {kind:?} with this value are not supported.");
                return Err(Fault::invalid("conditions", &detail));
            }
        };
        if when.insert(name.to_owned(), value).is_some() {
            let detail = "A rule takes one condition of each type.";
            return Err(Fault::invalid("conditions", detail));
        }
    }
    Ok(json!({ "when": when, "url": sent.get("longUrl") }))
}

pub(super) async fn set_rules<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Fault> {
    let (credential, link) = found(world, request, code).await?;
    let code = &*link.code;
    let sent = object(request)?;
    let Some(Value::Array(sent)) = sent.get("redirectRules") else {
        return Err(Fault::invalid("redirectRules", "redirectRules must be a list."));
    };
    let mut sent: Vec<_> = sent.iter().collect();
    sent.sort_by_key(|rule| rule.get("priority").and_then(Value::as_u64));
    let rules = sent.into_iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    let mut ours = Map::new();
    ours.insert("rules".into(), Value::Array(rules));
    edit::patch(world, &translated(request, &ours), code).await?;
    let link = credential.open(world, code).await?;
    Ok(shown_rules(&link))
}
