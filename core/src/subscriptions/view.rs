//! A subscription as answers show it.

use serde::Serialize;
use serde_json::Number;

use super::record::{Defined, Source};
use crate::commit::Topic;
use crate::config::Retry;
use crate::ports::Store;
use crate::problem::Problem;
use crate::relay::record::{Keys, PauseReason};
use crate::relay::restore;
use crate::time;

/// In place of a secret.
const MASK: &str = "whsec_********";
const MS_PER_SECOND: u64 = 1_000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    topic: String,
    name: String,
    url: String,
    /// Masked; null where there is none or it is not known here (that of the file).
    pub secret: Option<String>,
    rate_per_second: u32,
    concurrency: u32,
    /// Seconds.
    timeout: Number,
    ordered: bool,
    allow_private_addresses: bool,
    retry: RetryView,
    /// `file` or `api`.
    source: &'static str,
    paused: bool,
    pause_reason: Option<PauseReason>,
    #[serde(with = "time::rfc3339_option")]
    paused_at: Option<u64>,
    /// All messages up to here are finished.
    watermark: u64,
    /// Messages that are not finished.
    lag: u64,
    #[serde(with = "time::rfc3339_option")]
    created_at: Option<u64>,
    #[serde(with = "time::rfc3339_option")]
    updated_at: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum RetryView {
    #[serde(rename_all = "camelCase")]
    Exponential {
        initial_seconds: Number,
        factor: f64,
        cap_seconds: Number,
        max_attempts: u32,
    },
    #[serde(rename_all = "camelCase")]
    Fixed { schedule_seconds: Vec<Number> },
}

impl View {
    /// `extent`: of its topic; `None` if that never had a message.
    pub(super) async fn of<S: Store>(
        store: &S,
        defined: &Defined,
        extent: Option<&Topic>,
    ) -> Result<Self, Problem> {
        let Defined {
            topic,
            settings,
            source,
        } = defined;
        let (polled, progress) = restore::state(store, &Keys::new(topic, &settings.name)).await?;
        let (control, _) = polled.control;
        let (name, created_at, updated_at) = match source {
            Source::File => ("file", None, None),
            Source::Api {
                created_at,
                updated_at,
                ..
            } => ("api", Some(*created_at), Some(*updated_at)),
        };
        Ok(Self {
            topic: topic.clone(),
            name: settings.name.clone(),
            url: settings.url.clone(),
            secret: settings.secret.as_ref().map(|_| MASK.to_owned()),
            rate_per_second: settings.rate_per_second,
            concurrency: settings.concurrency,
            timeout: seconds(settings.timeout.as_millis()),
            ordered: settings.ordered,
            allow_private_addresses: settings.allow_private_addresses,
            retry: RetryView::of(&settings.retry),
            source: name,
            paused: control.paused,
            pause_reason: control.reason,
            paused_at: control.since,
            watermark: progress.watermark(),
            lag: extent.map_or(0, |extent| progress.lag(extent.first, extent.last)),
            created_at,
            updated_at,
        })
    }
}

impl RetryView {
    fn of(retry: &Retry) -> Self {
        match &retry.schedule {
            Some(waits) => Self::Fixed {
                schedule_seconds: waits.iter().map(|wait| seconds(wait.as_millis())).collect(),
            },
            None => Self::Exponential {
                initial_seconds: seconds(retry.initial.as_millis()),
                factor: retry.factor,
                cap_seconds: seconds(retry.cap.as_millis()),
                max_attempts: retry.max_attempts,
            },
        }
    }
}

/// Seconds: whole, except where a file says something like `500ms`.
fn seconds(ms: u64) -> Number {
    if ms.is_multiple_of(MS_PER_SECOND) {
        return Number::from(ms / MS_PER_SECOND);
    }
    Number::from_f64(ms as f64 / MS_PER_SECOND as f64).unwrap_or_else(|| Number::from(0))
}
