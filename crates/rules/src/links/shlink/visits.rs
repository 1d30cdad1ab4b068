//! Visits, one by one, and their numbers.

use serde_json::{Value, json};

use super::page::{Fields, Page};
use super::problem::Fault;
use super::short_url::{found, summary};
use super::{MAX_VISITS, host, is_on, links, signed_in};
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::time;
use tollgate_store::ports::Store;

use super::super::record::{Link, short_url};
use super::super::stats::{self, LOST, log};

/// A visit, and the address that it was to.
struct Visit {
    visit: log::Visit,
    /// `None`: to a code that no link has.
    to: Option<String>,
}

impl Visit {
    fn view(&self, public_url: &str) -> Value {
        let visit = &self.visit;
        let (visited, led) = match &self.to {
            Some(to) => (to.clone(), visit.target()),
            None => (
                format!("{public_url}{}", visit.target().unwrap_or_default()),
                None,
            ),
        };
        let mut view = json!({
            "referer": visit.referrer().unwrap_or_default(),
            "date": time::format(visit.at),
            "userAgent": visit.agent().unwrap_or_default(),
            "visitLocation": null,
            "potentialBot": visit.is_bot,
            "visitedUrl": visited,
            "redirectUrl": led,
        });
        if self.to.is_none() {
            view["type"] = json!("invalid_short_url");
        }
        view
    }
}

/// Which visits are listed, and which page of them.
struct Asked {
    page: Page,
    from: Option<u64>,
    to: Option<u64>,
    exclude_bots: bool,
}

impl Asked {
    fn of(fields: &Fields) -> Result<Self, Fault> {
        Ok(Self {
            page: Page::of(fields, -1)?,
            from: fields.time("startDate")?,
            to: fields.time("endDate")?,
            exclude_bots: fields.flag("excludeBots"),
        })
    }

    fn answer<S>(&self, world: &World<'_, S>, mut visits: Vec<Visit>) -> Response {
        visits.retain(|Visit { visit, .. }| {
            !(self.exclude_bots && visit.is_bot)
                && self.from.is_none_or(|from| visit.at >= from)
                && self.to.is_none_or(|to| visit.at <= to)
        });
        let public_url = &world.settings.public_url;
        let body = self
            .page
            .of_items("visits", &visits, |visit| visit.view(public_url));
        Response::json(200, &body)
    }
}

/// The log of a link, after what is noted was appended.
async fn log_of<S: Store>(world: &World<'_, S>, id: &str, to: Option<String>) -> Result<Vec<Visit>, Fault> {
    stats::visits::count_noted(world, id).await;
    let keep = world.settings.config.links.visit_log;
    let (visits, _) = log::read(world.store, id, keep, MAX_VISITS, None).await?;
    let of = |visit| Visit {
        visit,
        to: to.clone(),
    };
    Ok(visits.into_iter().map(of).collect())
}

async fn log_of_link<S: Store>(world: &World<'_, S>, link: &Link) -> Result<Vec<Visit>, Fault> {
    let to = short_url(world.settings, &link.code);
    log_of(world, &link.record.id, Some(to)).await
}

pub(super) async fn of_url<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Fault> {
    let (_, link) = found(world, request, code).await?;
    let asked = Asked::of(&Fields::of(request))?;
    Ok(asked.answer(world, log_of_link(world, &link).await?))
}

pub(super) async fn delete_of_url<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Fault> {
    let (_, link) = found(world, request, code).await?;
    let deleted = stats::visits::remove(world, &link.record.id).await?;
    Ok(Response::json(200, &json!({ "deletedVisits": deleted })))
}

/// The newest visits of many links together, newest first.
async fn of_many<S: Store>(
    world: &World<'_, S>,
    asked: Asked,
    mut links: Vec<Link>,
) -> Result<Response, Fault> {
    links.sort_by_key(|link| std::cmp::Reverse(link.visited_at));
    let mut newest: Vec<Visit> = Vec::new();
    for link in &links {
        let oldest = newest.get(MAX_VISITS - 1).map(|visit| visit.visit.at);
        if link.visits + link.bots == 0 || oldest.is_some() && link.visited_at < oldest {
            continue;
        }
        newest.extend(log_of_link(world, link).await?);
        newest.sort_by_key(|visit| std::cmp::Reverse(visit.visit.at));
        newest.truncate(MAX_VISITS);
    }
    Ok(asked.answer(world, newest))
}

pub(super) async fn of_tag<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    tag: &str,
) -> Result<Response, Fault> {
    let mut links = links(world, request).await?;
    let fields = Fields::of(request);
    let asked = Asked::of(&fields)?;
    if let Some(domain) = fields.text("domain").filter(|domain| !domain.is_empty()) {
        let host = host(world, Some(domain)).ok_or(Fault::NoLink)?;
        links.retain(|link| is_on(&link.code, Some(host)));
    }
    let tag = percent_encoding::percent_decode_str(tag)
        .decode_utf8_lossy()
        .into_owned();
    links.retain(|link| link.record.tags.contains(&tag));
    match links.is_empty() {
        true => Err(Fault::NoTag(tag)),
        false => of_many(world, asked, links).await,
    }
}

pub(super) async fn of_domain<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    domain: &str,
) -> Result<Response, Fault> {
    let links = links(world, request).await?;
    let asked = Asked::of(&Fields::of(request))?;
    let domain = percent_encoding::percent_decode_str(domain).decode_utf8_lossy();
    let Some(host) = host(world, Some(&domain)) else {
        return Err(Fault::Problem(tollgate_api::problem::Problem::not_found()));
    };
    let on_it = links.into_iter().filter(|link| is_on(&link.code, Some(host)));
    of_many(world, asked, on_it.collect()).await
}

pub(super) async fn of_all<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    let links = links(world, request).await?;
    of_many(world, Asked::of(&Fields::of(request))?, links).await
}

/// That the caller may see what nobody owns.
async fn may_see_all<S: Store>(world: &World<'_, S>, request: &Request) -> Result<(), Fault> {
    keys::require(world.store, request, world.now, Scope::Admin).await?;
    Ok(())
}

pub(super) async fn orphans<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    may_see_all(world, request).await?;
    let asked = Asked::of(&Fields::of(request))?;
    Ok(asked.answer(world, log_of(world, LOST, None).await?))
}

pub(super) async fn delete_orphans<S: Store>(
    world: &World<'_, S>,
    request: &Request,
) -> Result<Response, Fault> {
    may_see_all(world, request).await?;
    let deleted = stats::visits::remove(world, LOST).await?;
    Ok(Response::json(200, &json!({ "deletedVisits": deleted })))
}

/// The visits so far: of the caller's links, and of an admin the lost ones.
pub(super) async fn overview<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    signed_in(world, request).await?;
    let links = links(world, request).await?;
    let sums = links.iter().fold((0, 0), |(visits, bots), link| {
        (visits + link.visits, bots + link.bots)
    });
    let lost = match may_see_all(world, request).await {
        Ok(()) => stats::visits::sums(world, LOST).await?,
        Err(_) => (0, 0),
    };
    let body = json!({ "visits": {
        "nonOrphanVisits": summary(sums.0, sums.1),
        "orphanVisits": summary(lost.0, lost.1),
    } });
    Ok(Response::json(200, &body))
}
