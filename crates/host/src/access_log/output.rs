//! Where the lines go. A file that was moved away, as `logrotate` does it, is made anew: nobody need send a signal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tollgate_rules::config::{STDERR, STDOUT};

/// How often it is looked at most whether the file is still where it was. The writer comes by every second.
const CHECK: Duration = Duration::from_millis(500);

/// A file, or a stream of the process.
pub enum Output {
    /// Not Rust's handle: a thread that is stuck in a write to it holds its lock.
    Stream(File),
    File(LogFile),
}

/// A file that lines are appended to.
pub struct LogFile {
    path: PathBuf,
    file: File,
    checked: Instant,
    /// Whether the last line in the file has no end yet.
    is_torn: bool,
    /// Whether the last write failed.
    has_failed: bool,
}

impl Output {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be opened for writing, or is neither a file nor a character device.
    pub fn open(path: &str) -> io::Result<Self> {
        let of =
            |stream: std::os::fd::BorrowedFd<'_>| Ok(Self::Stream(File::from(stream.try_clone_to_owned()?)));
        match path {
            STDOUT => of(io::stdout().as_fd()),
            STDERR => of(io::stderr().as_fd()),
            path => Ok(Self::File(LogFile::open(Path::new(path))?)),
        }
    }
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        Ok(Self {
            file: open(&path)?,
            path,
            checked: Instant::now(),
            is_torn: false,
            has_failed: false,
        })
    }

    /// Whether another file, or none, is now where this one was.
    fn was_moved(&self) -> bool {
        let (Ok(own), there) = (self.file.metadata(), std::fs::metadata(&self.path)) else {
            return false;
        };
        match there {
            Ok(there) => (own.dev(), own.ino()) != (there.dev(), there.ino()),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn failed(&mut self, error: &io::Error) {
        // Once, until it works again.
        if !std::mem::replace(&mut self.has_failed, true) {
            tracing::warn!(path = %self.path.display(), %error, "the access log cannot be written");
        }
    }
}

/// A pipe without a reader would let the process wait: it is none, and is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.union(rustix::fs::OFlags::NOCTTY);
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() || kind.is_char_device() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(bytes),
            Self::File(log) => log.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(_) => Ok(()),
            Self::File(log) => log.flush(),
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.has_failed && self.is_torn {
            self.file.write_all(b"\n")?;
        }
        let written = self.file.write(bytes);
        match &written {
            Ok(count) => {
                let last = bytes.get(..*count).and_then(<[u8]>::last);
                (self.is_torn, self.has_failed) = (last != Some(&b'\n'), false);
            }
            Err(error) => self.failed(error),
        }
        written
    }

    /// Looks whether the file was moved away.
    fn flush(&mut self) -> io::Result<()> {
        if self.checked.elapsed() < CHECK {
            return Ok(());
        }
        self.checked = Instant::now();
        if self.was_moved() {
            match open(&self.path) {
                Ok(file) => (self.file, self.is_torn) = (file, false),
                // The old one is better than none.
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "the access log cannot be opened again");
                }
            }
        }
        Ok(())
    }
}
