//! Sessions of other people's libraries in node, which CI installs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::{ADMIN_KEY, Gateway};

fn node() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).map(|folder| folder.join("node"));
    places.into_iter().find(|place| place.is_file())
}

/// Runs the session that `tests/<name>` has with `package`. `wanted`: set where that must be there; without it the case says that it is
/// left out.
pub async fn session(gateway: &Gateway, name: &str, package: &str, wanted: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let has_client = folder.join("node_modules").join(package).is_dir();
    let (Some(node), true) = (node(), has_client) else {
        let why = format!("The client of {name} is not tried: it takes node, and `npm ci` in tests/{name}.");
        assert!(env::var_os(wanted).is_none(), "{why}");
        eprintln!("{why}");
        return;
    };
    let mut command = Command::new(node);
    command
        .arg(folder.join("session.mjs"))
        .env("BASE", format!("http://{}", gateway.address()))
        .env("KEY", ADMIN_KEY)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = command.output().await.expect("node starts");
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ended.status.success(), "{}", said.concat());
    assert!(said[0].contains("the session is over"), "{}", said.concat());
}
