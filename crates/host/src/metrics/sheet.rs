//! What a scrape found, by metric, and how it is written.

use super::table::{Metric, Row, Type};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// Observations in buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Of all.
    pub sum: f64,
    /// By upper bound, the last of which is infinite; each observation is in one.
    pub buckets: Vec<(f64, u64)>,
}

#[derive(Clone, Debug)]
enum Value {
    Count(u64),
    Level(f64),
    Distribution(Distribution),
    Info,
}

#[derive(Clone, Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

/// A value of each metric, or of each combination of its labels.
#[derive(Clone, Debug)]
pub struct Sheet(Vec<Vec<Sample>>);

impl Default for Sheet {
    fn default() -> Self {
        Self(vec![Vec::new(); Metric::ALL.len()])
    }
}

impl Sheet {
    /// A counter's value.
    pub fn count(&mut self, metric: Metric, labels: &[&str], count: u64) {
        self.add(metric, labels, Value::Count(count));
    }

    /// A gauge's value, or a counter's that is no whole number.
    pub fn level(&mut self, metric: Metric, labels: &[&str], level: f64) {
        self.add(metric, labels, Value::Level(level));
    }

    /// A gauge of things that are counted.
    pub fn number(&mut self, metric: Metric, labels: &[&str], number: impl TryInto<u32>) {
        // Beyond 2^32 things nobody counts one by one; bytes are levels.
        self.level(metric, labels, number.try_into().unwrap_or(u32::MAX).into());
    }

    /// A histogram's.
    pub fn distribution(&mut self, metric: Metric, labels: &[&str], distribution: Distribution) {
        self.add(metric, labels, Value::Distribution(distribution));
    }

    /// What an info says.
    pub fn info(&mut self, metric: Metric, labels: &[&str]) {
        self.add(metric, labels, Value::Info);
    }

    /// All of another one's.
    pub fn append(&mut self, other: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(&other.0) {
            ours.extend_from_slice(theirs);
        }
    }

    fn add(&mut self, metric: Metric, labels: &[&str], value: Value) {
        let names = metric.row().labels;
        debug_assert_eq!(names.len(), labels.len(), "{metric:?}");
        let labels = names
            .iter()
            .zip(labels)
            .map(|(name, value)| (*name, (*value).to_owned()));
        let labels = labels.collect();
        if let Some(samples) = self.0.get_mut(metric as usize) {
            samples.push(Sample { labels, value });
        }
    }

    /// As OpenMetrics 1.0, or as the text format of Prometheus 0.0.4.
    pub fn written(self, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        let written = match format {
            Format::OpenMetrics => prometheus_client::encoding::text::encode(&mut text, &registry),
            Format::Prometheus => prometheus_client::encoding::prometheus_text::encode(&mut text, &registry),
        };
        // Into a string it cannot fail.
        debug_assert!(written.is_ok());
        text
    }
}

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    Prometheus,
}

impl Format {
    /// What `Accept` asks for: OpenMetrics where it is named and not refused, else what every scraper reads.
    pub fn accepted<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let asks = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts
                .next()
                .is_some_and(|media| media.eq_ignore_ascii_case("application/openmetrics-text"));
            is_named
                && parts.all(|parameter| {
                    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                    let value = value.trim().trim_matches('"');
                    match name.trim().to_ascii_lowercase().as_str() {
                        "version" => matches!(value, "1.0.0" | "0.0.1"),
                        "q" => value.parse().is_ok_and(|quality: f32| quality > 0.0),
                        _ => true,
                    }
                })
        };
        match accept.flat_map(|value| value.split(',')).any(asks) {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Collector for Sheet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, samples) in Metric::ALL.iter().zip(&self.0) {
            let row = metric.row();
            let unit = unit(&row);
            let help = format!("{}.", row.help);
            let mut encoder = encoder.encode_descriptor(row.name, &help, unit.as_ref(), kind(&row))?;
            for sample in samples {
                sample.encode(row.kind, &mut encoder)?;
            }
        }
        Ok(())
    }
}

impl Sample {
    fn encode(&self, kind: Type, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let labels = self.labels.as_slice();
        match &self.value {
            Value::Info => encoder.encode_info(&labels),
            _ if labels.is_empty() => self.encode_value(kind, encoder),
            _ => self.encode_value(kind, &mut encoder.encode_family(&labels)?),
        }
    }

    fn encode_value(&self, kind: Type, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match &self.value {
            Value::Count(count) => encoder.encode_counter::<NoLabelSet, u64, f64>(count, None),
            Value::Level(level) if kind == Type::Counter => {
                encoder.encode_counter::<NoLabelSet, f64, f64>(level, None)
            }
            Value::Level(level) => encoder.encode_gauge(level),
            Value::Distribution(Distribution { sum, buckets }) => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
            // Its labels are all that it has.
            Value::Info => Ok(()),
        }
    }
}

fn kind(row: &Row) -> MetricType {
    match row.kind {
        Type::Counter => MetricType::Counter,
        Type::Gauge => MetricType::Gauge,
        Type::Histogram => MetricType::Histogram,
        Type::Info => MetricType::Info,
    }
}

fn unit(row: &Row) -> Option<Unit> {
    match row.unit {
        "seconds" => Some(Unit::Seconds),
        "bytes" => Some(Unit::Bytes),
        _ => None,
    }
}
