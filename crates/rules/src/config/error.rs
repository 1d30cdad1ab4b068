//! The faults of a configuration, and their places: file, line and key.

use std::fmt;

use tollgate_api::json;
use toml::de::{DeTable, DeValue};

/// A configuration that cannot be used. Displays as `tollgate.toml:12: limits[0].capacity: must be at least 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name, as given to [`super::Config::read`].
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The key at fault; empty for a syntax error.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            key,
            message,
        } = self;
        let colon = if key.is_empty() { "" } else { ": " };
        write!(f, "{file}:{line}: {key}{colon}{message}")
    }
}

impl std::error::Error for ConfigError {}

/// One step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The way to a value from the root of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// As the segments of a JSON pointer: `retry/schedule/0`.
    pub(crate) fn pointer(&self) -> String {
        let step = |step: &Step| match step {
            Step::Key(key) => json::escape(key),
            Step::Index(index) => index.to_string(),
        };
        self.0.iter().map(step).collect::<Vec<_>>().join("/")
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl From<&serde_path_to_error::Path> for Path {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let step = |segment: &Segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        Self(path.iter().filter_map(step).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if position > 0 { "." } else { "" };
                    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                    if !key.is_empty() && key.bytes().all(bare) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A rule that a value breaks. Displays as `limits[0].capacity: must be at least 1`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Fault {
    pub(crate) path: Path,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(path: Path, message: impl Into<String>) -> Self {
        Self {
            path,
            message: message.into(),
        }
    }

    /// With the line of the value at fault, or of the nearest thing around it that the file says.
    pub(crate) fn located(self, text: &str, file: &str) -> ConfigError {
        let line = line_of(text, offset_of(text, &self.path).unwrap_or(0));
        ConfigError {
            file: file.to_owned(),
            line,
            key: self.path.to_string(),
            message: self.message,
        }
    }
}

/// The 1-based line of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes().iter().take(end).filter(|b| **b == b'\n').count() + 1
}

/// Where the value at `path` begins, or where the deepest of its ancestors that is written does.
fn offset_of(text: &str, path: &Path) -> Option<usize> {
    enum Level<'t, 'i> {
        Table(&'t DeTable<'i>),
        Value(&'t DeValue<'i>),
    }
    let root = DeTable::parse(text).ok()?;
    let mut level = Level::Table(root.get_ref());
    let mut offset = None;
    for step in &path.0 {
        let table = match &level {
            Level::Table(table) => Some(*table),
            Level::Value(value) => value.as_table(),
        };
        let next = match (step, &level) {
            (Step::Key(key), _) => table.and_then(|t| t.get(key.as_str())),
            (Step::Index(index), Level::Value(value)) => value.as_array().and_then(|a| a.get(*index)),
            (Step::Index(_), Level::Table(_)) => None,
        };
        let Some(next) = next else { break };
        offset = Some(next.span().start);
        level = Level::Value(next.get_ref());
    }
    offset
}
