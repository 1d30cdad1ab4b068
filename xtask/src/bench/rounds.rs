//! Measuring by turns: A B C, A B C, …, so that whatever else the machine does meets all of them alike.

use super::{Bench, figures};
use anyhow::Result;
use std::time::{Duration, Instant};

/// One figure of one contender.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Answers (or claims, or syncs).
    pub count: u64,
    /// Answers (or claims, or syncs) per second.
    pub rate: f64,
    /// User and system time of the server per answer, microseconds. 0 where there is no server.
    pub cpu: f64,
    /// How much of one core the server used.
    pub server: f64,
    /// How much of one core the load generator used.
    pub generator: f64,
    /// How many requests were refused, as a share of all; they count as none in the other figures.
    pub refused: f64,
    /// Of a closed loop's latencies, microseconds; 0 where they were not taken.
    pub median: u64,
    /// The same.
    pub p99: u64,
}

impl Sample {
    /// `count` answers in `time`, at these costs.
    pub fn new(count: u64, time: Duration, server: Duration, generator: Duration) -> Self {
        let seconds = time.as_secs_f64().max(f64::MIN_POSITIVE);
        Self {
            count,
            rate: count as f64 / seconds,
            cpu: server.as_secs_f64() * 1e6 / count.max(1) as f64,
            server: server.as_secs_f64() / seconds,
            generator: generator.as_secs_f64() / seconds,
            refused: 0.0,
            median: 0,
            p99: 0,
        }
    }

    /// The same, if the server had done within the run what it has done for it later, at that cost.
    pub fn with_later(self, cost: Duration) -> Self {
        let before = self.count as f64 / self.rate.max(f64::MIN_POSITIVE);
        let (later, after) = (cost.as_secs_f64(), before + cost.as_secs_f64());
        Self {
            rate: self.count as f64 / after,
            cpu: self.cpu + later * 1e6 / self.count.max(1) as f64,
            server: (self.server * before + later) / after,
            generator: self.generator * before / after,
            ..self
        }
    }
}

/// A contender that takes its turn in each round.
pub struct Contender<'a> {
    /// By which its figures are found.
    pub name: &'static str,
    /// Takes one figure.
    pub measure: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender with its name and its measurement.
    pub fn new(name: &'static str, measure: impl FnMut() -> Result<Sample> + 'a) -> Self {
        Self {
            name,
            measure: Box::new(measure),
        }
    }
}

/// The figures of one contender, one per round; fewer if it failed or time ran out.
#[derive(Debug, Default)]
pub struct Series {
    name: &'static str,
    samples: Vec<Sample>,
    failure: Option<String>,
}

impl Series {
    /// The figures, or why there are none.
    pub fn samples(&self) -> Result<&[Sample], String> {
        match &self.failure {
            Some(why) => Err(format!("{}: {why}", self.name)),
            None if self.samples.is_empty() => Err("no time was left".into()),
            None => Ok(&self.samples),
        }
    }
}

/// The figures of all contenders of one group of rows.
pub struct Rounds(Vec<Series>);

impl Rounds {
    /// Of one of them.
    pub fn of(&self, name: &str) -> Result<&[Sample], String> {
        match self.0.iter().find(|series| series.name == name) {
            Some(series) => series.samples(),
            None => Err(format!("{name} did not take part")),
        }
    }
}

/// Warms every contender up with one round that does not count, then takes `bench.pairs` rounds, as long as
/// there is time. A contender that fails is left out from then on.
pub fn take(bench: &Bench, what: &str, mut contenders: Vec<Contender<'_>>) -> Rounds {
    let mut all: Vec<Series> = contenders
        .iter()
        .map(|contender| Series {
            name: contender.name,
            ..Series::default()
        })
        .collect();
    let mut longest = Duration::ZERO;
    for round in 0..=bench.pairs {
        if bench.time_left() < longest {
            bench.say(&format!(
                "{what}: no time for more than {} rounds",
                round.saturating_sub(1)
            ));
            break;
        }
        let began = Instant::now();
        for (contender, series) in contenders.iter_mut().zip(&mut all) {
            if series.failure.is_some() {
                continue;
            }
            bench.doing(match round {
                0 => format!("{what}: warming up {}", contender.name),
                n => format!("{what}: {} ({n} of {})", contender.name, bench.pairs),
            });
            match (contender.measure)() {
                Ok(sample) if round > 0 => series.samples.push(sample),
                Ok(_) => {}
                Err(error) => series.failure = Some(format!("{error:#}")),
            }
        }
        longest = longest.max(began.elapsed());
    }
    Rounds(all)
}

/// The median of one number of each sample.
pub fn middle(samples: &[Sample], number: impl Fn(&Sample) -> f64) -> f64 {
    figures::median(samples.iter().map(number)).unwrap_or(f64::NAN)
}

/// The median of the ratios of each pair.
pub fn ratio(ours: &[Sample], theirs: &[Sample], number: impl Fn(&Sample) -> f64) -> f64 {
    let pairs = ours.iter().zip(theirs);
    figures::median(pairs.map(|(a, b)| number(a) / number(b))).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u64, cpu_ms: u64) -> Sample {
        Sample::new(
            count,
            Duration::from_secs(2),
            Duration::from_millis(cpu_ms),
            Duration::from_secs(1),
        )
    }

    #[test]
    fn cost_is_the_servers_time_over_the_answers() {
        let sample = sample(1_000, 500);
        assert_eq!((sample.rate, sample.cpu), (500.0, 500.0));
        assert_eq!((sample.server, sample.generator), (0.25, 0.5));
    }

    #[test]
    fn a_ratio_is_taken_pair_by_pair() {
        // The machine was slower in the second round, for both: the medians alone would say 40/30.
        let ours = [sample(100, 1), sample(10, 1), sample(40, 1)];
        let theirs = [sample(200, 1), sample(20, 1), sample(30, 1)];
        assert_eq!(ratio(&ours, &theirs, |sample| sample.rate), 0.5);
    }
}
