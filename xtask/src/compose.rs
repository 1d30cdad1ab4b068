//! What Spin needs: every component plugged with the SQLite store, and routes in `spin.toml` for the `[[forward]]`
//! routes of `tollgate.toml`.

use crate::build::{COMPONENTS, SPIN_STORE, components, root, say, write_if_changed};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use tollgate_core::config::Config;
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};

/// The lines of `spin.toml` between which routes are written.
const BEGIN: &str = "# <forward routes of tollgate.toml, written by `cargo xtask compose`>";
const END: &str = "# </forward routes>";

/// Composes into `build/spin` and brings `spin.toml` up to date.
pub fn run() -> Result<()> {
    let built = components()?;
    let composed = root().join("build/spin");
    fs::create_dir_all(&composed)?;
    for name in COMPONENTS {
        let bytes = plug(&built, name).with_context(|| format!("composing {name} with {SPIN_STORE}"))?;
        write_if_changed(&composed.join(format!("{name}.wasm")), &bytes)?;
    }
    routes(&root().join("spin.toml"), &root().join("tollgate.toml"))?;
    say("build/spin and spin.toml are up to date: `spin up` runs them");
    Ok(())
}

/// The component `name` whose ports `store` and `buckets` are answered by the SQLite store.
fn plug(directory: &Path, name: &str) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let package = |graph: &mut CompositionGraph, name: &str| -> Result<_> {
        let path = directory.join(format!("{name}.wasm"));
        let package = Package::from_file(&format!("tollgate:{name}"), None, path, graph.types_mut())?;
        Ok(graph.register_package(package)?)
    };
    let store = package(&mut graph, SPIN_STORE)?;
    let socket = package(&mut graph, name)?;
    wac_graph::plug(&mut graph, vec![store], socket)?;
    Ok(graph.encode(EncodeOptions::default())?)
}

/// Writes one Spin trigger per `[[forward]]` route.
fn routes(spin: &Path, config: &Path) -> Result<()> {
    let text = fs::read_to_string(config).with_context(|| format!("cannot read {}", config.display()))?;
    let config = Config::parse(&text, "tollgate.toml")?;
    let manifest = fs::read_to_string(spin).with_context(|| format!("cannot read {}", spin.display()))?;
    let (before, rest) = manifest
        .split_once(BEGIN)
        .context("spin.toml lacks the line that begins the forward routes")?;
    let (_, after) = rest
        .split_once(END)
        .context("spin.toml lacks the line that ends the forward routes")?;
    let mut triggers = String::new();
    for forward in &config.forward {
        triggers.push_str(&format!(
            "[[trigger.http]]\nroute = \"{}\"\ncomponent = \"forward\"\ndependencies.middleware = [{{ component = \"limiter\", inherit_configuration = true }}]\n\n",
            forward.path
        ));
    }
    write_if_changed(
        spin,
        format!("{before}{BEGIN}\n{triggers}{END}{after}").as_bytes(),
    )
}
