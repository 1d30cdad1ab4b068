//! `[server.tls]` and `[server.admin_tls]`: certificates, and what comes with them.

use super::Acme;
use serde::{Deserialize, Serialize};
use tollgate_api::units::Span;

/// A certificate with its chain, and its key: files in the PEM format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate, then those that it was signed with.
    pub cert: String,
    /// Its private key: PKCS #8, PKCS #1 or SEC1.
    pub key: String,
}

/// `[server.tls]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// See [`CertificateFiles::cert`]. Served to clients that name no host, or one that no other certificate is for. With
    /// `acme` it may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// See [`CertificateFiles::key`]. There if and only if `cert` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How long a client may take to shake hands, from when it was accepted.
    #[serde(default = "handshake_timeout")]
    pub handshake_timeout: Span,
    /// Address and port where plain HTTP is answered with a redirect to `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_http: Option<String>,
    /// `max-age` of `Strict-Transport-Security`; without it the header is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Span>,
    /// A certificate that the gateway orders by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<Acme>,
    /// `[[server.tls.more]]`: certificates for other names, chosen by SNI; at most [`super::MAX_CERTIFICATES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<CertificateFiles>,
}

impl Tls {
    /// The files of `cert` and `key`.
    pub fn files(&self) -> Option<CertificateFiles> {
        let (cert, key) = self.cert.clone().zip(self.key.clone())?;
        Some(CertificateFiles { cert, key })
    }
}

/// `[server.admin_tls]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminTls {
    /// See [`CertificateFiles::cert`].
    pub cert: String,
    /// See [`CertificateFiles::key`].
    pub key: String,
    /// Certificates, in one PEM file, that must have signed a client's; without it clients need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<String>,
}

/// How long a client may take to shake hands where no setting says it.
pub const HANDSHAKE_TIMEOUT: Span = Span::from_secs(10);

fn handshake_timeout() -> Span {
    HANDSHAKE_TIMEOUT
}
