//! `tollgate serve`. The steps that can fail come first: settings, address, store, components. The step that
//! happens only once comes next: an admin key is made and shown. Then requests are answered. A stop takes the
//! order in reverse.

mod addresses;
mod admin_key;
pub(crate) mod files;
pub(crate) mod notify;
mod signals;
mod summary;

use crate::access_log::AccessLog;
use crate::alerts::{self, Alerts};
use crate::cli::{self, InForce, ServeOptions, Sources};
use crate::clock::now;
use crate::events::{self, Events};
use crate::key_set;
use crate::logging;
use crate::metrics::count::Counted;
use crate::proxy;
use crate::ranking::Ranking;
use crate::reload::{Reached, Reloader, Reloads};
use crate::rls;
use crate::run_time;
use crate::server::generation::{Current, Generation};
use crate::server::listen::{self, Inherited, Listener};
use crate::server::settle::Settling;
use crate::server::{DRAIN, Listening, Server};
use crate::tls::Tls;
use crate::traces::{Deliveries, Traces};
use crate::upkeep::Upkeep;
use crate::wasm::compiled::Library;
use crate::wasm::ports::Engines;
use anyhow::{Result, anyhow};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;
use tokio::signal::unix::Signal;
use tollgate_delivery::driver::{Intervals, Observer, Options, Relay};
use tollgate_delivery::subscription::Subscription;
use tollgate_delivery::subscriptions;
use tollgate_engines::{AnyEngine, Engine as _, GatewayBuckets, SharedLimits, Together};
#[cfg(feature = "limits-redis")]
use tollgate_engines::{RedisLimits, RedisOptions};
use tollgate_rules::config::{Config, Shared};
use tollgate_rules::settings::Settings;
use tollgate_store::settings::StoreSettings;

/// Runs the gateway until SIGTERM, SIGINT or SIGQUIT, then drains. Told to stop while it still starts, it ends in order
/// too; told twice, at once.
pub fn run(options: ServeOptions) -> Result<()> {
    files::make_private();
    // While this is the only thread that looks at the environment.
    let inherited = Inherited::take()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let done = runtime.block_on(serve(options, inherited));
    // Components that are still being compiled are not waited for.
    runtime.shutdown_background();
    done
}

async fn serve(options: ServeOptions, inherited: Inherited) -> Result<()> {
    let began = Instant::now();
    // Before anything else: from here on a signal is kept until somebody looks.
    let mut stop = pin!(signals::stop()?);
    let hangup = signals::hangup()?;
    let ServeOptions { sources, components } = options;
    // Beside the runtime: a name server may let us wait.
    let reading = tokio::task::spawn_blocking({
        let sources = sources.clone();
        move || cli::in_force(&sources)
    });
    let in_force = tokio::select! {
        biased;
        () = &mut stop => return Ok(()),
        in_force = reading => in_force??,
    };
    logging::set_level(in_force.settings.config.log.level);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = in_force.source,
        store = store_name(&in_force),
        "starting"
    );
    if let Some(file) = &sources.admin_key_file {
        files::warn_if_shared(file);
    }
    let listening = listen(&in_force, inherited)?;
    let is_set = !in_force.rls_listen.is_empty();
    let rls = is_set.then(|| listen::bind(&in_force.rls_listen)).transpose()?;
    let store = open(&in_force)?;
    let gateway = Gateway {
        store: store.clone(),
        sources,
        hangup,
        library: Library {
            components,
            cache: in_force.data.join("cache"),
        },
        in_force,
        began,
    };
    let ended = gateway.run(listening, rls, stop).await;
    store.close();
    let stats = store.stats();
    tracing::info!(
        commits = stats.commits,
        groups = stats.groups,
        sync_ms = stats.syncs.sum / 1_000,
        "stopped"
    );
    ended
}

/// Reads certificates and opens the sockets that nobody has opened for us.
fn listen(in_force: &InForce, mut inherited: Inherited) -> Result<Listening> {
    let server = &in_force.settings.config.server;
    let (tls, admin_tls) = (Tls::public(server, &in_force.data)?, Tls::admin(server)?);
    let both = tls.iter().chain(&admin_tls);
    both.flat_map(|tls| tls.warnings())
        .for_each(|warning| tracing::warn!("{warning}"));
    let mut open = |listener, addresses: &[SocketAddr]| match inherited.of(listener) {
        Some(socket) => Ok(socket),
        None => listen::bind(addresses),
    };
    let public = open(Listener::Public, &in_force.listen)?;
    let mut open_if_set = |listener, addresses: &[SocketAddr]| {
        let is_set = !addresses.is_empty();
        is_set.then(|| open(listener, addresses)).transpose()
    };
    Ok(Listening {
        public,
        admin: open_if_set(Listener::Admin, &in_force.admin_listen)?,
        redirect: open_if_set(Listener::Redirect, &in_force.redirect_http)?,
        tls,
        admin_tls,
    })
}

/// The store's name in the log.
fn store_name(in_force: &InForce) -> &str {
    match &in_force.settings.config.store {
        StoreSettings::Sqlite { path, .. } => path,
        StoreSettings::Memory { .. } => "memory",
        StoreSettings::Postgres(_) => "postgres",
    }
}

/// The limits under which gateways over one store count together, and how.
pub fn shared_limits(config: &Config) -> impl Iterator<Item = (String, Together)> {
    config.limits.iter().filter_map(|limit| {
        let how = match limit.shared {
            Shared::Local => return None,
            Shared::Debt => Together::Debt,
            Shared::Exact => Together::Exact,
        };
        Some((limit.name.clone(), how))
    })
}

/// Over what gateways share limits: the Redis of the settings, or else their store, if that is one that they share.
fn shared_over(config: &Config, store: &AnyEngine) -> Result<Option<SharedLimits>> {
    #[cfg(feature = "limits-redis")]
    if let Some(options) = RedisOptions::of(&config.limits_store, &config.store)
        .map_err(|why| anyhow!("limits_store.url {why}"))?
    {
        tracing::info!(redis = options.address.shown, "limits are shared over a Redis");
        return Ok(Some(RedisLimits::start(options)?));
    }
    #[cfg(not(feature = "limits-redis"))]
    if config.limits_store.url.is_some() {
        return Err(anyhow!(
            "limits_store.url: this program was built without limits-redis"
        ));
    }
    Ok(store.limits())
}

/// Opens the store, in a directory that is there and its owner's if it needs one.
fn open(in_force: &InForce) -> Result<AnyEngine> {
    let settings = &in_force.settings.config.store;
    match settings {
        StoreSettings::Sqlite { path, .. } => {
            files::make_directory(&in_force.data)?;
            files::tighten(Path::new(path));
        }
        StoreSettings::Memory { max_bytes } => {
            tracing::warn!(
                max_bytes = max_bytes.0,
                "the store is in memory: nothing of it is kept when this process ends"
            );
        }
        StoreSettings::Postgres(settings) => {
            files::make_directory(&in_force.data)?;
            let database = settings.masked_url("********");
            tracing::info!(
                database,
                lanes = settings.lanes,
                writers = settings.writers,
                revalidate = settings.revalidate.to_string(),
                "the store is a database that gateways may share"
            );
            let mut limits = in_force.settings.config.limits.iter();
            if limits.any(|limit| limit.shared == Shared::Local) {
                tracing::warn!(
                    "of several gateways over one database, each counts for itself under limits without shared = \"debt\" or \
                     \"exact\"; see docs/fleet.md"
                );
            }
        }
    }
    Ok(tollgate_engines::open(
        settings,
        &in_force.settings.config.limits_store,
    )?)
}

/// The parts of the gateway that run on an open store.
struct Gateway {
    store: AnyEngine,
    in_force: InForce,
    sources: Sources,
    hangup: Signal,
    library: Library,
    began: Instant,
}

impl Gateway {
    async fn run(
        self,
        listening: Listening,
        rls: Option<TcpListener>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<()> {
        let (store, mut config) = (self.store, self.in_force.settings.config.clone());
        // The rules must know where they are reached: links and subscriptions may not lead there.
        let address = listening.public.local_addr()?;
        config.server.listen = address.to_string();
        let at = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        let (admin, redirect) = (at(&listening.admin)?, at(&listening.redirect)?);
        config.server.admin_listen = admin.map(|address| address.to_string());
        if let Some(tls) = &mut config.server.tls {
            tls.redirect_http = redirect.map(|address| address.to_string());
        }
        let rls_at = at(&rls)?;
        config.server.rls_listen = rls_at.map(|address| address.to_string());
        let mut bound = [Some(address), admin, redirect, rls_at].into_iter().flatten();
        if bound.any(|address| address.ip().is_unspecified()) {
            config.server.own_addresses = addresses::outgoing();
        }
        let settings = Settings::compile(config)?;
        let config = &settings.config;
        // First what subscriptions still need, then what may go: the sweep begins with the retention.
        for (topic, sequence) in subscriptions::low_water(&store, config.subscriptions()).await? {
            store.set_low_water(&topic, sequence);
        }
        let (default, named) = tollgate_rules::upkeep::retention(config);
        store.set_retention(default, named);
        let buckets = Arc::new(GatewayBuckets::new(
            config.clients.max_buckets as usize,
            shared_over(config, &store)?,
        ));
        buckets.share(shared_limits(config));
        let engines = Engines {
            store: store.clone(),
            buckets: Arc::clone(&buckets),
            settling: Settling::default(),
            counted: Counted::new(config),
            refused: Arc::default(),
            ranking: Arc::new(Ranking::new(now())),
            outbound: Arc::default(),
        };
        let ranking = Arc::clone(&engines.ranking);
        ranking.resume(&store, now()).await?;
        let counted = engines.counted.clone();
        let events = Events::new(config.events.topic.clone(), store.clone());
        let scheme = match &listening.tls {
            Some(_) => "https",
            None => "http",
        };
        let is_admin_tls = listening.admin_tls.is_some();
        let both = listening.tls.iter().chain(&listening.admin_tls).cloned();
        let mut following = tokio::task::JoinSet::new();
        both.for_each(|tls| drop(following.spawn(tls.follow())));
        let traces = Traces::start(&config.traces)?;
        let access_log = AccessLog::start(&config.access_log, None)?;
        let first = Generation::first(settings.clone(), access_log, self.in_force.countries.clone());
        let first = first.with_run_time(&run_time::record(&store).await?);
        let current =
            Current::new(first.map_err(|why| anyhow!("what is set over the API cannot be read: {why}"))?);
        let reloads = Arc::<Reloads>::default();
        let (tls, admin_tls) = (listening.tls.clone(), listening.admin_tls.clone());
        #[cfg(feature = "acme")]
        let ordered = tls.clone();
        let server = Server::start(
            listening,
            current.clone(),
            Arc::clone(&reloads),
            engines,
            Arc::clone(&events),
            self.library,
            traces.clone(),
        );
        let server = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            server = server => server?,
        };
        let kept = store.clone();
        let low_water = Box::new(move |topic: &str, sequence| kept.set_low_water(topic, sequence));
        let options = Options {
            subscriptions: of_file(config),
            public_url: settings.public_url.clone(),
            idle_timeout: config.relay.idle_timeout.into(),
            intervals: Intervals::default(),
            observer: traces
                .clone()
                .map(|traces| Arc::new(Deliveries(traces)) as Arc<dyn Observer>),
            shared: is_shared(&store),
        };
        let relay = Relay::start(Arc::new(store.clone()), options, low_water)?;
        relay.listens_on(address);
        server.watch(relay.statuses());
        let rls = rls
            .map(|socket| rls::Service::start(socket, server.shared()))
            .transpose()?;
        server.try_by(relay.trials());
        let looked_at = events::Sources {
            subscriptions: relay.statuses(),
            counted: counted.clone(),
        };
        let sources = alerts::Sources {
            counted,
            subscriptions: relay.statuses(),
            events: Arc::clone(&events),
            current: current.clone(),
        };
        // Before the key is shown, which is done once: this may fail.
        let mut alerts = Alerts::new(store.clone(), relay.messenger(), sources);
        alerts.replace(alerts.prepare(&settings)?).await;
        let reached = Reached {
            store: store.clone(),
            of_file: relay.of_file(),
            buckets,
            alerts,
            tls,
            admin_tls,
        };
        let key_file = self.sources.admin_key_file.clone();
        let given = self.in_force.admin_key.as_deref();
        let key = admin_key::install(&store, given, key_file.as_deref()).await;
        let ended = match key {
            Ok(_) => {
                if let Some(address) = admin {
                    tracing::info!(%address, tls = is_admin_tls, "operators are served here");
                }
                if let Some(address) = redirect {
                    tracing::info!(%address, "plain HTTP is redirected here");
                }
                if let Some(address) = rls_at {
                    tracing::info!(%address, "the rate limit service is here");
                }
                ready(scheme, address, self.began);
                summary::show(
                    (scheme, address),
                    admin.map(|at| (if is_admin_tls { "https" } else { "http" }, at)),
                    &settings,
                    &self.in_force.source,
                );
                let switch = server.switch();
                let reloader = Reloader::new(self.sources, &self.in_force, switch, reached, reloads);
                let fetching = tokio::spawn(key_set::run(server.switch(), server.wanted_keys()));
                let reloading = tokio::spawn(reloader.run(self.hangup));
                let checking = tokio::spawn(proxy::health::run(current.clone()));
                let upkeep = Arc::new(Upkeep::new(store.clone(), current));
                let own = Arc::clone(&upkeep);
                let keeping = tokio::spawn(async move { own.run().await });
                let setting = tokio::spawn(server.set_at_run_time(store.clone()));
                let counting = tokio::spawn(Arc::clone(&ranking).run(store.clone()));
                let watching = tokio::spawn(Arc::clone(&events).run(looked_at));
                #[cfg(feature = "acme")]
                ordered
                    .into_iter()
                    .for_each(|tls| drop(following.spawn(crate::tls::acme::run(tls))));
                let stop = async {
                    stop.await;
                    notify::stopping();
                };
                let ran = server.run(stop).await;
                reloading.abort();
                checking.abort();
                fetching.abort();
                keeping.abort();
                setting.abort();
                watching.abort();
                counting.abort();
                // Over, so that nothing is appended twice.
                let _ = watching.await;
                let _ = keeping.await;
                upkeep.end().await;
                events.write().await;
                ranking.keep(&store, now()).await;
                ran
            }
            Err(error) => Err(error),
        };
        if let Some(rls) = rls {
            tokio::task::spawn_blocking(|| rls.stop()).await?;
        }
        tracing::info!("finishing deliveries and closing the store");
        relay.shutdown(DRAIN).await;
        if let Some(traces) = traces {
            tokio::task::spawn_blocking(move || traces.finish()).await?;
        }
        ended
    }
}

/// Whether other gateways may share the store; the engines of one node are nobody else's.
pub(crate) fn is_shared(store: &AnyEngine) -> bool {
    matches!(store, AnyEngine::Postgres(_))
}

/// The subscriptions of the file, each with its topic.
pub(crate) fn of_file(config: &Config) -> Vec<(String, Subscription)> {
    let all = config.subscriptions();
    all.map(|(topic, one)| (topic.to_owned(), one.clone())).collect()
}

/// The one line on stdout, which tells scripts and tests that requests are answered. Nobody need read it.
fn ready(scheme: &str, address: SocketAddr, began: Instant) {
    // A thread of its own: the reader of stdout may not read, and requests do not wait for that.
    let line = format!("listening on {scheme}://{address}\n");
    let written = std::thread::Builder::new().name("ready".into()).spawn(move || {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
    });
    if let Err(error) = written {
        tracing::warn!(%error, "the line on stdout could not be written");
    }
    tracing::info!(%address, start_ms = began.elapsed().as_millis() as u64, "ready");
    notify::ready();
}
