//! Users' tokens: JWTs (RFC 7519) that an identity provider has signed (JWS, RFC 7515), where `[users.jwt]` is set. Then nobody is a
//! user without one, whatever other headers say.
//!
//! The key decides about the algorithm, never the token: a public key checks what its kind is for, the secret checks HS256, and nothing
//! checks `none` (RFC 8725, 2.1). Keys are those of the settings; addresses that a token names (`jku`, `x5u`) and keys that it brings
//! (`jwk`) are not looked at.

mod key_set;
#[cfg(test)]
mod tests;

pub use key_set::{KeySet, MAX_KEY_SET, MAX_KEYS};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::config::JwtSettings;
use crate::identity::is_id;
use crate::keys;
use tollgate_api::http::Request;
use tollgate_api::pattern::{Pattern, unreserved};
use tollgate_api::problem::{Kind, Problem};

/// The longest token, bytes.
pub const MAX_TOKEN: usize = 8 << 10;
/// The shortest secret of HS256, bytes (RFC 7518, section 3.2).
pub const MIN_SECRET: usize = 32;
/// Tokens that are remembered as good: each takes at most 6 KiB.
const REMEMBERED: usize = 256;
/// Seconds after which a caller may come back while there are no keys, or where they may be about to change.
const RETRY_SECONDS: u64 = 1;

type HmacSha256 = Hmac<Sha256>;

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Three parts in base64url, of which the first two are JSON objects.
    #[error("it is not a signed JWT")]
    Malformed,
    /// Over [`MAX_TOKEN`].
    #[error("it is longer than 8 KiB")]
    TooLong,
    /// RFC 7515, section 4.1.11: whoever does not understand these must refuse.
    #[error("it asks for extensions (`crit`), and none is known here")]
    Critical,
    /// `none`, or an algorithm that no key is for.
    #[error("no key here is for its algorithm")]
    Algorithm,
    /// No key has its `kid`.
    #[error("it is signed with a key that is not known here")]
    UnknownKey,
    /// It names no key, and there are several.
    #[error("it does not say which key has signed it (`kid`)")]
    NoKeyId,
    /// It was changed, or somebody else has signed it.
    #[error("its signature is not good")]
    Signature,
    /// `exp`
    #[error("it has expired, or does not say when it does")]
    Expired,
    /// `nbf`
    #[error("it is not valid yet")]
    NotYet,
    /// `iss`
    #[error("another issuer has made it")]
    Issuer,
    /// `aud`
    #[error("it is for another audience")]
    Audience,
    /// The configured claim.
    #[error("it names no user of 1 to 128 visible ASCII characters")]
    NoUser,
    /// The set could never be read so far.
    #[error("the keys to check it with are not there yet")]
    NoKeys,
}

/// A good token.
#[derive(Debug)]
pub struct Verified {
    /// The user.
    pub user: String,
    /// It counts before then, Unix milliseconds; leeway is within.
    until: u64,
    /// The payload, as it was signed.
    payload: Vec<u8>,
}

impl Verified {
    /// Whether it says this of its user: a claim of that name is one of these texts, or a list that has one of them. A number or a
    /// flag counts as the text that JSON writes for it.
    pub fn says(&self, name: &str, values: &[String]) -> bool {
        let claims: Map<String, Value> = serde_json::from_slice(&self.payload).unwrap_or_default();
        let is_one = |value: &Value| match value {
            Value::String(text) => values.contains(text),
            Value::Number(_) | Value::Bool(_) => values.contains(&value.to_string()),
            _ => false,
        };
        match claims.get(name) {
            Some(Value::Array(all)) => all.iter().any(is_one),
            Some(value) => is_one(value),
            None => false,
        }
    }
}

/// What checks users' tokens. Cheap to clone; clones remember the same tokens.
#[derive(Clone)]
pub struct Jwt(Arc<Inner>);

struct Inner {
    issuer: String,
    audience: String,
    claim: String,
    leeway_ms: u64,
    /// `None`: they could not be had so far.
    keys: Option<KeySet>,
    /// Whether they may change at any time.
    is_fetched: bool,
    secret: Option<HmacSha256>,
    check: Vec<Pattern>,
    good: Mutex<HashMap<[u8; 32], Arc<Verified>>>,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jwt")
    }
}

/// The head of a token. Members that are there twice are a fault (RFC 7515, section 4).
#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Whether it is there, whatever it says.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A token, taken apart.
struct Parts<'a> {
    head: Head,
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, BadToken> {
        if token.len() > MAX_TOKEN {
            return Err(BadToken::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
        let (head, payload) = signed.split_once('.').ok_or(BadToken::Malformed)?;
        Ok(Self {
            head: object(head)?,
            signed,
            payload,
            signature,
        })
    }
}

fn bytes(part: &str) -> Result<Vec<u8>, BadToken> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Malformed)
}

fn object<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, BadToken> {
    serde_json::from_slice(&bytes(part)?).map_err(|_| BadToken::Malformed)
}

/// Whether a credential has the form of a JWT, and so is no API key where JWTs are taken: it begins as the base64url of a JSON object
/// does, and has two dots. A key that we made begins with `tg_` and has none.
pub fn is_jwt(credential: &str) -> bool {
    credential.starts_with("ey") && credential.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The JWT that a request sends, if what it sends is one.
fn sent(request: &Request) -> Option<&str> {
    keys::bearer(request).filter(|token| is_jwt(token))
}

impl Jwt {
    /// # Errors
    /// The setting that breaks a rule, its place if it is a list, and the rule.
    pub(crate) fn compile(
        settings: &JwtSettings,
    ) -> Result<Self, (&'static str, Option<usize>, &'static str)> {
        let keys = match &settings.keys {
            Some(text) => Some(KeySet::parse(text).map_err(|rule| ("keys", None, rule))?),
            None => None,
        };
        let secret = match &settings.secret {
            Some(secret) if secret.expose().len() < MIN_SECRET => {
                return Err(("secret", None, "must be at least 32 bytes"));
            }
            Some(secret) => HmacSha256::new_from_slice(secret.expose().as_bytes()).ok(),
            None => None,
        };
        let mut check = Vec::with_capacity(settings.check.len());
        for (index, pattern) in settings.check.iter().enumerate() {
            let pattern = Pattern::parse(&unreserved(pattern));
            let rule = "must be a route pattern, e.g. /shop/...";
            check.push(pattern.map_err(|_| ("check", Some(index), rule))?);
        }
        Ok(Self(Arc::new(Inner {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            claim: settings.claim.clone(),
            leeway_ms: settings.leeway.0 / 1_000_000,
            is_fetched: settings.url().is_some(),
            // Without a set there is only the secret.
            keys: keys.or_else(|| settings.jwks.is_none().then(KeySet::default)),
            secret,
            check,
            good: Mutex::default(),
        })))
    }

    /// The good token that a request sends; `None` where it sends none. `now`: Unix milliseconds.
    ///
    /// # Errors
    /// A 401 for a token that is not good; a 503 while there are no keys.
    pub(crate) fn shown(&self, request: &Request, now: u64) -> Result<Option<Arc<Verified>>, Problem> {
        match sent(request) {
            None => Ok(None),
            Some(token) => self.verify(token, now).map(Some).map_err(|why| self.problem(why)),
        }
    }

    /// Whether the keys come from a URL.
    pub fn is_fetched(&self) -> bool {
        self.0.is_fetched
    }

    /// Whether `/api/check` asks for a token for this path.
    pub(crate) fn is_asked_for(&self, path: &str) -> bool {
        self.0.check.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether the token of an `Authorization` names a key that is not known, or there are no keys: then a newer set may help.
    pub fn misses_a_key(&self, authorization: &str) -> bool {
        let token = keys::token_of(authorization).filter(|token| is_jwt(token));
        let Some(parts) = token.and_then(|token| Parts::of(token).ok()) else {
            return false;
        };
        let found = self.key(&parts.head);
        matches!(found, Err(BadToken::UnknownKey | BadToken::NoKeys))
    }

    fn problem(&self, why: BadToken) -> Problem {
        match why {
            BadToken::NoKeys => {
                let problem = Problem::new(
                    Kind::Unavailable,
                    "The keys of users' tokens could not be fetched yet.",
                );
                problem.with_retry_after(RETRY_SECONDS)
            }
            why => {
                let problem = Problem::new(Kind::InvalidToken, format!("The token was refused: {why}."));
                match why == BadToken::UnknownKey && self.0.is_fetched {
                    true => problem.with_retry_after(RETRY_SECONDS),
                    false => problem,
                }
            }
        }
    }

    /// What a token says, if it is good now. `now`: Unix milliseconds.
    ///
    /// # Errors
    /// [`BadToken`]
    pub fn verify(&self, token: &str, now: u64) -> Result<Arc<Verified>, BadToken> {
        if token.len() > MAX_TOKEN {
            return Err(BadToken::TooLong);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut good = self.0.good.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = good.get(&digest) {
            if now < known.until {
                return Ok(Arc::clone(known));
            }
            good.remove(&digest);
            return Err(BadToken::Expired);
        }
        drop(good);
        let verified = Arc::new(self.verified(token, now)?);
        let mut good = self.0.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= REMEMBERED {
            good.clear();
        }
        good.insert(digest, Arc::clone(&verified));
        Ok(verified)
    }

    fn verified(&self, token: &str, now: u64) -> Result<Verified, BadToken> {
        let parts = Parts::of(token)?;
        if parts.head.crit {
            return Err(BadToken::Critical);
        }
        let signature = bytes(parts.signature)?;
        let is_good = match self.key(&parts.head)? {
            Signer::Public(key) => key.has_signed(parts.signed.as_bytes(), &signature),
            Signer::Secret(secret) => {
                let mut mac = secret.clone();
                mac.update(parts.signed.as_bytes());
                mac.verify_slice(&signature).is_ok()
            }
        };
        if !is_good {
            return Err(BadToken::Signature);
        }
        self.judged(bytes(parts.payload)?, now)
    }

    /// The key that has to have signed a token with this head.
    fn key(&self, head: &Head) -> Result<Signer<'_>, BadToken> {
        if let (Some(secret), "HS256") = (&self.0.secret, &*head.alg) {
            return Ok(Signer::Secret(secret));
        }
        if !matches!(&*head.alg, "RS256" | "ES256" | "EdDSA") {
            return Err(BadToken::Algorithm);
        }
        let keys = &self.0.keys.as_ref().ok_or(BadToken::NoKeys)?.keys;
        let mut fitting = keys.iter().filter(|key| key.algorithm() == head.alg);
        match &head.kid {
            Some(kid) => {
                let key = fitting.find(|key| key.kid.as_ref() == Some(kid));
                let is_of_another = || keys.iter().any(|key| key.kid.as_ref() == Some(kid));
                match key {
                    Some(key) => Ok(Signer::Public(key)),
                    None if is_of_another() => Err(BadToken::Algorithm),
                    None => Err(BadToken::UnknownKey),
                }
            }
            None => match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(Signer::Public(key)),
                (Some(_), Some(_)) => Err(BadToken::NoKeyId),
                (None, _) => Err(BadToken::Algorithm),
            },
        }
    }

    /// What a payload says that was signed.
    fn judged(&self, payload: Vec<u8>, now: u64) -> Result<Verified, BadToken> {
        let claims: Map<String, Value> = serde_json::from_slice(&payload).map_err(|_| BadToken::Malformed)?;
        let leeway = self.0.leeway_ms;
        let until = claims.get("exp").and_then(millis).ok_or(BadToken::Expired)?;
        let until = until.saturating_add(leeway);
        if now >= until {
            return Err(BadToken::Expired);
        }
        let from = match claims.get("nbf") {
            Some(at) => millis(at).ok_or(BadToken::NotYet)?,
            None => 0,
        };
        if now.saturating_add(leeway) < from {
            return Err(BadToken::NotYet);
        }
        let is = |value: &Value, text: &str| value.as_str() == Some(text);
        if !claims.get("iss").is_some_and(|issuer| is(issuer, &self.0.issuer)) {
            return Err(BadToken::Issuer);
        }
        let is_for_us = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(|one| is(one, &self.0.audience)),
            Some(one) => is(one, &self.0.audience),
            None => false,
        };
        if !is_for_us {
            return Err(BadToken::Audience);
        }
        let user = match claims.get(&self.0.claim) {
            Some(Value::String(user)) => user.clone(),
            Some(Value::Number(user)) if user.is_u64() => user.to_string(),
            _ => return Err(BadToken::NoUser),
        };
        match is_id(&user) {
            true => Ok(Verified { user, until, payload }),
            false => Err(BadToken::NoUser),
        }
    }
}

/// What a token is checked with.
enum Signer<'a> {
    Public(&'a key_set::PublicKey),
    Secret(&'a HmacSha256),
}

/// A `NumericDate` (RFC 7519, section 2), which may have a fraction, in whole milliseconds.
fn millis(date: &Value) -> Option<u64> {
    if let Some(seconds) = date.as_u64() {
        return Some(seconds.saturating_mul(1_000));
    }
    let seconds = date.as_f64().filter(|seconds| *seconds >= 0.0)?;
    // Saturates.
    Some((seconds * 1_000.0) as u64)
}
