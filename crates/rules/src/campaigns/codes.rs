//! `POST /api/campaigns/{id}/codes`: codes of the operator's own, where the campaign gives out those.
//!
//! A code is two entries: one for as long as nobody has it (see [`super::pool`]), and one for good, under its hash, so that it is never
//! imported twice, also not after it was given out. They are written in batches, with a counter of all that were imported. Then, in one
//! commit, the stock becomes what that counter says. A call that failed half-way can be repeated: what was written is told as a
//! duplicate, and counted.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::record::{self, Campaign, CodeOrder, Codes, Live, load};
use super::{eligible, unknown};
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids::{self, hex};
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{
    Commit, Condition, Idempotence, MAX_GET_KEYS, Mutation, Outcome, Refusal, StoreError, literal,
};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// Codes of a call.
pub const MAX_CODES: usize = 10_000;
/// Codes of a campaign.
pub const MAX_POOL: u64 = 10_000_000;
/// The longest code, characters.
pub const MAX_CODE: usize = 128;
/// Codes of one commit: two entries each, and the counter.
const BATCH: usize = 31;
/// How often a step is tried against concurrent changes of the same campaign.
const ATTEMPTS: usize = 16;
/// How long a batch is known as written, milliseconds: longer than a call takes.
const REMEMBERED_MS: u64 = 600_000;
/// Bytes of a code's hash that are kept: 128 bits.
const HASH: usize = 16;

/// Codes to import.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "CodeImport")
)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    /// 1 to 128 visible ASCII characters each.
    #[cfg_attr(feature = "schema", schemars(extend("minItems" = 1, "maxItems" = MAX_CODES)))]
    codes: Vec<String>,
}

/// What an import has done.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "CodesImported")
)]
pub(super) struct Imported {
    /// Codes that are new.
    imported: usize,
    /// Codes that were there already, in this call or of an earlier one, given out or not: they were left out. In the order of the call.
    duplicates: Vec<String>,
    /// All codes of the campaign, which is its stock.
    quantity: u64,
}

/// A code, with the keys of its entries.
struct Code<'a> {
    text: &'a str,
    known: String,
    free: String,
}

impl Import {
    fn check(&self) -> Result<(), Problem> {
        if !(1..=MAX_CODES).contains(&self.codes.len()) {
            return Err(Problem::field(
                "#/codes",
                format!("must be 1 to {MAX_CODES} codes"),
            ));
        }
        let is_code = |code: &String| {
            (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match self.codes.iter().position(|code| !is_code(code)) {
            Some(index) => Err(Problem::field(
                format!("#/codes/{index}"),
                format!("must be 1 to {MAX_CODE} visible ASCII characters"),
            )),
            None => Ok(()),
        }
    }
}

/// Imports codes: 200.
pub(super) async fn import<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    eligible::may_send_many(world, request).await?;
    let body: Import = json::body(request)?;
    body.check()?;
    let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
    if live.campaign.codes != Codes::Import {
        return Err(Problem::new(
            Kind::Conflict,
            "The campaign imports no codes: it was made without \"codes\": \"import\".",
        ));
    }
    let before = imported(world.store, id).await?.0;
    let codes = keyed(&body.codes, &live.campaign, before, &(world.fresh)());
    let mut duplicates = known(world.store, id, &codes).await?;
    let (mut seen, mut new) = (HashSet::new(), Vec::new());
    for (index, code) in codes.iter().enumerate() {
        match seen.insert(code.text) && !duplicates.contains(&index) {
            true => new.push(code),
            false => _ = duplicates.insert(index),
        }
    }
    if before.saturating_add(new.len() as u64) > MAX_POOL {
        let rule = format!("would make more than {MAX_POOL} codes of one campaign");
        return Err(Problem::field("#/codes", rule));
    }
    let mut count = 0;
    for batch in new.chunks(BATCH) {
        let meanwhile = write(world, id, batch).await?;
        count += batch.len() - meanwhile.len();
        let is_meanwhile = |code: &Code<'_>| meanwhile.contains(code.text);
        duplicates.extend(
            codes
                .iter()
                .enumerate()
                .filter(|(_, code)| is_meanwhile(code))
                .map(|(index, _)| index),
        );
    }
    let quantity = into_stock(world, id).await?;
    let text = |index: usize| body.codes.get(index).cloned();
    Ok(Response::json(
        200,
        &Imported {
            imported: count,
            duplicates: duplicates.into_iter().filter_map(text).collect(),
            quantity,
        },
    ))
}

/// The codes with their keys. Those of free codes are in the order in which they are given out.
fn keyed<'a>(codes: &'a [String], campaign: &Campaign, before: u64, fresh: &[u8; 16]) -> Vec<Code<'a>> {
    let call = ids::token(fresh, 6);
    let key = |(index, text): (usize, &'a String)| {
        let hash = Sha256::digest(text.as_bytes());
        let hash = hex(&hash[..HASH]);
        let order = match campaign.code_order {
            Some(CodeOrder::Import) => format!("{before:08x}{call}{index:04x}"),
            // Nobody can tell from one code which comes next.
            _ => hex(&Sha256::digest([fresh, text.as_bytes()].concat())[..HASH]),
        };
        Code {
            text,
            known: Campaign::imported_key(&campaign.id, &hash),
            free: [&Campaign::pool_prefix(&campaign.id), &*order].concat(),
        }
    };
    codes.iter().enumerate().map(key).collect()
}

/// Those of them that were imported before, by their place.
async fn known<S: Store>(store: &S, id: &str, codes: &[Code<'_>]) -> Result<BTreeSet<usize>, StoreError> {
    let mut known = BTreeSet::new();
    for (page, some) in codes.chunks(MAX_GET_KEYS).enumerate() {
        let keys: Vec<String> = some.iter().map(|code| code.known.clone()).collect();
        let found = store.get(&Campaign::partition(id), &keys).await?;
        let there = found.iter().enumerate().filter(|(_, entry)| entry.is_some());
        known.extend(there.map(|(index, _)| page * MAX_GET_KEYS + index));
    }
    Ok(known)
}

/// Codes that were imported so far, and the version of their counter.
async fn imported<S: Store>(store: &S, id: &str) -> Result<(u64, Option<u64>), StoreError> {
    let found = store
        .get(&Campaign::partition(id), &[Campaign::codes_key(id)])
        .await?;
    let entry = found.into_iter().next().flatten();
    let version = entry.as_ref().map(|entry| entry.version);
    Ok((stored::count("number of codes", entry.as_ref())?, version))
}

/// Writes these codes, which were not known, once. Those that another call has imported meanwhile.
async fn write<S: Store>(
    world: &World<'_, S>,
    id: &str,
    codes: &[&Code<'_>],
) -> Result<HashSet<String>, Problem> {
    let mut left: Vec<&Code<'_>> = codes.to_vec();
    let mut meanwhile = HashSet::new();
    // Where a reply is lost, only this tells our own commit from another's: both leave the same entries.
    let token = ids::token(&(world.fresh)(), ids::ID_LENGTH);
    let idempotence = Idempotence {
        id: ["codes/", id, "/", &*token].concat(),
        fingerprint: Vec::new(),
        answer: literal(""),
        ttl: REMEMBERED_MS,
    };
    for _ in 0..ATTEMPTS + codes.len() {
        if left.is_empty() {
            return Ok(meanwhile);
        }
        let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
        let commit = Commit {
            idempotence: Some(idempotence.clone()),
            ..batch(&live, &left)
        };
        match world.store.commit(commit).await {
            Ok(Outcome::Committed(_) | Outcome::Replayed(_)) => return Ok(meanwhile),
            // The first condition is about the campaign.
            Ok(Outcome::Refused(Refusal::Condition(0))) => {}
            Ok(Outcome::Refused(Refusal::Condition(index))) => {
                let code = left.remove((index as usize - 1).min(left.len() - 1));
                meanwhile.insert(code.text.to_owned());
            }
            Ok(_) => {
                return Err(Problem::new(
                    Kind::Internal,
                    "The store refused what it cannot refuse.",
                ));
            }
            Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy())
}

fn batch(live: &Live, codes: &[&Code<'_>]) -> Commit {
    let id = live.campaign.id.as_str();
    let partition = Campaign::partition(id);
    let mut conditions = vec![as_it_was_read(live)];
    let mut mutations = Vec::with_capacity(2 * codes.len() + 1);
    for code in codes {
        conditions.push(Condition::Absent(code.known.clone()));
        let set = |key: &String, value: &str| Mutation::Set {
            key: key.clone(),
            value: literal(value),
            expires: None,
        };
        mutations.push(set(&code.known, ""));
        mutations.push(set(&code.free, code.text));
    }
    mutations.push(Mutation::Add {
        key: Campaign::codes_key(id),
        delta: codes.len() as i64,
        min: None,
        max: None,
    });
    Commit {
        partition,
        conditions,
        mutations,
        ..Commit::default()
    }
}

fn as_it_was_read(live: &Live) -> Condition {
    Condition::Version {
        key: Campaign::partition(&live.campaign.id),
        version: live.version,
    }
}

/// Makes the stock what was imported by now.
async fn into_stock<S: Store>(world: &World<'_, S>, id: &str) -> Result<u64, Problem> {
    for _ in 0..ATTEMPTS {
        let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
        let (quantity, version) = imported(world.store, id).await?;
        let more = quantity.saturating_sub(live.campaign.quantity);
        if more == 0 {
            return Ok(quantity);
        }
        let counter = Campaign::codes_key(id);
        let after = Campaign {
            quantity,
            ..(*live.campaign).clone()
        };
        let commit = Commit {
            partition: Campaign::partition(id),
            conditions: vec![as_it_was_read(&live), Condition::unchanged(counter, version)],
            mutations: vec![
                record::set(&after),
                Mutation::Add {
                    key: Campaign::remaining_key(id),
                    delta: i64::try_from(more).unwrap_or(i64::MAX), // at most MAX_POOL
                    min: Some(0),
                    max: None,
                },
            ],
            ..Commit::default()
        };
        match world.store.commit(commit).await {
            Ok(Outcome::Committed(_)) => return Ok(quantity),
            // Looked at again: it was done, or something has changed.
            Ok(_) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy())
}

fn busy() -> Problem {
    Problem::new(
        Kind::Conflict,
        "The campaign is being changed by others; repeat the call: nothing is imported twice.",
    )
}
