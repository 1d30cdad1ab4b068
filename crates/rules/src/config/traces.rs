//! `[traces]`: where traces go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_api::secret::SecretText;

/// `[traces]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceSettings {
    /// The collector's URL: OTLP over HTTP, in Protobuf. `/v1/traces` is added to it, unless it ends so. Without it there
    /// are no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether `endpoint` is a whole URL, to which nothing is added: OpenTelemetry's variable for traces alone says so.
    #[serde(skip)]
    pub is_whole: bool,
    /// The share of requests that are traced, 0 to 1, where no trusted proxy has decided.
    pub sample: f64,
    /// The service that traces tell of.
    pub service_name: String,
    /// Headers that the collector wants, such as a key; at most [`super::MAX_TRACE_HEADERS`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, SecretText>,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            is_whole: false,
            sample: 0.01,
            service_name: "tollgate".into(),
            headers: BTreeMap::new(),
        }
    }
}
