//! The way to a gateway that answers: settings, files, keys, and what may fail; and signals on the way back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{ADMIN_KEY, Gateway, Host, Serve, address, binary, built_components, eventually};

mod confined;

pub use confined::{an_idle_gateway_is_small, nobody_runs_it_where_all_else_is_read_only};

const END: Duration = Duration::from_secs(60);

fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours")
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o777
}

/// `tollgate …` in this directory, without the environment of whoever runs the tests.
fn tollgate(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(directory);
    for name in [
        "TOLLGATE_ADMIN_KEY",
        "TOLLGATE_LISTEN",
        "TOLLGATE_DATA",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    command
}

/// Whatever is accepted must be served, and what is refused must be refused by both.
pub async fn check_and_serve_agree(_: Host) {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<&'a str, &'a str>);
    let cases: &[Case<'_>] = &[
        ("[server]\nlisten = \"localhost:0\"\n", &[], Ok("localhost:0")),
        (
            "[server]\nlisten = \"no.such.name.invalid:0\"\n",
            &[],
            Err("server.listen"),
        ),
        (
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 128\n",
            &[],
            Ok("workers = 128"),
        ),
        ("[server]\nworkers = 129\n", &[], Err("server.workers")),
        (
            "[clients]\nmax_buckets = 100000000\n[store]\ncache_entries = 1073741824\ncache_bytes = 1099511627776\n\
             [server]\nmax_connections = 1000000\nmax_body = 262144\nrequest_timeout = \"600s\"\n",
            &[("TOLLGATE_LISTEN", "127.0.0.1:0")],
            Ok("127.0.0.1:0"),
        ),
        // Names that mean something else to SQLite.
        (
            "[store]\npath = \":memory:\"\n",
            &[("TOLLGATE_LISTEN", "127.0.0.1:0")],
            Ok(":memory:"),
        ),
        (
            "[store]\npath = \"file:x?mode=memory\"\n",
            &[("TOLLGATE_LISTEN", "[::1]:0")],
            Ok("[::1]:0"),
        ),
        ("[store]\npath = \"data/\"\n", &[], Err("store.path")),
        ("[store]\npath = \"..\"\n", &[], Err("store.path")),
        ("", &[("TOLLGATE_LISTEN", "nonsense")], Err("nonsense")),
        (
            "",
            &[("TOLLGATE_LISTEN", "127.0.0.1:0"), ("TOLLGATE_DATA", "other")],
            Ok("other/tollgate.db"),
        ),
        ("", &[("TOLLGATE_ADMIN_KEY", "short")], Err("TOLLGATE_ADMIN_KEY")),
        (
            "",
            &[("TOLLGATE_ADMIN_KEY", "  ")],
            Err("TOLLGATE_ADMIN_KEY is empty"),
        ),
        (
            "[server]\nlisten = \"127.0.0.1:0\"\n",
            &[
                ("TOLLGATE_ADMIN_KEY", ""),
                ("TOLLGATE_LISTEN", ""),
                ("TOLLGATE_DATA", ""),
            ],
            Ok("127.0.0.1:0"),
        ),
    ];
    for (settings, environment, expected) in cases {
        let directory = scratch();
        fs::write(directory.path().join("tollgate.toml"), settings).expect("it is ours");
        let output = tollgate(directory.path(), &["check"], environment)
            .output()
            .expect("it runs");
        let (printed, told) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let (is_sound, words) = match expected {
            Ok(words) => (true, words),
            Err(words) => (false, words),
        };
        assert_eq!(
            output.status.success(),
            is_sound,
            "{settings}{environment:?}\n{printed}{told}"
        );
        let shown = if is_sound { &printed } else { &told };
        assert!(
            shown.contains(words),
            "{settings}{environment:?}: {words}\n{shown}"
        );
        assert!(!directory.path().join("data").exists(), "checking makes nothing");
        let mut program = crate::harness::Program::start(
            tollgate(directory.path(), &["serve"], environment),
            directory.path(),
        );
        match is_sound {
            true => {
                let started = program.line(address, END).await;
                started.unwrap_or_else(|why| panic!("{settings}{environment:?}: {why}"));
                program.signal(Signal::TERM);
                let status = program.exit(END).await;
                assert_eq!(
                    status.and_then(|status| status.code()),
                    Some(0),
                    "{}",
                    program.tail()
                );
            }
            false => {
                let status = program.exit(END).await.expect("it ends by itself");
                assert!(!status.success());
                assert!(program.stderr().contains(words), "{}", program.stderr());
            }
        }
        if settings.contains(":memory:") {
            let file = directory.path().join(":memory:");
            assert!(
                fs::metadata(&file).is_ok_and(|file| file.len() > 0),
                "it is a file like any other"
            );
        }
    }
}

/// The last line of its log, which tells why it ended.
fn last_words(stderr: &str) -> String {
    let line = stderr.lines().last().unwrap_or_default();
    let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}\n{stderr}"));
    assert_eq!(line["level"], "ERROR", "{stderr}");
    line["error"].as_str().unwrap_or_default().to_owned()
}

pub async fn a_start_that_fails_makes_no_key(host: Host) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = taken.local_addr().expect("it has one").to_string();
    let directory = scratch();
    let data = directory.path().join("data");
    fs::write(directory.path().join("tollgate.toml"), "").expect("it is ours");
    let serve = |listen: &str| Serve {
        listen: listen.into(),
        data: Some(data.clone()),
        ..Serve::without_key()
    };
    for (listen, words) in [
        (address.as_str(), "is another program there?"),
        ("192.0.2.1:0", "no such address"),
    ] {
        let mut program = serve(listen).start(directory.path());
        let status = program.exit(END).await.expect("it ends by itself");
        assert!(!status.success());
        assert!(
            last_words(&program.stderr()).contains(words),
            "{}",
            program.stderr()
        );
        assert!(!program.stderr().contains("admin_key"), "{}", program.stderr());
    }
    // Nor where components cannot be loaded.
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).expect("it is ours");
    let broken = Serve {
        components: Some(empty),
        ..serve("127.0.0.1:0")
    };
    let mut program = broken.start(directory.path());
    assert!(!program.exit(END).await.expect("it ends by itself").success());
    assert!(!program.stderr().contains("admin_key"), "{}", program.stderr());
    let gateway = Gateway::start_as(host, serve("127.0.0.1:0"), "").await;
    let log = gateway.stderr();
    let line = log
        .lines()
        .find(|line| line.contains("admin_key"))
        .expect("the key is shown");
    let line: Value = serde_json::from_str(line).expect("a line like any other");
    let key = line["admin_key"].as_str().expect("a field of its own");
    gateway.get("/api/keys").key(key).send().await.expect(200);
}

pub async fn a_key_file_comes_before_the_environment(host: Host) {
    let directory = scratch();
    let file = directory.path().join("admin.key");
    let serve = || Serve {
        admin_key_file: Some(file.clone()),
        ..Serve::with_key(ADMIN_KEY)
    };
    // While there is none, the environment's is in force, and none is made.
    let gateway = Gateway::start_as(host, serve(), "").await;
    gateway.get("/api/keys").key(ADMIN_KEY).send().await.expect(200);
    assert!(!file.exists());
    assert!(gateway.stop().await.success());
    fs::write(&file, "the-key-of-the-file-0123\n").expect("it is ours");
    gateway.restart().await;
    gateway
        .get("/api/keys")
        .key("the-key-of-the-file-0123")
        .send()
        .await
        .expect(200);
    gateway.get("/api/keys").key(ADMIN_KEY).send().await.expect(401);
    // Others can read it.
    gateway.says("chmod 600").await;
    assert!(gateway.stop().await.success());
    fs::write(&file, "\n").expect("it is ours");
    let mut program = serve().start(gateway.directory());
    assert!(!program.exit(END).await.expect("it ends by itself").success());
    let told = last_words(&program.stderr());
    assert!(told.contains("admin.key is empty"), "{told}");
}

pub async fn files_are_their_owners_alone(host: Host) {
    // A first start makes everything itself; it need not come further than that.
    let directory = scratch();
    fs::write(directory.path().join("tollgate.toml"), "").expect("it is ours");
    let environment = [
        ("TOLLGATE_LISTEN", "127.0.0.1:0"),
        ("TOLLGATE_ADMIN_KEY", ADMIN_KEY),
    ];
    let mut program = crate::harness::Program::start(
        tollgate(directory.path(), &["serve"], &environment),
        directory.path(),
    );
    let data = directory.path().join("data");
    eventually("the store is open", async || {
        data.join("tollgate.db-shm").exists().then_some(())
    })
    .await;
    program.signal(Signal::TERM);
    program.exit(END).await.expect("it ends");
    assert_eq!(mode(&data), 0o700);
    let gateway = Gateway::start(host, "").await;
    let data = gateway.directory().join("data");
    let names = [
        "tollgate.db",
        "tollgate.db-wal",
        "tollgate.db-shm",
        "tollgate.db.lock",
    ];
    for name in names {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    // What an earlier version made.
    gateway.kill();
    for name in names {
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o644)).expect("it is ours");
    }
    gateway.restart().await;
    for name in names {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    gateway.says("its owner alone").await;
}

pub async fn a_first_start_compiles_nothing(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.get("/api/campaigns/nothing").send().await.expect(404);
    assert!(!gateway.stderr().contains("compiling"), "{}", gateway.stderr());
    assert!(!gateway.directory().join("data/cache").exists());
}

pub async fn damaged_compiled_code_is_compiled_anew(host: Host) {
    let serve = Serve {
        components: Some(built_components()),
        ..Serve::with_key(ADMIN_KEY)
    };
    let gateway = Gateway::start_as(host, serve, "").await;
    assert!(gateway.stop().await.success());
    let cache = gateway.directory().join("data/cache");
    let files = || {
        fs::read_dir(&cache)
            .expect("it is there")
            .flatten()
            .map(|entry| entry.path())
    };
    for file in files() {
        let mut code = fs::read(&file).expect("it is ours");
        let middle = code.len() / 2;
        code[middle..].fill(0xff);
        fs::write(&file, code).expect("it is ours");
    }
    for is_damaged in [true, false] {
        gateway.restart().await;
        gateway.get("/health/ready").send().await.expect(200);
        gateway.get("/api/campaigns/nothing").send().await.expect(404);
        if is_damaged {
            gateway.says("it is damaged").await;
        } else {
            gateway.says("\"ready\"").await;
            assert!(
                !gateway.stderr().contains("it is damaged"),
                "{}",
                gateway.stderr()
            );
        }
        assert!(gateway.stop().await.success());
    }
    assert!(files().all(|file| mode(&file) == 0o600));
}

pub async fn signals_that_say_nothing_are_survived(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.campaign(1_000, json!({ "id": "signals" })).await;
    for (n, signal) in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::PIPE]
        .into_iter()
        .enumerate()
    {
        gateway.signal(signal);
        let claim = gateway
            .post("/api/campaigns/signals/claims")
            .user(&format!("user-{n}"));
        claim.json(&json!({})).send().await.expect(201);
    }
    eventually("it says so", async || {
        let log = gateway.stderr();
        let is_read = log.contains("the configuration was read again");
        (is_read && log.matches("this signal does nothing").count() == 2).then_some(())
    })
    .await;
    gateway.signal(Signal::QUIT);
    assert_eq!(gateway.stop().await.code(), Some(0), "in order");
}

pub async fn told_twice_it_ends_at_once_and_loses_nothing(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.campaign(10, json!({ "id": "twice" })).await;
    let claim = gateway.post("/api/campaigns/twice/claims").user("ann");
    claim.json(&json!({})).send().await.expect(201);
    // A request that is waited for: its body takes its time.
    let mut waiting = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    let head = "POST /api/campaigns/twice/claims HTTP/1.1\r\nhost: short.test\r\nx-user-id: bob\r\ncontent-length: 9\r\n\r\n{";
    waiting.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    gateway.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let told = std::time::Instant::now();
    let status = gateway.stop().await;
    assert_eq!(status.code(), Some(143), "128 and the number of SIGTERM");
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
    drop(waiting);
    gateway.restart().await;
    let state = gateway
        .get("/api/campaigns/twice")
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(state["admitted"], 1);
}

pub async fn a_reader_that_has_seen_enough_is_no_fault(host: Host) {
    assert_eq!(host, Host::Native);
    let directory = scratch();
    for arguments in [&["check"][..], &["--help"], &["serve", "--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().expect("the system gives pipes");
        drop(reader);
        let child = tollgate(directory.path(), arguments, &[])
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let output = child.wait_with_output().expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && told.is_empty(),
            "{arguments:?}: {}\n{told}",
            output.status
        );
    }
}
