//! Rules of `[access_log]` and `[traces]`.

use super::checks::{Checked, at_most, ensure, file, header_name, within};
use super::topics::{OWN_TARGET, target};
use crate::config::{AccessLogSettings, MAX_TRACE_HEADERS, Path, TraceSettings};
use crate::own_address::OwnAddresses;

/// Of shares.
const SHARE_BOUNDS: (f64, f64) = (0.0, 1.0);
const MAX_SERVICE_NAME: usize = 128;
/// What the URL of a collector ends with, for traces (OTLP/HTTP).
const TRACES_PATH: &str = "/v1/traces";

pub(super) fn access_log(settings: &AccessLogSettings, path: &Path) -> Checked {
    file(&settings.path, path.key("path"))?;
    within(settings.sample, SHARE_BOUNDS, path.key("sample"))?;
    within(
        settings.sample_refusals,
        SHARE_BOUNDS,
        path.key("sample_refusals"),
    )
}

/// The private addresses are fine: a collector is most often next door.
pub(super) fn traces(settings: &TraceSettings, own: &OwnAddresses, path: &Path) -> Checked {
    if let Some(endpoint) = &settings.endpoint {
        target(endpoint, path.key("endpoint"))?;
        ensure(!own.are_target(endpoint), path.key("endpoint"), OWN_TARGET)?;
    }
    within(settings.sample, SHARE_BOUNDS, path.key("sample"))?;
    let name = &settings.service_name;
    ensure(
        (1..=MAX_SERVICE_NAME).contains(&name.len()) && !name.contains(char::is_control),
        path.key("service_name"),
        "must be 1 to 128 characters",
    )?;
    let headers = path.key("headers");
    at_most(settings.headers.len(), MAX_TRACE_HEADERS, &headers)?;
    for (name, value) in &settings.headers {
        header_name(name, headers.key(name))?;
        let visible = value.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte));
        ensure(visible, headers.key(name), "must be visible ASCII")?;
    }
    Ok(())
}

/// The URL that traces are sent to.
pub(super) fn complete(endpoint: &mut String) {
    endpoint.truncate(endpoint.trim_end_matches('/').len());
    if !endpoint.ends_with(TRACES_PATH) {
        endpoint.push_str(TRACES_PATH);
    }
}
