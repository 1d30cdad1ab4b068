//! `[metrics]`: who may read them.

use serde::{Deserialize, Serialize};

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSettings {
    /// Who may read `GET /metrics`.
    pub access: MetricsAccess,
}

/// Who may read `GET /metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAccess {
    /// An API key with the scope `metrics`.
    #[default]
    Key,
    /// Callers on this machine too, unless a header says that a proxy passes somebody on.
    Loopback,
    /// Everybody.
    Anyone,
}
