//! The power goes, the disk fails or is full, below SQLite: what was acknowledged is kept, and what was not is there
//! whole or not at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use support::{STOCK, check_claims, claim, get, run, scratch, set, stock};
use tollgate_engines::{Engine as _, Options, SqliteStore};
use tollgate_store::commit::{Commit, Idempotence, Mutation, Outcome, Part, StoreError, literal};
use tollgate_vfs::{Disk, Fault, Loss};

/// Histories of one run; `TOLLGATE_POWER_SEEDS` sets another number.
const SEEDS: u64 = 200;
/// Power cuts of one history, each during the recovery from, or the work after, the one before.
const LIVES: usize = 3;
/// Writers at once.
const WRITERS: usize = 12;
/// The most rounds of a writer in one life.
const ROUNDS: usize = 25;
/// A day, in milliseconds.
const DAY: u64 = 86_400_000;

/// What was acknowledged.
#[derive(Default)]
struct Journal {
    stocked: bool,
    /// The sequence of every claim, by user.
    claims: BTreeMap<String, i64>,
    /// The last round of every writer whose pair was written.
    pairs: BTreeMap<usize, usize>,
}

fn options(directory: &Path, disk: &Disk, random: &mut fastrand::Rng) -> Options {
    let mut options = Options::new(directory.join("test.db"));
    options.vfs = Some(disk.name().to_owned());
    options.readers = 1;
    options.checkpoint_pages = random.u32(4..120);
    options.group_commits = random.usize(1..20);
    options.memtable_entries = random.usize(1..200);
    options
}

/// A claim that is answered once, however often it is asked for.
fn once(user: &str) -> Commit {
    let mut commit = claim(user);
    commit.idempotence = Some(Idempotence {
        id: user.to_owned(),
        fingerprint: Vec::new(),
        answer: vec![Part::Sum(1)],
        ttl: DAY,
    });
    commit
}

/// Both halves hold the round, or neither is there.
fn pair(writer: usize, round: usize, bytes: usize) -> Commit {
    let mutation = |half: &str| {
        let key = format!("pair/{writer}/{half}");
        match round % 5 {
            4 => Mutation::Delete { key },
            _ => Mutation::Set {
                key,
                value: literal(format!("{round} {}", "x".repeat(bytes))),
                expires: None,
            },
        }
    };
    Commit {
        mutations: vec![mutation("left"), mutation("right")],
        ..Commit::default()
    }
}

/// One writer, until it is done or the store says no.
async fn write(store: &SqliteStore, life: usize, writer: usize, sizes: Vec<usize>, journal: &Mutex<Journal>) {
    let before = journal.lock().unwrap().pairs.get(&writer).copied();
    // One that nobody heard of may be there: go on after it.
    let first = before.map_or(1, |round| round + 2);
    for (round, bytes) in sizes.into_iter().enumerate() {
        let user = format!("{life}-{writer}-{round}");
        let Ok(outcome) = store.commit(once(&user)).await else {
            return;
        };
        let Outcome::Committed(committed) = outcome else {
            panic!("{user}: {outcome:?}")
        };
        journal.lock().unwrap().claims.insert(user, committed.sums[1]);
        let round = first + round;
        if store.commit(pair(writer, round, bytes)).await.is_err() {
            return;
        }
        journal.lock().unwrap().pairs.insert(writer, round);
    }
}

/// All writers write until the power goes, or all is written.
fn live(options: Options, life: usize, random: &mut fastrand::Rng, journal: &Mutex<Journal>) {
    let Ok(store) = SqliteStore::open(options) else {
        return;
    };
    let stocked = journal.lock().unwrap().stocked;
    if !stocked {
        if get(&store, "remaining").is_none() && run(store.commit(stock(STOCK as u64))).is_err() {
            return;
        }
        journal.lock().unwrap().stocked = true;
    }
    let writers = (0..WRITERS).map(|writer| {
        let large = |random: &mut fastrand::Rng| match random.u8(..10) {
            0 => random.usize(..20_000),
            _ => random.usize(..300),
        };
        let sizes = (0..ROUNDS).map(|_| large(random)).collect();
        write(&store, life, writer, sizes, journal)
    });
    futures::executor::block_on(join_all(writers));
}

/// The file is sound, and holds what it must.
fn check(directory: &Path, journal: &Journal) {
    {
        let connection = rusqlite::Connection::open(directory.join("test.db")).unwrap();
        connection
            .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .unwrap();
        let sound: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
    }
    let disk = Disk::new(0);
    let store = begin(directory, &disk);
    if !journal.stocked && get(&store, "remaining").is_none() {
        return;
    }
    let kept = check_claims(&store);
    for (user, sequence) in &journal.claims {
        assert!(
            kept.contains(&format!("claim/{user}")),
            "lost: the claim of {user}"
        );
        let entry = get(&store, &format!("claim/{user}")).unwrap();
        assert_eq!(entry.value, sequence.to_string().into_bytes(), "{user}");
    }
    if let Some((user, sequence)) = journal.claims.last_key_value() {
        let again = run(store.commit(once(user))).unwrap();
        assert_eq!(
            again,
            Outcome::Replayed(sequence.to_string().into_bytes()),
            "{user}"
        );
    }
    for writer in 0..WRITERS {
        let half = |half: &str| get(&store, &format!("pair/{writer}/{half}")).map(|entry| entry.value);
        let (left, right) = (half("left"), half("right"));
        assert_eq!(left, right, "half of a commit of writer {writer}");
        let acknowledged = journal.pairs.get(&writer).copied().unwrap_or(0);
        match left {
            Some(value) => {
                let text = String::from_utf8(value).unwrap();
                let round: usize = text.split(' ').next().unwrap().parse().unwrap();
                let next = acknowledged + 1..=acknowledged + 2;
                assert!(
                    round == acknowledged || next.contains(&round),
                    "{round}, not {acknowledged}"
                );
            }
            None => assert!(
                acknowledged == 0 || (acknowledged..=acknowledged + 2).any(|round| round % 5 == 4),
                "lost: round {acknowledged} of writer {writer}"
            ),
        }
    }
}

/// A history: work, a power cut at a random operation, a look at what is left; and again, from there.
fn history(seed: u64, lying: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let journal = Mutex::new(Journal::default());
    let mut directory = scratch();
    for life in 0..LIVES {
        let disk = Disk::new(seed ^ (life as u64) << 40);
        disk.set_lying(lying);
        let longest = random.choice([20, 200, 2_000]).unwrap_or(200);
        disk.cut_power_at(random.u64(1..=longest));
        live(
            options(directory.path(), &disk, &mut random),
            life,
            &mut random,
            &journal,
        );
        let loss = random.choice([Loss::All, Loss::None, Loss::Tail, Loss::Sectors, Loss::Sectors]);
        let left = scratch();
        disk.image(left.path(), loss.unwrap_or(Loss::All)).unwrap();
        // A look changes the files: it is taken at a copy.
        let looked_at = scratch();
        for file in std::fs::read_dir(left.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), looked_at.path().join(file.file_name())).unwrap();
        }
        check(looked_at.path(), &journal.lock().unwrap());
        directory = left;
    }
}

fn seeds() -> u64 {
    std::env::var("TOLLGATE_POWER_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap())
}

#[test]
fn acknowledged_commits_survive_power_cuts_at_any_moment() {
    for seed in 0..seeds() {
        if let Err(panic) = std::panic::catch_unwind(|| history(seed, false)) {
            let why = panic.downcast_ref::<String>().cloned();
            panic!("seed {seed}: {}", why.unwrap_or_default());
        }
    }
}

#[test]
fn a_disk_that_only_claims_to_sync_is_found_out() {
    // The panics are what this is about; they need not be read.
    let lost = (0..20).filter(|seed| {
        let seed = *seed;
        std::thread::spawn(move || history(seed, true)).join().is_err()
    });
    assert!(lost.count() > 0, "power cuts lose nothing: they test nothing");
}

fn begin(directory: &Path, disk: &Disk) -> Arc<SqliteStore> {
    let mut options = Options::new(directory.join("test.db"));
    options.vfs = Some(disk.name().to_owned());
    options.checkpoint_pages = 40;
    options.memtable_entries = 3;
    SqliteStore::open(options).unwrap()
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart_which_keeps_all_that_was() {
    for seed in 0..60 {
        let directory = scratch();
        let disk = Disk::new(seed);
        let store = begin(directory.path(), &disk);
        run(store.commit(stock(STOCK as u64))).unwrap();
        disk.fail(Fault::Sync, 1 + seed % 30);
        let mut acknowledged = Vec::new();
        let refused = loop {
            let user = format!("before-{}", acknowledged.len());
            match run(store.commit(claim(&user))) {
                Ok(_) => acknowledged.push(user),
                Err(error) => break error,
            }
            assert!(acknowledged.len() < 1_000, "no sync failed");
        };
        // Unknown if it was the commit's own sync, unavailable if a checkpoint's had failed before it.
        assert!(!matches!(refused, StoreError::Invalid(_)), "{refused}");
        assert!(matches!(
            run(store.commit(set("late", 1))),
            Err(StoreError::Unavailable(_))
        ));
        let health = store.health().unwrap_err();
        assert!(
            health.contains("disk I/O error") && health.contains("restart"),
            "{health}"
        );
        // What may not be on the disk is not shown from memory; reads go on.
        assert!(get(&store, "claim/before-0").is_some() || acknowledged.is_empty());
        drop(store);

        // The process starts again, on a system that still shows what the disk has lost.
        let store = begin(directory.path(), &disk);
        assert_eq!(store.health(), Ok(()));
        for n in 0..5 {
            let user = format!("after-{n}");
            run(store.commit(claim(&user))).unwrap();
            acknowledged.push(user);
        }
        let left = scratch();
        disk.image(left.path(), Loss::All).unwrap();
        drop(store);
        let disk = Disk::new(0);
        let store = begin(left.path(), &disk);
        let kept = check_claims(&store);
        let lost = acknowledged
            .iter()
            .find(|user| !kept.contains(&format!("claim/{user}")));
        assert_eq!(lost, None, "seed {seed}");
    }
}

#[test]
fn a_sync_that_fails_while_the_store_is_closed_loses_nothing() {
    for seed in 0..40 {
        let directory = scratch();
        let disk = Disk::new(seed);
        let mut options = Options::new(directory.path().join("test.db"));
        options.vfs = Some(disk.name().to_owned());
        let store = SqliteStore::open(options).unwrap();
        run(store.commit(stock(STOCK as u64))).unwrap();
        (0..30).for_each(|n| assert!(run(store.commit(claim(&n.to_string()))).is_ok()));
        disk.fail(Fault::Sync, 1 + seed % 4);
        drop(store);
        let left = scratch();
        disk.image(left.path(), Loss::All).unwrap();
        for directory in [directory.path(), left.path()] {
            assert_eq!(
                check_claims(&begin(directory, &Disk::new(0))).len(),
                30,
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_failed_write_stops_the_store_and_loses_nothing() {
    for seed in 0..40 {
        let directory = scratch();
        let disk = Disk::new(seed);
        let store = begin(directory.path(), &disk);
        run(store.commit(stock(STOCK as u64))).unwrap();
        disk.fail(Fault::ShortWrite, 1 + seed * 3);
        let mut acknowledged = 0;
        while run(store.commit(claim(&acknowledged.to_string()))).is_ok() {
            acknowledged += 1;
            assert!(acknowledged < 1_000, "no write failed");
        }
        assert!(matches!(
            run(store.commit(set("late", 1))),
            Err(StoreError::Unavailable(_))
        ));
        let health = store.health().unwrap_err();
        assert!(health.contains("disk I/O error"), "{health}");
        drop(store);
        let left = scratch();
        disk.image(left.path(), Loss::Sectors).unwrap();
        let kept = check_claims(&begin(left.path(), &Disk::new(0)));
        assert!(
            (0..acknowledged).all(|user| kept.contains(&format!("claim/{user}"))),
            "seed {seed}"
        );
    }
}

#[test]
fn a_full_disk_refuses_commits_whole_until_there_is_room_again() {
    for seed in 0..40 {
        let directory = scratch();
        let disk = Disk::new(seed);
        let store = begin(directory.path(), &disk);
        run(store.commit(stock(STOCK as u64))).unwrap();
        let mut acknowledged = 0;
        for phase in 0..3 {
            // In the middle of whatever is being written; or, where only the end of a file is full, anywhere.
            disk.fail(Fault::Full, 1 + seed % 13);
            disk.set_full(phase == 1);
            let mut refused = 0;
            for n in 0..300 {
                if refused > 3 {
                    break;
                }
                let mut commit = claim(&acknowledged.to_string());
                let ballast = set(&format!("ballast {phase} {n}"), 6_000);
                commit.mutations.extend(ballast.mutations);
                match run(store.commit(commit)) {
                    Ok(outcome) => {
                        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
                        acknowledged += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
                        assert_eq!(
                            get(&store, &format!("claim/{acknowledged}")),
                            None,
                            "nothing was done"
                        );
                        refused += 1;
                    }
                }
            }
            assert!(refused > 0 || phase != 1, "it was never full");
            disk.set_full(false);
            run(store.commit(claim(&acknowledged.to_string()))).unwrap();
            assert_eq!(store.health(), Ok(()), "a full disk passes");
            acknowledged += 1;
        }
        assert_eq!(check_claims(&store).len(), acknowledged);
        drop(store);
        let left = scratch();
        disk.image(left.path(), Loss::All).unwrap();
        assert_eq!(
            check_claims(&begin(left.path(), &Disk::new(0))).len(),
            acknowledged,
            "seed {seed}"
        );
    }
}

#[test]
fn a_store_that_cannot_write_is_not_ready_until_it_can_again() {
    let directory = scratch();
    let disk = Disk::new(7);
    let store = begin(directory.path(), &disk);
    for by_itself in [true, false, true] {
        run(store.commit(set("before", 1))).unwrap();
        assert_eq!(store.health(), Ok(()));
        disk.set_full(true);
        let refused = (0..100).find_map(|n| run(store.commit(set(&format!("ballast {n}"), 6_000))).err());
        assert!(refused.is_some(), "it was never full");
        let why = store.health().unwrap_err();
        assert!(why.contains("full") && !why.contains("restart"), "{why}");
        // Reads prove nothing.
        assert!(get(&store, "before").is_some());
        assert!(store.health().is_err());
        disk.set_full(false);
        if !by_itself {
            run(store.commit(set("after", 1))).unwrap();
            assert_eq!(store.health(), Ok(()), "a commit was written");
        }
        let patience = Instant::now() + Duration::from_secs(10);
        while let Err(why) = store.health() {
            assert!(Instant::now() < patience, "it never tried again: {why}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A checkpoint of a long log takes some 100 ms, most of it one sync of the database: nobody waits for it.
#[test]
fn commits_go_on_while_the_log_is_copied_into_the_database() {
    /// Commits, until so many were answered while a sync of the database was under way.
    async fn go_on(store: &SqliteStore, disk: &Disk) -> bool {
        let mut answered = 0;
        for n in 0..10_000 {
            let commit = store.commit(set(&format!("key {n}"), 3_000));
            if !matches!(
                tokio::time::timeout(Duration::from_secs(10), commit).await,
                Ok(Ok(_))
            ) {
                return false;
            }
            match disk.held() {
                // Or the log is so long before the copier's thread has its turn that the writer rightly waits for it.
                0 => tokio::time::sleep(Duration::from_millis(1)).await,
                _ => answered += 1,
            }
            if answered == 50 {
                return true;
            }
        }
        false
    }
    let directory = scratch();
    let disk = Disk::new(1);
    let mut options = Options::new(directory.path().join("test.db"));
    options.vfs = Some(disk.name().to_owned());
    options.checkpoint_pages = 100;
    let store = SqliteStore::open(options).unwrap();
    disk.hold_database_syncs(true);
    let went_on = run(go_on(&store, &disk));
    disk.hold_database_syncs(false);
    assert!(went_on, "a commit waited for the sync of the database");
    // Once it can be synced, all of the log is copied, and begins anew with the next commit.
    let log = directory.path().join("test.db-wal");
    let patience = Instant::now() + Duration::from_secs(20);
    let mut length = std::fs::metadata(&log).unwrap().len();
    for n in 0.. {
        run(store.commit(set(&format!("later {n}"), 3_000))).unwrap();
        let now = std::fs::metadata(&log).unwrap().len();
        if n > 400 && now == length {
            return;
        }
        assert!(Instant::now() < patience, "the log grows for ever: {now}");
        length = now;
    }
}
