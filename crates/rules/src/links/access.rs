//! Access to links: which callers may create one, and which may read or change one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::record::Link;
use crate::keys::{self, ApiKey};
use crate::world::World;
use crate::{codes, identity};
use tollgate_api::calls::Scope;
use tollgate_api::http::Request;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// The prefix of manage tokens; no minted API key has it.
const TOKEN_PREFIX: &str = "lm_";
/// The base62 characters of a token after its prefix: 190 bits, out of 128 random ones.
const TOKEN_CHARS: u8 = 32;

/// The creator of a link.
pub(super) struct Creator {
    /// `key:<id>` or `client:<id>`.
    pub(super) owner: String,
    pub(super) anonymous: bool,
}

/// The owner of links that a key creates.
pub(super) fn key_owner(key: &ApiKey) -> String {
    format!("key:{}", key.id)
}

/// The caller as a creator: a key with the scope `links`, else a named client where that is allowed. A credential
/// that is sent must be good; it is never quietly ignored.
pub(super) async fn creator<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Creator, Problem> {
    let settings = &world.settings.config.links;
    if identity::is_key_sent(world.settings, request)? || !settings.anonymous {
        let key = keys::require(world.store, request, world.now, Scope::Links).await?;
        return Ok(Creator {
            owner: key_owner(&key),
            anonymous: false,
        });
    }
    match identity::explicit_client(&world.settings.config, request)? {
        Some(client) => Ok(Creator {
            owner: format!("client:{client}"),
            anonymous: true,
        }),
        None => Err(Problem::new(
            Kind::ClientIdRequired,
            format!(
                "Send an API key, or a client id in the header {}.",
                world.settings.config.clients.header
            ),
        )),
    }
}

/// The manage token of these sixteen unpredictable bytes.
pub(super) fn token<S>(world: &World<'_, S>, of: [u8; 16]) -> String {
    format!(
        "{TOKEN_PREFIX}{}",
        codes::generate(of, TOKEN_CHARS, &world.settings.config)
    )
}

/// The digest of a manage token, as it is stored.
pub(super) fn digest(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

/// The credential with which a caller reads or changes a link.
pub(super) enum Credential {
    Key(ApiKey),
    /// The digest of a manage token.
    Manage(String),
}

impl Credential {
    /// The request's credential.
    ///
    /// # Errors
    /// 401 if there is none, or one that is neither a known key nor shaped like a manage token; 403 for a key
    /// without the scope `links`.
    pub(super) async fn of<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Self, Problem> {
        let token = keys::bearer(request).filter(|token| is_token(token));
        match token {
            Some(token) => Ok(Self::Manage(digest(token))),
            None => keys::require(world.store, request, world.now, Scope::Links)
                .await
                .map(Self::Key),
        }
    }

    /// The link called `code`, if the caller may read and change it: 404 if there is none, 403 if it is not theirs.
    pub(super) async fn open<S: Store>(&self, world: &World<'_, S>, code: &str) -> Result<Link, Problem> {
        let link = if codes::is_name(code) {
            Link::found(world.store, &world.settings.config, code).await?
        } else {
            None
        };
        let link = link.ok_or_else(|| Problem::new(Kind::NotFound, "There is no such link."))?;
        let allowed = match self {
            Self::Key(key) => key.allows(Scope::Admin) || link.record.owner == key_owner(key),
            Self::Manage(digest) => link.record.has_token(digest),
        };
        if allowed {
            Ok(link)
        } else {
            Err(Problem::new(Kind::Forbidden, "This link is somebody else's."))
        }
    }
}

pub(super) fn is_token(token: &str) -> bool {
    let rest = token.strip_prefix(TOKEN_PREFIX).unwrap_or("");
    rest.len() == usize::from(TOKEN_CHARS) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
}
