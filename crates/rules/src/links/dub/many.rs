//! Dub's calls about many links, `/links/bulk`: each link is dealt with on its own, and the answer tells of each in the order they were
//! sent. The caller's own links alone are meant, whatever the key may do with those of others.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::many;
use super::super::record::Link;
use super::filter::Query;
use super::{EXTERNAL, ID, access, change, fault, index, made, manage, none, view};
use crate::etag::IfMatch;
use crate::keys::ApiKey;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::json as body;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// The most links of one call, as there.
pub(super) const MAX_LINKS: usize = 100;
/// The most links of one call that get a password: each takes some 20 ms to hash.
const MAX_PASSWORDS: usize = 16;

/// What is done to many links.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changes {
    #[serde(default)]
    link_ids: Vec<String>,
    #[serde(default)]
    external_ids: Vec<String>,
    data: Map<String, Value>,
}

fn has_password(sent: &Map<String, Value>) -> bool {
    sent.get("password")
        .is_some_and(|password| !password.is_null() && password != "")
}

fn too_many_passwords() -> Problem {
    Problem::field(
        "#/password",
        format!("at most {MAX_PASSWORDS} links of one call may have one"),
    )
}

/// What became of each, as there: the link, or what was sent with what is wrong with it.
fn answer<S>(world: &World<'_, S>, results: &[(Value, Result<Link, Problem>)]) -> Response {
    let told = results.iter().map(|(sent, result)| match result {
        Ok(link) => view::of(world, link),
        Err(problem) => {
            let (code, message) = fault::told(problem);
            json!({ "link": sent, "error": message, "code": code })
        }
    });
    Response::json(200, &told.collect::<Vec<_>>())
}

pub(super) async fn create<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
) -> Result<Response, Problem> {
    let sent: Vec<Map<String, Value>> = body::body(request)?;
    many::bounded(sent.len(), MAX_LINKS, "#/links")?;
    if sent.iter().filter(|one| has_password(one)).count() > MAX_PASSWORDS {
        return Err(too_many_passwords());
    }
    let results = many::each(world, sent, async |world, one: Map<String, Value>| {
        let link = made(world, request, (key, &one), false).await;
        (Value::Object(one), link)
    });
    Ok(answer(world, &results.await))
}

/// The caller's own link of this id, of Dub's or with [`EXTERNAL`] of the caller's own.
async fn own<S: Store>(world: &World<'_, S>, key: &ApiKey, id: &str) -> Result<Link, Problem> {
    let owner = access::key_owner(key);
    let (names, external, id) = match id.strip_prefix(EXTERNAL) {
        Some(external) => (
            index::with_external(world.store, &owner, external).await?,
            Some(external),
            "",
        ),
        None => {
            let id = id.strip_prefix(ID).unwrap_or(id);
            let name = index::code_of(world.store, &owner, id).await?;
            (name.into_iter().collect(), None, id)
        }
    };
    for name in names {
        let found = Link::read(world.store, &name).await?;
        let is_it = |link: &Link| match external {
            Some(_) => link.record.external_id.as_deref() == external,
            None => link.record.id == id,
        };
        if let Some(link) = found.filter(|link| link.record.owner == owner && is_it(link)) {
            return Ok(link);
        }
    }
    Err(none())
}

pub(super) async fn edit<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
) -> Result<Response, Problem> {
    let Changes {
        link_ids,
        external_ids,
        data,
    } = body::body(request)?;
    let external = external_ids.iter().map(|id| match id.starts_with(EXTERNAL) {
        true => id.clone(),
        false => [EXTERNAL, id].concat(),
    });
    let ids: Vec<String> = link_ids.into_iter().chain(external).collect();
    many::bounded(ids.len(), MAX_LINKS, "#/linkIds")?;
    if let Some(name) = ["key", "domain", "externalId"]
        .iter()
        .find(|name| data.contains_key(**name))
    {
        return Err(Problem::field(format!("#/{name}"), "is one link's alone"));
    }
    if has_password(&data) && ids.len() > MAX_PASSWORDS {
        return Err(too_many_passwords());
    }
    let results = many::each(world, ids, async |world, id: String| {
        let find = async || own(world, key, &id).await;
        let link = change(world, key, &data, find).await;
        (json!({ "id": id }), link)
    });
    Ok(answer(world, &results.await))
}

pub(super) async fn delete<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
) -> Result<Response, Problem> {
    let query = Query::of(request);
    let ids: Vec<String> = query.words("linkIds").map(str::to_owned).collect();
    many::bounded(ids.len(), MAX_LINKS, "query:linkIds")?;
    let credential = access::Credential::Key(key.clone());
    let gone = many::each(world, ids, async |world, id: String| {
        let link = own(world, key, &id).await?;
        manage::remove(world, &credential, &link.code, &IfMatch::default()).await
    });
    let mut deleted = 0;
    for result in gone.await {
        match result {
            Ok(()) => deleted += 1,
            Err(problem) if problem.kind == Kind::NotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(Response::json(200, &json!({ "deletedCount": deleted })))
}
