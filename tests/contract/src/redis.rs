//! A Redis of the test's own, on a port of the loopback, in a temporary directory. It ends with the test process, however that ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Starts the server, obeys lines, and ends it when nobody writes any more.
const KEEPER: &str = r#"
exec 2>/dev/null
start() { redis-server --port "$PORT" --bind 127.0.0.1 --dir "$DIR" --save "" --databases 10000 $EXTRA >>"$DIR/log" 2>&1 & pid=$!; }
umask 077
start
while read -r order; do
  case $order in
    crash) kill -KILL $pid; wait $pid; start;;
    stop) kill -KILL $pid; wait $pid; touch "$DIR/stopped";;
    start) rm -f "$DIR/stopped"; start;;
  esac
done
kill -KILL $pid 2>/dev/null; wait $pid; rm -rf "$DIR"
"#;

/// Longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// As a store needs it, to lose nothing that it acknowledged.
pub const SYNCED: &str = "--appendonly yes --appendfsync always";

/// A running server.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    next: AtomicU32,
    keeper: Mutex<(Child, Option<ChildStdin>)>,
}

/// Whether there is a server to start.
pub fn is_installed() -> bool {
    let asked = Command::new("redis-server").arg("--version").output();
    let found = asked.is_ok_and(|answered| answered.status.success());
    if !found {
        eprintln!("skipped: there is no redis-server in PATH");
    }
    found
}

impl Redis {
    /// Starts one on a port that is free, with further options; `None`, and says so, where it is not installed.
    pub fn start(extra: &str) -> Option<Self> {
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Self::start_on(port, extra)
    }

    /// The same on a given port.
    pub fn start_on(port: u16, extra: &str) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let directory = std::env::temp_dir().join(format!("tollgate-redis-{}-{port}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let mut keeper = Command::new("sh");
        keeper.arg("-c").arg(KEEPER).current_dir(&directory);
        keeper
            .env("DIR", &directory)
            .env("EXTRA", extra)
            .env("PORT", port.to_string())
            .stdin(Stdio::piped());
        // A group of its own: what ends the test by a signal to its group does not end the keeper before it has tidied up.
        let mut child = keeper.process_group(0).spawn().unwrap();
        let orders = child.stdin.take();
        let server = Self {
            port,
            next: AtomicU32::new(1),
            keeper: Mutex::new((child, orders)),
        };
        server.wait();
        Some(server)
    }

    /// Waits until it answers.
    pub fn wait(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_ask(0, &["PING"]) {
                Ok(answer) if answer == "PONG" => return,
                // It answers nobody else.
                Err(why) if why.starts_with("-NOAUTH") => return,
                _ => {}
            }
            assert!(Instant::now() < until, "Redis did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The number of a database with nothing in it.
    pub fn fresh(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The URL of a database.
    pub fn url(&self, database: u32) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }

    /// What a command in a database gives: a line, a number or a text.
    pub fn ask(&self, database: u32, command: &[&str]) -> String {
        let answered = self.try_ask(database, command);
        answered.unwrap_or_else(|why| panic!("{command:?}: {why}"))
    }

    fn try_ask(&self, database: u32, command: &[&str]) -> Result<String, String> {
        let said = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(said)?;
        let mut stream = BufReader::new(stream);
        let mut answer = String::new();
        for command in [&["SELECT", &*database.to_string()][..], command] {
            let mut request = format!("*{}\r\n", command.len());
            for word in command {
                request += &format!("${}\r\n{word}\r\n", word.len());
            }
            stream.get_mut().write_all(request.as_bytes()).map_err(said)?;
            answer = read(&mut stream)?;
        }
        Ok(answer)
    }

    /// `crash`: kills it and starts it again; `stop` (kills it), `start`. Does not wait.
    pub fn order(&self, order: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.1.as_mut().unwrap(), "{order}").unwrap();
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> Result<String, String> {
    let mut line = String::new();
    stream.read_line(&mut line).map_err(|error| error.to_string())?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("+" | ":", rest)) => Ok(rest.to_owned()),
        Some(("$", length)) => {
            let mut bytes = vec![0; length.parse::<usize>().map_err(|_| line.to_owned())? + 2];
            stream.read_exact(&mut bytes).map_err(|error| error.to_string())?;
            bytes.truncate(bytes.len() - 2);
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => Err(line.to_owned()),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap();
        // The end of its input: it ends the server and removes the directory.
        drop(keeper.1.take());
        _ = keeper.0.wait();
    }
}
