//! Where the certificates of one listener are, and what the files held when they were read last.

use super::files::{self, Stamp};
use super::names::{Certificate, Names};
use anyhow::{Context as _, Result, ensure};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tollgate_rules::config::{Acme, AdminTls, CertificateFiles, Tls};

/// What is spoken above TLS, the best first (RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// In the data directory: the certificate that is ordered, and its key.
const ORDERED: &str = "acme/certificate.pem";

/// The files of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub(super) certificates: Vec<CertificateFiles>,
    /// What is ordered, and comes into its file.
    pub(super) order: Option<Order>,
    pub(super) client_ca: Option<String>,
}

/// A certificate that is ordered from an ACME directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub(super) acme: Acme,
    /// The certificate and its key; may not be there yet.
    pub(super) file: PathBuf,
}

/// The files of a new configuration, and what they held: to take the place of those before.
pub struct Renewed {
    pub(super) sources: Sources,
    pub(super) loaded: Loaded,
    pub(super) handshake_timeout: Duration,
}

/// What the files held when they were read last.
#[derive(Debug)]
pub struct Loaded {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    /// The names that certificates are for.
    pub(super) names: Arc<Names>,
    pub(super) stamps: Vec<Stamp>,
}

impl Loaded {
    /// Whether a certificate is for this name; `name` in lower case, without a port.
    pub fn is_for(&self, name: &str) -> bool {
        self.names.get(name).is_some()
    }
}

impl Renewed {
    pub(super) fn read(sources: Sources, handshake_timeout: Duration) -> Result<Self> {
        Ok(Self {
            loaded: sources.load()?,
            sources,
            handshake_timeout,
        })
    }
}

impl Sources {
    /// `data`: the data directory.
    pub(super) fn of_public(tls: &Tls, data: &Path) -> Result<Self> {
        ensure!(
            tls.acme.is_none() || cfg!(feature = "acme"),
            "acme: this program was built without ACME (its cargo feature is `acme`)"
        );
        if let Some(ca) = tls.acme.as_ref().and_then(|acme| acme.directory_ca.as_deref()) {
            files::roots(ca).context("acme.directory_ca")?;
        }
        let order = tls.acme.clone().map(|acme| Order {
            acme,
            file: data.join(ORDERED),
        });
        let ordered = order.as_ref().map(Order::files);
        // The first one is for everybody else.
        let certificates = tls.files().into_iter().chain(ordered);
        Ok(Self {
            certificates: certificates.chain(tls.more.iter().cloned()).collect(),
            order,
            client_ca: None,
        })
    }

    pub(super) fn of_admin(tls: &AdminTls) -> Self {
        let only = CertificateFiles {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
        };
        Self {
            certificates: vec![only],
            order: None,
            client_ca: tls.client_ca.clone(),
        }
    }

    pub(super) fn first(&self) -> &str {
        self.certificates.first().map_or("", |first| &first.cert)
    }

    /// The files of keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.certificates.iter().map(|one| &*one.key)
    }

    /// Whether there is an order, and no certificate yet.
    pub(super) fn is_ordered_missing(&self) -> bool {
        self.order.as_ref().is_some_and(|order| !order.file.exists())
    }

    pub(super) fn stamps(&self) -> Vec<Stamp> {
        let pairs = self.certificates.iter();
        let names = pairs.flat_map(|one| [&one.cert, &one.key]).chain(&self.client_ca);
        names.map(|name| Stamp::of(name)).collect()
    }

    pub(super) fn load(&self) -> Result<Loaded> {
        let provider = Arc::new(default_provider());
        // Before they are read: what is written meanwhile is seen at the next look.
        let stamps = self.stamps();
        let names = Arc::new(self.names(&provider)?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = Arc::new(files::roots(file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.with_context(|| format!("{file} cannot be used"))?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&names) as _);
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // Sessions are in their tickets, for which workers share no lock. A new configuration has new keys for them: who resumes
        // has proved itself to this one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new()?;
        Ok(Loaded {
            config: Arc::new(config),
            names,
            stamps,
        })
    }

    fn names(&self, provider: &CryptoProvider) -> Result<Names> {
        let mut names = Names::default();
        for pair in &self.certificates {
            match read(pair, provider) {
                Ok((certificate, pair)) => names.add(certificate, pair),
                // It is ordered, once more if need be; nobody but the gateway can mend it.
                Err(error) if self.is_ordered(pair) => {
                    if !self.is_ordered_missing() {
                        let error = format!("{error:#}");
                        tracing::warn!(error, "the certificate from the ACME directory cannot be used");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }

    fn is_ordered(&self, pair: &CertificateFiles) -> bool {
        self.order.as_ref().is_some_and(|order| order.files() == *pair)
    }
}

impl Order {
    fn files(&self) -> CertificateFiles {
        let file = self.file.display().to_string();
        CertificateFiles {
            cert: file.clone(),
            key: file,
        }
    }
}

fn read(
    CertificateFiles { cert, key }: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<(Certificate, rustls::sign::CertifiedKey)> {
    let chain = files::chain(cert)?;
    let certificate = Certificate::read(cert, &chain)?;
    let pair = files::pair(chain, key, provider);
    let pair =
        pair.with_context(|| format!("the key in {key} and the certificate in {cert} cannot be used"))?;
    Ok((certificate, pair))
}
