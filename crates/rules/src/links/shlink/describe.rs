//! What the OpenAPI document says of the calls of Shlink's API: that they are there, and what they are for. Their bodies are
//! described by Shlink itself.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, text};

/// Where the bodies are described.
const ELSEWHERE: &str = "The bodies are those of [Shlink's REST API](https://api-spec.shlink.io/), version 3; the key is in `X-Api-Key` or \
                         `Authorization`. Unknown fields are left alone.";

pub(in crate::links) fn describe(call: Call, operation: &mut Operation<'_>) {
    let (about, gives) = about(call);
    operation.about(&format!("{about} {ELSEWHERE}"));
    for parameter in call
        .path()
        .split('/')
        .filter_map(|segment| segment.strip_prefix(':'))
    {
        operation.path(parameter, text(1, 256), "As in the address.");
    }
    if call.has_body() {
        operation.takes_json(json!({ "type": "object" }), example(call));
    }
    if let "GET" = call.method() {
        pages(call, operation);
    }
    match gives {
        Some(200) => {
            let media = match call {
                Call::ShlinkHealth | Call::ShlinkHealthUnversioned => "application/health+json",
                _ => "application/json",
            };
            operation.gives_document(200, "As Shlink answers.", media);
            operation.shows(200, media, answered(call));
        }
        Some(status) => operation.gives_nothing(status, "Done."),
        None => {}
    }
    let problems: &[u16] = match call {
        Call::ShlinkHealth | Call::ShlinkHealthUnversioned => &[],
        Call::ShlinkMercure => &[400, 401, 403, 501],
        _ => &[400, 401, 403, 404, 409],
    };
    operation.refuses_otherwise(problems, None);
}

fn pages(call: Call, operation: &mut Operation<'_>) {
    let whole = |least: i64| json!({ "type": "integer", "minimum": least, "maximum": 5_000 });
    let listed = matches!(
        call,
        Call::ShlinkListUrls
            | Call::ShlinkUrlVisits
            | Call::ShlinkTagVisits
            | Call::ShlinkDomainVisits
            | Call::ShlinkVisits
            | Call::ShlinkOrphans
            | Call::ShlinkTags
            | Call::ShlinkTagStats
    );
    if listed {
        operation.query(
            "page",
            whole(1),
            "From 1. Pages reach to the first 10,000 entries.",
        );
        operation.query("itemsPerPage", whole(-1), "Entries of a page; -1: 5,000.");
    }
}

/// What a call does, and the status that says that it was done.
fn about(call: Call) -> (&'static str, Option<u16>) {
    match call {
        Call::ShlinkHealth | Call::ShlinkHealthUnversioned => {
            ("That it runs, and which version of Shlink it is like.", Some(200))
        }
        Call::ShlinkListUrls => (
            "The caller's links by pages with numbers; `searchTerm`, `tags[]`, `tagsMode`, `orderBy`, `startDate`, `endDate`, \
             `excludeMaxVisitsReached`, `excludePastValidUntil`.",
            Some(200),
        ),
        Call::ShlinkCreateUrl => (
            "A new link. `forwardQuery` is true where it is left out.",
            Some(200),
        ),
        Call::ShlinkReadUrl => ("One link.", Some(200)),
        Call::ShlinkEditUrl => ("Changes a link; null clears.", Some(200)),
        Call::ShlinkDeleteUrl => ("Removes a link.", Some(204)),
        Call::ShlinkReadRules => ("Where a link leads under conditions.", Some(200)),
        Call::ShlinkSetRules => (
            "Sets where a link leads under conditions: `device`, `language`, `geolocation-country-code`, `after-date`, `before-date`; one of \
             each type in a rule.",
            Some(200),
        ),
        Call::ShlinkUrlVisits => ("The newest visits of a link.", Some(200)),
        Call::ShlinkDeleteUrlVisits => ("Forgets them; what they were counted as stays.", Some(200)),
        Call::ShlinkTagVisits => ("The newest visits of links with a tag.", Some(200)),
        Call::ShlinkDomainVisits => ("The newest visits of the links of a domain.", Some(200)),
        Call::ShlinkVisits => ("The newest visits of all of the caller's links.", Some(200)),
        Call::ShlinkOrphans => ("The newest visits to codes that no link has.", Some(200)),
        Call::ShlinkDeleteOrphans => ("Forgets them.", Some(200)),
        Call::ShlinkOverview => ("How many visits there were.", Some(200)),
        Call::ShlinkTags => ("The tags of the caller's links.", Some(200)),
        Call::ShlinkTagStats => ("The same with links and visits.", Some(200)),
        Call::ShlinkRenameTag => (
            "Gives a tag another name, on up to 1,000 links, one after the other.",
            Some(204),
        ),
        Call::ShlinkDeleteTags => ("Takes tags (`tags[]`) off up to 1,000 links.", Some(204)),
        Call::ShlinkDomains => ("The domains, and where they lead.", Some(200)),
        Call::ShlinkDomainRedirects => ("Refused: where domains lead is in the configuration.", None),
        _ => ("Refused: there are no live updates.", None),
    }
}

fn example(call: Call) -> Value {
    match call {
        Call::ShlinkCreateUrl => {
            json!({ "longUrl": "https://example.com/sale", "customSlug": "sale", "tags": ["spring"] })
        }
        Call::ShlinkEditUrl => json!({ "title": "Spring sale", "validUntil": null }),
        Call::ShlinkSetRules => json!({ "redirectRules": [{
            "longUrl": "https://example.com/android", "priority": 1,
            "conditions": [{ "type": "device", "matchKey": null, "matchValue": "android" }],
        }] }),
        Call::ShlinkRenameTag => json!({ "oldName": "spring", "newName": "easter" }),
        _ => json!({ "domain": "localhost:3000", "baseUrlRedirect": null }),
    }
}

/// What is answered, by example.
fn answered(call: Call) -> Value {
    let visits = json!({ "total": 42, "nonBots": 40, "bots": 2 });
    let link = json!({
        "shortCode": "sale", "shortUrl": "http://localhost:3000/sale", "longUrl": "https://example.com/sale",
        "dateCreated": "2027-01-15T08:00:00Z", "visitsSummary": visits, "tags": ["spring"],
        "meta": { "validSince": null, "validUntil": null, "maxVisits": null },
        "domain": null, "title": "Spring sale", "crawlable": false, "forwardQuery": true, "hasRedirectRules": false,
    });
    let rules = json!({ "defaultLongUrl": "https://example.com/sale", "redirectRules": [{
        "longUrl": "https://example.com/android", "priority": 1,
        "conditions": [{ "type": "device", "matchKey": null, "matchValue": "android" }],
    }] });
    let page = |name: &str, item: Value| {
        let pagination = json!({
            "currentPage": 1, "pagesCount": 1, "itemsPerPage": 20, "itemsInCurrentPage": 1, "totalItems": 1,
        });
        json!({ name: { "data": [item], "pagination": pagination } })
    };
    match call {
        Call::ShlinkHealth | Call::ShlinkHealthUnversioned => json!({
            "status": "pass", "version": super::VERSION,
            "links": { "about": "https://shlink.io", "project": "https://github.com/shlinkio/shlink" },
        }),
        Call::ShlinkListUrls => page("shortUrls", link),
        Call::ShlinkReadRules | Call::ShlinkSetRules => rules,
        Call::ShlinkUrlVisits
        | Call::ShlinkTagVisits
        | Call::ShlinkDomainVisits
        | Call::ShlinkVisits
        | Call::ShlinkOrphans => page(
            "visits",
            json!({
                "referer": "https://social.example/", "date": "2027-01-15T08:00:00Z", "userAgent": "Mozilla/5.0", "visitLocation": null,
                "potentialBot": false, "visitedUrl": "http://localhost:3000/sale", "redirectUrl": "https://example.com/sale",
            }),
        ),
        Call::ShlinkDeleteUrlVisits | Call::ShlinkDeleteOrphans => json!({ "deletedVisits": 42 }),
        Call::ShlinkOverview => json!({ "visits": { "nonOrphanVisits": visits, "orphanVisits": visits } }),
        Call::ShlinkTags => page("tags", json!("spring")),
        Call::ShlinkTagStats => page(
            "tags",
            json!({ "tag": "spring", "shortUrlsCount": 1, "visitsCount": 42, "visitsSummary": visits }),
        ),
        Call::ShlinkDomains => json!({ "domains": { "data": [{
            "domain": "localhost:3000", "isDefault": true,
            "redirects": { "baseUrlRedirect": null, "regular404Redirect": null, "invalidShortUrlRedirect": null },
        }] } }),
        _ => link,
    }
}
