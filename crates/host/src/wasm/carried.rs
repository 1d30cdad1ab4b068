//! Native code that the program carries behind its own executable, so that even the first start compiles nothing.
//!
//! `tollgate precompile` writes it: the executable, the code of each component from a 64 KiB boundary on, an index (JSON), the
//! index's length (4 bytes, little endian) and [`MAGIC`]. The loader of the operating system ignores what follows an ELF image.

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// The last bytes of a program's file that carries code.
const MAGIC: &[u8; 16] = b"tollgate-native\n";
/// Bytes of the index's length and of [`MAGIC`].
const TRAILER: u64 = 20;
/// The most bytes of an index.
const MAX_INDEX: u32 = 64 << 10;
/// The most bytes of one component's code.
const MAX_CODE: u64 = 256 << 20;
const ALIGNMENT: u64 = 64 << 10;

/// Where things are in the file, in bytes.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The length of the executable itself.
    program: u64,
    parts: Vec<Part>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    name: String,
    offset: u64,
    length: u64,
}

/// A program's file, and the code that it carries.
#[derive(Debug)]
pub struct Carried {
    file: File,
    /// Of the file, in bytes.
    length: u64,
    index: Index,
}

impl Carried {
    /// The code that the running program carries; `None` if it carries none.
    pub fn by_this_program() -> Option<Self> {
        Self::by(&std::env::current_exe().ok()?).ok().flatten()
    }

    /// The same of any program's file.
    ///
    /// # Errors
    /// The file cannot be read, or its index is damaged.
    pub fn by(program: &Path) -> Result<Option<Self>> {
        let mut file = File::open(program).with_context(|| format!("cannot read {}", program.display()))?;
        let length = file.metadata()?.len();
        let Some(end) = length.checked_sub(TRAILER) else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(end))?;
        let mut size = [0; 4];
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut size)?;
        file.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Ok(None);
        }
        let size = u32::from_le_bytes(size);
        ensure!(
            size <= MAX_INDEX && u64::from(size) <= end,
            "the index of the native code is damaged"
        );
        file.seek(SeekFrom::Start(end - u64::from(size)))?;
        let mut index = vec![0; size as usize];
        file.read_exact(&mut index)?;
        let index: Index =
            serde_json::from_slice(&index).context("the index of the native code is damaged")?;
        Ok(Some(Self { file, length, index }))
    }

    /// Where the code of one component is: the file, and the offset and length in it, in bytes. The offset is a multiple of 64 KiB,
    /// so that the code can be mapped.
    ///
    /// # Errors
    /// The index is damaged: the file is shorter than it says.
    pub fn code(&self, name: &str) -> Result<Option<(&File, u64, usize)>> {
        let Some(part) = self.index.parts.iter().find(|part| part.name == name) else {
            return Ok(None);
        };
        let end = part.offset.checked_add(part.length);
        let is_inside = part.length <= MAX_CODE && end.is_some_and(|end| end <= self.length);
        ensure!(
            is_inside && part.offset.is_multiple_of(ALIGNMENT),
            "the index of the native code is damaged"
        );
        Ok(Some((&self.file, part.offset, usize::try_from(part.length)?)))
    }
}

/// Writes the program to `output`, with this code in place of what it may carry. `output` is replaced when all is written; it may be
/// the program's own file.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(program: &Path, parts: &[(&str, Vec<u8>)], output: &Path) -> Result<()> {
    let carried = Carried::by(program)?;
    let mut bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    if let Some(carried) = carried {
        bytes.truncate(usize::try_from(carried.index.program)?);
    }
    let mut index = Index {
        program: bytes.len() as u64,
        parts: Vec::with_capacity(parts.len()),
    };
    for (name, code) in parts {
        let offset = (bytes.len() as u64).next_multiple_of(ALIGNMENT);
        bytes.resize(usize::try_from(offset)?, 0);
        bytes.extend_from_slice(code);
        index.parts.push(Part {
            name: (*name).to_owned(),
            offset,
            length: code.len() as u64,
        });
    }
    let index = serde_json::to_vec(&index)?;
    let size = u32::try_from(index.len())?;
    ensure!(size <= MAX_INDEX, "too many components");
    bytes.extend_from_slice(&index);
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(MAGIC);
    // Under another name first: a running program's file cannot be written, and half a program must not be left.
    let draft = output.with_extension(format!("draft-{}", std::process::id()));
    let written = File::create(&draft)
        .and_then(|mut file| {
            file.write_all(&bytes)?;
            file.set_permissions(fs::metadata(program)?.permissions())
        })
        .and_then(|()| fs::rename(&draft, output));
    if written.is_err() {
        _ = fs::remove_file(&draft);
    }
    written.with_context(|| format!("cannot write {}", output.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &[u8] = b"\x7fELF and so on";

    fn codes(carried: &Carried) -> [Option<Vec<u8>>; 2] {
        ["rules", "other"].map(|name| {
            let place = carried.code(name).expect("the index is whole");
            place.map(|(file, offset, length)| {
                let mut code = vec![0; length];
                std::os::unix::fs::FileExt::read_exact_at(file, &mut code, offset).expect("it is there");
                code
            })
        })
    }

    #[test]
    fn what_is_carried_comes_out_the_same_and_can_be_replaced_in_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("program");
        fs::write(&file, PROGRAM).expect("it is ours");
        assert!(Carried::by(&file).expect("it can be read").is_none());
        let large = vec![7; 200_000];
        write(&file, &[("rules", large.clone()), ("other", vec![1])], &file).expect("it is ours");
        let carried = Carried::by(&file).expect("it can be read").expect("some code");
        assert_eq!(codes(&carried), [Some(large), Some(vec![1])]);
        write(&file, &[("rules", vec![2])], &file).expect("it is ours");
        let carried = Carried::by(&file).expect("it can be read").expect("some code");
        assert_eq!(codes(&carried), [Some(vec![2]), None]);
        let bytes = fs::read(&file).expect("it is ours");
        assert!(bytes.starts_with(PROGRAM));
        assert!(bytes.len() < 2 * ALIGNMENT as usize, "the old code is gone");
    }

    #[test]
    fn a_file_that_was_cut_carries_nothing_or_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("program");
        fs::write(&file, PROGRAM).expect("it is ours");
        write(&file, &[("rules", vec![2; 1_000])], &file).expect("it is ours");
        let whole = fs::read(&file).expect("it is ours");
        // Most of it is the space before the code: every place in it is like its neighbours.
        let code = ALIGNMENT as usize;
        let places =
            |end: usize| (0..end).filter(move |at| at % 499 == 0 || at.abs_diff(code) < 32 || *at > code);
        for start in places(whole.len() - TRAILER as usize) {
            // What is missing at the front moves everything.
            fs::write(&file, &whole[start..]).expect("it is ours");
            if let Ok(Some(carried)) = Carried::by(&file) {
                _ = carried.code("rules");
            }
        }
        for length in places(whole.len()) {
            fs::write(&file, &whole[..length]).expect("it is ours");
            assert!(Carried::by(&file).is_ok_and(|carried| carried.is_none()));
        }
    }
}
