//! YOURLS's API, for clients that were written for it (<https://yourls.org/docs/guide/api>): `/yourls-api.php`. A thin mapping onto
//! the rules of links; see docs/yourls.md.
//!
//! The key is in the field `signature`, of the query or of a form, or in `Authorization`. As there, a link to a URL is made once.

#[cfg(feature = "schema")]
pub(crate) mod describe;
mod format;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::access::{self, Credential};
use super::create::{self, Made};
use super::list;
use super::record::{Link, short_url};
use crate::codes;
use crate::keys;
use crate::world::World;
use format::Format;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::{json as body, time};
use tollgate_store::ports::Store;

/// The version of YOURLS that clients are told.
const VERSION: &str = "1.9.2";
/// The most links that numbers are of, and that are listed by visits.
const MAX_LINKS: usize = 10_000;
/// The most links of a list, and how many without `limit`.
const MAX_LISTED: usize = 100;
const LISTED: usize = 10;

/// The fields of a request: of its query, and of a form.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn of(request: &Request) -> Self {
        let mut fields = request.query_fields();
        fields.extend(url::form_urlencoded::parse(&request.body).into_owned());
        Self(fields)
    }

    fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }
}

/// What an action comes to: the status, and the document.
type Answer = (u16, Value);

fn fault(status: u16, code: &str, message: &str) -> Answer {
    let document = json!({
        "status": "fail", "code": code, "message": message, "simple": message, "statusCode": status, "errorCode": status,
    });
    (status, document)
}

/// Answers `/yourls-api.php`.
pub(crate) async fn handle<S: Store>(world: &World<'_, S>, request: &Request) -> Response {
    let fields = Fields::of(request);
    let format = Format::of(fields.text("format"), fields.text("callback"));
    let request = authorized(request, &fields);
    let (status, document) = match act(world, &request, &fields).await {
        Ok(answer) => answer,
        Err(problem) if matches!(problem.kind, Kind::Unauthorized | Kind::Forbidden) => {
            let message = problem.detail.clone();
            let problem = problem.with_member("message", message.clone());
            return problem.with_member("simple", message).into_response();
        }
        Err(problem) => fault(problem.kind.status(), "error", &problem.detail),
    };
    format.answer(status, &document)
}

/// The request with its signature where others have their key.
fn authorized(request: &Request, fields: &Fields) -> Request {
    let mut request = request.clone();
    let is_sent = request.headers.iter().any(|header| header.name == keys::HEADER);
    if let (false, Some(key)) = (is_sent, fields.text("signature")) {
        request
            .headers
            .push(Header::new(keys::HEADER, format!("Bearer {key}")));
    }
    request
}

async fn act<S: Store>(world: &World<'_, S>, request: &Request, fields: &Fields) -> Result<Answer, Problem> {
    keys::require(world.store, request, world.now, Scope::Links).await?;
    match fields.text("action") {
        Some("shorturl") if request.method == "HEAD" => {
            Ok(fault(400, "error", "A HEAD request makes no link"))
        }
        Some("shorturl") => shorten(world, request, fields).await,
        Some("expand") => Ok(match found(world, request, fields).await? {
            Some(link) => expanded(world, &link),
            None => not_found(),
        }),
        Some("url-stats") => Ok(match found(world, request, fields).await? {
            Some(link) => (
                200,
                json!({ "statusCode": 200, "message": "success", "simple": link.visits, "link": view(world, &link) }),
            ),
            None => not_found(),
        }),
        Some("stats") => stats(world, request, fields).await,
        Some("db-stats") => {
            let links = list::gather(world, request, MAX_LINKS).await?;
            Ok((
                200,
                json!({ "statusCode": 200, "message": "success", "simple": "Need either XML or JSON format for stats", "db-stats": totals(&links) }),
            ))
        }
        Some("version") => Ok((
            200,
            json!({ "version": VERSION, "simple": VERSION, "statusCode": 200 }),
        )),
        _ => Ok(fault(400, "error", "Unknown or missing \"action\" parameter")),
    }
}

fn not_found() -> Answer {
    let message = "Error: short URL not found";
    (
        404,
        json!({ "statusCode": 404, "errorCode": 404, "message": message, "simple": "not found" }),
    )
}

/// What clients are told of a link.
fn view<S>(world: &World<'_, S>, link: &Link) -> Value {
    json!({
        "shorturl": short_url(world.settings, &link.code),
        "url": link.record.url,
        "title": link.record.title.as_deref().unwrap_or_default(),
        "timestamp": date(link.record.created_at),
        "ip": "",
        "clicks": link.visits.to_string(),
    })
}

/// As YOURLS writes times, UTC.
fn date(at: u64) -> String {
    let text = time::format(at);
    text.get(..19).unwrap_or_default().replace('T', " ")
}

fn expanded<S>(world: &World<'_, S>, link: &Link) -> Answer {
    let url = &link.record.url;
    let document = json!({
        "keyword": codes::parts(&link.code).1, "shorturl": short_url(world.settings, &link.code), "longurl": url,
        "title": link.record.title.as_deref().unwrap_or_default(), "simple": url, "message": "success", "statusCode": 200,
    });
    (200, document)
}

/// The link that `shorturl` means: its code, or its address.
async fn found<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    fields: &Fields,
) -> Result<Option<Link>, Problem> {
    let asked = fields.text("shorturl").unwrap_or_default();
    let prefix = format!("{}/", world.settings.public_url);
    let code = asked.strip_prefix(&*prefix).unwrap_or(asked);
    match Credential::of(world, request).await?.open(world, code).await {
        Ok(link) => Ok(Some(link)),
        Err(problem) if problem.kind == Kind::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}

async fn shorten<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    fields: &Fields,
) -> Result<Answer, Problem> {
    let creator = access::creator(world, request).await?;
    let mut ours = Map::new();
    for (theirs, name) in [("url", "url"), ("keyword", "code"), ("title", "title")] {
        if let Some(value) = fields.text(theirs) {
            ours.insert(name.to_owned(), json!(value));
        }
    }
    match fields.text("url") {
        None => return Ok(fault(400, "error:nourl", "Missing or malformed URL")),
        // As YOURLS does: some clients leave it out.
        Some(url) if !url.contains("://") => drop(ours.insert("url".into(), json!(format!("http://{url}")))),
        Some(_) => {}
    }
    ours.insert("ifExists".into(), json!("return"));
    let ours = Request {
        headers: Vec::new(),
        body: serde_json::to_vec(&ours).unwrap_or_default(),
        ..request.clone()
    };
    let made = match create::make(world, request, &creator, None, body::body(&ours)?).await {
        Ok(made) => made,
        Err(problem) => return refused(problem, fields),
    };
    let (link, is_new) = match made {
        Made::New { link, .. } => (link, true),
        Made::Found(link) => (link, false),
        // Without a key of idempotence there is none.
        Made::Before(_) => return Ok(fault(400, "error", "The request was made before.")),
    };
    let address = short_url(world.settings, &link.code);
    let title = link.record.title.as_deref().unwrap_or_default();
    let mut document = json!({
        "url": {
            "keyword": codes::parts(&link.code).1, "url": link.record.url, "title": title, "date": date(link.record.created_at), "ip": "",
        },
        "title": title, "shorturl": address, "simple": address,
    });
    let (status, more) = match is_new {
        true => {
            let message = format!("{} added to database", link.record.url);
            (
                200,
                json!({ "status": "success", "code": "", "message": message, "statusCode": "200" }),
            )
        }
        false => {
            let message = format!("{} already exists in database", link.record.url);
            let more = json!({ "status": "fail", "code": "error:url", "message": message, "statusCode": "400", "errorCode": "400" });
            (400, more)
        }
    };
    if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
    Ok((status, document))
}

/// A refusal to make a link.
fn refused(problem: Problem, fields: &Fields) -> Result<Answer, Problem> {
    let at = |pointer: &str| problem.errors.iter().any(|error| error.pointer == pointer);
    let keyword = fields.text("keyword").unwrap_or_default();
    match problem.kind {
        Kind::Conflict => {
            let message = format!("Short URL {keyword} already exists in database or is reserved");
            Ok(fault(400, "error:keyword", &message))
        }
        Kind::InvalidRequest if at("#/code") => Ok(fault(400, "error:keyword", &problem.detail)),
        Kind::InvalidRequest if at("#/url") => Ok(fault(400, "error:nourl", &problem.detail)),
        Kind::InvalidRequest => Ok(fault(400, "error", &problem.detail)),
        _ => Err(problem),
    }
}

fn totals(links: &[Link]) -> Value {
    let clicks: u64 = links.iter().map(|link| link.visits).sum();
    json!({ "total_links": links.len().to_string(), "total_clicks": clicks.to_string() })
}

async fn stats<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    fields: &Fields,
) -> Result<Answer, Problem> {
    let mut links = list::gather(world, request, MAX_LINKS).await?;
    let totals = totals(&links);
    match fields.text("filter").unwrap_or("top") {
        "top" => links.sort_by_key(|link| std::cmp::Reverse(link.visits)),
        "bottom" => links.sort_by_key(|link| link.visits),
        "last" => links.sort_by_key(|link| std::cmp::Reverse(link.record.created_at)),
        _ => return Ok(fault(400, "error", "filter must be top, bottom or last")),
    }
    let number = |name: &str| fields.text(name).and_then(|text| text.parse::<usize>().ok());
    let (start, limit) = (number("start").unwrap_or(0), number("limit").unwrap_or(LISTED));
    let listed = links.iter().skip(start).take(limit.min(MAX_LISTED)).enumerate();
    let listed: Map<String, Value> = listed
        .map(|(index, link)| (format!("link_{}", index + 1), view(world, link)))
        .collect();
    let document = json!({
        "links": listed, "stats": totals, "statusCode": 200, "message": "success",
        "simple": "Need either XML or JSON format for stats",
    });
    Ok((200, document))
}
