//! A campaign's claims, all of them, page by page: JSON, CSV or NDJSON. In the order of users. The work of a page is bounded: a
//! page may be short, even empty, while there are more.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::record::{Campaign, Claim, ClaimView, Status, load};
use super::unknown;
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_api::{accept, time};
use tollgate_store::commit::{MAX_KEY_BYTES, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// Claims of a page unless the caller says otherwise.
pub(super) const DEFAULT_PAGE: u64 = 100;
/// The most claims of a page.
pub(super) const MAX_PAGE: u64 = 500;
/// The most claims that a page looks at.
const MAX_EXAMINED: usize = 2_000;

const JSON: &str = "application/json";
pub(super) const CSV: &str = "text/csv";
pub(super) const NDJSON: &str = "application/x-ndjson";

/// The columns of the table.
const COLUMNS: &str = "id,campaign,user,sequence,units,code,status,claimedAt,expiresAt,metadata\r\n";
/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A claim in a list.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ListedClaim")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    claim: ClaimView<'a>,
    /// When it was admitted.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    claimed_at: u64,
}

/// Some claims.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ClaimPage")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<'a> {
    /// The claims, by user.
    claims: Vec<Row<'a>>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<&'a str>,
}

/// `GET /api/campaigns/{id}/claims?status=&limit=&cursor=`, for the scope `campaigns`.
pub(super) async fn list<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    let query = Query::of(request, &["status", "limit", "cursor"])?;
    let status = query.text("status").map(status).transpose()?;
    let limit = usize::try_from(query.number("limit", 1..=MAX_PAGE, DEFAULT_PAGE)?).unwrap_or(1);
    let prefix = Campaign::all_claims_prefix(id);
    let cursor = query.text("cursor");
    let after = cursor.map(|cursor| place(cursor, &prefix)).transpose()?;
    load(world.store, id).await?.ok_or_else(|| unknown(id))?;
    let (claims, next) = page(world.store, &prefix, status, limit, after).await?;
    let next = next.map(|key| URL_SAFE_NO_PAD.encode(key.strip_prefix(&*prefix).unwrap_or_default()));
    let media = accept::named(request, &[JSON, CSV, NDJSON]).unwrap_or(JSON);
    let response = match media {
        CSV => text(csv(&claims, cursor.is_none()), csv_type(cursor.is_none())),
        NDJSON => text(ndjson(&claims), NDJSON),
        _ => Response::json(
            200,
            &Page {
                claims: claims.iter().map(row).collect(),
                next_cursor: next.as_deref(),
            },
        ),
    };
    let response = response.with("vary", "accept");
    let Some(next) = next else { return Ok(response) };
    let mut link = format!("</api/campaigns/{id}/claims?limit={limit}&cursor={next}");
    if let Some(status) = status {
        link += "&status=";
        link += status.name();
    }
    Ok(response.with("link", link + ">; rel=\"next\""))
}

fn text(body: String, media: &str) -> Response {
    Response {
        body: body.into_bytes(),
        ..Response::empty(200).with("content-type", media.to_owned())
    }
}

fn csv_type(with_head: bool) -> &'static str {
    match with_head {
        true => "text/csv; charset=utf-8; header=present",
        false => "text/csv; charset=utf-8; header=absent",
    }
}

fn status(text: &str) -> Result<Status, Problem> {
    let all = [
        Status::Held,
        Status::Confirmed,
        Status::Released,
        Status::Expired,
        Status::Revoked,
    ];
    let found = all.into_iter().find(|status| status.name() == text);
    found.ok_or_else(|| {
        let rule = "must be held, confirmed, released, expired or revoked";
        Problem::field("query:status", rule)
    })
}

/// The key that a cursor stands for.
fn place(cursor: &str, prefix: &str) -> Result<String, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let rest = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let key = rest.map(|rest| [prefix, &rest].concat());
    // What was escaped in a key holds no control character.
    let key = key.filter(|key| key.len() <= MAX_KEY_BYTES && !key.contains(char::is_control));
    key.ok_or_else(|| Problem::field("query:cursor", "is not a cursor of this list"))
}

/// Claims behind `after`, and the key to go on from, if there may be more.
async fn page<S: Store>(
    store: &S,
    prefix: &str,
    status: Option<Status>,
    limit: usize,
    mut after: Option<String>,
) -> Result<(Vec<Claim>, Option<String>), StoreError> {
    let mut found: Vec<Claim> = Vec::new();
    let mut examined = 0;
    while examined < MAX_EXAMINED {
        // One more than is wanted tells whether there is another page.
        let wanted = (limit + 1 - found.len()).min(MAX_EXAMINED - examined);
        let wanted = u32::try_from(wanted).unwrap_or(1);
        let items = store.scan(prefix, after.as_deref(), wanted).await?;
        if items.is_empty() {
            return Ok((found, None));
        }
        for item in items {
            if found.len() == limit {
                return Ok((found, after));
            }
            examined += 1;
            let claim: Claim = stored::decode("claim", &item.entry)?;
            after = Some(item.key);
            if status.is_none_or(|status| claim.status == status) {
                found.push(claim);
            }
        }
    }
    Ok((found, after))
}

fn row(claim: &Claim) -> Row<'_> {
    Row {
        claim: claim.view(),
        claimed_at: claim.time.known().unwrap_or(0),
    }
}

fn ndjson(claims: &[Claim]) -> String {
    let mut lines = String::new();
    for claim in claims {
        lines += &serde_json::to_string(&row(claim)).unwrap_or_default();
        lines.push('\n');
    }
    lines
}

/// A table (RFC 4180); its head stands on the first page only, so that pages can be put together.
fn csv(claims: &[Claim], with_head: bool) -> String {
    let mut table = if with_head {
        COLUMNS.to_owned()
    } else {
        String::new()
    };
    for claim in claims {
        let sequence = claim.sequence.known().unwrap_or(0).to_string();
        let units = claim.units.to_string();
        let at = time::format(claim.time.known().unwrap_or(0));
        let metadata = claim.metadata.as_ref().map(ToString::to_string);
        let cells = [
            claim.id.as_str(),
            &claim.campaign,
            &claim.user,
            &sequence,
            &units,
            claim.code.as_deref().unwrap_or_default(),
            claim.status.name(),
            &at,
            claim.expires_at.as_deref().unwrap_or_default(),
            metadata.as_deref().unwrap_or_default(),
        ];
        let cells = cells.map(cell);
        table += &cells.join(",");
        table += "\r\n";
    }
    table
}

/// A cell that no spreadsheet takes for a formula: users name themselves. Such a text gets an apostrophe in front.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(FORMULA) { "'" } else { "" };
    match text.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{guard}{}\"", text.replace('"', "\"\"")),
        false => [guard, text].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_and_no_formula() {
        for (text, expected) in [
            ("ann", "ann"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("=1+1", "'=1+1"),
            ("-1", "'-1"),
            ("@x,y", "\"'@x,y\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected, "{text}");
        }
    }
}
