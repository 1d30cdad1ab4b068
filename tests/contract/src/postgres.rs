//! A Postgres of the test's own, from Debian's binaries: in a temporary directory, over a Unix socket, as a user that is not
//! root, synced as it comes. It ends with the test process, however that ends.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Starts the server, obeys lines, and ends it when nobody writes any more.
const KEEPER: &str = r#"
start() { "$BIN/postgres" -D "$DIR/data" -k "$DIR" -c listen_addresses= -c port="$PGPORT" -c max_connections=400 $EXTRA >>"$DIR/log" 2>&1 & pid=$!; }
umask 077
if [ -n "$PRIMARY" ]; then
  "$BIN/pg_basebackup" -D "$DIR/data" -h "$PRIMARY" -p "$PGPORT" -U postgres -R -X stream -c fast --no-sync >"$DIR/log" 2>&1 || exit 1
else
  "$BIN/initdb" -D "$DIR/data" -A trust -U postgres -E UTF8 --locale=C --no-sync >"$DIR/log" 2>&1 || exit 1
fi
start
while read -r order; do
  case $order in
    crash) kill -QUIT $pid; wait $pid; start;;
    stop) kill -QUIT $pid; wait $pid; touch "$DIR/stopped";;
    start) rm -f "$DIR/stopped"; start;;
  esac
done
kill -QUIT $pid 2>/dev/null; wait $pid; rm -rf "$DIR"
"#;

/// Longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// `nobody`, for tests that root runs: Postgres refuses to be root.
const NOBODY: u32 = 65_534;

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    directory: PathBuf,
    port: u16,
    keeper: Mutex<(Child, Option<ChildStdin>)>,
}

/// The newest of Debian's binaries, if there are any.
pub fn binaries() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists() && bin.join("psql").exists())
        .collect();
    found.sort();
    found.pop()
}

impl Postgres {
    /// Starts one with further options (`-c name=value`); `None`, and says so, where there are no binaries.
    pub fn start(extra: &str) -> Option<Self> {
        Self::start_at(5432, extra, None)
    }

    /// A standby of this one, which follows it: as a copy that is asynchronous, unless the primary's `synchronous_standby_names` says
    /// otherwise. Its socket is elsewhere.
    pub fn standby(&self) -> Self {
        let standby = Self::start_at(self.port, "", Some(&self.directory));
        standby.expect("there are binaries, since there is a primary")
    }

    /// The URL of a schema of whichever of the two takes commits.
    pub fn url_with(&self, standby: &Self, schema: &str) -> String {
        let [one, other] = [self, standby].map(|server| server.directory.display());
        format!("postgres:///postgres?user=postgres&host={one}&host={other}&options=-csearch_path%3D{schema}")
    }

    /// The same on a TCP port of the loopback, for clients that know no sockets of Unix.
    pub fn start_on(port: u16) -> Option<Self> {
        Self::start_on_with(port, "")
    }

    /// The same, with further options.
    pub fn start_on_with(port: u16, extra: &str) -> Option<Self> {
        Self::start_at(port, &format!("-c listen_addresses=127.0.0.1 {extra}"), None)
    }

    fn start_at(port: u16, extra: &str, primary: Option<&Path>) -> Option<Self> {
        let Some(bin) = binaries() else {
            eprintln!("skipped: there is no Postgres in /usr/lib/postgresql/*/bin");
            return None;
        };
        let directory =
            std::env::temp_dir().join(format!("tollgate-pg-{}-{:x}", std::process::id(), unique()));
        std::fs::create_dir(&directory).unwrap();
        let mut keeper = Command::new("sh");
        keeper.arg("-c").arg(KEEPER).current_dir(&directory);
        keeper
            .env("BIN", &bin)
            .env("DIR", &directory)
            .env("EXTRA", extra)
            .env("PRIMARY", primary.unwrap_or(Path::new("")))
            .env("PGPORT", port.to_string())
            .stdin(Stdio::piped());
        if is_root() {
            std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
            keeper.uid(NOBODY).gid(NOBODY);
        }
        // A group of its own: what ends the test by a signal to its group does not end the keeper before it has tidied up.
        let mut child = keeper.process_group(0).spawn().unwrap();
        let orders = child.stdin.take();
        let server = Self {
            bin,
            directory,
            port,
            keeper: Mutex::new((child, orders)),
        };
        server.wait();
        Some(server)
    }

    /// Waits until it answers.
    pub fn wait(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.try_sql("SELECT 1") {
            let log = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "Postgres did not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_sql(&self, sql: &str) -> bool {
        self.psql(sql)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// What SQL gives: a line for each row, `|` between its columns. Nothing while the server does not answer.
    pub fn ask(&self, sql: &str) -> String {
        let answered = self.psql(sql).arg("-tA").output().unwrap();
        String::from_utf8(answered.stdout).unwrap()
    }

    fn psql(&self, sql: &str) -> Command {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
        ]);
        psql.arg(&self.directory)
            .args(["-p", &self.port.to_string(), "-c", sql]);
        psql
    }

    /// Runs SQL.
    pub fn sql(&self, sql: &str) {
        assert!(self.try_sql(sql), "{sql}");
    }

    /// The URL of a schema of its own, with nothing in it.
    pub fn fresh(&self) -> String {
        let name = format!("case_{:x}", unique());
        self.sql(&format!("CREATE SCHEMA {name}"));
        self.url(&name)
    }

    /// The URL of a schema.
    pub fn url(&self, schema: &str) -> String {
        let directory = self.directory.display();
        format!("postgres:///postgres?user=postgres&host={directory}&options=-csearch_path%3D{schema}")
    }

    /// The same over TCP; see [`Postgres::start_on`].
    pub fn tcp_url(&self, schema: &str) -> String {
        let port = self.port;
        format!("postgres://postgres@127.0.0.1:{port}/postgres?options=-csearch_path%3D{schema}")
    }

    /// A schema of its own, with nothing in it, over TCP.
    pub fn fresh_tcp(&self) -> String {
        let url = self.fresh();
        let schema = url.rsplit("%3D").next().unwrap_or_default();
        self.tcp_url(schema)
    }

    /// Where its socket is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `crash`: stops it at once and starts it again; `stop`, `start`. Does not wait.
    pub fn order(&self, order: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.1.as_mut().unwrap(), "{order}").unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap();
        // The end of its input: it ends the server and removes the directory.
        drop(keeper.1.take());
        _ = keeper.0.wait();
    }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

fn unique() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::thread::current().id())
}
