//! Which certificate is for which name, as clients name it in the handshake (SNI, RFC 6066).

use anyhow::{Context as _, Result, anyhow};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The most names of one certificate that are looked at.
const MAX_NAMES: usize = 1_000;

/// A certificate, as far as its owner wants to know.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Where it was read.
    pub file: String,
    /// The names of hosts that it is for, in lower case; one may begin with `*.`.
    pub names: Vec<String>,
    /// When it begins.
    pub begins: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
}

impl Certificate {
    /// The first of a chain.
    ///
    /// # Errors
    /// It is none, or has no name of a host or address that clients of today look at.
    pub fn read(file: &str, chain: &[CertificateDer<'_>]) -> Result<Self> {
        let certificate = chain
            .first()
            .and_then(|first| x509_cert::Certificate::from_der(first).ok());
        let certificate = certificate
            .with_context(|| format!("{file} holds a certificate that cannot be read"))?
            .tbs_certificate;
        let begins = UNIX_EPOCH + certificate.validity.not_before.to_unix_duration();
        let expires = UNIX_EPOCH + certificate.validity.not_after.to_unix_duration();
        let alternatives = certificate.get::<SubjectAltName>();
        let alternatives =
            alternatives.map_err(|error| anyhow!("{file}: its names cannot be read: {error}"))?;
        let alternatives = alternatives.map(|(_, names)| names.0).unwrap_or_default();
        let names = alternatives.iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            _ => None,
        });
        Ok(Self {
            file: file.to_owned(),
            names: names.take(MAX_NAMES).collect(),
            begins,
            expires,
        })
    }

    /// From its beginning to its end.
    pub fn lifetime(&self) -> Duration {
        self.expires.duration_since(self.begins).unwrap_or_default()
    }

    /// Seconds since 1970 at which it ends.
    pub fn expires_at(&self) -> Duration {
        self.expires.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match &*self.names {
            [] => "no host by name".to_owned(),
            names => names.join(", "),
        };
        let expires = u64::try_from(self.expires_at().as_millis()).unwrap_or(u64::MAX);
        let expires = tollgate_api::time::format(expires);
        write!(
            formatter,
            "certificate {}: for {names}; expires {expires}",
            self.file
        )
    }
}

/// Certificates by name. The first one is for everybody else.
#[derive(Debug, Default)]
pub struct Names {
    all: Vec<(Certificate, Arc<CertifiedKey>)>,
    by_name: HashMap<String, usize>,
}

impl Names {
    /// One more. Where two are for the same name, the first is chosen.
    pub fn add(&mut self, certificate: Certificate, pair: CertifiedKey) {
        for name in &certificate.names {
            self.by_name.entry(name.clone()).or_insert(self.all.len());
        }
        self.all.push((certificate, Arc::new(pair)));
    }

    /// All of them.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.all.iter().map(|(certificate, _)| certificate)
    }

    /// The one for a name, which is in lower case. A `*` stands for the first label of a name, and for nothing else (RFC 9525,
    /// section 6.3).
    pub fn get(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let whole = self.by_name.get(name);
        let found = whole.or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&["*.", parent].concat())
        });
        self.all.get(*found?).map(|(_, pair)| pair)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls hands it over in lower case.
        let named = hello.server_name().and_then(|name| self.get(name));
        named.or_else(|| self.all.first().map(|(_, pair)| pair)).cloned()
    }
}
