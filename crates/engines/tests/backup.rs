//! Backups beside a store in use, and their way back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::{STOCK, check_claims, claim, claimed, get, open, run, scratch, set, stock};
use tollgate_engines::sqlite::backup::{BackupError, back_up, check, restore};
use tollgate_engines::{Engine as _, OpenError, Options, SqliteStore};

const NO_LIMIT: u64 = u64::MAX;

fn quiet() -> impl FnMut(u64, u64) {
    |_, _| {}
}

/// A store of one key in `directory`, closed.
fn small(directory: &Path, key: &str) {
    let store = open(directory);
    run(store.commit(set(key, 10))).unwrap();
    store.close();
}

/// A backup of a store of one key.
fn small_backup(directory: &Path, key: &str) -> std::path::PathBuf {
    let made = scratch();
    small(made.path(), key);
    let file = directory.join(format!("{key}.backup"));
    back_up(&made.path().join("test.db"), &file, NO_LIMIT, &mut quiet()).unwrap();
    file
}

#[test]
fn a_backup_beside_claims_holds_those_acknowledged_before_and_their_messages() {
    let (directory, elsewhere) = (scratch(), scratch());
    let store = open(directory.path());
    run(store.commit(stock(STOCK as u64))).unwrap();
    let (acknowledged, stop) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for task in 0..4 {
            let (store, acknowledged, stop) = (&store, &acknowledged, &stop);
            scope.spawn(move || {
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let user = format!("{task}-{round}");
                    run(store.commit(claim(&user))).unwrap();
                    acknowledged.lock().unwrap().insert(user);
                }
            });
        }
        let mut least = 0;
        for round in 0..5 {
            let until = Instant::now() + Duration::from_secs(20);
            while acknowledged.lock().unwrap().len() < least && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            let before = acknowledged.lock().unwrap().clone();
            let file = elsewhere.path().join(format!("{round}.backup"));
            let contents = back_up(&directory.path().join("test.db"), &file, NO_LIMIT, &mut quiet()).unwrap();
            assert!(contents.messages as usize >= before.len());
            let restored = elsewhere.path().join(round.to_string());
            fs::create_dir(&restored).unwrap();
            assert_eq!(
                restore(&file, &restored.join("test.db"), false, &mut quiet()).unwrap(),
                contents
            );
            let again = open(&restored);
            let kept = check_claims(&again);
            assert!(before.iter().all(|user| kept.contains(&format!("claim/{user}"))));
            assert_eq!(claimed(&again).len() as u64, contents.messages);
            least = before.len() + 500;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.stats().failed, 0);
}

#[test]
fn a_backup_is_its_owners_alone_and_one_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = scratch();
    let file = small_backup(directory.path(), "a");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let header = fs::read(&file).unwrap();
    // Neither the reading nor the writing version is that of a log.
    assert_eq!(header[18..20], [1, 1]);
    let again = back_up(Path::new("no.such.db"), &file, NO_LIMIT, &mut quiet());
    assert!(matches!(again, Err(BackupError::Io { .. })), "{again:?}");
    assert_eq!(check(&file).unwrap().entries, 1);
}

#[test]
fn a_restore_is_refused_where_a_store_is_in_use_or_there() {
    let directory = scratch();
    let file = small_backup(directory.path(), "new");
    let database = directory.path().join("test.db");
    let store = open(directory.path());
    run(store.commit(set("old", 10))).unwrap();
    for force in [false, true] {
        let refused = restore(&file, &database, force, &mut quiet());
        let told = matches!(refused, Err(BackupError::Open(OpenError::Locked(_))));
        assert!(told, "{refused:?}");
    }
    drop(store);
    let refused = restore(&file, &database, false, &mut quiet());
    assert!(matches!(refused, Err(BackupError::Exists(_))), "{refused:?}");
    assert!(get(&open(directory.path()), "old").is_some());
    restore(&file, &database, true, &mut quiet()).unwrap();
    let store = open(directory.path());
    assert!(get(&store, "new").is_some() && get(&store, "old").is_none());
}

#[test]
fn what_root_restores_belongs_to_whom_the_directory_belongs() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    const GATEWAY: u32 = 65_532;
    let (directory, elsewhere) = (scratch(), scratch());
    if fs::metadata(directory.path()).unwrap().uid() != 0 {
        return eprintln!("skipped: only root makes files for others");
    }
    let file = small_backup(elsewhere.path(), "kept");
    chown(directory.path(), Some(GATEWAY), Some(GATEWAY)).unwrap();
    let database = directory.path().join("test.db");
    for force in [false, true] {
        restore(&file, &database, force, &mut quiet()).unwrap();
        let made: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(made.len(), 2, "the database and its lock: {made:?}");
        for entry in made {
            let (path, metadata) = entry
                .map(|entry| (entry.path(), entry.metadata().unwrap()))
                .unwrap();
            assert_eq!(
                (metadata.uid(), metadata.gid()),
                (GATEWAY, GATEWAY),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn what_is_no_sound_backup_is_refused_and_changes_nothing() {
    let directory = scratch();
    let file = small_backup(directory.path(), "new");
    small(directory.path(), "old");
    let database = directory.path().join("test.db");
    let sound = fs::read(&file).unwrap();
    let bad = directory.path().join("bad");
    let damages: [(&str, Vec<u8>); 4] = [
        ("empty", Vec::new()),
        ("text", b"no database at all".repeat(100)),
        ("cut", sound[..sound.len() / 2].to_vec()),
        ("overwritten", {
            let mut bytes = sound.clone();
            let from = bytes.len() / 4;
            bytes[from..from * 3].fill(0xa5);
            bytes
        }),
    ];
    for (name, bytes) in damages {
        fs::write(&bad, bytes).unwrap();
        let refused = restore(&bad, &database, true, &mut quiet());
        assert!(refused.is_err(), "{name}: {refused:?}");
    }
    let other = Connection::open(bad.with_extension("other")).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    assert!(restore(&bad.with_extension("other"), &database, true, &mut quiet()).is_err());
    // The file of a store that was copied without its log.
    fs::write(directory.path().join("new.backup-wal"), b"log").unwrap();
    let refused = restore(&file, &database, true, &mut quiet());
    assert!(matches!(refused, Err(BackupError::NoBackup(_))), "{refused:?}");
    assert!(get(&open(directory.path()), "old").is_some());
}

#[test]
fn a_restore_that_was_killed_once_it_was_decided_is_finished_by_whoever_opens_the_store() {
    for old in ["closed", "killed", "none"] {
        let directory = scratch();
        let file = small_backup(directory.path(), "new");
        let database = directory.path().join("test.db");
        match old {
            "closed" => small(directory.path(), "old"),
            "killed" => {
                // What a killed gateway leaves: a log with commits in it.
                let killed = scratch();
                let store = open(killed.path());
                run(store.commit(set("old", 10))).unwrap();
                for name in ["test.db", "test.db-wal", "test.db-shm"] {
                    fs::copy(killed.path().join(name), directory.path().join(name)).unwrap();
                }
                assert!(fs::metadata(directory.path().join("test.db-wal")).unwrap().len() > 0);
            }
            _ => {}
        }
        fs::copy(&file, directory.path().join("test.db.restored")).unwrap();
        fs::write(directory.path().join("test.db.restore-part"), b"of another try").unwrap();
        let elsewhere = directory.path().join("x");
        if old == "closed" {
            let refused = back_up(&database, &elsewhere, NO_LIMIT, &mut quiet());
            assert!(refused.is_err(), "{refused:?}");
        }
        let store = open(directory.path());
        assert!(
            get(&store, "new").is_some() && get(&store, "old").is_none(),
            "{old}"
        );
        assert!(!directory.path().join("test.db.restored").exists());
        assert!(!directory.path().join("test.db.restore-part").exists());
    }
}

#[test]
fn a_log_beyond_the_limit_ends_the_backup_and_leaves_nothing() {
    let directory = scratch();
    let store = open(directory.path());
    run(store.commit(set("a", 10))).unwrap();
    let file = directory.path().join("backup");
    let ended = back_up(&directory.path().join("test.db"), &file, 1, &mut quiet());
    assert!(
        matches!(ended, Err(BackupError::Log { limit: 1, .. })),
        "{ended:?}"
    );
    assert!(!file.exists());
    run(store.commit(set("b", 10))).unwrap();
}

/// As long as a backup copies, the log cannot begin anew.
#[test]
fn whoever_reads_for_long_holds_up_no_commit() {
    let directory = scratch();
    let mut options = Options::new(directory.path().join("test.db"));
    options.checkpoint_pages = 16;
    let store = SqliteStore::open(options).unwrap();
    run(store.commit(set("a", 10))).unwrap();
    let reader = Connection::open(directory.path().join("test.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM meta").unwrap();
    let log = directory.path().join("test.db-wal");
    let until = Instant::now() + Duration::from_secs(30);
    let mut longest = Duration::ZERO;
    let mut number = 0;
    // More than eight times the pages, and fewer than sixty-four times.
    while fs::metadata(&log).unwrap().len() < 24 * 16 * 4096 && Instant::now() < until {
        let began = Instant::now();
        number += 1;
        run(store.commit(set(&number.to_string(), 10_000))).unwrap();
        longest = longest.max(began.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "a commit took {longest:?}");
    drop(reader);
    run(store.commit(set("b", 10))).unwrap();
}
