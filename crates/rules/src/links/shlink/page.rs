//! Queries as Shlink reads them, and its pages.

use serde_json::{Value, json};
use tollgate_api::http::Request;
use tollgate_api::time;

use super::problem::Fault;

/// The most entries that pages reach.
const MAX_REACH: usize = 10_000;
/// The most entries of a page: as many as Shlink's own client asks for, and as have room in memory.
const MAX_PAGE: usize = 5_000;

/// The fields of a query. What nobody knows is left alone.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn of(request: &Request) -> Self {
        Self(request.query_fields())
    }

    /// The last value of a field that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rfind(|(found, _)| found == name);
        found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    /// All values of a list: `tags[]`, `tags[0]` or `tags`.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let is_it = |found: &str| {
            let rest = found.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('[') && rest.ends_with(']'))
        };
        let found = self.0.iter().filter(|(found, _)| is_it(found));
        found.map(|(_, value)| &**value).collect()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| matches!(value, "true" | "1"))
    }

    /// A time, or the beginning of a day; Unix milliseconds.
    pub(super) fn time(&self, name: &str) -> Result<Option<u64>, Fault> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        // A `+` that was not encoded is a space here.
        let text = text.replace(' ', "+");
        let at = time::parse(&text).or_else(|| time::parse(&format!("{text}T00:00:00Z")));
        at.map(Some)
            .ok_or_else(|| Fault::invalid(name, &format!("{name} must be a date or a time of RFC 3339.")))
    }

    fn whole(&self, name: &str, default: i64) -> Result<i64, Fault> {
        self.text(name).map_or(Ok(default), |text| {
            text.parse()
                .map_err(|_| Fault::invalid(name, &format!("{name} must be a whole number.")))
        })
    }
}

/// A page that is asked for: from 1, and entries on it.
pub(super) struct Page {
    number: usize,
    size: usize,
}

impl Page {
    /// Of a query; with so many entries, unless it says otherwise. −1 are as many as a page may have.
    pub(super) fn of(fields: &Fields, default: i64) -> Result<Self, Fault> {
        let number = fields.whole("page", 1)?;
        let size = fields.whole("itemsPerPage", default)?;
        let number = usize::try_from(number).unwrap_or(0).max(1);
        let size = match usize::try_from(size) {
            Ok(size @ 1..) => size,
            _ => MAX_PAGE,
        };
        if size > MAX_PAGE || (number > 1 && number.saturating_mul(size) > MAX_REACH) {
            return Err(Fault::invalid(
                "itemsPerPage",
                "A page has at most 5,000 entries, and pages reach to the first 10,000.",
            ));
        }
        Ok(Self { number, size })
    }

    /// `{"<name>": {"data": […], "pagination": {…}}}`
    pub(super) fn of_items<T>(&self, name: &str, items: &[T], view: impl Fn(&T) -> Value) -> Value {
        let from = (self.number - 1).saturating_mul(self.size).min(items.len());
        let to = from.saturating_add(self.size).min(items.len());
        let data: Vec<_> = items.get(from..to).unwrap_or_default().iter().map(view).collect();
        let pagination = json!({
            "currentPage": self.number,
            "pagesCount": items.len().div_ceil(self.size).max(1),
            "itemsPerPage": self.size,
            "itemsInCurrentPage": data.len(),
            "totalItems": items.len(),
        });
        json!({ name: { "data": data, "pagination": pagination } })
    }
}
