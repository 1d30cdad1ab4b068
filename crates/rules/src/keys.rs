//! API keys: `tg_<id>_<secret>`, stored as SHA-256 only.
//!
//! A key's record is the entry `key/<id>` of the partition `keys`; it holds the hash of the whole key. The
//! admin key that an operator configures may be any string of [`MIN_TOKEN`] to [`MAX_TOKEN`] visible ASCII
//! characters. Its record always has the id [`CONFIGURED_ID`]. So a new key replaces the old one, and the id
//! reveals nothing about the key.

mod bootstrap;
#[cfg(feature = "schema")]
pub(crate) mod describe;
mod handlers;
#[cfg(test)]
pub(crate) mod shelf;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::identity;
use crate::settings::Settings;
use crate::sigv4;
use tollgate_api::calls::{self, Scope};
use tollgate_api::http::Request;
use tollgate_api::ids::hex;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Mutation, StoreError, literal};
use tollgate_store::ports::Store;
use tollgate_store::stored;

pub use bootstrap::{AdminKeyError, FirstKey, admin_commit, has_admin, install_admin};
pub use handlers::handle;

/// The header that a key is sent in, lower case.
pub const HEADER: &str = "authorization";
/// The partition of every key record.
pub const PARTITION: &str = "keys";
/// The prefix of the entries of key records.
pub const ENTRY_PREFIX: &str = "key/";
/// The id of the admin key that the operator configured.
pub const CONFIGURED_ID: &str = "configured";
/// The shortest token that is looked up, in characters.
pub const MIN_TOKEN: usize = 16;
/// The longest token that is looked up, in characters.
pub const MAX_TOKEN: usize = 256;
/// The prefix of every key that was minted here.
const TOKEN_PREFIX: &str = "tg_";
/// Base62 characters of a minted id: 71 bits.
const ID_CHARS: usize = 12;
/// The longest id that is accepted, in characters.
const MAX_ID_CHARS: usize = 32;
/// Base62 characters that hold 128 bits.
const WORD_CHARS: usize = 22;

/// A verified key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Public; what limits and links refer to.
    pub id: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

impl ApiKey {
    /// Whether it may do what `scope` stands for.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&Scope::Admin) || self.scopes.contains(&scope)
    }
}

/// The stored record of a key. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    name: String,
    scopes: Vec<Scope>,
    /// Lower case hexadecimal, of the whole key.
    sha256: String,
    created_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    /// What it was before it was rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Previous>,
}

/// The secret that a key had before, while it still counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Previous {
    /// As [`Record::sha256`].
    sha256: String,
    /// It is over then.
    until: u64,
}

impl Record {
    /// Whether this is the digest of a token that counts by now. Takes the same time wherever two digests differ.
    fn admits(&self, digest: &str, now: u64) -> bool {
        let same = |known: &str| bool::from(known.as_bytes().ct_eq(digest.as_bytes()));
        let before = |previous: &Previous| now < previous.until && same(&previous.sha256);
        let known = same(&self.sha256) || self.previous.as_ref().is_some_and(before);
        known && self.expires_at.is_none_or(|at| now < at)
    }
}

/// Whether a credential is sent, whatever it is: text or not, of our scheme or not.
///
/// # Errors
/// A 400 for two of them.
pub fn is_sent(request: &Request) -> Result<bool, Problem> {
    request.single(HEADER).map(|value| value.is_some())
}

/// The token of `Authorization: Bearer <token>` (RFC 6750; the scheme in any case), if there is one, and only one. Where SQS is
/// spoken, that of a request which is signed in AWS' manner.
pub fn bearer(request: &Request) -> Option<&str> {
    let sent = std::str::from_utf8(request.single(HEADER).ok()??).ok()?;
    match token_of(sent) {
        None if calls::is_sqs(&request.path) => sigv4::token(request, sent),
        token => token,
    }
}

/// The token of such a value.
pub(crate) fn token_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The key of the request's `Authorization: Bearer`, or `None` if there is none that is known and unexpired.
/// A token that cannot be a key is not looked up.
pub async fn authenticate<S: Store>(
    store: &S,
    request: &Request,
    now: u64,
) -> Result<Option<ApiKey>, StoreError> {
    let Some(token) = bearer(request) else {
        return Ok(None);
    };
    let ids = candidates(token);
    if ids.is_empty() {
        return Ok(None);
    }
    let keys: Vec<String> = ids.iter().map(|id| entry_key(id)).collect();
    let entries = store.get(PARTITION, &keys).await?;
    let digest = digest(token);
    for (id, entry) in ids.into_iter().zip(entries) {
        let Some(entry) = entry else { continue };
        let record: Record = stored::decode("API key", &entry)?;
        if record.admits(&digest, now) {
            return Ok(Some(ApiKey {
                id: id.to_owned(),
                scopes: record.scopes,
            }));
        }
    }
    Ok(None)
}

/// As [`authenticate`], but a credential that is sent must be good: otherwise 401. It is never quietly ignored.
/// A user's JWT, where there are any, is no such credential.
pub async fn shown<S: Store>(
    store: &S,
    settings: &Settings,
    request: &Request,
    now: u64,
) -> Result<Option<ApiKey>, Problem> {
    if !identity::is_key_sent(settings, request)? {
        return Ok(None);
    }
    known(store, request, now).await.map(Some)
}

/// The key that is sent.
async fn known<S: Store>(store: &S, request: &Request, now: u64) -> Result<ApiKey, Problem> {
    let key = authenticate(store, request, now).await?;
    key.ok_or_else(|| Problem::unauthorized("The credential is not a known, unexpired API key."))
}

/// As [`shown`], and there must be a key that has `scope`: otherwise 401 or 403.
pub async fn require<S: Store>(
    store: &S,
    request: &Request,
    now: u64,
    scope: Scope,
) -> Result<ApiKey, Problem> {
    if !is_sent(request)? {
        return Err(Problem::unauthorized(
            "Send an API key: Authorization: Bearer tg_…",
        ));
    }
    let key = known(store, request, now).await?;
    if key.allows(scope) {
        return Ok(key);
    }
    let name = serde_json::to_value(scope).unwrap_or_default();
    let name = name.as_str().unwrap_or_default();
    Err(Problem::new(
        Kind::Forbidden,
        format!("This call needs an API key with the scope {name}."),
    ))
}

/// A new key: its text, which is shown once and never stored, and the commit that makes it known. The commit
/// is refused when the id exists already (2^-71 per existing key). `expires` and `now` are Unix milliseconds.
pub fn mint(
    name: &str,
    scopes: &[Scope],
    expires: Option<u64>,
    now: u64,
    fresh: &dyn Fn() -> [u8; 16],
) -> (String, Commit) {
    let mut id = word(fresh());
    id.truncate(ID_CHARS);
    let text = secret(&id, fresh);
    let record = Record {
        name: name.to_owned(),
        scopes: scopes.to_vec(),
        sha256: digest(&text),
        created_at: now,
        expires_at: expires,
        previous: None,
    };
    let commit = Commit {
        partition: PARTITION.to_owned(),
        conditions: vec![Condition::Absent(entry_key(&id))],
        mutations: vec![set(&id, &record)],
        ..Commit::default()
    };
    (text, commit)
}

/// The text of a key with this id, and 256 random bits.
fn secret(id: &str, fresh: &dyn Fn() -> [u8; 16]) -> String {
    format!("{TOKEN_PREFIX}{id}_{}{}", word(fresh()), word(fresh()))
}

/// The ids under which `token` may be stored; none if it cannot be a key.
fn candidates(token: &str) -> Vec<&str> {
    if !plausible(token) {
        return Vec::new();
    }
    match id_of(token) {
        Some(id) => vec![id, CONFIGURED_ID],
        None if token.starts_with(TOKEN_PREFIX) => Vec::new(),
        None => vec![CONFIGURED_ID],
    }
}

/// Whether a configured key may look like this.
fn plausible(token: &str) -> bool {
    (MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The id within a key of our own format.
fn id_of(token: &str) -> Option<&str> {
    let (id, secret) = token.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    (is_id(id) && secret.len() == 2 * WORD_CHARS && secret.bytes().all(|b| b.is_ascii_alphanumeric()))
        .then_some(id)
}

fn is_id(text: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn entry_key(id: &str) -> String {
    format!("{ENTRY_PREFIX}{id}")
}

fn set(id: &str, record: &Record) -> Mutation {
    let value = serde_json::to_vec(record).expect("a record has string keys only, so it serialises");
    Mutation::Set {
        key: entry_key(id),
        value: literal(value),
        expires: record.expires_at,
    }
}

fn digest(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// 128 random bits in base62, least significant digit first, so that every prefix is (but for a bias below
/// 2^-50) uniform.
fn word(bits: [u8; 16]) -> String {
    let digits = base62::encode(u128::from_be_bytes(bits));
    format!("{digits:0>WORD_CHARS$}").chars().rev().collect()
}
