//! Tags: what links say.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::links;
use super::page::{Fields, Page};
use super::problem::Fault;
use super::short_url::{object, summary};
use crate::etag::IfMatch;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

use super::super::access::Credential;
use super::super::record::{Link, Record};
use super::super::{edit, fields};

/// The most links whose tag is changed by one call.
const MAX_CHANGED: usize = 1_000;
/// Tags of a page unless the caller says otherwise: all.
const PAGE: i64 = -1;

/// Links, visits and visits of machines by tag.
fn sums(links: &[Link]) -> BTreeMap<&str, (u64, u64, u64)> {
    let mut sums = BTreeMap::new();
    for link in links {
        for tag in &link.record.tags {
            let (count, visits, bots): &mut (u64, u64, u64) = sums.entry(&**tag).or_default();
            *count += 1;
            *visits += link.visits;
            *bots += link.bots;
        }
    }
    sums
}

pub(super) async fn list<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    let links = links(world, request).await?;
    let fields = Fields::of(request);
    let search = fields.text("searchTerm").unwrap_or_default().to_lowercase();
    let sums = sums(&links);
    let found = sums.keys().filter(|tag| tag.to_lowercase().contains(&search));
    let tags: Vec<_> = found.copied().collect();
    let page = Page::of(&fields, PAGE)?;
    let body = page.of_items("tags", &tags, |tag| json!(tag));
    Ok(Response::json(200, &body))
}

pub(super) async fn stats<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    let links = links(world, request).await?;
    let fields = Fields::of(request);
    let sums: Vec<_> = sums(&links).into_iter().collect();
    let page = Page::of(&fields, PAGE)?;
    let body = page.of_items("tags", &sums, |(tag, (count, visits, bots))| {
        json!({
            "tag": tag, "shortUrlsCount": count, "visitsCount": visits + bots,
            "visitsSummary": summary(*visits, *bots),
        })
    });
    Ok(Response::json(200, &body))
}

/// Changes the tags of links, one after the other.
async fn change<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    links: &[&Link],
    apply: impl Fn(&mut Vec<String>),
) -> Result<(), Fault> {
    if links.len() > MAX_CHANGED {
        let detail = "A tag of more than 1,000 links is not changed by one call.";
        return Err(Fault::Problem(Problem::new(Kind::InvalidRequest, detail)));
    }
    let credential = Credential::of(world, request).await?;
    for link in links {
        let tags = |record: &mut Record| {
            let before = record.tags.clone();
            apply(&mut record.tags);
            if record.tags != before {
                record.updated_at = world.now;
            }
            Ok(())
        };
        let changed = edit::change(world, &credential, (&*link.code, None), &IfMatch::default(), tags).await;
        match changed {
            Ok(_) => {}
            // It went meanwhile.
            Err(problem) if problem.kind == Kind::NotFound => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}

pub(super) async fn rename<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    let links = links(world, request).await?;
    let sent = object(request)?;
    let name = |name: &str| match sent.get(name).and_then(Value::as_str) {
        Some(tag) if !tag.is_empty() => Ok(tag.to_owned()),
        _ => Err(Fault::invalid(name, &format!("{name} is missing."))),
    };
    let (old, new) = (name("oldName")?, name("newName")?);
    let new = match fields::tags(vec![new]) {
        Ok(tags) => tags.into_iter().next().unwrap_or_default(),
        Err(problem) => return Err(Fault::invalid("newName", &problem.detail)),
    };
    let having = |tag: &String| {
        links
            .iter()
            .filter(|link| link.record.tags.contains(tag))
            .collect::<Vec<_>>()
    };
    let tagged = having(&old);
    if tagged.is_empty() {
        return Err(Fault::NoTag(old));
    }
    if new != old && !having(&new).is_empty() {
        return Err(Fault::TagConflict(old, new));
    }
    let rename = |tags: &mut Vec<String>| {
        for tag in tags.iter_mut().filter(|tag| **tag == old) {
            tag.clone_from(&new);
        }
    };
    change(world, request, &tagged, rename).await?;
    Ok(Response::empty(204))
}

pub(super) async fn delete<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Fault> {
    let links = links(world, request).await?;
    let fields = Fields::of(request);
    let gone = fields.all("tags");
    let is_gone = |tag: &String| gone.contains(&&**tag);
    let tagged: Vec<_> = links
        .iter()
        .filter(|link| link.record.tags.iter().any(is_gone))
        .collect();
    change(world, request, &tagged, |tags| tags.retain(|tag| !is_gone(tag))).await?;
    Ok(Response::empty(204))
}
