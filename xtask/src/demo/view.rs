//! The sale on a terminal: three bars that move. Elsewhere a line every few seconds.

use super::Options;
use super::crowd::Figures;
use super::origin::Origin;
use crate::build::say;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
/// How often the countdown moves.
const TICK: Duration = Duration::from_millis(200);
const BAR: &str = "  {prefix:7} {bar:30.green/dim} {msg}";

pub struct View {
    bars: MultiProgress,
    stock: ProgressBar,
    crowd: ProgressBar,
    origin: ProgressBar,
    figures: Arc<Figures>,
    source: Arc<Origin>,
    units: u64,
    people: u64,
    line: Cell<Option<Instant>>,
}

impl View {
    pub fn new(options: &Options, figures: &Arc<Figures>, origin: &Arc<Origin>) -> Self {
        let bars = MultiProgress::new();
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |length: u64, name: &'static str| {
            let bar = bars.add(ProgressBar::new(length));
            bar.set_style(style.clone());
            bar.set_prefix(name);
            bar
        };
        let (units, people) = (u64::from(options.units), u64::from(options.people));
        Self {
            stock: bar(units, "stock"),
            crowd: bar(people, "crowd"),
            origin: bar(units.min(people), "origin"),
            bars,
            figures: Arc::clone(figures),
            source: Arc::clone(origin),
            units,
            people,
            line: Cell::new(None),
        }
    }

    /// Counts down to the start.
    pub async fn wait_until(&self, start: Instant) {
        while let Some(left) = start
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            self.stock.set_position(self.units);
            let seconds = left.as_secs_f64().ceil();
            self.crowd
                .set_message(format!("the sale starts in {seconds:.0} s"));
            sleep(TICK.min(left)).await;
        }
    }

    /// Shows how it stands.
    pub fn show(&self) {
        let figures = &self.figures;
        let left = self.units.saturating_sub(figures.admitted());
        let delivered = self.source.taken();
        let lines = [
            format!("{left} of {} left", self.units),
            format!(
                "{} of {} have asked: {} admitted, {} too late; {} of scripts refused",
                figures.asked(),
                self.people,
                figures.admitted(),
                figures.sold_out(),
                figures.limited(),
            ),
            format!(
                "{delivered} of {} orders delivered, {} sent again",
                figures.admitted(),
                self.source.refused()
            ),
        ];
        if self.bars.is_hidden() {
            if self.line.get().is_none_or(|at| at.elapsed() >= LINE) {
                self.line.set(Some(Instant::now()));
                say(&lines.join("; "));
            }
            return;
        }
        let positions = [left, figures.asked(), delivered];
        for ((bar, position), line) in [&self.stock, &self.crowd, &self.origin]
            .into_iter()
            .zip(positions)
            .zip(lines)
        {
            bar.set_position(position);
            bar.set_message(line);
        }
    }

    /// Shows how it ended.
    pub fn finish(&self) {
        self.show();
        for bar in [&self.stock, &self.crowd, &self.origin] {
            bar.abandon();
        }
    }
}
