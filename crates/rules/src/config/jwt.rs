//! `[users.jwt]`: users who are known by a token that an identity provider has signed.

use serde::{Deserialize, Serialize};
use tollgate_api::secret::SecretText;
use tollgate_api::units::Span;

/// `[users.jwt]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// What `iss` has to be.
    pub issuer: String,
    /// What `aud` has to name.
    pub audience: String,
    /// Where the public keys are: a file, or an `https` URL. Our own host reads it; see [`JwtSettings::keys`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// The public keys themselves, a JWK set (RFC 7517). Where there is `jwks`, the host writes here what it has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// For HS256; at least 32 bytes. `TOLLGATE_JWT_SECRET` comes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretText>,
    /// The claim that names the user.
    #[serde(default = "subject")]
    pub claim: String,
    /// How far clocks may differ.
    #[serde(default = "half_a_minute")]
    pub leeway: Span,
    /// Paths for which `/api/check` asks for a user's token; patterns, at most [`super::MAX_JWT_CHECKS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<String>,
}

impl JwtSettings {
    /// The URL to fetch the keys from, where they are not in a file.
    pub fn url(&self) -> Option<&str> {
        self.jwks.as_deref().filter(|place| place.contains("://"))
    }

    /// What is wrong where there is nothing to check a token with: neither keys nor a secret, of the file or the environment.
    pub fn lacks(&self) -> Option<&'static str> {
        let has_some = self.jwks.is_some() || self.keys.is_some() || self.secret.is_some();
        (!has_some).then_some(
            "users.jwt: needs `jwks` (a file or an https URL), the key set itself in `keys`, or a secret in TOLLGATE_JWT_SECRET",
        )
    }

    /// The file to read them from.
    pub fn file(&self) -> Option<&str> {
        self.jwks.as_deref().filter(|place| !place.contains("://"))
    }
}

fn subject() -> String {
    "sub".to_owned()
}

fn half_a_minute() -> Span {
    Span::from_secs(30)
}
