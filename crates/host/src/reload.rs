//! The configuration, read again while the gateway runs: on SIGHUP, and when the file (or that of the admin key) has changed. What is
//! read is checked as `tollgate check` does it. Then all of it comes into force or nothing of it; `docs/reload.md` says what of it can.

use crate::access_log::AccessLog;
use crate::alerts::{self, Alerts};
use crate::cli::{self, InForce, Sources};
use crate::clock::now;
use crate::countries::{Countries, Stamp};
use crate::logging;
use crate::serve::notify;
use crate::server::Switch;
use crate::server::generation::Generation;
use crate::tls::{Renewed, Tls};
use anyhow::{Context as _, Result, anyhow};
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tollgate_delivery::driver::OfFile;
use tollgate_delivery::subscriptions;
use tollgate_engines::{AnyEngine, Engine as _, GatewayBuckets};
use tollgate_rules::config::Config;
use tollgate_rules::keys;
use tollgate_rules::settings::{Changes, Reload, Settings};

/// How long a file has to stay as it is, once it has changed, before it is read: somebody may still be writing it.
const SETTLE: Duration = Duration::from_millis(500);
/// How long the store may take to say what a new configuration asks for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the configuration was taken, for metrics.
pub struct Reloads {
    is_good: AtomicBool,
    /// Unix milliseconds.
    time: AtomicU64,
}

impl Default for Reloads {
    /// It was just taken.
    fn default() -> Self {
        Self {
            is_good: AtomicBool::new(true),
            time: AtomicU64::new(now()),
        }
    }
}

impl Reloads {
    /// Whether it was taken when it was read last.
    pub fn is_good(&self) -> bool {
        self.is_good.load(Ordering::Relaxed)
    }

    /// When it was taken last, since 1970.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.time.load(Ordering::Relaxed))
    }

    fn taken(&self) {
        self.time.store(now(), Ordering::Relaxed);
        self.is_good.store(true, Ordering::Relaxed);
    }

    fn refused(&self) {
        self.is_good.store(false, Ordering::Relaxed);
    }
}

/// What a new configuration reaches, besides the threads that answer requests.
pub struct Reached {
    /// Retention, and the admin key.
    pub store: AnyEngine,
    /// The relay's subscriptions of the file, and its public URL.
    pub of_file: OfFile,
    /// Which of the limits are shared.
    pub buckets: Arc<GatewayBuckets>,
    /// `[[alerts]]`
    pub alerts: Alerts,
    /// Certificates of `server.listen`.
    pub tls: Option<Arc<Tls>>,
    /// Those of `server.admin_listen`.
    pub admin_tls: Option<Arc<Tls>>,
}

/// Reads the configuration again, for as long as the gateway runs.
pub struct Reloader {
    sources: Sources,
    files: Files,
    /// What the file said at the start.
    started: Config,
    /// The data directory, which stays.
    data: PathBuf,
    switch: Switch,
    reached: Reached,
    reloads: Arc<Reloads>,
    /// The files as they were when they were read last.
    seen: Seen,
    /// Why what they said then was refused.
    refused: Option<String>,
    /// Of the admin key that was given last.
    key: Option<Hash>,
}

/// A new configuration, ready to come into force.
struct Prepared {
    settings: Settings,
    changes: Changes,
    restart: Changes,
    access_log: Option<AccessLog>,
    tls: Option<Renewed>,
    admin_tls: Option<Renewed>,
    alerts: Option<alerts::Prepared>,
    countries: Option<Arc<Countries>>,
    /// Whether they are of another file, or of another state of it.
    are_countries_others: bool,
    /// What subscriptions still need, by topic.
    low_water: Vec<(String, u64)>,
    admin_key: Option<String>,
}

impl Reloader {
    /// `started`: what is in force from the start on.
    pub fn new(
        mut sources: Sources,
        started: &InForce,
        switch: Switch,
        reached: Reached,
        reloads: Arc<Reloads>,
    ) -> Self {
        // A file that is gone is a fault, not a reason to run on defaults.
        sources.place.config.clone_from(&started.file);
        let files = Files {
            config: started.file.clone().unwrap_or_else(|| cli::DEFAULT_FILE.into()),
            key: sources.admin_key_file.clone(),
            jwks: jwks_file(&started.settings.config),
            countries: country_file(&started.settings.config),
        };
        Self {
            seen: Seen {
                config: started.text.as_deref().map(|text| hash(text.as_bytes())),
                ..files.look()
            },
            files,
            started: started.settings.config.clone(),
            data: started.data.clone(),
            switch,
            reached,
            reloads,
            refused: None,
            key: started.admin_key.as_deref().map(|key| hash(key.as_bytes())),
            sources,
        }
    }

    /// Never returns; may be given up at any moment but a reload that has begun to come into force does.
    pub async fn run(mut self, mut hangup: Signal) {
        loop {
            let every = Duration::from(self.switch.current().settings.config.reload.every);
            tokio::select! {
                Some(()) = hangup.recv() => {
                    notify::reloading();
                    self.reload(true).await;
                    notify::ready();
                }
                () = sleep(every), if !every.is_zero() => if self.is_due().await {
                    self.reload(false).await;
                },
            }
        }
    }

    /// Whether a file has changed, and stays so for a moment; or what it says was refused, which may have been mended elsewhere.
    async fn is_due(&self) -> bool {
        let looked = self.look().await;
        if looked == self.seen {
            return self.refused.is_some();
        }
        sleep(SETTLE).await;
        self.look().await == looked
    }

    async fn look(&self) -> Seen {
        let files = self.files.clone();
        // Beside the runtime: a network's disk may let us wait.
        spawn_blocking(move || files.look()).await.unwrap_or_default()
    }

    async fn reload(&mut self, is_asked_for: bool) {
        // Before it is read: what is written meanwhile is seen at the next look.
        self.seen = self.look().await;
        match self.prepare().await {
            Ok(prepared) => {
                self.refused = None;
                let config = &prepared.settings.config;
                let (jwks, countries) = (jwks_file(config), country_file(config));
                self.apply(prepared).await;
                if (&self.files.jwks, &self.files.countries) != (&jwks, &countries) {
                    self.files.jwks = jwks;
                    self.files.countries = countries;
                    self.seen = self.look().await;
                }
                self.reloads.taken();
            }
            Err(error) => {
                let error = format!("{error:#}");
                self.reloads.refused();
                // Once, however often it is looked.
                if is_asked_for || self.refused.as_ref() != Some(&error) {
                    tracing::error!(
                        error,
                        "the configuration is refused: the one before stays in force"
                    );
                }
                self.refused = Some(error);
            }
        }
    }

    /// Everything that can fail. Nothing is in force yet but, as the last thing, a new admin key.
    async fn prepare(&mut self) -> Result<Prepared> {
        let (sources, components) = (self.sources.clone(), self.started.components.clone());
        let wanted = spawn_blocking(move || cli::checked(&sources, Some(&components)))
            .await??
            .0;
        let current = self.switch.current();
        let Reload {
            settings,
            changes,
            restart,
        } = current
            .settings
            .reload(&self.started, &wanted.settings.config)
            .map_err(|fault| anyhow!("what needs a restart stays as it is, and with that {fault}"))?;
        let (before, config) = (&current.settings.config, &settings.config);
        let (server, log) = (config.server.clone(), config.access_log.clone());
        let are_countries_others = match (&current.countries, &wanted.countries) {
            (Some(before), Some(now)) => !before.is_same(now),
            (before, now) => before.is_some() != now.is_some(),
        };
        let (log_before, data) = (current.access_log.clone(), self.data.clone());
        let read = spawn_blocking(move || -> Result<_> {
            let (tls, admin_tls) = (Tls::read_public(&server, &data)?, Tls::read_admin(&server)?);
            Ok((tls, admin_tls, AccessLog::start(&log, log_before.as_ref())?))
        });
        let (tls, admin_tls, access_log) = read.await??;
        // They look at subscriptions too, and name the gateway.
        let are_alerts_others = before.alerts != config.alerts
            || before.topics != config.topics
            || current.settings.public_url != settings.public_url;
        let alerts = match are_alerts_others {
            true => Some(self.reached.alerts.prepare(&settings)?),
            false => None,
        };
        let needed = subscriptions::low_water(&self.reached.store, config.subscriptions());
        let low_water = timeout(PATIENCE, needed)
            .await
            .context("the store does not answer")??;
        let admin_key = wanted
            .admin_key
            .filter(|key| self.key != Some(hash(key.as_bytes())));
        if let Some(key) = &admin_key {
            let installed = keys::install_admin(&self.reached.store, key, now());
            timeout(PATIENCE, installed)
                .await
                .context("the store does not answer")?
                .context("the admin key was not taken")?;
        }
        Ok(Prepared {
            settings,
            changes,
            restart,
            access_log,
            tls,
            admin_tls,
            alerts,
            countries: wanted.countries,
            are_countries_others,
            low_water,
            admin_key,
        })
    }

    /// Puts it in force. Nothing here can fail.
    async fn apply(&mut self, prepared: Prepared) {
        let Prepared {
            settings,
            changes,
            restart,
            access_log,
            tls,
            admin_tls,
            alerts,
            countries,
            are_countries_others,
            low_water,
            admin_key,
        } = prepared;
        let reached = &mut self.reached;
        for (tls, renewed) in [(&reached.tls, tls), (&reached.admin_tls, admin_tls)] {
            if let (Some(tls), Some(renewed)) = (tls, renewed) {
                tls.renew(renewed);
            }
        }
        if let Some(key) = admin_key {
            self.key = Some(hash(key.as_bytes()));
            tracing::info!("the admin key was changed");
        }
        if !changes.is_empty() {
            let config = &settings.config;
            logging::set_level(config.log.level);
            // First what subscriptions still need, then what may go.
            for (topic, sequence) in low_water {
                reached.store.set_low_water(&topic, sequence);
            }
            let (default, named) = tollgate_rules::upkeep::retention(config);
            reached.store.set_retention(default, named);
            let subscriptions = crate::serve::of_file(config);
            reached.of_file.replace(subscriptions, &settings.public_url);
            reached.buckets.share(crate::serve::shared_limits(config));
            if let Some(alerts) = alerts {
                reached.alerts.replace(alerts).await;
            }
        }
        if !changes.is_empty() || are_countries_others {
            let next =
                |current: &Generation| Ok::<_, Infallible>(current.next(settings, access_log, countries));
            let Ok(()) = self.switch.change(next).await;
        }
        match changes.is_empty() {
            true if are_countries_others => tracing::info!("the file of countries was read again"),
            true => tracing::info!("the configuration was read again: nothing has changed that is in force"),
            false => tracing::info!(changes = %changes, "the configuration was changed"),
        }
        if !restart.is_empty() {
            tracing::warn!(settings = %restart, "these settings change with a restart; until then they stay as they were");
        }
    }
}

type Hash = [u8; 32];

/// The files that are looked at.
#[derive(Clone)]
struct Files {
    config: PathBuf,
    key: Option<PathBuf>,
    /// Of `[users.jwt]`.
    jwks: Option<PathBuf>,
    /// Of `[clients]`.
    countries: Option<PathBuf>,
}

fn jwks_file(config: &Config) -> Option<PathBuf> {
    Some(config.users.jwt.as_ref()?.file()?.into())
}

fn country_file(config: &Config) -> Option<PathBuf> {
    config.clients.country_file.as_ref().map(PathBuf::from)
}

/// What was in the files; `None` for one that cannot be read. Their contents and not their times, so that a symbolic link that leads
/// elsewhere, as in a mounted `ConfigMap`, counts, and a file that was only touched does not. A file of countries may be large, and is told by its times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    config: Option<Hash>,
    key: Option<Hash>,
    jwks: Option<Hash>,
    countries: Option<Stamp>,
}

impl Files {
    fn look(&self) -> Seen {
        let read = |path: &Path| fs::read(path).ok().map(|text| hash(&text));
        Seen {
            config: read(&self.config),
            key: self.key.as_deref().and_then(read),
            jwks: self.jwks.as_deref().and_then(read),
            countries: self.countries.as_deref().and_then(Stamp::of),
        }
    }
}

fn hash(text: &[u8]) -> Hash {
    Sha256::digest(text).into()
}
