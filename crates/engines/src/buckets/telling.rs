//! What this gateway has admitted is told to an engine, report by report. See [`super::debts`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::debts::{Debts, Report};

/// Between two attempts to tell.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at buckets that may be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// An engine that charges reports.
pub(crate) trait Teller {
    /// Charges a report, unless one of this number was charged before; connects first, if it must. The levels, in units.
    async fn tell(&mut self, report: &Report, number: i64) -> Result<HashMap<String, i64>, String>;
    /// Something failed: what is open may be out of step.
    fn close(&mut self);
    /// Called every second.
    async fn sweep(&mut self) {}
}

/// Tells until it is told to end. A report is told until it is answered.
pub(crate) async fn run(debts: Arc<Debts>, mut teller: impl Teller, mut end: watch::Receiver<bool>) {
    let mut under_way: Option<Report> = None;
    let (mut number, mut swept) = (0, Instant::now());
    while !*end.borrow() {
        if under_way.is_none() {
            tokio::select! {
                () = debts.wait() => {}
                () = tokio::time::sleep(SWEEP) => {}
                _ = end.changed() => break,
            }
            under_way = debts.report();
            number += i64::from(under_way.is_some());
        }
        if let Some(report) = &under_way {
            match teller.tell(report, number).await {
                Ok(levels) => {
                    debts.answered(report, &levels);
                    under_way = None;
                }
                Err(why) => {
                    tracing::debug!(why, "shared limits are told again");
                    teller.close();
                    debts.not_answered();
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        _ = end.changed() => break,
                    }
                }
            }
        }
        if swept.elapsed() >= SWEEP {
            debts.sweep();
            teller.sweep().await;
            swept = Instant::now();
        }
    }
}
