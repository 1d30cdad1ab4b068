//! `[access_log]`: a line for each request.

use serde::{Deserialize, Serialize};

/// `[access_log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLogSettings {
    /// How lines are written; [`AccessLogFormat::Off`] for none.
    pub format: AccessLogFormat,
    /// A file, or [`STDOUT`], or [`STDERR`].
    pub path: String,
    /// The share of requests that get a line, 0 to 1.
    pub sample: f64,
    /// The share of those that were refused with 429 or 503, 0 to 1.
    pub sample_refusals: f64,
}

/// The `path` that stands for the program's standard output.
pub const STDOUT: &str = "stdout";
/// The `path` that stands for its standard error, where the log goes too.
pub const STDERR: &str = "stderr";

/// How the lines of the access log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// Not at all.
    #[default]
    Off,
    /// An object of JSON each.
    Json,
    /// The Combined Log Format of Apache and nginx, with duration and request id behind it.
    Combined,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        Self {
            format: AccessLogFormat::Off,
            path: STDOUT.into(),
            sample: 1.0,
            sample_refusals: 0.01,
        }
    }
}
