//! `[reload]`: when the file is read again.

use serde::{Deserialize, Serialize};
use tollgate_api::units::Span;

/// `[reload]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadSettings {
    /// How often the file is looked at for changes; zero: it is read again on SIGHUP alone.
    pub every: Span,
}

impl Default for ReloadSettings {
    fn default() -> Self {
        Self {
            every: Span::from_secs(5),
        }
    }
}
