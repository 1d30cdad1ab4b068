//! Compiled code on disk. It is machine code that will be run. So only files are loaded that this program
//! wrote, byte for byte, and that nobody else could write.

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes of the checksum that a file begins with.
const CHECKSUM: usize = 32;
/// The permission bits with which others than the owner could change a file.
const WRITE_BY_OTHERS: u32 = 0o022;
const ROOT: u32 = 0;
const EXTENSION: &str = "cwasm";
const DRAFT: &str = "draft-";

/// The place of one component's code.
pub struct Place {
    directory: PathBuf,
    name: String,
    stamp: String,
}

impl Place {
    /// For a component whose code depends on the inputs that `stamp` (hexadecimal) is a hash of.
    pub fn new(directory: &Path, name: &str, stamp: String) -> Self {
        Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            stamp,
        }
    }

    /// Where the file is.
    pub fn path(&self) -> PathBuf {
        self.directory
            .join(format!("{}-{}.{EXTENSION}", self.name, self.stamp))
    }

    /// The code, if there is any.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or may be somebody else's.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        let mut file = match File::open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        let owner = metadata.uid();
        if owner != ROOT && owner != rustix::process::geteuid().as_raw() {
            bail!("it belongs to another user");
        }
        if metadata.mode() & WRITE_BY_OTHERS != 0 {
            bail!("other users can write it");
        }
        let mut checksum = [0; CHECKSUM];
        file.read_exact(&mut checksum)?;
        let mut code = Vec::new();
        file.read_to_end(&mut code)?;
        if checksum != self.checksum(&code) {
            bail!("it is damaged");
        }
        Ok(Some(code))
    }

    /// Keeps the code for the next start, and removes what earlier versions kept of the same component.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub fn write(&self, code: &[u8]) -> Result<()> {
        let (path, directory) = (self.path(), &self.directory);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        // A crash leaves either nothing or all of it under its name.
        let draft = path.with_extension(format!("{DRAFT}{}", std::process::id()));
        _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        let written = file
            .write_all(&self.checksum(code))
            .and_then(|()| file.write_all(code))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            _ = fs::remove_file(&draft);
        }
        written?;
        self.remove_others();
        Ok(())
    }

    /// Best effort: what is left takes room and nothing else.
    fn remove_others(&self) {
        let kept = self.path();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path != kept && self.is_of_this_component(&path) {
                _ = fs::remove_file(&path);
            }
        }
    }

    /// Whether the name is that of code, or of a draft, of this component.
    fn is_of_this_component(&self, path: &Path) -> bool {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let rest = name
            .strip_prefix(&self.name)
            .and_then(|rest| rest.strip_prefix('-'));
        rest.and_then(|rest| rest.split_once('.'))
            .is_some_and(|(stamp, kind)| {
                stamp.len() == self.stamp.len()
                    && stamp.bytes().all(|byte| byte.is_ascii_hexdigit())
                    && (kind == EXTENSION || kind.starts_with(DRAFT))
            })
    }

    /// A checksum of the code, its component's name and its stamp.
    fn checksum(&self, code: &[u8]) -> [u8; CHECKSUM] {
        Sha256::new()
            .chain_update(&self.name)
            .chain_update([0])
            .chain_update(&self.stamp)
            .chain_update([0])
            .chain_update(code)
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn place(directory: &Path, stamp: char) -> Place {
        Place::new(directory, "limiter", stamp.to_string().repeat(32))
    }

    #[test]
    fn code_comes_back_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        let place = place(&cache, 'a');
        assert_eq!(place.read().unwrap(), None);
        place.write(b"code").unwrap();
        assert_eq!(place.read().unwrap().as_deref(), Some(&b"code"[..]));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&cache), mode(&place.path())), (0o700, 0o600));
    }

    #[test]
    fn what_is_damaged_or_may_be_somebody_elses_is_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), 'a');
        let code = b"code".repeat(1_000);
        place.write(&code).unwrap();
        let whole = fs::read(place.path()).unwrap();
        for position in [0, CHECKSUM, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            fs::write(place.path(), &damaged).unwrap();
            place.read().unwrap_err();
        }
        for cut in [0, 1, CHECKSUM, whole.len() - 1] {
            fs::write(place.path(), &whole[..cut]).unwrap();
            place.read().unwrap_err();
        }
        fs::write(place.path(), &whole).unwrap();
        place.read().unwrap();
        // The code of another component, or of another version, under this name.
        let other = Place::new(directory.path(), "coupon", "a".repeat(32));
        fs::copy(place.path(), other.path()).unwrap();
        other.read().unwrap_err();
        for mode in [0o620, 0o602] {
            fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
            place.read().unwrap_err();
        }
    }

    #[test]
    fn earlier_code_of_the_same_component_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (place(directory.path(), 'a'), place(directory.path(), 'b'));
        let other = Place::new(directory.path(), "limiter-two", "a".repeat(32));
        old.write(b"old").unwrap();
        other.write(b"other").unwrap();
        fs::write(old.path().with_extension("draft-1"), "cut").unwrap();
        fs::write(directory.path().join("limiter-notes.cwasm"), "mine").unwrap();
        new.write(b"new").unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let name = |place: &Place| place.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected = [name(&new), name(&other), "limiter-notes.cwasm".to_owned()];
        expected.sort();
        assert_eq!(left, expected);
    }
}
