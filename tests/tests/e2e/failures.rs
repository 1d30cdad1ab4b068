//! The machine fails: the disk is full, does not sync, or holds something else; the process stands still.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ADMIN_KEY, Answer, Gateway, Host, Origin, Program, Serve, crowd, eventually};

/// How long a refusal to start may take.
const END: Duration = Duration::from_secs(60);
/// How long the process stands still: longer than any wait inside it but a request's own limit.
const STILL: Duration = Duration::from_secs(3);
/// Room for compiled components and a store.
const ROOM: &str = "size=96m";

/// A small file system in memory; gone with this value.
struct Mount(PathBuf);

impl Mount {
    /// `None`, and a word about it, where this may not be done.
    fn at(directory: &Path) -> Option<Self> {
        let mount = mount(&["-t", "tmpfs", "-o", ROOM, "tollgate-test"], directory);
        if mount.is_none() {
            eprintln!("no file system of its own for this case (that takes root): skipped");
        }
        mount.map(|()| Self(directory.to_owned()))
    }

    fn make_read_only(&self) {
        mount(&["-o", "remount,ro"], &self.0).expect("what was mounted can be mounted again");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], directory: &Path) -> Option<()> {
    let output = Command::new("mount")
        .args(arguments)
        .arg(directory)
        .output()
        .ok()?;
    output.status.success().then_some(())
}

fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours")
}

fn on(data: &Path) -> Serve {
    Serve {
        data: Some(data.to_owned()),
        ..Serve::with_key(ADMIN_KEY)
    }
}

async fn sign_up(gateway: &Gateway, n: usize) -> Answer {
    let body = json!({ "n": n, "filler": "x".repeat(16_000) });
    gateway
        .post("/signup")
        .client("failures")
        .json(&body)
        .send()
        .await
}

/// Every sign-up that was acknowledged is there, and no other.
async fn assert_signed_up(gateway: &Gateway, acknowledged: &[usize]) {
    let messages = gateway.messages("signup").await;
    let there: Vec<&Value> = messages.iter().map(|message| &message["data"]["n"]).collect();
    assert_eq!(there, acknowledged.iter().collect::<Vec<_>>());
}

pub async fn a_full_disk_refuses_writes_until_there_is_room(host: Host) {
    let directory = scratch();
    let Some(_mount) = Mount::at(directory.path()) else {
        return;
    };
    let gateway = Gateway::start_as(host, on(directory.path()), "").await;
    gateway.link("before").await;
    let ballast = directory.path().join("ballast");
    let mut acknowledged = Vec::new();
    let mut n = 0;
    for _ in 0..2 {
        let _ = fs::write(&ballast, vec![0; 128 << 20]).expect_err("it is larger than the disk");
        loop {
            n += 1;
            let answer = sign_up(&gateway, n).await;
            if answer.status != 202 {
                answer.problem(503, "unavailable");
                answer.header("retry-after");
                let ready = gateway.get("/health/ready").send().await;
                let why = ready.problem(503, "unavailable")["detail"].to_string();
                assert!(why.contains("full"), "{why}");
                break;
            }
            acknowledged.push(n);
            assert!(acknowledged.len() < 5_000, "the disk is never full");
        }
        // What is there is still read, and links lead on.
        gateway.get("/before").send().await.expect(302);
        gateway
            .get("/api/links/before")
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200);
        gateway.get("/health/live").send().await.expect(200);
        assert_signed_up(&gateway, &acknowledged).await;
        fs::remove_file(&ballast).expect("it is there");
        // It finds out by itself, without a request that writes.
        let is_ready = async || (gateway.get("/health/ready").send().await.status == 200).then_some(());
        eventually("the store is ready again", is_ready).await;
        for _ in 0..5 {
            n += 1;
            sign_up(&gateway, n).await.expect(202);
            acknowledged.push(n);
        }
    }
    gateway.get("/health/ready").send().await.expect(200);
    gateway.kill();
    gateway.restart().await;
    assert_signed_up(&gateway, &acknowledged).await;
}

/// The alert cannot be recorded while it begins, and is told nevertheless, once.
pub async fn a_full_disk_is_an_alert_until_there_is_room(host: Host) {
    let directory = scratch();
    let Some(_mount) = Mount::at(directory.path()) else {
        return;
    };
    let channel = Origin::start().await;
    let alert = format!(
        "[[alerts]]\nname = \"store\"\nwhen = \"store_unavailable\"\nurl = \"{}\"\nevery = \"1s\"\n\
         allow_private_addresses = true\n",
        channel.url("/store")
    );
    let gateway = Gateway::start_as(host, on(directory.path()), &alert).await;
    let states = || -> Vec<String> {
        let told = channel.taken().into_iter();
        told.map(|delivery| serde_json::from_slice::<Value>(&delivery.body).expect("it is JSON"))
            .map(|message| message["state"].as_str().expect("it has a state").to_owned())
            .collect()
    };
    tokio::time::sleep(STILL).await;
    assert!(states().is_empty(), "the store is well");
    let ballast = directory.path().join("ballast");
    let _ = fs::write(&ballast, vec![0; 128 << 20]).expect_err("it is larger than the disk");
    let mut n = 0;
    while sign_up(&gateway, n).await.status == 202 {
        n += 1;
        assert!(n < 5_000, "the disk is never full");
    }
    let heard = async |count: usize| (states().len() >= count).then_some(());
    eventually("the start is told", async || heard(1).await).await;
    tokio::time::sleep(STILL).await;
    assert_eq!(states(), ["started"]);
    fs::remove_file(&ballast).expect("it is there");
    eventually("the end is told", async || heard(2).await).await;
    tokio::time::sleep(STILL).await;
    assert_eq!(states(), ["started", "ended"]);
    // Nothing is left to be told.
    gateway.kill();
    gateway.restart().await;
    tokio::time::sleep(STILL).await;
    assert_eq!(states(), ["started", "ended"]);
}

pub async fn a_failed_sync_stops_the_writes_and_is_told(host: Host) {
    const SHIM: &str = r#"
        #include <errno.h>
        #include <stdlib.h>
        #include <unistd.h>
        static int fail(void) {
            const char *flag = getenv("TOLLGATE_TEST_FAIL_SYNC");
            if (!flag || access(flag, F_OK) != 0) return 0;
            errno = EIO;
            return -1;
        }
        int fsync(int fd) { (void)fd; return fail(); }
        int fdatasync(int fd) { (void)fd; return fail(); }
    "#;
    let directory = scratch();
    let (source, library, flag) = (
        directory.path().join("sync.c"),
        directory.path().join("sync.so"),
        directory.path().join("fail"),
    );
    fs::write(&source, SHIM).expect("the directory is ours");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    if !compiler.status().is_ok_and(|status| status.success()) {
        eprintln!("no C compiler: skipped");
        return;
    }
    let serve = Serve {
        environment: vec![("LD_PRELOAD", library), ("TOLLGATE_TEST_FAIL_SYNC", flag.clone())],
        ..Serve::with_key(ADMIN_KEY)
    };
    let gateway = Gateway::start_as(host, serve, "").await;
    gateway.link("before").await;
    sign_up(&gateway, 1).await.expect(202);
    fs::write(&flag, "").expect("the directory is ours");
    // Whether it is there is not known, and said so.
    sign_up(&gateway, 2).await.problem(503, "unavailable");
    fs::remove_file(&flag).expect("it is there");
    // The disk is well again; what it holds is not known.
    for n in 3..6 {
        sign_up(&gateway, n).await.problem(503, "unavailable");
    }
    let ready = gateway.get("/health/ready").send().await;
    let why = ready.problem(503, "unavailable")["detail"].to_string();
    assert!(why.contains("disk I/O error") && why.contains("restart"), "{why}");
    gateway.get("/health/live").send().await.expect(200);
    gateway.get("/before").send().await.expect(302);
    gateway.kill();
    gateway.restart().await;
    gateway.get("/health/ready").send().await.expect(200);
    let kept = gateway.messages("signup").await;
    assert!(kept.len() == 1 || kept.len() == 2, "{kept:?}");
    assert_eq!(kept[0]["data"]["n"], 1);
    sign_up(&gateway, 6).await.expect(202);
}

/// As Spin would, with components of a version that does not look whether it may.
pub async fn another_writer_stops_the_writes_and_is_told(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.link("before").await;
    gateway.campaign(10, json!({ "id": "foreign" })).await;
    let claim = |user: &str| {
        gateway
            .post("/api/campaigns/foreign/claims")
            .user(user)
            .json(&json!({}))
    };
    claim("ann").send().await.expect(201);
    let file = gateway.directory().join("data/tollgate.db");
    let other = rusqlite::Connection::open(&file).expect("it is SQLite's");
    other
        .busy_timeout(Duration::from_secs(10))
        .expect("it is a number");
    other
        .execute_batch("UPDATE meta SET value = value + 1 WHERE name = 'revision'")
        .expect("nobody keeps it from that");
    for user in ["bob", "carol"] {
        claim(user).send().await.problem(503, "unavailable");
    }
    let ready = gateway.get("/health/ready").send().await;
    let why = ready.problem(503, "unavailable")["detail"].to_string();
    assert!(
        why.contains("another program") && why.contains("restart"),
        "{why}"
    );
    gateway.get("/before").send().await.expect(302);
    gateway.stop().await;
    gateway.restart().await;
    claim("bob").send().await.expect(201);
    let state = gateway
        .get("/api/campaigns/foreign")
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(state["admitted"], 2);
}

pub async fn a_process_that_was_stopped_goes_on_where_it_was(host: Host) {
    const CLAIMS: usize = 3_000;
    let gateway = Arc::new(Gateway::start(host, "").await);
    gateway
        .campaign(CLAIMS as u64 / 2, json!({ "id": "still" }))
        .await;
    let claims = crowd(32, 0..CLAIMS, |n| {
        let call = gateway
            .post("/api/campaigns/still/claims")
            .user(&format!("user-{n}"));
        call.json(&json!({})).send()
    });
    let stop = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            gateway.signal(Signal::STOP);
            tokio::time::sleep(STILL).await;
            gateway.signal(Signal::CONT);
        }
    };
    // Everybody is answered: `send` fails the case otherwise.
    let (answers, ()) = tokio::join!(claims, stop);
    let admitted = answers.iter().filter(|answer| answer.status == 201).count();
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert!([410, 503, 504].contains(&answer.status), "{}", answer.shown());
    }
    let state = gateway
        .get("/api/campaigns/still")
        .send()
        .await
        .expect(200)
        .json();
    let announced = gateway.messages("coupon").await.len();
    assert_eq!(state["admitted"], announced, "state and queue agree");
    // Whose request was given up may have been admitted.
    let given_up = answers
        .iter()
        .filter(|answer| [503, 504].contains(&answer.status))
        .count();
    assert!(
        (admitted..=admitted + given_up).contains(&announced),
        "{admitted}, {announced}"
    );
    assert!(announced <= CLAIMS / 2);
    assert!(given_up > 0 || announced == CLAIMS / 2);
}

/// Starts on `directory/data`; it must end by itself with one sentence that holds one of these words.
async fn assert_refused(what: &str, program: &mut Program, words: &str) {
    let status = program.exit(END).await;
    let told = program.stderr();
    let status = status.unwrap_or_else(|| panic!("{what}: it runs\n{told}"));
    assert!(
        status.code().is_some_and(|code| code != 0),
        "{what}: {status:?}\n{told}"
    );
    let line = told.lines().last().unwrap_or_default();
    let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{what}: no JSON: {line}"));
    let sentence = line["error"].as_str().unwrap_or_default();
    assert!(sentence.contains(words), "{what}: expected {words:?}\n{told}");
    assert!(
        sentence.contains("tollgate.db"),
        "{what}: it names the file\n{told}"
    );
}

/// What is done to the file.
type Damage<'a> = Box<dyn Fn() + 'a>;

pub async fn databases_that_cannot_be_trusted_are_refused_and_left_alone(host: Host) {
    let gateway = Gateway::start(host, "").await;
    for n in 0..20 {
        sign_up(&gateway, n).await.expect(202);
    }
    assert_eq!(gateway.stop().await.code(), Some(0));
    let file = gateway.directory().join("data/tollgate.db");
    let whole = fs::read(&file).expect("the store is there");
    let newer = || {
        let database = rusqlite::Connection::open(&file).expect("it is SQLite's");
        database
            .execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)")
            .expect("it is ours");
    };
    let damage: [(&str, Damage<'_>, &str); 6] = [
        (
            "truncated",
            Box::new(|| fs::write(&file, &whole[..whole.len() / 2]).unwrap()),
            "damaged",
        ),
        (
            "empty",
            Box::new(|| fs::write(&file, "").unwrap()),
            "missing or empty",
        ),
        (
            "missing",
            Box::new(|| fs::remove_file(&file).unwrap()),
            "missing or empty",
        ),
        (
            "no database",
            Box::new(|| fs::write(&file, "Dear diary. ".repeat(999)).unwrap()),
            "not a Tollgate database",
        ),
        ("newer", Box::new(newer), "schema version 99"),
        (
            "cut in its header",
            Box::new(|| fs::write(&file, &whole[..60]).unwrap()),
            "damaged",
        ),
    ];
    for (what, damage, words) in &damage {
        fs::write(&file, &whole).expect("it is ours");
        damage();
        let before = fs::read(&file).ok();
        let mut program = Serve::with_key(ADMIN_KEY).start(gateway.directory());
        assert_refused(what, &mut program, words).await;
        assert_eq!(fs::read(&file).ok(), before, "{what}: left alone");
    }
    fs::write(&file, &whole).expect("it is ours");
    gateway.restart().await;
    assert_signed_up(&gateway, &(0..20).collect::<Vec<_>>()).await;
}

pub async fn read_only_directories_are_refused(host: Host) {
    let directory = scratch();
    let Some(mounted) = Mount::at(directory.path()) else {
        return;
    };
    let gateway = Gateway::start_as(host, on(directory.path()), "").await;
    gateway.link("before").await;
    assert_eq!(gateway.stop().await.code(), Some(0));
    mounted.make_read_only();
    let mut program = on(directory.path()).start(gateway.directory());
    assert_refused("read-only", &mut program, "cannot be written").await;
}

pub async fn writes_wait_for_a_program_that_locks_the_database_and_then_are_refused(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.link("before").await;
    sign_up(&gateway, 1).await.expect(202);
    let file = gateway.directory().join("data/tollgate.db");
    let other = rusqlite::Connection::open(&file).expect("it is SQLite's");
    let lock = || {
        eventually("the other program has the lock", async || {
            other.execute_batch("BEGIN IMMEDIATE").ok()
        })
    };
    lock().await;
    sign_up(&gateway, 2).await.problem(503, "unavailable");
    gateway.get("/before").send().await.expect(302);
    other.execute_batch("ROLLBACK").expect("it has begun");
    sign_up(&gateway, 3).await.expect(202);
    assert_signed_up(&gateway, &[1, 3]).await;
    // Nor does it start beside one that writes.
    gateway.kill();
    lock().await;
    let mut program = Serve::with_key(ADMIN_KEY).start(gateway.directory());
    assert_refused("locked", &mut program, "in use by another program").await;
    other.execute_batch("ROLLBACK").expect("it has begun");
    gateway.restart().await;
    assert_signed_up(&gateway, &[1, 3]).await;
}
