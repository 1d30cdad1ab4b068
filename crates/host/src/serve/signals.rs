//! Signals. The first SIGTERM, SIGINT or SIGQUIT stops the gateway in order, the second at once. SIGHUP has the configuration read
//! again. Other signals do nothing.

use crate::logging;
use anyhow::Result;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// A terminal and a supervisor may both pass on one Ctrl-C: a signal that follows within this time does not
/// count as a second one.
const SAME: Duration = Duration::from_millis(500);

/// Ends with SIGTERM, SIGINT or SIGQUIT. From this call on, no signal but SIGKILL ends the process by itself.
///
/// # Errors
/// The system takes no handlers.
pub fn stop() -> Result<impl Future<Output = ()>> {
    let mut stops = Stops {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        quit: signal(SignalKind::quit())?,
    };
    let (first, told) = oneshot::channel();
    // A task, so that it is heard even while the main one waits for the disk.
    tokio::spawn(async move {
        let _ = stops.next().await;
        let since = Instant::now();
        let _ = first.send(());
        loop {
            let number = stops.next().await;
            if since.elapsed() >= SAME {
                tracing::warn!("told to stop again: ending at once; what was acknowledged is durable");
                logging::finish();
                std::process::exit(128 + number);
            }
        }
    });
    for kind in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
        tokio::spawn(ignore(signal(kind)?, kind.as_raw_value()));
    }
    Ok(async {
        let _ = told.await;
    })
}

/// SIGHUP. One that comes before anybody looks is kept, and several are one.
///
/// # Errors
/// The system takes no handler.
pub fn hangup() -> Result<Signal> {
    Ok(signal(SignalKind::hangup())?)
}

struct Stops {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Stops {
    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
        };
        kind.as_raw_value()
    }
}

async fn ignore(mut signal: Signal, number: i32) {
    while signal.recv().await.is_some() {
        tracing::warn!(
            signal = number,
            "this signal does nothing: SIGHUP has the settings read again"
        );
    }
}
