//! What the OpenAPI document says of the calls of links.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, number, pattern, text};
use tollgate_api::problem::Kind;

use super::list::{DEFAULT_PAGE, MAX_FILTER, MAX_PAGE};
use super::top::{self, Window};
use super::{again, bulk, claim, create, edit, list, qr, record, stats};

/// Headers of the pages that browsers get.
const PAGE_HEADERS: &[&str] = &[
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "X-Robots-Tag",
];

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    match call {
        Call::FollowLink => follow(operation),
        Call::OpenLink => open(operation),
        Call::FollowLinkByPut | Call::FollowLinkByPatch | Call::FollowLinkByDelete => pass_on(operation),
        Call::ListLinks => list(operation),
        Call::CreateLink => create(operation),
        Call::ListTopLinks => top(operation),
        Call::ReadLinksStats => all_stats(operation),
        Call::ListOrphans => {
            operation.about(
                "Visits to codes that no link has, newest first: as many as `[links] visit_log` says. Of those that come in the same moment, \
                 32 are told.",
            );
            visits(operation);
        }
        Call::DeleteOrphans => {
            operation.about("They are gone for good.");
            operation.gives_nothing(204, "They are gone.");
        }
        Call::CreateLinks | Call::EditLinks | Call::DeleteLinks => bulk(call, operation),
        Call::ClaimLinks => claim(operation),
        _ if call.path().starts_with(super::shlink::PREFIX) => {
            super::shlink::describe::describe(call, operation)
        }
        _ if call.path().starts_with(super::dub::PREFIX) => super::dub::describe::describe(call, operation),
        _ => one(call, operation),
    }
}

fn code(operation: &mut Operation<'_>) {
    operation.path(
        "code",
        pattern("^[A-Za-z0-9_-]{3,64}$"),
        "The link's code. Percent-encoded unreserved characters lead to the same link.",
    );
}

/// Which host a link is on.
fn domain(operation: &mut Operation<'_>, what: &'static str) {
    operation.query(
        "domain",
        json!({ "type": "string", "minLength": 1, "maxLength": 253 }),
        what,
    );
}

fn redirects(operation: &mut Operation<'_>, statuses: &[u16]) {
    for status in statuses {
        operation.gives_nothing(
            *status,
            "The redirect, to the target, or to the `fallbackUrl` of a link that has ended.",
        );
        operation.answers_with(*status, "Location", true);
    }
}

fn follow(operation: &mut Operation<'_>) {
    operation.about(
        "Redirects to the link's target and counts the visit; `HEAD` counts nothing. With a `+` behind the code: a small page that \
         shows where the link leads (of a link with `maxVisits`, its host only). A machine that asks for a link with `maxVisits` \
         gets a page with a button instead of a visit. A slash at the end leads to the same link.",
    );
    operation.path(
        "code",
        pattern(r"^[A-Za-z0-9_-]{3,64}\+?$"),
        "The link's code, and a `+` for the page that shows where it leads.",
    );
    redirects(operation, &[301, 302, 307, 308]);
    operation.gives_text(
        200,
        "The page, for `+`, for a machine, or the form of a link with a password.",
        "text/html; charset=utf-8",
    );
    for header in PAGE_HEADERS {
        operation.answers_with(200, header, true);
    }
    operation.refuses(&[Kind::NotFound, Kind::Gone]);
    // Browsers, which ask for it.
    for status in [404, 410] {
        operation.gives_text(status, "A page.", "text/html; charset=utf-8");
        for header in PAGE_HEADERS {
            operation.answers_with(status, header, false);
        }
    }
}

fn open(operation: &mut Operation<'_>) {
    operation.about(
        "What a form of a link's page sends: the button of the page that machines get instead of a link with `maxVisits`, or the \
         password that a link asks for. Counts a visit and redirects. The right password sets a cookie, which opens the link for an \
         hour. Any other `POST` is passed on by a link whose status keeps methods (307, 308): it is answered so, and its body is not read. \
         Of other links it is a 405.",
    );
    code(operation);
    let field = json!({
        "type": "object", "properties": { "open": { "const": "1" }, "password": { "type": "string" } },
        "anyOf": [{ "required": ["open"] }, { "required": ["password"] }],
    });
    operation.takes_form(field, json!({ "open": "1" }));
    redirects(operation, &[302, 303, 307, 308]);
    for status in [302, 303] {
        operation.answers_with(status, "Set-Cookie", false);
    }
    for (status, about) in [
        (200, "The form, where no password was sent."),
        (403, "The form again: it is another password."),
        (
            429,
            "The form again: too many wrong passwords; after `Retry-After` there may be more.",
        ),
    ] {
        operation.gives_text(status, about, "text/html; charset=utf-8");
        for header in PAGE_HEADERS {
            operation.answers_with(status, header, false);
        }
    }
    operation.refuses(&[Kind::NotFound, Kind::Gone, Kind::MethodNotAllowed]);
}

fn pass_on(operation: &mut Operation<'_>) {
    operation.about(
        "A link whose status keeps methods (307, 308) is followed by any method, and counts it as a visit; the body is not read. Of other \
         links, and of those with a password, it is a 405.",
    );
    code(operation);
    redirects(operation, &[302, 307, 308]);
    operation.refuses(&[Kind::NotFound, Kind::Gone, Kind::MethodNotAllowed]);
    for status in [404, 410] {
        operation.gives_text(status, "A page.", "text/html; charset=utf-8");
        for header in PAGE_HEADERS {
            operation.answers_with(status, header, false);
        }
    }
}

fn list(operation: &mut Operation<'_>) {
    operation.about(
        "A member's own links, newest first. An admin sees those of every owner, by code, or with `owner` those of one, newest first. \
         A page may be short, even empty, while `nextCursor` leads on. A link that did not change is on exactly one page.",
    );
    let filter = || text(0, MAX_FILTER as u64);
    operation.query("tag", filter(), "Only links with this tag.");
    domain(
        operation,
        "Only links on this host: one of `[[domains]]`, or that of `server.public_url`.",
    );
    operation.query(
        "search",
        filter(),
        "Only links with this in code, URL, title, tags or `externalId`, whatever the case.",
    );
    operation.query(
        "owner",
        filter(),
        "Whose: `key:<id>` or `client:<id>`; another's takes the scope `admin`.",
    );
    operation.query(
        "sort",
        json!({ "enum": ["-visits"] }),
        "Most visits first; newest first where it is left out.",
    );
    operation.pages(MAX_PAGE, DEFAULT_PAGE);
    operation.gives::<list::Page<'_>>(
        200,
        "A page of links.",
        json!({ "links": [link()], "nextCursor": null }),
    );
}

fn create(operation: &mut Operation<'_>) {
    operation.about(
        "A key with the scope `links` owns what it makes. Anyone else may make a link with an `x-client-id`, and gets a `manageToken` \
         once; such links are bounded per address and day (429), and together (503), and end when nobody comes.",
    );
    operation.takes::<create::Body>(json!({
        "url": "https://example.com/sale?utm_source=mail",
        "code": "sale",
        "expiresAt": "2030-01-31T12:00:00+01:00",
        "tags": ["spring"],
        "ifExists": "return",
    }));
    operation.gives::<again::Created<'_>>(201, "The new link.", link());
    operation.answers_with(201, "Location", true);
    operation.answers_with(201, "ETag", false);
    operation.answers_with(201, "Idempotency-Replayed", false);
    operation.gives::<record::View<'_>>(200, "With `ifExists: return`: the link that was there.", link());
    operation.answers_with(200, "ETag", true);
    operation.header("IdempotencyKey");
    operation.refuses(&[Kind::Conflict, Kind::IdempotencyMismatch]);
}

fn top(operation: &mut Operation<'_>) {
    operation.about(
        "A member's own links, an admin's of all owners, by visits in the window; at most 2 s old. A window ends with a bucket in \
         progress: of a minute, half an hour or two hours. Exact while few links are visited; where many are, those of one owner are \
         found among the 1,000 most visited. Only links that redirect are told. Visits that `[links] clicks` does not count are not \
         ranked. With `Accept: text/event-stream` it is told at once and whenever it has changed, as events `ranking`; 16 streams at \
         once (503). Under Spin there is none (404).",
    );
    let names = Window::ALL.map(Window::name);
    operation.query(
        "window",
        json!({ "enum": names }),
        "How far it looks back; `24h` where it is left out.",
    );
    let mut limit = number(1, top::MAX_LINKS);
    limit["default"] = json!(top::DEFAULT_LINKS);
    operation.query("limit", limit, "How many at most.");
    operation.gives::<top::Top<'_>>(
        200,
        "The links.",
        json!({ "window": "1h", "since": "2027-01-15T08:00:00Z", "links": [{ "visits": 7, "link": link() }] }),
    );
    operation.gives_text(200, "The links.", "text/event-stream");
    operation.refuses(&[Kind::NotFound]);
}

/// What statistics have in common.
const STATS: &str = "Visits of machines are counted apart. Clients are told apart by the client id that limits count by: a header, else \
                     the address. Of a period, the 50 most frequent values of each dimension are named; `other` are the visits of the rest. \
                     A value that is not known is null. Where `[links] stats` is off, nothing is counted here.";

fn statistics(operation: &mut Operation<'_>) {
    operation.query(
        "interval",
        pattern("^([1-9][0-9]*[hd]|all)$"),
        &format!("How far it looks back, from a whole hour or day: hours to `2160h`, days to `{}d`, or `all`; `24h` where it is left out.", stats::MAX_DAYS),
    );
    let names: Vec<_> = ["time"]
        .into_iter()
        .chain(stats::Dimension::ALL.map(stats::Dimension::name))
        .collect();
    operation.query(
        "groupBy",
        json!({ "enum": names }),
        "What the rows are by; `time` where it is left out.",
    );
    operation.query(
        "unit",
        json!({ "enum": ["hour", "day"] }),
        "The periods; where it is left out, hours up to seven days, else days. Hours are kept for 90 days.",
    );
    operation.gives::<stats::Stats>(
        200,
        "The visits.",
        json!({
            "interval": "1h", "groupBy": "time", "from": "2027-01-15T07:00:00Z", "to": "2027-01-15T08:10:00Z", "visits": 7,
            "uniqueVisitors": 5, "bots": 1, "rows": [
                { "time": "2027-01-15T07:00:00Z", "visits": 4, "uniqueVisitors": 3, "bots": 0 },
                { "time": "2027-01-15T08:00:00Z", "visits": 3, "uniqueVisitors": 2, "bots": 1 },
            ],
        }),
    );
}

fn all_stats(operation: &mut Operation<'_>) {
    operation.about(&format!(
        "The visits of a member's own links together; of an admin, of all links, or with `owner` those of one. Links that are there now, \
         at most {} (400). {STATS}",
        stats::MAX_LINKS
    ));
    operation.query(
        "owner",
        text(0, MAX_FILTER as u64),
        "Whose: `key:<id>` or `client:<id>`; another's takes the scope `admin`.",
    );
    statistics(operation);
}

fn visits(operation: &mut Operation<'_>) {
    operation.pages(MAX_PAGE, DEFAULT_PAGE);
    let visit = json!({
        "time": "2027-01-15T08:00:00Z", "client": "q1Zx0bV7c2E", "referrer": "https://news.example/today",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "device": "desktop", "os": "linux",
        "browser": "firefox", "country": null, "bot": false, "target": "https://example.com/sale?utm_source=mail",
    });
    operation.gives::<stats::visits::Page>(
        200,
        "A page of visits.",
        json!({ "visits": [visit], "nextCursor": null }),
    );
}

/// The answer to a call about many links.
fn results(operation: &mut Operation<'_>, example: Value) {
    let link = operation.schema::<record::View<'_>>();
    let result = json!({
        "type": "object",
        "properties": {
            "status": { "type": "integer", "description": "What a call about this one alone would be answered." },
            "link": link,
            "code": { "type": "string", "description": "Of a link that is gone." },
            "problem": { "$ref": "#/components/schemas/Problem" },
        },
        "required": ["status"],
    });
    let schema = json!({
        "type": "object",
        "properties": { "results": { "type": "array", "items": result } },
        "required": ["results"],
    });
    operation.gives_json(
        207,
        "What became of each, in the order that they were sent.",
        schema,
        example,
    );
}

fn bulk(call: Call, operation: &mut Operation<'_>) {
    let gone = json!({ "status": 204, "code": "sale" });
    let (about, example) = match call {
        Call::CreateLinks => {
            operation.takes::<bulk::NewLinks>(
                json!({ "links": [{ "url": "https://example.com/sale", "code": "sale" }] }),
            );
            (
                "Each link as for `POST /api/links`, with a result of its own: 201, 200 with `ifExists: return`, or a problem whose pointers \
                 begin with `#/links/<index>`.",
                json!({ "status": 201, "link": link() }),
            )
        }
        Call::EditLinks => {
            let patch = json!({ "codes": ["sale"], "archived": true });
            operation.takes_all::<bulk::Codes, edit::Patch>(patch);
            (
                "`codes`, and the members of a merge patch for each of them.",
                json!({ "status": 200, "link": link() }),
            )
        }
        _ => {
            operation.takes::<bulk::Codes>(json!({ "codes": ["sale"] }));
            (
                "The links of these codes, their counters, and what leads to them.",
                gone,
            )
        }
    };
    operation.about(&format!(
        "{about} Links are handled on their own: where one is refused, the others are not. A body may have 1 MiB. Few such calls may be \
         under way at once (503)."
    ));
    results(operation, json!({ "results": [example] }));
}

fn claim(operation: &mut Operation<'_>) {
    operation.about(
        "Moves links that were made without a key to the owner of the calling key, by their manage tokens. A token claims once, and \
         opens nothing afterwards. What strangers' links are bounded by ends: an idle time that nobody chose. Each token has a result of \
         its own; 404 where it was claimed already, or its link is gone.",
    );
    operation.takes::<claim::Body>(json!({ "tokens": ["lm_3f6hK2pXw9QvB4nTzLrM8c5sD7gJ1yZa"] }));
    results(
        operation,
        json!({ "results": [{ "status": 200, "link": link() }] }),
    );
}

/// A change that may be tied to what the caller has seen.
fn tied(operation: &mut Operation<'_>) {
    operation.header("IfMatch");
    operation.refuses(&[Kind::Conflict, Kind::PreconditionFailed]);
}

fn one(call: Call, operation: &mut Operation<'_>) {
    code(operation);
    domain(
        operation,
        "The host that the link is on, one of `[[domains]]`; that of `server.public_url` where it is left out.",
    );
    operation.refuses(&[Kind::NotFound]);
    match call {
        Call::ReadLink => {
            operation.about("The link as it is now, with its counters. Its `ETag` names its settings: visits do not change it.");
            operation.gives::<record::View<'_>>(200, "The link.", link());
            operation.answers_with(200, "ETag", true);
        }
        Call::PutLink => {
            operation.about(
                "The link as it is sent, under this code: made where there is none, which takes a key. Of one that is there, what is not sent is as \
                 for a new link, a password too; its counters stay. `code`, `codeLength` and `ifExists` are refused.",
            );
            operation.takes::<create::Body>(json!({ "url": "https://example.com/sale", "tags": ["spring"] }));
            operation.gives::<again::Created<'_>>(201, "The new link.", link());
            operation.answers_with(201, "Location", true);
            operation.answers_with(201, "ETag", true);
            operation.gives::<record::View<'_>>(200, "The link that was there, as it is now.", link());
            operation.answers_with(200, "ETag", true);
            tied(operation);
        }
        Call::EditLink => {
            operation.about(
                "A merge patch (RFC 7396): what is absent stays, `null` clears. `maxVisits` is exact also on a link in use.",
            );
            operation.takes::<edit::Patch>(
                json!({ "title": "Spring sale", "maxVisits": 1000, "expiresAt": null }),
            );
            operation.gives::<record::View<'_>>(200, "The changed link.", link());
            tied(operation);
            operation.answers_with(200, "ETag", true);
        }
        Call::DeleteLink => {
            operation.about("The link, its counters, and what leads to it. Its code is free again.");
            operation.gives_nothing(204, "It is gone.");
            tied(operation);
        }
        Call::DrawLink => {
            operation.about(
                "The short address as a QR code, in black on white or another colour. Modules of a PNG have whole pixels; what is left \
                 over is quiet zone. It may be kept for an hour.",
            );
            let words = |words: &[&str]| json!({ "enum": words });
            operation.query("format", words(&["svg", "png"]), "`svg` where it is left out.");
            let mut size = number(qr::MIN_PIXELS, qr::MAX_PIXELS);
            size["default"] = json!(qr::PIXELS);
            operation.query("size", size, "Pixels of a side.");
            let mut margin = number(0, qr::MAX_MARGIN);
            margin["default"] = json!(qr::MARGIN);
            operation.query("margin", margin, "The quiet zone around it, in modules.");
            operation.query(
                "level",
                words(&["L", "M", "Q", "H"]),
                "How much of it may be hidden: 7, 15, 25 or 30 %. `M` where it is left out.",
            );
            operation.query(
                "color",
                pattern("^[0-9A-Fa-f]{6}$"),
                "Of the dark modules; `000000` where it is left out.",
            );
            operation.header("IfNoneMatch");
            for media in ["image/svg+xml", "image/png"] {
                operation.gives_text(200, "The image.", media);
            }
            operation.gives_nothing(304, "It has not changed.");
            for status in [200, 304] {
                operation.answers_with(status, "ETag", true);
            }
            operation.answers_with(200, "Content-Security-Policy", true);
            operation.answers_with(200, "X-Content-Type-Options", true);
        }
        Call::ReadLinkStats => {
            operation.about(&format!(
                "The visits that the link's counter has, by hour for 90 days and by day for ever, UTC. {STATS} A deleted link's are removed \
                 within a quarter of an hour."
            ));
            statistics(operation);
        }
        Call::ListVisits => {
            operation.about(
                "The newest visits, newest first: as many as `[links] visit_log` says, 1,000 as shipped. A visit is on exactly one page, also \
                 where others come meanwhile. Machines are among them. Visits come some seconds late where a link is busy.",
            );
            visits(operation);
        }
        Call::DeleteVisits => {
            operation.about(
                "Forgets the visits one by one, and the names of their clients. The link's counters and statistics stay.",
            );
            operation.gives_nothing(204, "They are gone.");
        }
        Call::ExtendLink => {
            operation.about("Gives a link a later end: `expiresAt`, or `seconds` after the present one. Exactly one of the two.");
            operation.takes::<edit::Extend>(json!({ "seconds": 86_400 }));
            operation.gives::<record::View<'_>>(200, "The changed link.", link());
            tied(operation);
            operation.answers_with(200, "ETag", true);
        }
        _ => {}
    }
}

fn link() -> Value {
    json!({
        "id": "3f6hK2pXw9QvB4nTzLrM", "code": "sale", "shortUrl": "http://localhost:3000/sale",
        "url": "https://example.com/sale?utm_source=mail", "redirect": 302, "createdAt": "2027-01-15T08:00:00Z",
        "updatedAt": "2027-01-15T08:00:00Z", "validFrom": null, "expiresAt": "2030-01-31T11:00:00Z", "expireAfterIdle": null,
        "domain": null, "lastVisitedAt": null, "visits": 0, "uniqueVisitors": 0, "bots": 0, "maxVisits": null, "fallbackUrl": null, "forwardQuery": false,
        "tags": ["spring"], "title": null, "externalId": null, "owner": "key:mzX4nQ9d", "archived": false, "hasPassword": false,
        "rules": [], "targets": [], "utm": null, "notifyBefore": null, "events": false,
    })
}
