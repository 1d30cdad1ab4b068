//! Rules of `[access_log]`.

use super::checks::{Checked, file, within};
use crate::config::{AccessLogSettings, Path};

/// Of shares.
const SHARE_BOUNDS: (f64, f64) = (0.0, 1.0);

pub(super) fn access_log(settings: &AccessLogSettings, path: &Path) -> Checked {
    file(&settings.path, path.key("path"))?;
    within(settings.sample, SHARE_BOUNDS, path.key("sample"))?;
    within(
        settings.sample_refusals,
        SHARE_BOUNDS,
        path.key("sample_refusals"),
    )
}
