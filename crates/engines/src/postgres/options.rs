//! How a store on Postgres is reached and what it may use.

use std::time::Duration;

use tollgate_store::bucket::debt::Sharing;

/// Where the database is, and what a gateway may use of it. [`PostgresOptions::new`] gives the defaults.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host/database`; never shown with its password.
    pub url: String,
    /// Locks that commits share out, by partition. Fixed when the tables are made. Default 16.
    pub lanes: u32,
    /// Groups that one gateway writes at a time; each has lanes of its own. Default 2.
    pub writers: usize,
    /// Connections for reads. Default 2.
    pub readers: usize,
    /// How far memory may be behind commits of other gateways. Default 250 ms.
    pub revalidate: Duration,
    /// How old memory may be while the database does not answer. Default 30 s.
    pub stale_if_error: Duration,
    /// The most entries kept in memory. Default 262,144.
    pub cache_entries: usize,
    /// The most bytes of those. Default 128 MiB.
    pub cache_bytes: usize,
    /// The most commits that wait. Default 65,536.
    pub queue_commits: usize,
    /// The most bytes of commits that wait. Default 256 MiB.
    pub queue_bytes: usize,
    /// How long a start waits for the database. Default 10 s.
    pub patience: Duration,
    /// How limits are shared. Default 4 gateways, 10 per cent.
    pub sharing: Sharing,
    /// How long a take of an exact limit may wait for its flight, and a flight for its answer. Default 250 ms.
    pub take_patience: Duration,
    /// Added to the database's clock. For tests. Default 0.
    pub ahead_ms: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl PostgresOptions {
    /// The defaults for the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            lanes: 16,
            writers: 2,
            readers: 2,
            revalidate: Duration::from_millis(250),
            stale_if_error: Duration::from_secs(30),
            cache_entries: 262_144,
            cache_bytes: 128 << 20,
            queue_commits: 65_536,
            queue_bytes: 256 << 20,
            patience: Duration::from_secs(10),
            sharing: Sharing {
                gateways: 4,
                debt_percent: 10,
            },
            take_patience: Duration::from_millis(250),
            ahead_ms: std::sync::Arc::default(),
        }
    }
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").finish_non_exhaustive()
    }
}
