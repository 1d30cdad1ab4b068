//! The page behind `GET /{code}+`, and the page that machines get for a link with `maxVisits`.

use url::Url;

use super::page::{Language, answer, escape};
use super::record::{Record, short_url};
use crate::codes;
use crate::settings::Settings;
use tollgate_api::http::Response;
use tollgate_api::time;

/// The field that the button sends, and its value.
pub(super) const BUTTON: (&str, &str) = ("open", "1");
/// Counts as a visit and redirects. It sends to the page's own address, its query included. Machines follow links and send
/// no forms; a person who was taken for one gets through by it.
const FORM: &str =
    "<form method=\"post\"><p><button name=\"open\" value=\"1\">Open the link</button></p></form>\n";

/// Where a link leads, for people who want to know before they go. Of a link whose visits are numbered only the host is
/// told: the rest takes a visit.
pub(super) fn page(settings: &Settings, code: &str, record: &Record) -> Response {
    let place = match &record.utm {
        None => record.url.clone(),
        Some(utm) => utm.add_to(&record.url, codes::parts(code).1),
    };
    let url = escape(&place);
    let numbered = record.limits.max_visits.is_some();
    let mut body = String::from("<h1>Where this link leads</h1>\n");
    if let Some(title) = record.title.as_deref().filter(|title| !title.is_empty()) {
        body.push_str(&format!("<p><strong>{}</strong></p>\n", escape(title)));
    }
    if numbered {
        let parsed = Url::parse(&record.url).ok();
        let host = parsed.as_ref().and_then(Url::host_str).unwrap_or_default();
        body.push_str(&format!("<p>To {}</p>\n{FORM}", escape(host)));
    } else {
        body.push_str(&format!(
            "<p><a href=\"{url}\" rel=\"noreferrer noopener nofollow\">{url}</a></p>\n"
        ));
    }
    let short = escape(&short_url(settings, code));
    body.push_str(&format!(
        "<p>Short link: {short}<br>Created: {}",
        time::format(record.created_at)
    ));
    if let Some(at) = record.limits.expires_at {
        body.push_str(&format!("<br>Ends: {}", time::format(at)));
    }
    body.push_str("</p>\n");
    answer(200, Language::En, "Where this link leads", &body, numbered)
}

/// For a machine that asks for a link with `maxVisits`: it gets neither a visit nor the target. A person taken for one, or
/// whose browser fetched ahead, is one click from the link.
pub(super) fn withheld() -> Response {
    let body = format!("<h1>This link opens a limited number of times</h1>\n{FORM}");
    answer(200, Language::En, "A link", &body, true)
}
