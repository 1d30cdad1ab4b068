//! The access log: a line for each request, if `[access_log]` asks for it ([`entry`] gathers what it tells, [`line`] writes
//! it). No request waits for it: lines go to a bounded queue, and a thread of its own writes them ([`output`]).

pub mod entry;
mod line;
mod output;

use crate::logging::queue::Queue;
use anyhow::{Context as _, Result};
use std::sync::Arc;
use std::time::Duration;
use tollgate_rules::config::{AccessLogFormat, AccessLogSettings};

pub use entry::Entry;
use line::Line;
use output::Output;

/// How long the end of the process waits for the last lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the access log.
#[derive(Clone)]
pub struct AccessLog {
    format: AccessLogFormat,
    sample: f64,
    sample_refusals: f64,
    path: String,
    lines: Arc<Lines>,
}

/// Lines on their way to one file. Its thread ends, with everything written, once nobody can write a line any more.
struct Lines(Arc<Queue>);

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.finish(Duration::ZERO);
    }
}

/// The luck of one request, from 0 to 1: it gets a line if that is less than the share of its kind.
#[derive(Clone, Copy, Debug)]
pub struct Luck(f64);

impl AccessLog {
    /// Opens the file, and starts the thread that writes it. `None`: there is no such log. `before`: the log until now, whose
    /// thread goes on where the file stays the same.
    ///
    /// # Errors
    /// The file cannot be written, or there is no thread to be had.
    pub fn start(settings: &AccessLogSettings, before: Option<&Self>) -> Result<Option<Self>> {
        if settings.format == AccessLogFormat::Off {
            return Ok(None);
        }
        let lines = match before.filter(|before| before.path == settings.path) {
            Some(before) => Arc::clone(&before.lines),
            None => Self::open(settings)?,
        };
        Ok(Some(Self {
            format: settings.format,
            sample: settings.sample,
            sample_refusals: settings.sample_refusals,
            path: settings.path.clone(),
            lines,
        }))
    }

    fn open(settings: &AccessLogSettings) -> Result<Arc<Lines>> {
        let output = Output::open(&settings.path)
            .with_context(|| format!("access_log.path: cannot write {}", settings.path))?;
        let lines = Arc::<Queue>::default();
        let written = Arc::clone(&lines);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || written.write(output, |_, _| String::new()))
            .context("cannot start the thread access-log")?;
        Ok(Arc::new(Lines(lines)))
    }

    /// Draws one request's luck. `None`: it gets no line, whatever becomes of it.
    pub fn draw(&self) -> Option<Luck> {
        let luck = fastrand::f64();
        (luck < self.sample.max(self.sample_refusals)).then_some(Luck(luck))
    }

    /// Whether a request with this luck and this answer gets a line.
    fn chooses(&self, luck: Luck, status: u16) -> bool {
        luck.0
            < match status {
                429 | 503 => self.sample_refusals,
                _ => self.sample,
            }
    }

    fn write(&self, line: &Line<'_>) {
        self.lines.0.push(&line.written(self.format));
    }

    /// Lines that found no room, or were not written, since the start.
    pub fn dropped(&self) -> u64 {
        self.lines.0.all_dropped()
    }

    /// Writes what is left, and waits a bounded time for that.
    pub fn finish(&self) {
        self.lines.0.finish(PATIENCE);
    }
}
