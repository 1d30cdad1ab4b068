//! The caller's identity: the client that limits count by, and the user that campaigns count by.

mod address;
#[cfg(test)]
mod tests;

pub(crate) use address::network;
pub use address::{Proxies, subscriber};

use std::borrow::Cow;

use crate::config::Config;
use crate::jwt::is_jwt;
use crate::keys;
use crate::settings::Settings;
use tollgate_api::headers::sent_twice;
use tollgate_api::http::Request;
use tollgate_api::ids::hex;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;

/// The longest client or user id that a header may carry, in characters.
pub const MAX_ID_CHARS: usize = 128;
/// The longest `x-request-id` that is taken over, in characters.
pub const MAX_REQUEST_ID_CHARS: usize = 128;

/// A client id, namespaced by kind so that one kind cannot impersonate another: `key:<id>`,
/// `id:<header value>`, `ip:<address or /64>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(String);

impl ClientId {
    /// With its namespace.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of the key with this id.
    pub fn of_key(id: &str) -> Self {
        Self(["key:", id].concat())
    }

    /// Of a caller without a key: its header, else its address.
    pub fn without_key(config: &Config, proxies: &Proxies, request: &Request) -> Self {
        match named_client(config, request) {
            Some(name) => Self(["id:", name].concat()),
            None => Self(["ip:", &proxies.client_ip(request)].concat()),
        }
    }
}

/// The value of the configured client header, if it is 1 to 128 visible ASCII characters.
pub fn named_client<'a>(config: &Config, request: &'a Request) -> Option<&'a str> {
    explicit_client(config, request).ok().flatten()
}

/// As [`named_client`], but a header that is there and breaks the rule is a 400 that names it.
pub fn explicit_client<'a>(config: &Config, request: &'a Request) -> Result<Option<&'a str>, Problem> {
    id_header(&config.clients.header, request)
}

/// A header that identifies the caller may be sent once: of two, a proxy in front and we could believe
/// different ones. Asked by the limiter, before anything is charged.
///
/// # Errors
/// A 400 that names the header.
pub fn unambiguous(config: &Config, request: &Request) -> Result<(), Problem> {
    let names = [keys::HEADER, &config.clients.header, &config.users.header, "host"];
    let mut seen = [false; 4];
    for header in &request.headers {
        for (name, seen) in names.iter().zip(&mut seen) {
            if header.name == *name && std::mem::replace(seen, true) {
                return Err(sent_twice(name));
            }
        }
    }
    Ok(())
}

/// The client that the limiter counts by: a valid API key, else the client header, else the address.
pub async fn client<S: Store>(
    store: &S,
    config: &Config,
    proxies: &Proxies,
    request: &Request,
    now: u64,
) -> Result<ClientId, StoreError> {
    Ok(match keys::authenticate(store, request, now).await? {
        Some(key) => ClientId::of_key(&key.id),
        None => ClientId::without_key(config, proxies, request),
    })
}

/// The user that a coupon counts by: the configured user header, 1 to 128 visible ASCII characters; or whom a good JWT names, where
/// `[users.jwt]` is set. `now`: Unix milliseconds.
pub fn user<'a>(settings: &Settings, request: &'a Request, now: u64) -> Option<Cow<'a, str>> {
    explicit_user(settings, request, now).ok().flatten()
}

/// As [`user`], but a header that is there and breaks the rule is a 400 that names it, and a JWT that is not good a 401.
pub fn explicit_user<'a>(
    settings: &Settings,
    request: &'a Request,
    now: u64,
) -> Result<Option<Cow<'a, str>>, Problem> {
    match &settings.jwt {
        None => Ok(id_header(&settings.config.users.header, request)?.map(Cow::Borrowed)),
        Some(jwt) => Ok(jwt
            .shown(request, now)?
            .map(|token| Cow::Owned(token.user.clone()))),
    }
}

/// The 401 of a call that needs a user and was not told who it is. `what` the user does: `claims`.
pub(crate) fn user_required(settings: &Settings, what: &str) -> Problem {
    let how = match &settings.jwt {
        None => ["the header ", &settings.config.users.header, "."].concat(),
        Some(_) => "Authorization: Bearer, with a JWT.".to_owned(),
    };
    Problem::new(Kind::UserRequired, ["Say who ", what, ": ", &how].concat())
}

/// Whether a credential is sent that has to be an API key: any, but for a JWT where users have those.
///
/// # Errors
/// A 400 for two of them.
pub(crate) fn is_key_sent(settings: &Settings, request: &Request) -> Result<bool, Problem> {
    let is_sent = keys::is_sent(request)?;
    Ok(is_sent && (settings.jwt.is_none() || !keys::bearer(request).is_some_and(is_jwt)))
}

/// The caller's `x-request-id`, if [`is_request_id`]; else a new one.
pub fn request_id(request: &Request, fresh: &dyn Fn() -> [u8; 16]) -> String {
    match request
        .header("x-request-id")
        .filter(|id| is_request_id(id.as_bytes()))
    {
        Some(id) => id.to_owned(),
        None => new_request_id(fresh()),
    }
}

/// Whether a caller's `x-request-id` is kept: 1 to 128 of `[A-Za-z0-9._-]`.
pub fn is_request_id(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID_CHARS).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// A new request id: 32 hexadecimal digits.
pub fn new_request_id(fresh: [u8; 16]) -> String {
    hex(&fresh)
}

/// Whether this can name a client or a user: 1 to 128 visible ASCII characters.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn id_header<'a>(name: &str, request: &'a Request) -> Result<Option<&'a str>, Problem> {
    let Some(value) = request.single(name)? else {
        return Ok(None);
    };
    std::str::from_utf8(value)
        .ok()
        .filter(|value| is_id(value))
        .map(Some)
        .ok_or_else(|| {
            Problem::field(
                format!("header:{name}"),
                "must be 1 to 128 visible ASCII characters",
            )
        })
}
