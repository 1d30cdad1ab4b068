//! `tollgate serve`: open the store, make sure there is an admin key, start the relay and the server; and the other
//! way round when told to stop.

use crate::cli::{self, ServeOptions};
use crate::server::settle::Settling;
use crate::server::{DRAIN, Server};
use crate::upkeep;
use crate::wasm::compiled::Library;
use crate::wasm::ports::Engines;
use anyhow::{Context as _, Result, bail};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tollgate_core::commit::StoreError;
use tollgate_core::config::{Config, TopicSettings};
use tollgate_core::keys::{self, FirstKey};
use tollgate_core::subscriptions;
use tollgate_engine::{MemoryBuckets, Options, Retention, SqliteStore};
use tollgate_relay::Relay;

/// Runs the gateway until SIGTERM or SIGINT, then drains. Told to stop while it still starts, it ends in order too.
pub fn run(options: ServeOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let done = runtime.block_on(serve(options));
    // Components that are still being compiled are not waited for.
    runtime.shutdown_background();
    done
}

async fn serve(options: ServeOptions) -> Result<()> {
    let began = Instant::now();
    // Before anything else: from here on a signal is kept until somebody looks.
    let mut stop = pin!(stop_signal()?);
    let (mut config, source) = cli::load(&options.config)?;
    if let Some(listen) = options.listen {
        config.server.listen = listen;
    }
    if let Some(data) = &options.data {
        config.store.path = data.join("tollgate.db").display().to_string();
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = source,
        store = config.store.path,
        "starting"
    );
    let database = PathBuf::from(&config.store.path);
    let data = database
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    std::fs::create_dir_all(&data)
        .with_context(|| format!("cannot create the data directory {}", data.display()))?;
    let store = SqliteStore::open(Options {
        cache_entries: usize::try_from(config.store.cache_entries)?,
        cache_bytes: usize::try_from(config.store.cache_bytes.0)?,
        ..Options::new(database)
    })?;
    // First what subscriptions still need, then what may go: the sweep begins with the retention.
    for (topic, sequence) in subscriptions::low_water(&*store, &config).await? {
        store.set_low_water(&topic, sequence);
    }
    let (default, named) = retention(&config);
    store.set_retention(default, named);
    let first_start = admin_key(&store, options.admin_key, options.admin_key_file.as_deref()).await?;
    let engines = Engines {
        store: Arc::clone(&store),
        buckets: Arc::new(MemoryBuckets::new(config.clients.max_buckets as usize)),
        settings: config.without_secrets().to_toml().into(),
        settling: Settling::default(),
    };
    let library = Library {
        components: options.components,
        cache: data.join("cache"),
    };
    tollgate_core::limiter::Policies::compile(&config)?;
    let kept = Arc::clone(&store);
    let low_water = Box::new(move |topic: &str, sequence| kept.set_low_water(topic, sequence));
    let relay = Relay::start_with(Arc::clone(&store), &config, low_water)?;
    let server = tokio::select! {
        biased;
        () = &mut stop => None,
        server = Server::start(config.clone(), engines, library) => Some(server?),
    };
    if let Some(server) = server {
        relay.listens_on(server.address()?);
        ready(&server, began)?;
        hints(&server, first_start)?;
        let upkeep = tokio::spawn(upkeep::run(Arc::clone(&store), config.clone()));
        let ran = server.run(stop).await;
        upkeep.abort();
        ran?;
    }
    tracing::info!("finishing deliveries and closing the store");
    relay.shutdown(DRAIN).await;
    store.close();
    let stats = store.stats();
    tracing::info!(
        commits = stats.commits,
        groups = stats.groups,
        sync_ms = stats.sync_time.as_millis() as u64,
        "stopped"
    );
    Ok(())
}

/// How long topics are kept: those that the configuration does not name, and those that it does.
fn retention(config: &Config) -> (Retention, Vec<(String, Retention)>) {
    const NS_PER_MS: u64 = 1_000_000;
    let of = |topic: &TopicSettings| Retention {
        age_ms: Some(topic.retention.0 / NS_PER_MS),
        max_bytes: Some(topic.max_bytes.0),
    };
    let named = config
        .topics
        .iter()
        .map(|(name, topic)| (name.clone(), of(topic)));
    (of(&TopicSettings::default()), named.collect())
}

/// The one line on stdout, which tells scripts and tests that requests are answered.
#[allow(clippy::print_stdout, reason = "the contract: this one line goes to stdout")]
fn ready(server: &Server, began: Instant) -> Result<()> {
    let address = server.address()?;
    println!("listening on http://{address}");
    std::io::stdout().flush()?;
    tracing::info!(%address, start_ms = began.elapsed().as_millis() as u64, "ready");
    Ok(())
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Installs the configured admin key, or mints one on the first start: shown once, or written to the file. Whether one
/// was minted.
async fn admin_key(store: &SqliteStore, given: Option<String>, file: Option<&Path>) -> Result<bool> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(0);
    let from_file = match file.filter(|path| path.exists()) {
        Some(path) => {
            Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
        }
        None => None,
    };
    if let Some(key) = given.or(from_file) {
        keys::install_admin(store, key.trim(), now).await?;
        return Ok(false);
    }
    let fresh = || {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).map(|()| bytes)
    };
    // Checked once here: the closure that the rules take cannot fail.
    if fresh().is_err() {
        bail!("the system gives no random numbers, so no admin key can be made");
    }
    let Some(key) = FirstKey::mint(store, now, &|| fresh().unwrap_or_default()).await? else {
        return Ok(false);
    };
    // Written before it is installed: a key that nobody can read would be the only one.
    if let Some(path) = file {
        write_secret(path, key.text())
            .with_context(|| format!("cannot write the admin key to {}", path.display()))?;
    }
    let installed = key.install(store).await;
    if let Some(path) = file
        && !matches!(installed, Ok(true) | Err(StoreError::Unknown(_)))
    {
        // It opens nothing. (Where that is not known, it stays: the next start installs what is in the file.)
        std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    if !installed? {
        return Ok(false);
    }
    match file {
        Some(path) => eprintln!("tollgate: the admin key of this store is in {}", path.display()),
        None => eprintln!(
            "\n  Admin key of this store, shown this once (only its hash is kept):\n\n      {}\n",
            key.text()
        ),
    }
    Ok(true)
}

/// What a person may try first: on the first start of a store, and whenever a person is looking.
fn hints(server: &Server, first_start: bool) -> Result<()> {
    if !first_start && !std::io::stderr().is_terminal() {
        return Ok(());
    }
    let at = server.address()?;
    eprintln!(
        "  Try it (KEY is the admin key):\n
      curl http://{at}/api/links -H \"authorization: Bearer $KEY\" --json '{{\"url\":\"https://example.com/\",\"code\":\"hello\"}}'
      curl -i http://{at}/hello
      curl http://{at}/api/links/hello -H \"authorization: Bearer $KEY\"\n"
    );
    Ok(())
}

/// Writes a new file that only its owner may read; whole and durable, or not at all.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let directory = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty());
    let written = writeln!(file, "{text}")
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all());
    if written.is_err() {
        _ = std::fs::remove_file(path);
    }
    written
}
