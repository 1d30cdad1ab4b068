//! Threads that run rules: each has a single-threaded runtime of its own.

use anyhow::{Context as _, Result};
use std::thread::JoinHandle;
use tokio::task::LocalSet;

/// Starts a thread. `begin` runs on it, and may fail; what it gives is polled there until it ends.
///
/// # Errors
/// There is no thread or no runtime to be had, or `begin` failed.
pub fn start<F: Future<Output = ()>>(
    name: String,
    begin: impl FnOnce() -> Result<F> + Send + 'static,
) -> Result<JoinHandle<()>> {
    let (started, starting) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
        // Made here: a runtime may not be dropped in another, as it would be where there is no thread.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error.into()))),
        };
        LocalSet::new().block_on(&runtime, async move {
            match begin() {
                Ok(running) => {
                    let _ = started.send(Ok(()));
                    running.await;
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
    });
    let thread = thread.with_context(|| format!("cannot start the thread {name}"))?;
    let outcome = starting.recv();
    outcome.with_context(|| format!("the thread {name} ended before it had started"))??;
    Ok(thread)
}

/// Waits until a thread has ended.
pub fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(name, "a thread ended with a panic");
    }
}
