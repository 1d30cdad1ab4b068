//! What is left after the process or the disk has failed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use support::{STOCK, check_claims, claim, claim_keys, claimed, get, open, run, set, stock};
use tempfile::TempDir;
use tollgate_engines::{Engine as _, OpenError, Options, SqliteStore};
use tollgate_store::commit::{Commit, Mutation, Outcome, Refusal, StoreError};

const DATABASE: &str = "TOLLGATE_TEST_DATABASE";

fn delete(key: &str) -> Commit {
    Commit {
        mutations: vec![Mutation::Delete { key: key.into() }],
        ..Commit::default()
    }
}

/// The part of the process that is killed: claims and says which claims were acknowledged.
#[test]
#[ignore = "run by what_was_acknowledged_survives_a_kill"]
fn child_that_claims() {
    let Ok(directory) = std::env::var(DATABASE) else {
        return;
    };
    let store = open(Path::new(&directory));
    run(async {
        let tasks = (0..32u64).map(|task| {
            let store = &store;
            async move {
                for round in 0..u64::MAX {
                    let user = format!("{task}-{round}-{}", std::process::id());
                    store.commit(claim(&user)).await.unwrap();
                    let mut stdout = std::io::stdout().lock();
                    writeln!(stdout, "claimed {user}").unwrap();
                    stdout.flush().unwrap();
                }
            }
        });
        let mut tasks: Vec<_> = tasks.map(Box::pin).collect();
        std::future::poll_fn(|context| {
            for task in &mut tasks {
                let _ = task.as_mut().poll(context);
            }
            std::task::Poll::<()>::Pending
        })
        .await;
    });
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = TempDir::new().unwrap();
    run(open(directory.path()).commit(stock(STOCK as u64))).unwrap();
    let mut acknowledged = BTreeSet::new();
    for kill_after in [50, 400, 1_500] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_claims", "--exact", "--ignored", "--nocapture"])
            .env(DATABASE, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut seen = 0;
        for line in lines {
            // The test harness writes its own words before the first.
            if let Some((_, user)) = line.split_once("claimed ") {
                acknowledged.insert(format!("claim/{user}"));
                seen += 1;
            }
            if seen == kill_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= kill_after, "the child stopped early, after {seen}");
        let store = open(directory.path());
        let kept = check_claims(&store);
        assert!(
            acknowledged.is_subset(&kept),
            "lost: {:?}",
            acknowledged.difference(&kept).next()
        );
    }
}

#[test]
fn a_hundred_threads_get_exactly_the_stock() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    run(store.commit(stock(50))).unwrap();
    let claims: Vec<_> = (0..100)
        .map(|user| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || run(store.commit(claim(&user.to_string()))).unwrap())
        })
        .collect();
    let outcomes: Vec<_> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
    let admitted = outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Committed(_)))
        .count();
    let sold_out = outcomes
        .iter()
        .filter(|o| **o == Outcome::Refused(Refusal::Mutation(0)))
        .count();
    assert_eq!((admitted, sold_out), (50, 50));
    drop(store);
    let store = open(directory.path());
    assert_eq!(claim_keys(&store).len(), 50);
    assert_eq!(claimed(&store).len(), 50);
}

#[test]
fn a_full_disk_refuses_commits_until_there_is_room_again() {
    let directory = TempDir::new().unwrap();
    let mut options = Options::new(directory.path().join("test.db"));
    options.max_bytes = Some(1 << 20);
    let store = SqliteStore::open(options).unwrap();
    let mut written = 0;
    let refused = loop {
        match run(store.commit(set(&format!("k{written}"), 60_000))) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "never full");
    };
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(written > 5, "{written}");
    assert!(store.health().is_err(), "who was refused finds it not ready");
    assert_eq!(get(&store, &format!("k{written}")), None, "nothing was done");
    let before = store.stats().dropped;
    store.defer(set("submitted", 60_000));
    assert!(run(store.commit(set("waited for", 60_000))).is_err());
    assert_eq!(
        store.stats().dropped,
        before + 1,
        "what nobody waits for is counted"
    );
    run(store.commit(delete("k0"))).unwrap();
    run(store.commit(set("again", 50_000))).unwrap();
    assert!(get(&store, "again").is_some());
    assert_eq!(store.health(), Ok(()));
}

#[test]
fn a_full_queue_refuses_and_counts() {
    let directory = TempDir::new().unwrap();
    let mut options = Options::new(directory.path().join("test.db"));
    options.queue_commits = 0;
    let store = SqliteStore::open(options).unwrap();
    assert!(matches!(
        run(store.commit(set("a", 1))),
        Err(StoreError::Unavailable(_))
    ));
    store.defer(set("a", 1));
    let stats = store.stats();
    assert_eq!((stats.overflowed, stats.dropped, stats.commits), (1, 1, 0));
}

#[test]
fn closing_writes_what_waits_and_then_refuses() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    for index in 0..100 {
        store.defer(set(&format!("k{index}"), 1));
    }
    store.close();
    assert!(matches!(
        run(store.commit(set("late", 1))),
        Err(StoreError::Unavailable(_))
    ));
    drop(store);
    let log = std::fs::metadata(directory.path().join("test.db-wal")).map_or(0, |file| file.len());
    assert_eq!(log, 0, "the log was emptied into the database");
    let store = open(directory.path());
    assert_eq!(run(store.scan("k", None, 1_000)).unwrap().len(), 100);
}

#[test]
fn versions_sequences_and_ids_go_on_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let step = || {
        let mut step = claim("ann");
        step.conditions.clear();
        step.mutations[0] = Mutation::Delete {
            key: "remaining".into(),
        };
        step
    };
    let Outcome::Committed(before) = run(open(directory.path()).commit(step())).unwrap() else {
        unreachable!("nothing refuses it")
    };
    let Outcome::Committed(after) = run(open(directory.path()).commit(step())).unwrap() else {
        unreachable!("nothing refuses it")
    };
    assert!(after.version > before.version);
    assert_eq!((before.sequences, after.sequences), (vec![1], vec![2]));
    assert_eq!((before.sums, after.sums), (vec![0, 1, 0], vec![0, 2, 0]));
}

/// A killed process may leave commits that are in the system's memory and not on disk. The next process that
/// opens the file may answer from them (a repeated id is answered without a write), so they are made durable
/// first.
#[test]
fn what_was_recovered_is_copied_into_the_database_before_anything_is_answered() {
    let (before, after) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(before.path());
    run(store.commit(set("a", 100))).unwrap();
    // As after a kill: the files as they are, with everything still in the log.
    for name in ["test.db", "test.db-wal"] {
        std::fs::copy(before.path().join(name), after.path().join(name)).unwrap();
    }
    let log = after.path().join("test.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    let store = open(after.path());
    assert_eq!(
        std::fs::metadata(&log).unwrap().len(),
        0,
        "the log was checkpointed"
    );
    assert!(get(&store, "a").is_some());
}

/// The component for Spin cannot read the journal: the file says when it must not be used there.
#[test]
fn the_journal_is_read_after_a_kill_and_empty_after_a_stop() {
    let number = |directory: &Path, sql: &str| {
        let connection = rusqlite::Connection::open(directory.join("test.db")).unwrap();
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let schema = "SELECT value FROM meta WHERE name = 'schema'";
    let (before, after) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(before.path());
    run(store.commit(set("old", 1))).unwrap();
    drop(store);
    let store = open(before.path());
    run(store.commit(set("a", 100))).unwrap();
    run(store.commit(set("b", 1))).unwrap();
    run(store.commit(delete("b"))).unwrap();
    run(store.commit(delete("old"))).unwrap();
    for name in ["test.db", "test.db-wal"] {
        std::fs::copy(before.path().join(name), after.path().join(name)).unwrap();
    }
    let killed = after.path();
    assert_eq!(number(killed, schema), 2);
    assert_eq!(number(killed, "SELECT count(*) FROM journal"), 4);
    assert_eq!(number(killed, "SELECT count(*) FROM entries"), 1);
    for _ in 0..2 {
        let store = open(killed);
        let keys = run(store.scan("", None, 10)).unwrap();
        let keys: Vec<_> = keys.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys, ["a"]);
        assert_eq!(get(&store, "a").unwrap().value.len(), 100);
        assert_eq!((get(&store, "b"), get(&store, "old")), (None, None));
        drop(store);
        assert_eq!(number(killed, schema), 1);
        assert_eq!(number(killed, "SELECT count(*) FROM journal"), 0);
        assert_eq!(number(killed, "SELECT count(*) FROM entries"), 1);
    }
}

/// From the first moment on: an instance on Spin that has the file open looks at each commit.
#[test]
fn the_file_says_that_it_is_in_use_from_opening_to_closing() {
    let directory = TempDir::new().unwrap();
    let schema = || {
        let connection = rusqlite::Connection::open(directory.path().join("test.db")).unwrap();
        let sql = "SELECT value FROM meta WHERE name = 'schema'";
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    for _ in 0..2 {
        let store = open(directory.path());
        assert_eq!(schema(), 2);
        run(store.commit(set("a", 1))).unwrap();
        // All is flushed when nothing is asked of it for a second; it stays ours.
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        assert_eq!(schema(), 2);
        store.close();
        assert_eq!(schema(), 1);
    }
}

#[test]
fn another_writer_stops_the_store_before_it_answers_from_what_is_old() {
    for is_idle in [false, true] {
        let directory = TempDir::new().unwrap();
        let store = open(directory.path());
        run(store.commit(stock(10))).unwrap();
        run(store.commit(claim("ann"))).unwrap();
        let other = rusqlite::Connection::open(directory.path().join("test.db")).unwrap();
        // As a component for Spin of a version before does, which does not look whether it may.
        other
            .execute_batch("UPDATE meta SET value = value + 1 WHERE name = 'revision'")
            .unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while is_idle && store.health().is_ok() {
            assert!(
                std::time::Instant::now() < until,
                "it is noticed while nothing is asked, too"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for user in ["bob", "ann"] {
            match run(store.commit(claim(user))) {
                Err(StoreError::Unavailable(told)) => assert!(told.contains("another program"), "{told}"),
                other => panic!("{other:?}"),
            }
        }
        let why = store.health().unwrap_err();
        assert!(
            why.contains("another program") && why.contains("restart"),
            "{why}"
        );
        drop(store);
        // What it was when it stopped is there, and a restart goes on from what the other wrote.
        let store = open(directory.path());
        run(store.commit(claim("bob"))).unwrap();
        assert_eq!(claimed(&store), ["ann", "bob"]);
    }
}

#[test]
fn time_never_runs_backwards_across_restarts_either() {
    let directory = TempDir::new().unwrap();
    let wall = Arc::new(AtomicU64::new(2_000_000));
    let open = || {
        let mut options = Options::new(directory.path().join("test.db"));
        let wall = Arc::clone(&wall);
        options.clock = Arc::new(move || wall.load(Ordering::Relaxed));
        SqliteStore::open(options).unwrap()
    };
    let store = open();
    run(store.commit(set("a", 1))).unwrap();
    wall.store(1_000_000, Ordering::Relaxed);
    assert_eq!(store.now(), 2_000_000);
    drop(store);
    let store = open();
    assert_eq!(store.now(), 2_000_000);
    wall.store(2_000_001, Ordering::Relaxed);
    assert_eq!(store.now(), 2_000_001);
}

#[test]
fn a_second_process_is_kept_out() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let again = SqliteStore::open(Options::new(directory.path().join("test.db")));
    assert!(matches!(&again, Err(OpenError::Locked(_))), "{again:?}");
    drop(store);
    open(directory.path());
}

#[test]
fn a_store_that_is_gone_or_damaged_is_not_begun_anew() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("test.db");
    let refused = || match SqliteStore::open(Options::new(&file)) {
        Ok(_) => "it was opened".to_owned(),
        Err(error) => error.to_string(),
    };
    run(open(directory.path()).commit(set("a", 60_000))).unwrap();
    let whole = std::fs::read(&file).unwrap();
    for length in [0, 1, 100, 4_096, whole.len() / 2, whole.len() - 4_096] {
        std::fs::write(&file, &whole[..length]).unwrap();
        let told = refused();
        assert!(
            ["missing or empty", "damaged", "not a Tollgate"]
                .iter()
                .any(|words| told.contains(words)),
            "{length} of {}: {told}",
            whole.len()
        );
        assert_eq!(std::fs::read(&file).unwrap(), whole[..length], "left alone");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(refused().contains("missing or empty"), "{}", refused());
    std::fs::write(&file, &whole).unwrap();
    assert!(get(&open(directory.path()), "a").is_some());
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let refused = |name: &str| SqliteStore::open(Options::new(at(name))).unwrap_err().to_string();
    let sqlite = |name: &str, sql: &str| {
        rusqlite::Connection::open(at(name))
            .unwrap()
            .execute_batch(sql)
            .unwrap()
    };

    std::fs::write(
        at("text"),
        "this is no database, but long enough to be mistaken for one".repeat(20),
    )
    .unwrap();
    assert!(
        refused("text").contains("not a Tollgate database"),
        "{}",
        refused("text")
    );
    std::fs::create_dir(at("directory")).unwrap();
    assert!(
        refused("directory").contains("a directory"),
        "{}",
        refused("directory")
    );
    sqlite("other", "CREATE TABLE songs (title TEXT)");
    assert!(refused("other").contains("other tables"), "{}", refused("other"));
    sqlite(
        "marked",
        "PRAGMA application_id = 7; CREATE TABLE songs (title TEXT)",
    );
    assert!(
        refused("marked").contains("another application"),
        "{}",
        refused("marked")
    );
    drop(SqliteStore::open(Options::new(at("newer"))).unwrap());
    sqlite("newer", "PRAGMA user_version = 3");
    assert!(
        refused("newer").contains("newer Tollgate"),
        "{}",
        refused("newer")
    );
    sqlite(
        "newer",
        "PRAGMA user_version = 1; UPDATE meta SET value = 9 WHERE name = 'schema'",
    );
    assert!(
        refused("newer").contains("schema version 9"),
        "{}",
        refused("newer")
    );
    assert!(
        refused("nowhere/test.db").contains("directory exists"),
        "{}",
        refused("nowhere/test.db")
    );
}
