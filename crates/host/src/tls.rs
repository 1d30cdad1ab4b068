//! TLS: certificates and keys from files, read again when they change, and the configuration that handshakes use. One provider
//! of cryptography (ring) for all of the program.

mod files;
mod names;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use files::Stamp;
use names::Names;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tollgate_rules::config::{self, AdminTls, CertificateFiles, HANDSHAKE_TIMEOUT, Server};

pub use names::Certificate;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// A certificate that ends sooner is warned of.
const SOON: Duration = Duration::from_secs(7 * 86_400);
/// What is spoken above TLS, the best first (RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// A new session.
    Full,
    /// A session that was resumed by its ticket.
    Resumed,
    /// Refused, by either side, or broken off.
    Failed,
    /// It took too long.
    TimedOut,
    /// Plain HTTP came in its place.
    PlainHttp,
}

impl Handshake {
    /// All of them, each with its name in metrics.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Full, "full"),
        (Self::Resumed, "resumed"),
        (Self::Failed, "failed"),
        (Self::TimedOut, "timed_out"),
        (Self::PlainHttp, "plain_http"),
    ];
}

/// The files of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sources {
    certificates: Vec<CertificateFiles>,
    client_ca: Option<String>,
}

/// The TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    sources: ArcSwap<Sources>,
    loaded: ArcSwap<Loaded>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    handshakes: [AtomicU64; Handshake::ALL.len()],
    /// Times that changed files were taken, and that they were not.
    reloads: [AtomicU64; 2],
}

/// The files of a new configuration, and what they held: to take the place of those before.
pub struct Renewed {
    sources: Sources,
    loaded: Loaded,
}

/// What the files held when they were read last.
#[derive(Debug)]
pub struct Loaded {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    /// The names that certificates are for.
    names: Arc<Names>,
    stamps: Vec<Stamp>,
}

impl Loaded {
    /// Whether a certificate is for this name; `name` in lower case, without a port.
    pub fn is_for(&self, name: &str) -> bool {
        self.names.get(name).is_some()
    }
}

impl Tls {
    /// Of `server.listen`, if `[server.tls]` is set.
    ///
    /// # Errors
    /// A file cannot be read or used; or a key does not fit.
    pub fn public(server: &Server) -> Result<Option<Arc<Self>>> {
        let Some(tls) = &server.tls else { return Ok(None) };
        let sources = Sources::of_public(tls);
        let tls = Self::new(sources, tls.handshake_timeout.into()).context("server.tls")?;
        Ok(Some(Arc::new(tls)))
    }

    /// Of `server.admin_listen`, if `[server.admin_tls]` is set.
    ///
    /// # Errors
    /// As [`Tls::public`].
    pub fn admin(server: &Server) -> Result<Option<Arc<Self>>> {
        let Some(tls) = &server.admin_tls else {
            return Ok(None);
        };
        let sources = Sources::of_admin(tls);
        let timeout = server
            .tls
            .as_ref()
            .map_or(HANDSHAKE_TIMEOUT, |tls| tls.handshake_timeout);
        let tls = Self::new(sources, timeout.into()).context("server.admin_tls")?;
        Ok(Some(Arc::new(tls)))
    }

    fn new(sources: Sources, handshake_timeout: Duration) -> Result<Self> {
        Ok(Self {
            loaded: ArcSwap::from_pointee(sources.load()?),
            sources: ArcSwap::from_pointee(sources),
            handshake_timeout,
            handshakes: Default::default(),
            reloads: Default::default(),
        })
    }

    /// Reads the files that `[server.tls]` names now.
    ///
    /// # Errors
    /// As [`Tls::public`].
    pub fn read_public(server: &Server) -> Result<Option<Renewed>> {
        let sources = server.tls.as_ref().map(Sources::of_public);
        sources.map(Renewed::read).transpose().context("server.tls")
    }

    /// Reads the files that `[server.admin_tls]` names now.
    ///
    /// # Errors
    /// As [`Tls::public`].
    pub fn read_admin(server: &Server) -> Result<Option<Renewed>> {
        let sources = server.admin_tls.as_ref().map(Sources::of_admin);
        sources.map(Renewed::read).transpose().context("server.admin_tls")
    }

    /// Takes what was read in the place of what there was. Where it is the same, sessions go on.
    pub fn renew(&self, renewed: Renewed) {
        let Renewed { sources, loaded } = renewed;
        if **self.sources.load() == sources && self.loaded.load().stamps == loaded.stamps {
            return;
        }
        self.sources.store(Arc::new(sources));
        self.loaded.store(Arc::new(loaded));
        self.reloaded(0);
        self.warnings()
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
    }

    /// What is in force.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }

    /// Its certificates.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.loaded.load().names.certificates().cloned().collect()
    }

    /// What its owner should know: certificates that have ended or soon will, and keys that anybody can read.
    pub fn warnings(&self) -> Vec<String> {
        let now = SystemTime::now();
        let ends = self.certificates().into_iter().filter_map(move |certificate| {
            let file = &certificate.file;
            match certificate.expires.duration_since(now) {
                Err(_) => Some(format!("the certificate in {file} has expired")),
                Ok(left) if left < SOON => Some(format!(
                    "the certificate in {file} expires in {} hours",
                    left.as_secs() / 3_600
                )),
                Ok(_) => None,
            }
        });
        let sources = self.sources.load();
        let keys = sources.certificates.iter();
        let shared = keys.filter(|one| files::is_open_to_all(&one.key)).map(|one| {
            format!(
                "anybody on this machine can read the key in {}: chmod o= it",
                one.key
            )
        });
        ends.chain(shared).collect::<Vec<_>>()
    }

    /// Counts a handshake.
    pub fn count(&self, how: Handshake) {
        if let Some(count) = self.handshakes.get(how as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Handshakes so far, by outcome.
    pub fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Handshake::ALL.iter().zip(&self.handshakes);
        counts.map(|((_, name), count)| (*name, count.load(Ordering::Relaxed)))
    }

    /// Times that changed files were taken, and that they were not.
    pub fn reloads(&self) -> [u64; 2] {
        let [taken, refused] = &self.reloads;
        [taken, refused].map(|count| count.load(Ordering::Relaxed))
    }

    /// Reads the files again whenever they have changed, for as long as it is polled. It looks at them by polling: so it sees the
    /// symbolic links of a mounted `ConfigMap` or secret being swapped. What cannot be used is not taken, and told once.
    pub async fn follow(self: Arc<Self>) {
        let mut seen = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let this = Arc::clone(&self);
            let before = seen.take();
            let looked = tokio::task::spawn_blocking(move || this.look(before)).await;
            seen = looked.unwrap_or(None);
        }
    }

    /// Looks at the files once. `before`: what they were when they could not be used. Returns the same for the next look.
    fn look(&self, before: Option<Refused>) -> Option<Refused> {
        let sources = self.sources.load_full();
        let stamps = sources.stamps();
        if stamps == self.loaded.load().stamps {
            return None;
        }
        match before {
            Some(before) if before.stamps == stamps && before.is_told => return Some(before),
            _ => {}
        }
        match sources.load() {
            // Meanwhile others may have been named.
            Ok(_) if !Arc::ptr_eq(&sources, &self.sources.load()) => None,
            Ok(loaded) => {
                self.loaded.store(Arc::new(loaded));
                self.reloaded(0);
                tracing::info!(cert = sources.first(), "certificates were read again");
                self.warnings()
                    .iter()
                    .for_each(|warning| tracing::warn!("{warning}"));
                None
            }
            Err(error) => {
                // The first time they may just be written, one after the other.
                let is_told = before.is_some_and(|before| before.stamps == stamps);
                if is_told {
                    self.reloaded(1);
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "changed certificates are not taken: those before stay in force"
                    );
                }
                Some(Refused { stamps, is_told })
            }
        }
    }

    fn reloaded(&self, how: usize) {
        if let Some(count) = self.reloads.get(how) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Files that could not be used.
#[derive(Debug)]
struct Refused {
    stamps: Vec<Stamp>,
    is_told: bool,
}

impl Renewed {
    fn read(sources: Sources) -> Result<Self> {
        let loaded = sources.load()?;
        Ok(Self { sources, loaded })
    }
}

impl Sources {
    fn of_public(tls: &config::Tls) -> Self {
        let first = CertificateFiles {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
        };
        Self {
            certificates: std::iter::once(first).chain(tls.more.iter().cloned()).collect(),
            client_ca: None,
        }
    }

    fn of_admin(tls: &AdminTls) -> Self {
        let only = CertificateFiles {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
        };
        Self {
            certificates: vec![only],
            client_ca: tls.client_ca.clone(),
        }
    }

    fn first(&self) -> &str {
        self.certificates.first().map_or("", |first| &first.cert)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let pairs = self.certificates.iter();
        let names = pairs.flat_map(|one| [&one.cert, &one.key]).chain(&self.client_ca);
        names.map(|name| Stamp::of(name)).collect()
    }

    fn load(&self) -> Result<Loaded> {
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
        for CertificateFiles { cert, key } in &self.certificates {
            let chain = files::chain(cert)?;
            let certificate = Certificate::read(cert, &chain)?;
            let pair = files::pair(chain, key, provider);
            names.add(
                certificate,
                pair.with_context(|| {
                    format!("the key in {key} and the certificate in {cert} cannot be used")
                })?,
            );
        }
        Ok(names)
    }
}

/// What `tollgate check` says of certificates, a line each.
///
/// # Errors
/// As [`Tls::public`].
pub fn check(server: &Server) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for tls in [Tls::public(server)?, Tls::admin(server)?].into_iter().flatten() {
        lines.extend(tls.certificates().iter().map(Certificate::to_string));
        lines.extend(
            tls.warnings()
                .into_iter()
                .map(|warning| format!("warning: {warning}")),
        );
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
