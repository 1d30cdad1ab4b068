//! `PUT /api/links/{code}`: the link under this code as it is sent, made where there is none.

use serde_json::{Map, Value};

use super::access::{self, Credential};
use super::again::Created;
use super::create::{self, Made};
use super::domain;
use super::edit::{self, Patch};
use super::manage::{contended, shown};
use super::record::{MAX_RACES, Record};
use super::utm;
use crate::codes;
use crate::etag::IfMatch;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// What a link has beside its URL, as a patch names it: what is not sent is cleared.
const CLEARED: &[&str] = &[
    "redirect",
    "validFrom",
    "expiresAt",
    "expireAfterIdle",
    "maxVisits",
    "fallbackUrl",
    "forwardQuery",
    "tags",
    "title",
    "externalId",
    "archived",
    "password",
    "rules",
    "targets",
    "utm",
    "notifyBefore",
    "events",
];
/// What the address says, or nobody can say of a link that is there.
const NOT_SENT: &[&str] = &["code", "codeLength", "ifExists", "archived"];

pub(super) async fn put<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    let sent: Map<String, Value> = json::body(request)?;
    if let Some(name) = NOT_SENT.iter().find(|name| sent.contains_key(**name)) {
        return Err(Problem::field(format!("#/{name}"), "is no field of this call"));
    }
    if !sent.contains_key("url") {
        return Err(Problem::field("#/url", "is missing"));
    }
    for _ in 0..MAX_RACES {
        let answered = match credential.open(world, code).await {
            Ok(_) => replace(world, request, &credential, (code, &sent)).await,
            Err(problem) if problem.kind == Kind::NotFound && matches!(credential, Credential::Key(_)) => {
                create(world, request, (code, &sent)).await
            }
            Err(problem) => Err(problem),
        };
        match answered {
            // It came, or went, meanwhile.
            Err(problem) if matches!(problem.kind, Kind::Conflict | Kind::NotFound) => {}
            answered => return answered,
        }
    }
    Err(contended())
}

/// These fields as the body of another call.
fn as_body(fields: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(fields).unwrap_or_default()
}

async fn create<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    (code, sent): (&str, &Map<String, Value>),
) -> Result<Response, Problem> {
    if request.headers.iter().any(|header| header.name == "if-match") {
        return Err(Problem::new(Kind::PreconditionFailed, "There is no such link."));
    }
    let creator = access::creator(world, request).await?;
    let mut fields = sent.clone();
    let (host, code) = codes::parts(code);
    fields.insert("code".into(), code.into());
    if let Some(host) = host {
        fields.insert("domain".into(), host.into());
    }
    let body = json::decode(&as_body(&fields))?;
    let link = match create::make(world, request, &creator, None, body).await? {
        Made::New { link, .. } | Made::Found(link) => link,
        Made::Before(response) => return Ok(response),
    };
    let body = Created {
        link: link.view(world.settings),
        manage_token: None,
    };
    let made = Response::json(201, &body).with("location", domain::location(&link.code));
    Ok(made.with("etag", link.etag()))
}

async fn replace<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    credential: &Credential,
    (code, sent): (&str, &Map<String, Value>),
) -> Result<Response, Problem> {
    let mut fields = sent.clone();
    for name in CLEARED {
        fields.entry(*name).or_insert(Value::Null);
    }
    if let Some(Value::Object(members)) = fields.get_mut("utm") {
        utm::whole(members)?;
    }
    let mut patch: Patch = json::decode(&as_body(&fields))?;
    patch.prepare(world)?;
    let apply = |record: &mut Record| patch.apply(record, world.settings, world.now);
    let link = edit::change(world, credential, (code, None), &IfMatch::of(request), apply).await?;
    Ok(shown(world, &link))
}
