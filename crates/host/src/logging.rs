//! Logs go to stderr: for people on a terminal, as JSON lines otherwise. `RUST_LOG` is honoured.
//!
//! A thread that logs never waits for the reader: lines go to a bounded [`queue`], and a thread of its own
//! writes them. Lines that a stranger can make repeat are [folded](fold).

mod fold;
pub(crate) mod queue;

use fold::{Fold, Repeated};
use queue::{Lines, Queue};
use serde_json::Value;
use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tollgate_rules::config::LogLevel;
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The filter when `RUST_LOG` sets none: our own crates from this level on, libraries only their errors. Many of
/// their warnings are about what strangers send.
fn from(level: LogLevel) -> EnvFilter {
    EnvFilter::new(format!("error,tollgate={}", level.name()))
}

/// How long the end of the process waits for the last lines to be read.
const PATIENCE: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    queue: &'static Queue,
    fold: &'static Fold,
    is_terminal: bool,
    /// Replaces the filter; `None` where `RUST_LOG` has set it.
    refilter: Option<Box<dyn Fn(EnvFilter) + Send + Sync>>,
}

/// Starts logging, once.
///
/// # Errors
/// No thread, or no duplicate of stderr.
pub fn start() -> std::io::Result<()> {
    let is_terminal = std::io::stderr().is_terminal();
    // Not Rust's handle: a thread that is stuck in a write to it holds its lock.
    let stderr = File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
    let queue: &'static Queue = Box::leak(Box::default());
    let fold: &'static Fold = Box::leak(Box::default());
    std::thread::Builder::new()
        .name("log-write".into())
        .spawn(move || {
            queue.write(stderr, |dropped, is_last| {
                report(fold, is_terminal, dropped, is_last)
            })
        })?;
    let asked = std::env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|asked| !asked.is_empty());
    let filter = asked.as_deref().map(EnvFilter::try_new);
    let (filter, fault, is_asked) = match filter {
        None => (from(LogLevel::default()), None, false),
        Some(Ok(filter)) => (filter, None, true),
        Some(Err(fault)) => (from(LogLevel::default()), Some(fault), false),
    };
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let refilter = move |filter| {
        // It fails where nothing is logged any more.
        let _ = handle.reload(filter);
    };
    let log = Log {
        queue,
        fold,
        is_terminal,
        refilter: (!is_asked).then(|| Box::new(refilter) as Box<_>),
    };
    if LOG.set(log).is_err() {
        return Ok(());
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(move || Lines(queue));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match is_terminal {
        true => Box::new(lines.with_target(false)),
        false => Box::new(lines.json().flatten_event(true)),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(fold::Folding(fold))
        .with(filter)
        .init();
    std::panic::set_hook(Box::new(panicked));
    if let Some(fault) = fault {
        tracing::warn!(%fault, "RUST_LOG is not understood; logging as without it");
    }
    Ok(())
}

/// Logs what matters at least so much, unless `RUST_LOG` says otherwise.
pub fn set_level(level: LogLevel) {
    if let Some(refilter) = LOG.get().and_then(|log| log.refilter.as_ref()) {
        refilter(from(level));
    }
}

/// Writes the remaining lines, and waits for that for a bounded time.
pub fn finish() {
    if let Some(log) = LOG.get() {
        log.queue.finish(PATIENCE);
    }
}

/// How many lines were dropped, and how many were left out since they repeat others, since the start.
pub fn left_out() -> (u64, u64) {
    LOG.get()
        .map_or((0, 0), |log| (log.queue.all_dropped(), log.fold.left_out()))
}

/// Whether stderr is a terminal, so that a person is looking.
pub fn is_terminal() -> bool {
    LOG.get().is_some_and(|log| log.is_terminal)
}

/// Writes a message whatever `RUST_LOG` is: the text on a terminal, else a JSON line with its fields. Waits
/// for a bounded time, and returns whether it has been written.
pub fn say(text: &str, level: Level, message: &str, fields: &[(&str, Value)]) -> bool {
    let Some(log) = LOG.get() else {
        eprintln!("{text}");
        return true;
    };
    let line = match log.is_terminal {
        true => format!("{text}\n"),
        false => json(level, message, fields),
    };
    log.queue.push_always(line.as_bytes());
    log.queue.wait_until_written(PATIENCE)
}

/// The log's report on itself: the lines that it dropped or left out.
fn report(fold: &Fold, is_terminal: bool, dropped: u64, is_last: bool) -> String {
    let line = |level: Level, message: &str, field: (&str, u64)| match is_terminal {
        true => format!("{} {level:>5} {message}\n", now()),
        false => json(level, message, &[(field.0, field.1.into())]),
    };
    let mut lines = String::new();
    if dropped > 0 {
        let message = format!("{dropped} log lines were dropped: they came faster than they were read");
        lines += &line(Level::WARN, &message, ("dropped", dropped));
    }
    for Repeated {
        level,
        message,
        times,
    } in fold.repeated(Instant::now(), is_last)
    {
        let message = format!(
            "{message} … {times} more times within {} s",
            fold::INTERVAL.as_secs()
        );
        lines += &line(level, &message, ("repeated", times));
    }
    lines
}

fn json(level: Level, message: &str, fields: &[(&str, Value)]) -> String {
    let mut line = serde_json::Map::new();
    line.insert("timestamp".into(), now().into());
    line.insert("level".into(), level.as_str().into());
    line.insert("message".into(), message.into());
    for (name, value) in fields {
        line.insert((*name).into(), value.clone());
    }
    line.insert("target".into(), "tollgate".into());
    format!("{}\n", Value::Object(line))
}

/// As the lines have it that `tracing` makes.
fn now() -> String {
    let mut time = String::new();
    // Into a string it cannot fail; without a time a line is still a line.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

/// As a line like any other: the standard library's hook writes to stderr itself, and would wait.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(
        thread = thread.name(),
        location = panic.location().map(tracing::field::display),
        backtrace = backtrace.as_ref().map(tracing::field::display),
        "panicked: {}",
        panic.payload_as_str().unwrap_or("(no text)"),
    );
    if thread.name() == Some("main") {
        finish();
    }
}
