//! Builds Spin's application: every component plugged with a store, and `spin.toml` with the routes of the gateway and of
//! `tollgate.toml`.

use crate::build::{COMPONENTS, SPIN_STORES, components, components_dir, root, say, write_if_changed};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use tollgate_api::calls::{built_forwards, spin_routes};
use tollgate_rules::config::Config;
use tollgate_rules::settings::Settings;
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};

/// The lines of `spin.toml` between which routes are written.
const BEGIN: &str = "# <routes, written by `cargo xtask compose`>\n";
const END: &str = "# </routes>";
/// What tells the components which routes `spin.toml` has.
const FORWARDS: &str = "forward-routes";

/// What every platform of Spin applications offers, by the beginnings of the interfaces' names.
const OFFERED: &[&str] = &[
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/client@0.3.0",
    "wasi:http/types@0.3.0",
    "wasi:io/",
    "wasi:random/",
    "spin:key-value/key-value@3.0.0",
    "spin:variables/variables@3.0.0",
];
/// Spin's databases, by the store that needs them.
const DATABASES: &[(&str, &str)] = &[
    ("store-sqlite", "spin:sqlite/sqlite@3.1.0"),
    ("store-postgres", "spin:postgres/postgres@4.2.0"),
    ("store-redis", "spin:redis/redis@3.0.0"),
];

/// Where the application keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// Spin's own SQLite, for one `spin up` (or several on one directory).
    Sqlite,
    /// A Postgres, shared with other `spin up` and with gateways of a fleet.
    Postgres,
    /// A Redis, shared with other `spin up`.
    Redis,
}

impl Store {
    fn component(self) -> &'static str {
        SPIN_STORES[self as usize]
    }
}

/// Composes into `build/spin` and brings `spin.toml` up to date.
///
/// # Errors
/// A sentence that names line and key where `tollgate.toml` is not valid, before anything is built.
pub fn run(store: Store) -> Result<()> {
    let file = root().join("tollgate.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let config = Settings::parse(&text, "tollgate.toml")?.config;
    let unused = without_effect(&config);
    if !unused.is_empty() {
        say(&format!(
            "under Spin these settings of tollgate.toml have no effect: {}",
            unused.join(", ")
        ));
    }
    let built = components()?;
    let composed = root().join("build/spin");
    compose(&built, store, &composed, &config)?;
    let manifest = root().join("spin.toml");
    let text =
        fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    write_if_changed(&manifest, with_routes(&text, &config)?.as_bytes())?;
    say("build/spin and spin.toml are up to date: `spin up` runs them");
    Ok(())
}

/// Composes the built components with a further store into `build/spin-<store>`, beside what people run.
pub fn for_tests(store: Store) -> Result<()> {
    let text = fs::read_to_string(root().join("tollgate.toml"))?;
    let config = Settings::parse(&text, "tollgate.toml")?.config;
    let name = store.component().trim_start_matches("store-");
    let composed = root().join(format!("build/spin-{name}"));
    compose(&components_dir(), store, &composed, &config)
}

fn compose(built: &Path, store: Store, to: &Path, config: &Config) -> Result<()> {
    fs::create_dir_all(to)?;
    for name in COMPONENTS {
        let store = store.component();
        let bytes = plug(built, store, name).with_context(|| format!("composing {name} with {store}"))?;
        let foreign = foreign(&bytes, store)?;
        if !foreign.is_empty() {
            bail!(
                "{name}, composed with {store}, imports what Spin does not offer: {}",
                foreign.join(", ")
            );
        }
        write_if_changed(&to.join(format!("{name}.wasm")), &bytes)?;
    }
    let forwards = built_forwards(config.forward_paths());
    write_if_changed(&to.join(FORWARDS), forwards.as_bytes())
}

/// The component `name` whose ports are answered by the store.
fn plug(directory: &Path, store: &str, name: &str) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let package = |graph: &mut CompositionGraph, name: &str| -> Result<_> {
        let path = directory.join(format!("{name}.wasm"));
        let package = Package::from_file(&format!("tollgate:{name}"), None, path, graph.types_mut())?;
        Ok(graph.register_package(package)?)
    };
    let store = package(&mut graph, store)?;
    let socket = package(&mut graph, name)?;
    wac_graph::plug(&mut graph, vec![store], socket)?;
    Ok(graph.encode(EncodeOptions::default())?)
}

/// What a composed component imports besides what it is to get by with: Spin's world `spin:up/http-trigger@4.1.0`, of whose databases the
/// store's own alone. So a platform that has no SQLite takes the components of another store.
fn foreign(composed: &[u8], store: &str) -> Result<Vec<String>> {
    let mut graph = CompositionGraph::new();
    let package = Package::from_bytes("tollgate:composed", None, composed.to_vec(), graph.types_mut())?;
    let imports = graph.types()[package.ty()].imports.keys();
    let databases = DATABASES
        .iter()
        .filter(|(of, _)| *of == store)
        .map(|(_, interface)| interface);
    let offered: Vec<&str> = OFFERED.iter().chain(databases).copied().collect();
    let is_offered = |import: &&String| offered.iter().any(|offered| import.starts_with(offered));
    Ok(imports.filter(|import| !is_offered(import)).cloned().collect())
}

/// The manifest with one trigger per route of the configuration.
fn with_routes(manifest: &str, config: &Config) -> Result<String> {
    let (before, rest) = manifest
        .split_once(BEGIN)
        .context("spin.toml lacks the line that begins the routes")?;
    let (_, after) = rest
        .split_once(END)
        .context("spin.toml lacks the line that ends the routes")?;
    let trigger = |(route, component): (String, tollgate_api::components::Component)| {
        let name = component.name();
        format!("[[trigger.http]]\nroute = \"{route}\"\ncomponent = \"{name}\"\n\n")
    };
    let triggers: String = spin_routes(config.forward_paths())
        .into_iter()
        .map(trigger)
        .collect();
    Ok(format!("{before}{BEGIN}{triggers}{END}{after}"))
}

/// The settings that say something other than the defaults, and that only our own host heeds: Spin listens by itself and has a
/// database of its own.
fn without_effect(config: &Config) -> Vec<&'static str> {
    let default = Config::default();
    let (server, usual) = (&config.server, &default.server);
    let differ = [
        ("server.listen", server.listen != usual.listen),
        (
            "server.max_connections",
            server.max_connections != usual.max_connections,
        ),
        (
            "server.max_connections_per_address",
            server.max_connections_per_address != usual.max_connections_per_address,
        ),
        (
            "server.request_timeout",
            server.request_timeout != usual.request_timeout,
        ),
        ("server.rls_listen", server.rls_listen.is_some()),
        ("concurrency", !config.concurrency.is_empty()),
        ("server.workers", server.workers != usual.workers),
        ("components", !config.components.is_empty()),
        (
            "clients.max_buckets",
            config.clients.max_buckets != default.clients.max_buckets,
        ),
        ("clients.country_file", config.clients.country_file.is_some()),
        ("[store]", config.store != default.store),
    ];
    let differing = differ.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Config {
        let text = fs::read_to_string(root().join("tollgate.toml")).unwrap();
        Settings::parse(&text, "tollgate.toml").unwrap().config
    }

    #[test]
    fn the_manifest_has_the_routes_of_the_gateway() {
        let manifest = fs::read_to_string(root().join("spin.toml")).unwrap();
        assert_eq!(
            with_routes(&manifest, &sample()).unwrap(),
            manifest,
            "run `cargo xtask compose`"
        );
    }

    #[test]
    fn every_store_has_its_database() {
        for store in SPIN_STORES {
            assert!(DATABASES.iter().any(|(of, _)| of == store), "{store}");
        }
    }

    #[test]
    fn settings_without_effect_under_spin_are_named() {
        assert!(without_effect(&Config::default()).is_empty());
        let text = "[server]\nlisten = \"0.0.0.0:80\"\nmax_body = \"1KiB\"\nworkers = 2\n[topics.t]\nretention = \"1d\"\n";
        let config = Settings::parse(text, "t").unwrap().config;
        assert_eq!(without_effect(&config), ["server.listen", "server.workers"]);
    }
}
