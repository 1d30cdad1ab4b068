//! `/api/links/bulk`: many links made, changed or removed by one call.
//!
//! Only keys make it, and they are asked for before the body is read ([`may_send`]): it may be sixteen times as large as
//! others.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::access::{self, Creator, Credential};
use super::create::{self, Made};
use super::edit::{self, Patch};
use super::manage;
use super::many::{self, Done};
use crate::etag::IfMatch;
use crate::keys::{self, ApiKey};
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// The most links of one call.
pub(super) const MAX_LINKS: usize = 1_000;
/// The most links of one call that may have a password: each takes some 20 ms to hash.
const MAX_PASSWORDS: usize = 16;

/// Links to be.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewLinks")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NewLinks {
    /// Each as for `POST /api/links`.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<create::Body>", length(min = 1, max = MAX_LINKS)))]
    links: Vec<Box<RawValue>>,
}

/// The links that a call is about.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkCodes")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Codes {
    /// Their codes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LINKS)))]
    codes: Vec<String>,
}

/// The caller, who must hold a key: who does not is refused before the body is read.
pub(super) async fn may_send<S: Store>(world: &World<'_, S>, request: &Request) -> Result<ApiKey, Problem> {
    keys::require(world.store, request, world.now, Scope::Links).await
}

/// Whether a link to be has a password. What is no object, or has a member twice, is refused when it is made.
fn has_password(link: &RawValue) -> bool {
    let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(link.get());
    members.is_ok_and(|members| members.get("password").is_some_and(|value| value.get() != "null"))
}

pub(super) async fn post<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let key = may_send(world, request).await?;
    let creator = Creator {
        owner: access::key_owner(&key),
        anonymous: false,
    };
    let NewLinks { links } = json::body(request)?;
    many::bounded(links.len(), MAX_LINKS, "#/links")?;
    // Each is work, of the thread that others wait for.
    let mut passwords = links.iter().enumerate().filter(|(_, link)| has_password(link));
    if let Some((at, _)) = passwords.nth(MAX_PASSWORDS) {
        let rule = format!("at most {MAX_PASSWORDS} links of one call may have a password");
        return Err(Problem::field(format!("#/links/{at}/password"), rule));
    }
    let links = links.into_iter().enumerate().collect();
    let results = many::each(world, links, async |world, (at, link): (usize, Box<RawValue>)| {
        let made = async {
            let body = json::decode(link.get().as_bytes())?;
            create::make(world, request, &creator, None, body).await
        };
        match made.await {
            Ok(Made::New { link, .. }) => Ok(Done::created(link)),
            Ok(Made::Found(link)) => Ok(Done::changed(link)),
            // Only a call that repeats itself is answered so, and these are not remembered.
            Ok(Made::Before(_)) => Err(Problem::new(Kind::Internal, "The link was made before.")),
            Err(problem) => Err(problem.within(&format!("/links/{at}"))),
        }
    })
    .await;
    Ok(many::answer(world, &results))
}

pub(super) async fn patch<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let credential = Credential::Key(may_send(world, request).await?);
    let Members(members) = json::body(request)?;
    let (codes, changes): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| name == "codes");
    let Codes { codes } = json::decode(&object(&codes))?;
    let mut patch: Patch = json::decode(&object(&changes))?;
    if patch.code().is_some() {
        return Err(Problem::field("#/code", "is one link's alone"));
    }
    patch.prepare(world)?;
    many::bounded(codes.len(), MAX_LINKS, "#/codes")?;
    let results = many::each(world, codes, async |world, code: String| {
        let apply = |record: &mut _| patch.apply(record, world.settings, world.now);
        edit::change(world, &credential, (&code, None), &IfMatch::default(), apply)
            .await
            .map(Done::changed)
    })
    .await;
    Ok(many::answer(world, &results))
}

pub(super) async fn delete<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let credential = Credential::Key(may_send(world, request).await?);
    let Codes { codes } = json::body(request)?;
    many::bounded(codes.len(), MAX_LINKS, "#/codes")?;
    let results = many::each(world, codes, async |world, code: String| {
        manage::remove(world, &credential, &code, &IfMatch::default()).await?;
        Ok(Done::gone(code))
    })
    .await;
    Ok(many::answer(world, &results))
}

/// The members of an object as they were sent, also those that were sent twice.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(All)
    }
}

/// An object of these members.
fn object(members: &[(String, Box<RawValue>)]) -> Vec<u8> {
    let member = |(name, value): &(String, Box<RawValue>)| {
        format!("{}:{}", serde_json::Value::from(name.as_str()), value.get())
    };
    let members: Vec<String> = members.iter().map(member).collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}
