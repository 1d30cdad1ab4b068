//! `/api/access` and `/api/access/{name}`. Scope `limits`.

use serde::{Deserialize, Serialize};

use super::AccessList;
use crate::config::{AccessAction, AccessSettings, any_path, is_topic_name};
use crate::keys;
use crate::run_time;
use crate::world::World;
use tollgate_api::calls::{Call, Scope};
use tollgate_api::http::{Request, Response};
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// The most lists that are set over the API.
pub(crate) const MAX_LISTS: usize = 64;

/// A list to be. Whoever is in one of `cidrs`, `clients` and `users` is on it; where all three are empty, everybody is.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewAccessList")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Put {
    /// What becomes of who is on it.
    action: AccessAction,
    /// A route pattern: `/...` is a wildcard tail, `:name` one segment.
    #[serde(default = "any_path")]
    path: String,
    /// Networks or addresses; at most 256.
    #[serde(default)]
    cidrs: Vec<String>,
    /// Client ids: `key:<id>`, `id:<name>`, `ip:<address>`; at most 256.
    #[serde(default)]
    clients: Vec<String>,
    /// Users; at most 256.
    #[serde(default)]
    users: Vec<String>,
}

/// An access list.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "AccessList")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// Unique.
    name: &'a str,
    /// What becomes of who is on it.
    action: AccessAction,
    /// A route pattern.
    path: &'a str,
    /// Networks or addresses.
    cidrs: &'a [String],
    /// Client ids.
    clients: &'a [String],
    /// Users.
    users: &'a [String],
    /// Whether the configuration has it: then it cannot be changed here.
    read_only: bool,
}

/// All access lists.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "AccessLists")
)]
pub(super) struct All<'a> {
    /// Those of the file first.
    access: Vec<View<'a>>,
}

fn view(list: &AccessSettings, read_only: bool) -> View<'_> {
    View {
        name: &list.name,
        action: list.action,
        path: &list.path,
        cidrs: &list.cidrs,
        clients: &list.clients,
        users: &list.users,
        read_only,
    }
}

/// Answers a call about access lists; `name` is what stands in the path.
pub(crate) async fn handle<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    name: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Limits).await?;
    if call != Call::ListAccess && !is_topic_name(name) {
        return Err(Problem::field("path:name", crate::config::TOPIC_NAME_RULE));
    }
    let of_file = &world.settings.config.access;
    let fixed = of_file.iter().find(|list| list.name == name);
    match call {
        Call::ListAccess => {
            let (document, _) = run_time::read(world.store).await?;
            let of_file = of_file.iter().map(|list| view(list, true));
            let access = of_file.chain(document.access.iter().map(|list| view(list, false)));
            Ok(Response::json(
                200,
                &All {
                    access: access.collect(),
                },
            ))
        }
        Call::ReadAccess => {
            if let Some(list) = fixed {
                return Ok(Response::json(200, &view(list, true)));
            }
            let (document, _) = run_time::read(world.store).await?;
            let found = document.access.iter().find(|list| list.name == name);
            let list = found.ok_or_else(Problem::not_found)?;
            Ok(Response::json(200, &view(list, false)))
        }
        _ if fixed.is_some() => Err(Problem::new(
            Kind::Conflict,
            "The configuration has this list: change it there.",
        )),
        Call::PutAccess => put(world, request, name).await,
        Call::DeleteAccess => {
            let mut was_there = false;
            run_time::change(world.store, world.now, |document| {
                let before = document.access.len();
                document.access.retain(|list| list.name != name);
                was_there = document.access.len() != before;
                Ok(was_there)
            })
            .await?;
            match was_there {
                true => Ok(Response::empty(204)),
                false => Err(Problem::not_found()),
            }
        }
        _ => Err(Problem::not_found()),
    }
}

async fn put<S: Store>(world: &World<'_, S>, request: &Request, name: &str) -> Result<Response, Problem> {
    let Put {
        action,
        path,
        cidrs,
        clients,
        users,
    } = json::body(request)?;
    let list = AccessSettings {
        name: name.to_owned(),
        action,
        path,
        cidrs,
        clients,
        users,
    };
    AccessList::compile(&list).map_err(|(field, index, rule)| {
        let pointer = match index {
            None => format!("#/{field}"),
            Some(index) => format!("#/{field}/{index}"),
        };
        Problem::field(pointer, rule)
    })?;
    let mut is_new = true;
    run_time::change(world.store, world.now, |document| {
        let all = &mut document.access;
        is_new = true;
        let count = all.len();
        match all.iter_mut().find(|one| one.name == name) {
            Some(before) => {
                is_new = false;
                before.clone_from(&list);
            }
            None if count >= MAX_LISTS => {
                return Err(Problem::new(
                    Kind::Conflict,
                    format!("There are {MAX_LISTS} lists, as many as may be: remove one."),
                ));
            }
            None => all.push(list.clone()),
        }
        Ok(true)
    })
    .await?;
    Ok(Response::json(
        if is_new { 201 } else { 200 },
        &view(&list, false),
    ))
}
