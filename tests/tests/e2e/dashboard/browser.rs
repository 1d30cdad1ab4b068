//! Chromium at work, driven by the scripts of `tests/dashboard`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::{ADMIN_KEY, Gateway, Host, Origin};

/// The scripts: a person at work, and pages of other origins.
pub const WALKS: [&str; 2] = ["walk.mjs", "cors.mjs"];
/// Set where a browser must be there: without one the case fails, instead of being left out.
const WANTED: &str = "TOLLGATE_BROWSER";
/// Limits, a room and an origin that the walk has something to show of.
const SETTINGS: &str = r#"
[[limits]]
name = "claims-of-an-address"
path = "/api/campaigns/:id/claims"
methods = ["POST"]
per = ["ip"]
capacity = 50
refill = 1
shadow = true

[[quotas]]
name = "trials-of-a-day"
path = "/tried"
per = ["ip"]
limit = 2
window = "day"
timezone = "Europe/Berlin"

[[concurrency]]
name = "reports"
path = "/reports/..."
max = 4

[[rooms]]
name = "tickets"
path = "/tickets"
admit_per_second = 0.5

[[proxy]]
path = "/shop/..."
origin = "shop"
"#;

fn program(names: &[&str]) -> Option<PathBuf> {
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let places = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}

pub async fn a_person_works_with_it_in_a_browser(host: Host) {
    let (origin, nobody) = (Origin::start().await, Origin::start().await);
    nobody.down().await;
    let urls = [origin.url(""), nobody.url("")];
    let shop = "cache = \"by response headers\"\nhealth = { path = \"/health\", every = \"1s\", timeout = \"500ms\", fall = 1 }\nbreaker = { failures = 1 }\n";
    let origins = format!("{SETTINGS}\n[[origins]]\nname = \"shop\"\nurls = {urls:?}\n{shop}");
    let gateway = Gateway::start(host, &origins).await;
    browser(&gateway, WALKS[0], &[]).await;
}

/// Runs a script on a gateway, if there is a browser. `more`: what else it is told by its environment.
pub async fn browser(gateway: &Gateway, script: &str, more: &[(&str, &str)]) {
    let walk = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
    let chromium = program(&["chromium", "chromium-browser", "google-chrome"]);
    let has_libraries = walk.join("node_modules/playwright-core").is_dir();
    let (Some(chromium), Some(node), true) = (chromium, program(&["node"]), has_libraries) else {
        let why = "This is not tried in a browser: it takes chromium, node, and `npm ci` in tests/dashboard.";
        assert!(env::var_os(WANTED).is_none(), "{why}");
        eprintln!("{why}");
        return;
    };
    let mut command = Command::new(node);
    command
        .arg(walk.join(script))
        .env("BASE", format!("http://{}", gateway.address()))
        .env("KEY", ADMIN_KEY)
        .env("CHROMIUM", chromium)
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = command.output().await.expect("node starts");
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ended.status.success(), "{}", said.concat());
}
