//! What `spin build` says of the application where a target is named: whether a platform offers what the components import.
//!
//! The interfaces come from crates that the build needs anyway; the world is our own, and narrower than Spin's: of the databases the
//! store's alone.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Host, install, root, spin_program};

/// The stores, where their application is composed, and what each imports.
const STORES: [(&str, &str); 3] = [
    ("build/spin", "spin:sqlite/sqlite@3.1.0"),
    ("build/spin-postgres", "spin:postgres/postgres@4.2.0"),
    ("build/spin-redis", "spin:redis/redis@3.0.0"),
];

pub async fn the_application_passes_a_check_of_its_target(_: Host) {
    tokio::task::spawn_blocking(|| {
        for (composed, database) in STORES {
            let ended = check(composed, database);
            assert!(ended.status.success(), "{composed}: {}", said(&ended));
        }
        // A platform without SQLite.
        let (composed, other) = (STORES[0].0, STORES[1].1);
        let ended = check(composed, other);
        let refusal = said(&ended);
        assert!(
            !ended.status.success() && refusal.contains(STORES[0].1),
            "{refusal}"
        );
    })
    .await
    .expect("it does not panic");
}

/// Lets Spin check the components of a directory against a platform with this database.
fn check(composed: &str, database: &str) -> Output {
    let directory = tempfile::tempdir().expect("the system gives a directory");
    let directory = directory.path();
    install(directory, composed);
    target(directory, database);
    let manifest = directory.join("spin.toml");
    let text = fs::read_to_string(&manifest).expect("it was installed");
    const VERSION: &str = "version = \"0.1.0\"\n";
    assert!(text.contains(VERSION), "{text}");
    let named = format!("{VERSION}targets = [{{ path = \"target.toml\" }}]\n");
    let text = text.replacen(VERSION, &named, 1);
    // They are built already.
    let text = text.replace("cargo xtask compose", "true");
    fs::write(&manifest, text).expect("the directory is ours");
    let mut build = Command::new(spin_program());
    build.arg("build").arg("--from").arg(&manifest);
    let build = build.current_dir(directory).env("XDG_CACHE_HOME", directory);
    build.output().expect("it was found")
}

fn said(ended: &Output) -> String {
    [&ended.stdout, &ended.stderr]
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .concat()
}

/// Writes a platform: the worlds of WASI 0.2 and 0.3, and of Spin's interfaces key-value stores, variables and a database.
fn target(directory: &Path, database: &str) {
    let [wasi, spin] = sources(["wasmtime-wasi-http", "spin-sdk"]);
    let deps = directory.join("wit/deps");
    fs::create_dir_all(&deps).expect("the directory is ours");
    let mut before = String::new();
    for (version, from) in [("2", "wit/deps"), ("3", "src/p3/wit/deps")] {
        for file in files(&wasi.join(from)) {
            let text = fs::read_to_string(&file).expect("it was listed");
            if let Some(version) = text.split_once("package wasi:cli@0.2").map(|(_, rest)| rest) {
                before = version.split(';').next().unwrap_or_default().to_owned();
            }
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            fs::write(deps.join(format!("{version}-{name}")), text).expect("the directory is ours");
        }
    }
    for package in files(&spin.join("wit/deps")) {
        let name = package.file_name().unwrap_or_default().to_owned();
        if !name.to_string_lossy().starts_with("spin-") {
            continue;
        }
        let to = deps.join(&name);
        fs::create_dir_all(&to).expect("the directory is ours");
        for file in files(&package) {
            fs::copy(&file, to.join(file.file_name().unwrap_or_default())).expect("the directory is ours");
        }
    }
    let world = format!(
        "package tollgate:target@0.1.0;\nworld platform {{\n  include wasi:cli/imports@0.2{before};\n  include wasi:cli/imports@0.3.0;\n  \
         import wasi:http/client@0.3.0;\n  import spin:key-value/key-value@3.0.0;\n  import spin:variables/variables@3.0.0;\n  \
         import {database};\n  export wasi:http/handler@0.3.0;\n}}\n"
    );
    fs::write(directory.join("wit/world.wit"), world).expect("the directory is ours");
    let offers = "[triggers]\nhttp = { worlds = [{ path = \"wit\", world = \"tollgate:target/platform@0.1.0\" }], capabilities = [\"local_service_chaining\"] }\n";
    fs::write(directory.join("target.toml"), offers).expect("the directory is ours");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Where cargo keeps the newest of these packages that the workspace is built with.
fn sources<const N: usize>(names: [&str; N]) -> [PathBuf; N] {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked"]);
    let output = command.current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", said(&output));
    let all: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = all["packages"].as_array().expect("there are packages");
    names.map(|name| {
        let of_it = packages.iter().filter(|package| package["name"] == name);
        let newest = of_it.max_by_key(|package| package["version"].as_str());
        let manifest = newest.and_then(|package| package["manifest_path"].as_str());
        let manifest = manifest.unwrap_or_else(|| panic!("nothing is built with {name}"));
        Path::new(manifest).parent().expect("it is in a directory").into()
    })
}
