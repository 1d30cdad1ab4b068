//! Which links a list has, in which order, and its pages.

use std::cmp::Reverse;

use super::super::list::{self, matches};
use super::super::record::Link;
use super::super::shlink::{host, is_on};
use super::{ID, MAX_LINKS};
use crate::world::World;
use tollgate_api::http::Request;
use tollgate_api::problem::Problem;
use tollgate_store::ports::Store;

/// The most links of a page, and as many as it has unless the caller says otherwise.
const MAX_PAGE: usize = 100;

/// The fields of a query. What nobody knows is left alone.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(request: &Request) -> Self {
        Self(request.query_fields())
    }

    /// The last value of a field that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rfind(|(found, _)| found == name);
        found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| matches!(value, "true" | "1"))
    }

    /// The words of a list, which is sent as several fields, or with commas.
    pub(super) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.0.iter().filter(move |(found, _)| found == name);
        let words = found.flat_map(|(_, value)| value.split(','));
        words.map(str::trim).filter(|word| !word.is_empty())
    }

    fn whole(&self, name: &str, most: usize, default: usize) -> Result<usize, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| Problem::field(format!("query:{name}"), format!("must be from 1 to {most}")))
    }
}

/// What a listed link must have.
pub(super) struct Filter<'q> {
    query: &'q Query,
    tags: Vec<&'q str>,
    search: Option<String>,
}

impl<'q> Filter<'q> {
    pub(super) fn of(query: &'q Query) -> Self {
        let tags = ["tagNames", "tagIds", "tagId"]
            .into_iter()
            .flat_map(|name| query.words(name));
        Self {
            query,
            tags: tags.collect(),
            search: query.text("search").map(str::to_lowercase),
        }
    }

    fn takes(&self, link: &Link) -> bool {
        let tags = &link.record.tags;
        // As there, the case of a tag does not matter.
        let has = |wanted: &&str| tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted));
        (self.tags.is_empty() || self.tags.iter().any(has))
            && (self.query.flag("showArchived") || !link.record.limits.archived)
            && !(self.query.flag("withTags") && tags.is_empty())
            && self
                .search
                .as_ref()
                .is_none_or(|search| matches(search, &link.code, &link.record))
    }

    /// The caller's links that it takes, in the order that is asked for: newest first, where none is.
    pub(super) async fn links<S: Store>(
        &self,
        world: &World<'_, S>,
        request: &Request,
    ) -> Result<Vec<Link>, Problem> {
        let mut links = list::gather(world, request, MAX_LINKS).await?;
        // No link is of another tenant, folder or user.
        let elsewhere = ["tenantId", "folderId", "userId"]
            .iter()
            .any(|name| self.query.text(name).is_some());
        if elsewhere {
            links.clear();
        }
        if let Some(domain) = self.query.text("domain").filter(|domain| !domain.is_empty()) {
            let host = host(world, Some(domain));
            links.retain(|link| is_on(&link.code, host));
        }
        links.retain(|link| self.takes(link));
        links.sort_by(|a, b| b.record.id.cmp(&a.record.id));
        match self.query.text("sortBy").or_else(|| self.query.text("sort")) {
            None | Some("createdAt") => links.sort_by_key(|link| Reverse(link.record.created_at)),
            Some("clicks") => links.sort_by_key(|link| Reverse(link.visits)),
            Some("lastClicked") => links.sort_by_key(|link| Reverse(link.visited_at)),
            // All have none.
            Some("saleAmount") => {}
            Some(_) => {
                let rule = "must be createdAt, clicks, lastClicked or saleAmount";
                return Err(Problem::field("query:sortBy", rule));
            }
        }
        match self.query.text("sortOrder") {
            None | Some("desc") => {}
            Some("asc") => links.reverse(),
            Some(_) => return Err(Problem::field("query:sortOrder", "must be asc or desc")),
        }
        Ok(links)
    }
}

/// The page that is asked for: by its number, or by the link before or after it.
pub(super) fn page<'l>(query: &Query, links: &'l [Link]) -> Result<&'l [Link], Problem> {
    let size = query.whole("pageSize", MAX_PAGE, MAX_PAGE)?;
    let place = |name: &'static str| {
        let Some(id) = query.text(name) else {
            return Ok(None);
        };
        let id = id.strip_prefix(ID).unwrap_or(id);
        let found = links.iter().position(|link| link.record.id == id);
        let none = || Problem::field(format!("query:{name}"), "is no link of this list");
        found.map(Some).ok_or_else(none)
    };
    let (from, to) = match (place("startingAfter")?, place("endingBefore")?) {
        (Some(_), Some(_)) => {
            let rule = "cannot be sent with startingAfter";
            return Err(Problem::field("query:endingBefore", rule));
        }
        (Some(at), None) => (at + 1, at + 1 + size),
        (None, Some(at)) => (at.saturating_sub(size), at),
        (None, None) => {
            let number = query.whole("page", MAX_LINKS / size, 1)?;
            ((number - 1) * size, number * size)
        }
    };
    let (from, to) = (from.min(links.len()), to.min(links.len()));
    Ok(links.get(from..to).unwrap_or_default())
}
