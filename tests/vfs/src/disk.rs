//! The state of the disk: what it holds, what it was only asked to hold, and the faults to come.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_IOERR_DELETE, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE,
    SQLITE_OK,
};

/// Bytes that are written whole or not at all.
pub const SECTOR: usize = 512;

/// An operation that fails once, on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A sync: `SQLITE_IOERR_FSYNC`.
    Sync,
    /// A write, for lack of room; nothing is written: `SQLITE_FULL`.
    Full,
    /// A write, after half of it: `SQLITE_IOERR_WRITE`.
    ShortWrite,
}

/// Which unsynced writes a power cut loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    All,
    /// None of it: the cache was written out just in time.
    None,
    /// The last writes; the first of them may be torn between two sectors.
    Tail,
    /// Any sectors of any writes.
    Sectors,
}

/// An operation that was not synced yet.
enum Operation {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Operation {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
            Self::Truncate(length) => content.truncate(*length),
        }
    }

    /// The sectors that it changes.
    fn sectors(&self) -> Range<usize> {
        match self {
            Self::Write { at, bytes } => at / SECTOR..(at + bytes.len()).div_ceil(SECTOR),
            Self::Truncate(_) => 0..0,
        }
    }
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Operation>,
    /// As the system shows it.
    length: usize,
}

/// What became of a write.
pub(crate) struct Written {
    /// Bytes that reach the system's file.
    pub passed: usize,
    /// SQLite's result code.
    pub result: i32,
}

pub(crate) struct State {
    files: BTreeMap<PathBuf, File>,
    random: fastrand::Rng,
    faults: BTreeMap<Fault, u64>,
    pub(crate) full: bool,
    pub(crate) lying: bool,
    pub(crate) holding: bool,
    pub(crate) held: u64,
    operations: u64,
    cut_at: Option<u64>,
    cut: bool,
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            faults: BTreeMap::new(),
            full: false,
            lying: false,
            holding: false,
            held: 0,
            operations: 0,
            cut_at: None,
            cut: false,
        }
    }

    pub(crate) fn fail(&mut self, fault: Fault, nth: u64) {
        self.faults.insert(fault, nth);
    }

    /// Whether a sync of the file has to wait.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.holding && !self.cut && !path.to_string_lossy().ends_with("-wal")
    }

    pub(crate) fn cut_power_at(&mut self, nth: u64) {
        self.cut_at = Some(self.operations + nth);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// A file was opened; the first time, it holds what is there.
    pub(crate) fn open(&mut self, path: &Path) {
        self.files.entry(path.to_owned()).or_insert_with(|| {
            let durable = std::fs::read(path).unwrap_or_default();
            File {
                length: durable.len(),
                durable,
                pending: Vec::new(),
            }
        });
    }

    pub(crate) fn delete(&mut self, path: &Path) -> i32 {
        if self.cut {
            return SQLITE_IOERR_DELETE;
        }
        self.files.remove(path);
        SQLITE_OK
    }

    pub(crate) fn write(&mut self, path: &Path, at: usize, bytes: &[u8]) -> Written {
        let nothing = |result| Written { passed: 0, result };
        if self.cut {
            return nothing(SQLITE_IOERR_WRITE);
        }
        let short = self.is_due(Fault::ShortWrite);
        let grows = self
            .files
            .get(path)
            .is_none_or(|file| at + bytes.len() > file.length);
        if self.is_due(Fault::Full) || (self.full && grows) {
            return nothing(SQLITE_FULL);
        }
        let bytes = if short { &bytes[..bytes.len() / 2] } else { bytes };
        if let Some(file) = self.files.get_mut(path) {
            file.length = file.length.max(at + bytes.len());
            let bytes = bytes.to_vec();
            file.pending.push(Operation::Write { at, bytes });
        }
        let result = if self.power_fails() || short {
            SQLITE_IOERR_WRITE
        } else {
            SQLITE_OK
        };
        Written {
            passed: bytes.len(),
            result,
        }
    }

    pub(crate) fn truncate(&mut self, path: &Path, length: usize) -> i32 {
        if self.cut {
            return SQLITE_IOERR_TRUNCATE;
        }
        if let Some(file) = self.files.get_mut(path) {
            file.length = length;
            file.pending.push(Operation::Truncate(length));
        }
        if self.power_fails() {
            SQLITE_IOERR_TRUNCATE
        } else {
            SQLITE_OK
        }
    }

    pub(crate) fn sync(&mut self, path: &Path) -> i32 {
        if self.cut || self.power_fails() {
            return SQLITE_IOERR_FSYNC;
        }
        let fails = self.is_due(Fault::Sync);
        let Some(file) = self.files.get_mut(path) else {
            return SQLITE_OK;
        };
        if fails {
            // The system takes what it could not write for written: no later sync tries again.
            let loss = self.random.choice([Loss::All, Loss::Tail, Loss::Sectors]);
            file.durable = left(file, loss.unwrap_or(Loss::All), &mut self.random);
            file.pending.clear();
            return SQLITE_IOERR_FSYNC;
        }
        if !self.lying {
            for operation in file.pending.drain(..) {
                operation.apply(&mut file.durable);
            }
        }
        SQLITE_OK
    }

    pub(crate) fn image(&mut self, loss: Loss) -> Vec<(PathBuf, Vec<u8>)> {
        let random = &mut self.random;
        let files = self.files.iter();
        files
            .map(|(path, file)| (path.clone(), left(file, loss, random)))
            .collect()
    }

    fn is_due(&mut self, fault: Fault) -> bool {
        let Some(left) = self.faults.get_mut(&fault) else {
            return false;
        };
        *left = left.saturating_sub(1);
        let due = *left == 0;
        if due {
            self.faults.remove(&fault);
        }
        due
    }

    fn power_fails(&mut self) -> bool {
        self.operations += 1;
        self.cut = self.cut_at.is_some_and(|at| self.operations >= at);
        self.cut
    }
}

/// What is left of a file.
fn left(file: &File, loss: Loss, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut content = file.durable.clone();
    match loss {
        Loss::All => {}
        Loss::None => file
            .pending
            .iter()
            .for_each(|operation| operation.apply(&mut content)),
        Loss::Tail => {
            let kept = random.usize(..=file.pending.len());
            let (kept, lost) = file.pending.split_at(kept);
            kept.iter().for_each(|operation| operation.apply(&mut content));
            if let Some(Operation::Write { at, bytes }) = lost.first() {
                let torn = random.usize(..=bytes.len() / SECTOR) * SECTOR;
                // Up to a boundary of the disk's sectors, not of the write's.
                let torn = torn.saturating_sub(at % SECTOR).min(bytes.len());
                let (at, bytes) = (*at, bytes[..torn].to_vec());
                Operation::Write { at, bytes }.apply(&mut content);
            }
        }
        Loss::Sectors => {
            // A truncation is a change of the directory: what came before it is not mixed with what came after.
            let truncated = file
                .pending
                .iter()
                .rposition(|o| matches!(o, Operation::Truncate(_)));
            let pending = match truncated {
                Some(at) if random.bool() => {
                    let (before, after) = file.pending.split_at(at + 1);
                    before.iter().for_each(|operation| operation.apply(&mut content));
                    after
                }
                Some(at) => {
                    let before = &file.pending[..at];
                    let earlier = before.iter().rposition(|o| matches!(o, Operation::Truncate(_)));
                    &before[..earlier.unwrap_or(before.len())]
                }
                None => &file.pending[..],
            };
            scatter(&mut content, pending, random);
        }
    }
    content
}

/// Gives every sector that was written any of its contents since the last sync, and the file any of its lengths.
fn scatter(content: &mut Vec<u8>, pending: &[Operation], random: &mut fastrand::Rng) {
    let mut versions: BTreeMap<usize, usize> = BTreeMap::new();
    for sector in pending.iter().flat_map(Operation::sectors) {
        *versions.entry(sector).or_default() += 1;
    }
    // Some cuts take nearly all, some nearly nothing.
    let keeps = random.f64();
    let mut choose = |written: usize| match random.f64() < keeps {
        true if random.bool() => written,
        true => random.usize(..=written),
        false => 0,
    };
    let chosen: BTreeMap<usize, usize> = versions
        .into_iter()
        .map(|(sector, n)| (sector, choose(n)))
        .collect();
    let durable_length = content.len();
    let mut lengths = vec![durable_length];
    let mut shown = content.clone();
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for operation in pending {
        operation.apply(&mut shown);
        lengths.push(shown.len());
        for sector in operation.sectors() {
            let seen = seen.entry(sector).or_default();
            *seen += 1;
            if chosen.get(&sector) == Some(seen) {
                let sector = sector * SECTOR..shown.len().min((sector + 1) * SECTOR);
                if content.len() < sector.end {
                    content.resize(sector.end, 0);
                }
                content[sector.clone()].copy_from_slice(&shown[sector]);
            }
        }
    }
    let length = lengths[random.usize(..lengths.len())];
    content.resize(length, 0);
    // What was never written of a file that grew is what the disk held there before.
    for (sector, kept) in chosen {
        let sector = (sector * SECTOR).max(durable_length)..length.min((sector + 1) * SECTOR);
        if kept == 0 && sector.start < sector.end {
            random.fill(&mut content[sector]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [Loss; 4] = [Loss::All, Loss::None, Loss::Tail, Loss::Sectors];

    fn path() -> PathBuf {
        PathBuf::from("/nowhere/file")
    }

    fn disk(seed: u64) -> State {
        let mut disk = State::new(seed);
        disk.open(&path());
        disk
    }

    fn left(disk: &mut State, loss: Loss) -> Vec<u8> {
        disk.image(loss).remove(0).1
    }

    #[test]
    fn what_was_synced_is_kept_and_what_was_not_may_be_lost() {
        for loss in LOSSES {
            let mut disk = disk(1);
            disk.write(&path(), 0, &[1; 1_000]);
            assert_eq!(disk.sync(&path()), SQLITE_OK);
            assert_eq!(left(&mut disk, loss), [1; 1_000]);
            disk.write(&path(), 500, &[2; 1_000]);
            assert_eq!(left(&mut disk, loss)[..500], [1; 500], "{loss:?}");
        }
        let mut disk = disk(1);
        disk.write(&path(), 0, &[1; 10]);
        assert!(left(&mut disk, Loss::All).is_empty());
        assert_eq!(left(&mut disk, Loss::None), [1; 10]);
    }

    #[test]
    fn every_sector_holds_one_of_its_contents_and_all_mixtures_occur() {
        let mut mixtures = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let mut disk = disk(seed);
            disk.write(&path(), 0, &[1; 3 * SECTOR]);
            disk.sync(&path());
            disk.write(&path(), 0, &[2; 2 * SECTOR]);
            disk.write(&path(), SECTOR, &[3; 2 * SECTOR]);
            let content = left(&mut disk, Loss::Sectors);
            let sectors: Vec<u8> = content.chunks(SECTOR).map(|sector| sector[0]).collect();
            assert!(
                content
                    .chunks(SECTOR)
                    .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
            );
            mixtures.insert(sectors);
        }
        // The first sector has two contents, the second three, the third two.
        assert_eq!(mixtures.len(), 12, "{mixtures:?}");
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next() {
        let lost = (0..50).filter(|seed| {
            let mut disk = disk(*seed);
            disk.write(&path(), 0, &[1; 2 * SECTOR]);
            disk.fail(Fault::Sync, 1);
            assert_eq!(disk.sync(&path()), SQLITE_IOERR_FSYNC);
            assert_eq!(disk.sync(&path()), SQLITE_OK);
            left(&mut disk, Loss::None) != [1; 2 * SECTOR]
        });
        assert!(lost.count() > 10);
    }

    #[test]
    fn after_the_power_is_gone_nothing_works() {
        let mut disk = disk(1);
        disk.cut_power_at(2);
        assert_eq!(disk.write(&path(), 0, &[1; 10]).result, SQLITE_OK);
        assert_ne!(disk.sync(&path()), SQLITE_OK);
        assert!(disk.is_cut());
        assert_ne!(disk.write(&path(), 0, &[1; 10]).result, SQLITE_OK);
        assert_ne!(disk.truncate(&path(), 0), SQLITE_OK);
        assert_ne!(disk.delete(&path()), SQLITE_OK);
    }

    #[test]
    fn a_full_disk_takes_what_needs_no_room() {
        let mut disk = disk(1);
        disk.write(&path(), 0, &[1; 10]);
        disk.full = true;
        assert_eq!(disk.write(&path(), 5, &[1; 10]).result, SQLITE_FULL);
        assert_eq!(disk.write(&path(), 0, &[1; 10]).result, SQLITE_OK);
    }
}
