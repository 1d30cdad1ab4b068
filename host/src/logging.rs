//! Logs go to stderr: for people on a terminal, as JSON lines otherwise. `RUST_LOG` is honoured.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// What is logged when `RUST_LOG` does not say.
const DEFAULT: &str = "info";

/// Starts logging, once.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match std::io::stderr().is_terminal() {
        true => builder.with_target(false).init(),
        false => builder.json().flatten_event(true).init(),
    }
}
