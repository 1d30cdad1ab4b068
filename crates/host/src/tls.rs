//! TLS: certificates and keys from files, read again when they change, and the configuration that handshakes use. One provider
//! of cryptography (ring) for all of the program.

#[cfg(feature = "acme")]
pub mod acme;
mod challenges;
mod files;
mod names;
mod sources;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use challenges::Challenges;
use files::Stamp;
use rustls::ServerConfig;
use rustls::server::ClientHello;
use sources::Sources;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tollgate_rules::config::{HANDSHAKE_TIMEOUT, Server};

pub use challenges::ACME_TLS;
pub use names::Certificate;
pub use sources::{Loaded, Renewed};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// A certificate that ends sooner is warned of; one for a short time, in the last quarter of it.
const SOON: Duration = Duration::from_secs(7 * 86_400);
const SOON_PART: u32 = 4;

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

/// The TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    sources: ArcSwap<Sources>,
    loaded: ArcSwap<Loaded>,
    /// Milliseconds.
    handshake_timeout: AtomicU64,
    /// What proves to an authority that names are ours, while it is asked for a certificate.
    pub challenges: Challenges,
    /// Other settings came into force, or the same again.
    changed: Notify,
    handshakes: [AtomicU64; Handshake::ALL.len()],
    /// Times that changed files were taken, and that they were not.
    reloads: [AtomicU64; 2],
    /// Certificates that were ordered and issued, and that were not.
    orders: [AtomicU64; 2],
}

impl Tls {
    /// Of `server.listen`, if `[server.tls]` is set. `data`: the directory where certificates are kept that are ordered.
    ///
    /// # Errors
    /// A file cannot be read or used; or a key does not fit.
    pub fn public(server: &Server, data: &Path) -> Result<Option<Arc<Self>>> {
        let read = Self::read_public(server, data)?;
        Ok(read.map(|read| Arc::new(Self::new(read))))
    }

    /// Of `server.admin_listen`, if `[server.admin_tls]` is set.
    ///
    /// # Errors
    /// As [`Tls::public`].
    pub fn admin(server: &Server) -> Result<Option<Arc<Self>>> {
        Ok(Self::read_admin(server)?.map(|read| Arc::new(Self::new(read))))
    }

    fn new(read: Renewed) -> Self {
        Self {
            loaded: ArcSwap::from_pointee(read.loaded),
            sources: ArcSwap::from_pointee(read.sources),
            handshake_timeout: AtomicU64::new(millis(read.handshake_timeout)),
            challenges: Challenges::default(),
            changed: Notify::new(),
            handshakes: Default::default(),
            reloads: Default::default(),
            orders: Default::default(),
        }
    }

    /// Reads the files that `[server.tls]` names now.
    ///
    /// # Errors
    /// As [`Tls::public`].
    pub fn read_public(server: &Server, data: &Path) -> Result<Option<Renewed>> {
        let Some(tls) = &server.tls else { return Ok(None) };
        let read = Sources::of_public(tls, data).and_then(|sources| Renewed::read(sources, timeout(server)));
        read.map(Some).context("server.tls")
    }

    /// Reads the files that `[server.admin_tls]` names now.
    ///
    /// # Errors
    /// As [`Tls::public`].
    pub fn read_admin(server: &Server) -> Result<Option<Renewed>> {
        let Some(tls) = &server.admin_tls else {
            return Ok(None);
        };
        let read = Renewed::read(Sources::of_admin(tls), timeout(server));
        read.map(Some).context("server.admin_tls")
    }

    /// Takes what was read in the place of what there was. Where it is the same, sessions go on.
    pub fn renew(&self, renewed: Renewed) {
        self.handshake_timeout
            .store(millis(renewed.handshake_timeout), Ordering::Relaxed);
        let Renewed { sources, loaded, .. } = renewed;
        if **self.sources.load() != sources || self.loaded.load().stamps != loaded.stamps {
            self.sources.store(Arc::new(sources));
            self.loaded.store(Arc::new(loaded));
            self.reloaded(0);
            self.warnings()
                .iter()
                .for_each(|warning| tracing::warn!("{warning}"));
        }
        self.changed.notify_one();
    }

    /// How long a handshake may take.
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout.load(Ordering::Relaxed))
    }

    /// What to shake hands with.
    pub fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let challenge = self.challenges.handshake(hello);
        challenge.unwrap_or_else(|| Arc::clone(&self.loaded.load().config))
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
                Ok(left) if left < SOON.min(certificate.lifetime() / SOON_PART) => Some(format!(
                    "the certificate in {file} expires in {} hours",
                    left.as_secs() / 3_600
                )),
                Ok(_) => None,
            }
        });
        let sources = self.sources.load();
        let shared = sources.keys().filter(|key| files::is_open_to_all(key));
        let shared =
            shared.map(|key| format!("anybody on this machine can read the key in {key}: chmod o= it"));
        let missing = sources.is_ordered_missing().then(|| {
            "there is no certificate from the ACME directory yet: it is ordered while the gateway runs"
                .to_owned()
        });
        ends.chain(shared).chain(missing).collect::<Vec<_>>()
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

    /// Certificates that were ordered from an ACME directory and issued, and that were not.
    pub fn orders(&self) -> Option<[u64; 2]> {
        let [issued, failed] = &self.orders;
        let is_set = self.sources.load().order.is_some();
        is_set.then(|| [issued, failed].map(|count| count.load(Ordering::Relaxed)))
    }

    #[cfg(feature = "acme")]
    fn ordered(&self, is_issued: bool) {
        let [issued, failed] = &self.orders;
        let count = if is_issued { issued } else { failed };
        count.fetch_add(1, Ordering::Relaxed);
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

/// What `tollgate check` says of certificates, a line each.
///
/// # Errors
/// As [`Tls::public`].
pub fn check(server: &Server, data: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for tls in [Tls::public(server, data)?, Tls::admin(server)?]
        .into_iter()
        .flatten()
    {
        lines.extend(tls.certificates().iter().map(Certificate::to_string));
        lines.extend(
            tls.warnings()
                .into_iter()
                .map(|warning| format!("warning: {warning}")),
        );
    }
    Ok(lines)
}

/// `handshake_timeout`, also for a listener whose table does not have it.
fn timeout(server: &Server) -> Duration {
    let set = server.tls.as_ref().map(|tls| tls.handshake_timeout);
    set.unwrap_or(HANDSHAKE_TIMEOUT).into()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
