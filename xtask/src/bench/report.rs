//! The one table of a run.

use super::Row;
use super::rounds::{Sample, middle, ratio};
use clap::ValueEnum as _;

/// A server that uses less of its core than this was waiting for the generator (or the disk): then the cost per request is
/// compared, not the rate.
const SATURATED: f64 = 0.9;

/// What must be reached; see issue 3 of the project.
#[derive(Clone, Copy)]
pub enum Floor {
    /// A ratio, or a number, of at least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Shown for comparison only.
    None,
}

/// How two contenders are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By the rate, unless a server had time to spare: then by the server's cost per request.
    Cost,
    /// By the rate, whatever the servers waited for.
    Rate,
}

/// Facts, then lines.
pub struct Report {
    facts: Vec<String>,
    lines: Vec<[String; 7]>,
}

impl Report {
    /// Without lines yet.
    pub fn new(facts: Vec<String>) -> Self {
        Self {
            facts,
            lines: Vec::new(),
        }
    }

    /// Two contenders, measured by turns. What failed is said in the line.
    pub fn pair(
        &mut self,
        row: Row,
        what: &str,
        ours: Result<&[Sample], String>,
        theirs: Result<&[Sample], String>,
        floor: Floor,
        by: By,
    ) {
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (Err(why), _) | (_, Err(why)) => return self.skip(row, what, &why),
        };
        let rate = ratio(ours, theirs, |sample| sample.rate);
        let cost = ratio(theirs, ours, |sample| sample.cpu);
        let idle = |samples| middle(samples, |sample| sample.server) < SATURATED;
        let by_cost = by == By::Cost && cost.is_finite() && (idle(ours) || idle(theirs));
        let judged = if by_cost { cost } else { rate };
        let shown = |ratio: f64, counts: bool| match counts {
            // One of them has no server whose time could be taken.
            _ if !ratio.is_finite() || ratio == 0.0 => "–".to_owned(),
            true => format!("**{}**", short(ratio)),
            false => short(ratio),
        };
        let pairs = ours.len().min(theirs.len());
        self.lines.push([
            format!("{} ({pairs}×)", name(row)),
            what.into(),
            figure(ours),
            figure(theirs),
            shown(rate, !by_cost),
            shown(cost, by_cost),
            verdict(judged, floor),
        ]);
    }

    /// A number of our own, in words, with what it is measured against.
    pub fn number(&mut self, row: Row, what: &str, ours: String, theirs: String, value: f64, floor: Floor) {
        let shown = format!("**{}**", short(value));
        self.lines.push([
            name(row),
            what.into(),
            ours,
            theirs,
            shown,
            "–".into(),
            verdict(value, floor),
        ]);
    }

    /// A row that was not measured.
    pub fn skip(&mut self, row: Row, what: &str, why: &str) {
        let why = why.replace(['\n', '|'], " ");
        let blank = || "–".to_owned();
        self.lines.push([
            name(row),
            what.into(),
            format!("skipped: {why}"),
            blank(),
            blank(),
            blank(),
            blank(),
        ]);
    }

    /// Prints everything as Markdown on stdout.
    #[allow(clippy::print_stdout, reason = "the table is this command's output")]
    pub fn print(&self) {
        for fact in &self.facts {
            println!("- {fact}");
        }
        println!();
        println!("| row | what | Tollgate | against | ratio | CPU ratio | floor |");
        println!("|---|---|---|---|---|---|---|");
        for line in &self.lines {
            println!("| {} |", line.join(" | "));
        }
        println!();
        println!(
            "Figures are medians: rate, the server's CPU per request (user + system), and how much of its core the load \
             generator used. Ratios are medians of the pairs' ratios; above 1, Tollgate is better (except for \"at most\"). \
             The one in bold counts: the rate, or the CPU per request where a server had time to spare."
        );
    }
}

fn name(row: Row) -> String {
    row.to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

fn figure(samples: &[Sample]) -> String {
    let of = |number: fn(&Sample) -> f64| middle(samples, number);
    let rate = format!("{}/s", thousands(of(|sample| sample.rate)));
    let refused = match of(|sample| sample.refused) {
        0.0 => String::new(),
        share => format!(", {} % refused", short(share * 100.0)),
    };
    let cpu = of(|sample| sample.cpu);
    if cpu > 0.0 {
        let generator = of(|sample| sample.generator) * 100.0;
        format!("{rate}, {} µs (load {generator:.0} %{refused})", short(cpu))
    } else {
        rate
    }
}

/// Three significant digits, about.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// A whole number with separators.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn verdict(value: f64, floor: Floor) -> String {
    let (sign, bound, met) = match floor {
        Floor::AtLeast(bound) => ("≥", bound, value >= bound),
        Floor::AtMost(bound) => ("≤", bound, value <= bound),
        Floor::None => return "–".into(),
    };
    format!("{sign} {bound}: {}", if met { "met" } else { "**missed**" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sample(count: u64, server_ms: u64) -> Sample {
        let second = Duration::from_secs(1);
        Sample::new(count, second, Duration::from_millis(server_ms), second)
    }

    fn cells(ours: Sample, theirs: Sample, by: By) -> [String; 7] {
        let mut report = Report::new(Vec::new());
        report.pair(
            Row::Redirect,
            "x",
            Ok(&[ours]),
            Ok(&[theirs]),
            Floor::AtLeast(0.5),
            by,
        );
        report.lines.remove(0)
    }

    #[test]
    fn saturated_servers_are_compared_by_their_rate() {
        let [.., rate, cost, verdict] = cells(sample(400, 1_000), sample(1_000, 1_000), By::Cost);
        assert_eq!(
            (rate.as_str(), cost.as_str(), verdict.as_str()),
            ("**0.40**", "0.40", "≥ 0.5: **missed**")
        );
    }

    #[test]
    fn where_the_generator_saturates_first_the_cost_counts() {
        // Both at the generator's limit, ours at twice the cost.
        let [.., rate, cost, verdict] = cells(sample(1_000, 800), sample(1_000, 400), By::Cost);
        assert_eq!(
            (rate.as_str(), cost.as_str(), verdict.as_str()),
            ("1.00", "**0.50**", "≥ 0.5: met")
        );
        let [.., rate, _, _] = cells(sample(1_000, 800), sample(1_000, 400), By::Rate);
        assert_eq!(rate, "**1.00**");
    }

    #[test]
    fn what_failed_says_why_in_its_line() {
        let mut report = Report::new(Vec::new());
        report.pair(
            Row::Spin,
            "x",
            Ok(&[]),
            Err("spin: gone\naway".into()),
            Floor::None,
            By::Rate,
        );
        assert_eq!(report.lines[0][2], "skipped: spin: gone away");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            (short(0.654), short(12.34), short(1234.5)),
            ("0.65".into(), "12.3".into(), "1234".into())
        );
        assert_eq!(
            (thousands(999.6), thousands(1_234_567.0)),
            ("1,000".into(), "1,234,567".into())
        );
    }
}
