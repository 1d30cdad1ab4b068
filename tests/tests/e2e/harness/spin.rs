//! The same components under `spin up`.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use tollgate_contract::postgres::Postgres;
use tollgate_contract::redis::{Redis, SYNCED};

use super::Host;
use super::native::root;
use super::process::Program;

/// Ports below those that the system gives out by itself: no connection of another case takes one meanwhile.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;

/// What opens the tick to schedulers that send nothing but a URL.
pub const TICK_SECRET: &str = "the-secret-of-the-scheduler";

/// A runtime configuration that a case has written into the directory of its gateway.
pub const RUNTIME_CONFIG: &str = "runtime-config.toml";

/// The `spin` program, if there is one.
static SPIN: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let found = match env::var_os("SPIN") {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .map(|directory| directory.join("spin"))
            .find(|path| path.is_file()),
    };
    if found.is_none() {
        eprintln!("no `spin` in PATH (or SPIN): its cases are skipped");
    }
    found
});

pub fn is_present() -> bool {
    SPIN.is_some()
}

/// Where it is.
pub fn program() -> &'static Path {
    SPIN.as_deref().expect("cases for Spin run only where it is")
}

/// Starts `spin up` on a copy of the application in `directory`, with `<directory>/tollgate.toml` as its settings.
/// Gives the program and where it listens. Several may be started on one directory.
///
/// `database`: the URL of the Postgres, or of the Redis, that it keeps its state in.
pub fn start(directory: &Path, admin_key: Option<&str>, database: Option<&str>) -> (Program, String) {
    let scheme = database.and_then(|url| url.split_once("://"));
    let composed = match scheme {
        None => "build/spin",
        Some(("redis", _)) => "build/spin-redis",
        Some(_) => "build/spin-postgres",
    };
    install(directory, composed);
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(program());
    command
        .arg("up")
        .arg("--from")
        .arg(directory.join("spin.toml"))
        .args(["--listen", &address])
        .arg("--state-dir")
        .arg(directory.join("data"))
        .current_dir(directory)
        .env("SPIN_VARIABLE_TOLLGATE_ORIGIN", "http://127.0.0.1:*")
        .env("SPIN_VARIABLE_TOLLGATE_TICK_SECRET", TICK_SECRET)
        .env_remove("SPIN_VARIABLE_TOLLGATE_ADMIN_KEY");
    let runtime_config = directory.join(RUNTIME_CONFIG);
    if runtime_config.is_file() {
        command.arg("--runtime-config-file").arg(runtime_config);
    }
    if let (Some(url), Some((scheme, rest))) = (database, scheme) {
        let place = rest.rsplit('@').next().and_then(|rest| rest.split('/').next());
        let place = place.expect("the URL has a path");
        let variable = format!("SPIN_VARIABLE_TOLLGATE_{}", scheme.to_uppercase());
        command
            .env(&variable, url)
            .env(format!("{variable}_HOST"), format!("{scheme}://{place}"));
    }
    if let Some(key) = admin_key {
        command.env("SPIN_VARIABLE_TOLLGATE_ADMIN_KEY", key);
    }
    (Program::start(command, directory), format!("http://{address}"))
}

/// A Postgres for all cases, if there are binaries of one.
pub fn postgres() -> Option<&'static Postgres> {
    static SERVER: LazyLock<Option<Postgres>> = LazyLock::new(|| Postgres::start_on(free_port()));
    SERVER.as_ref()
}

/// The same of a Redis.
pub fn redis() -> Option<&'static Redis> {
    static SERVER: LazyLock<Option<Redis>> = LazyLock::new(|| Redis::start_on(free_port(), SYNCED));
    SERVER.as_ref()
}

/// Where an application keeps its state: chosen when it is first asked for.
pub fn database(host: Host, directory: &Path) -> String {
    const PRESENT: &str = "cases for it run only where it is";
    let file = directory.join("store-url");
    fs::read_to_string(&file).unwrap_or_else(|_| {
        let url = match host {
            Host::SpinRedis => {
                let server = redis().expect(PRESENT);
                server.url(server.fresh())
            }
            _ => postgres().expect(PRESENT).fresh_tcp(),
        };
        fs::write(&file, &url).expect("the directory is ours");
        url
    })
}

/// `spin.toml` and the components, as `cargo xtask compose` left them.
pub fn install(directory: &Path, composed: &str) {
    let (root, built) = (root(), directory.join("build/spin"));
    if built.exists() {
        return; // a restart
    }
    fs::create_dir_all(&built).expect("the directory is ours");
    fs::copy(root.join("spin.toml"), directory.join("spin.toml")).expect("the workspace has a spin.toml");
    let composed = fs::read_dir(root.join(composed));
    let composed =
        composed.expect("build/spin is made by `cargo xtask compose`: run it, or `cargo xtask test`");
    for file in composed.flatten() {
        fs::copy(file.path(), built.join(file.file_name())).expect("the directory is ours");
    }
}

/// One more route of `[[forward]]` in an installed application, as a build makes it. The gateway must not run.
pub fn add_route(directory: &Path, path: &str) {
    const END: &str = "# </routes>";
    let file = directory.join("spin.toml");
    let manifest = fs::read_to_string(&file).expect("it is ours");
    let trigger = format!("[[trigger.http]]\nroute = \"{path}\"\ncomponent = \"forward\"\n\n{END}");
    fs::write(&file, manifest.replace(END, &trigger)).expect("it is ours");
    let file = directory.join("build/spin/forward-routes");
    let built = fs::read_to_string(&file).expect("it is ours");
    fs::write(&file, format!("{built}{path}\n")).expect("it is ours");
}

/// The line that says that requests are answered.
pub fn is_ready(line: &str) -> Option<()> {
    (line.starts_with("Serving http://") || line.starts_with("Available Routes")).then_some(())
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap_or(0);
    loop {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", FIRST_PORT + offset)).is_ok() {
            return FIRST_PORT + offset;
        }
    }
}
