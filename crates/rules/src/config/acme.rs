//! `[server.tls] acme`: a certificate that the gateway orders from a directory, and renews.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::{Deserialize, Serialize};
use tollgate_api::secret::SecretText;

/// Where certificates are ordered if no setting says it: Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `acme = { … }` (RFC 8555). Who sets it agrees to the directory's terms of service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// The names of hosts that the one certificate is for; at most [`super::MAX_DOMAINS`].
    pub domains: Vec<String>,
    /// An address of e-mail that the authority may write to, `mailto:` before it or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The URL of the directory.
    #[serde(default = "directory")]
    pub directory: String,
    /// Certificates, in one PEM file, that the directory's own must be signed with; without it those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_ca: Option<String>,
    /// How the authority sees that the names are ours.
    #[serde(default)]
    pub challenge: AcmeChallenge,
    /// The account at the authority that ours belongs to, where it asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account: Option<ExternalAccount>,
}

/// `challenge`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcmeChallenge {
    /// By a handshake at `server.listen`, which the world reaches at port 443 (RFC 8737).
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By a request at `redirect_http`, which the world reaches at port 80 (RFC 8555, section 8.3).
    #[serde(rename = "http-01")]
    Http01,
}

/// `external_account = { … }` (RFC 8555, section 7.3.4)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// The identifier of the key.
    pub id: String,
    /// The key, in base64url.
    pub key: SecretText,
}

impl ExternalAccount {
    /// The key's bytes; `None` if it is none.
    pub fn key(&self) -> Option<Vec<u8>> {
        let text = self.key.expose().trim_end_matches('=');
        BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .filter(|key| !key.is_empty())
    }
}

fn directory() -> String {
    DIRECTORY.into()
}
