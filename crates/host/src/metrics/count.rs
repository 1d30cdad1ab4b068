//! What threads count while they answer. Each has counters of its own, on cache lines of its own, which it alone writes: to
//! count costs a load and a store. A scrape sums them.

use super::asked::{ASKED, Asked, OTHER};
use super::claims::{self, Claims};
use super::refused::{self, Refused};
use super::sheet::Distribution;
use crate::wasm::rules::Group;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tollgate_api::problem::Kind;
use tollgate_rules::config::Config;
use tollgate_rules::policies::Decision;

/// A number that one thread writes and any may read. Relaxed: nothing is ordered by it.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// More. For the thread that it belongs to: two at once would lose one.
    pub fn add(&self, more: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(more),
            Ordering::Relaxed,
        );
    }

    /// Less; of something that was added.
    pub fn sub(&self, less: u64) {
        self.add(less.wrapping_neg());
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Statuses that are told apart; of all others only the class is.
const CODES: [u16; 30] = [
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415,
    422, 429, 431, GONE, 500, 501, 502, 503, 504,
];
/// What a request counts as whose caller has gone before there was an answer (nginx's code).
pub const GONE: u16 = 499;
const NOT_IMPLEMENTED: u16 = 501;
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// The statuses that there can be: three digits.
const STATUSES: usize = 1_000;

/// Where each status is counted.
static PLACES: [u8; STATUSES] = places();

const fn places() -> [u8; STATUSES] {
    let mut places = [0; STATUSES];
    let mut status = 0;
    while status < STATUSES {
        let class = status / 100;
        places[status] = CODES.len() as u8 + if class < CLASSES.len() { class as u8 } else { 0 };
        status += 1;
    }
    let mut index = 0;
    while index < CODES.len() {
        places[CODES[index] as usize] = index as u8;
        index += 1;
    }
    places
}

const PLACE_COUNT: usize = CODES.len() + CLASSES.len();

/// Upper bounds of the durations, microseconds: from what memory answers to what a request may take.
const BOUNDS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];
const MICROS_PER_SECOND: f64 = 1e6;
const NANOS_PER_SECOND: f64 = 1e9;

/// The durations of one kind of request.
#[derive(Debug)]
struct Durations {
    buckets: [Count; BOUNDS.len() + 1],
    nanos: Count,
}

impl Durations {
    const fn new() -> Self {
        Self {
            buckets: [const { Count::new() }; BOUNDS.len() + 1],
            nanos: Count::new(),
        }
    }

    fn add(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanos <= bound * 1_000);
        if let Some(bucket) = self.buckets.get(bucket.unwrap_or(BOUNDS.len())) {
            bucket.add(1);
        }
        self.nanos.add(nanos);
    }
}

/// What one worker counts of its requests.
#[derive(Debug)]
#[repr(align(128))]
pub struct Requests {
    answered: [[Count; PLACE_COUNT]; ASKED],
    durations: [Durations; ASKED],
    /// Requests that wait.
    pub waiting: Count,
    /// Claims.
    pub claims: Claims,
    /// By [`Kind`].
    problems: [Count; Kind::ALL.len()],
}

impl Requests {
    /// A request was answered with this status, after so long.
    pub fn answered(&self, asked: Asked, status: u16, duration: Duration) {
        self.code(asked, status);
        if let Some(durations) = self.durations.get(asked.place()) {
            durations.add(duration);
        }
    }

    /// What the parser could make no request of was refused with this status. Nobody knows how long it took to come.
    pub fn unparsed(&self, status: u16) {
        self.code(OTHER, status);
    }

    fn code(&self, asked: Asked, status: u16) {
        let place = PLACES
            .get(usize::from(status))
            .copied()
            .unwrap_or(CODES.len() as u8);
        let codes = self.answered.get(asked.place());
        if let Some(code) = codes.and_then(|codes| codes.get(usize::from(place))) {
            code.add(1);
        }
    }

    /// A problem document is the answer.
    pub fn problem(&self, kind: Kind) {
        if let Some(count) = self.problems.get(kind as usize) {
            count.add(1);
        }
    }

    /// A rule has answered: with a problem document, perhaps.
    pub fn told(&self, status: u16, body: &[u8]) {
        if let Some(kind) = Kind::of(status, body) {
            self.problem(kind);
        }
    }

    /// Whoever sent a request has gone before it was answered.
    pub fn gone(&self, asked: Asked, duration: Duration) {
        self.answered(asked, GONE, duration);
    }
}

/// What the rules of one thread count.
#[derive(Debug)]
#[repr(align(128))]
pub struct Rules {
    group: Group,
    /// Those that wait.
    pub tasks: Count,
    /// Instances that have ended before their time.
    pub traps: Count,
    /// Instances that were started.
    pub starts: Count,
    /// Whom they refuse.
    pub refused: Arc<Refused>,
    /// By policy. Its thread takes the lock with each flush, not with each request.
    decisions: Mutex<Vec<Decided>>,
}

/// What was decided under a limit, or a quota.
#[derive(Clone, Debug)]
struct Decided {
    policy: String,
    /// By [`Decision`].
    counts: [u64; Decision::ALL.len()],
}

/// The policies of these names, in their order: those that were there before go on counting.
fn limited_by<'n>(names: impl Iterator<Item = &'n str>, before: &[Decided]) -> Vec<Decided> {
    let known = |name: &str| before.iter().find(|one| one.policy == name).cloned();
    let fresh = |name: &str| Decided {
        policy: name.to_owned(),
        counts: [0; Decision::ALL.len()],
    };
    names
        .map(|name| known(name).unwrap_or_else(|| fresh(name)))
        .collect()
}

impl Rules {
    /// Requests were decided on; see `flush` in `wit/edge.wit`.
    pub fn decided(&self, decisions: &[u64]) {
        if decisions.is_empty() {
            return;
        }
        self.refused.turn(Instant::now());
        let mut decided = locked(&self.decisions);
        let counts = decided.iter_mut().flat_map(|one| &mut one.counts);
        for (count, more) in counts.zip(decisions) {
            *count += more;
        }
    }

    /// From now on requests are decided on under the limits and quotas of these settings.
    pub fn limit_by(&self, config: &Config) {
        let mut decided = locked(&self.decisions);
        *decided = limited_by(config.policy_names(), &decided);
    }
}

/// What a limit, or a quota, has refused since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// Its name.
    pub policy: String,
    /// Requests that it refused.
    pub refused: u64,
    /// Requests that it would have refused, were it not in shadow.
    pub would_refuse: u64,
}

/// The counters of all threads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counted(Arc<Threads>);

#[derive(Debug, Default)]
struct Threads {
    requests: Mutex<Vec<Arc<Requests>>>,
    rules: Mutex<Vec<Arc<Rules>>>,
    /// The names of `[[limits]]` and `[[quotas]]`.
    policies: Mutex<Vec<String>>,
    campaigns: Arc<claims::Names>,
}

fn named(config: &Config) -> Vec<String> {
    config.policy_names().map(str::to_owned).collect()
}

fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that runs under the lock panics.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counted {
    /// Counters under these settings.
    pub fn new(config: &Config) -> Self {
        Self(Arc::new(Threads {
            policies: Mutex::new(named(config)),
            ..Threads::default()
        }))
    }

    /// The limits and quotas of these settings are in force from now on; what was counted of others is no longer told.
    pub fn limit_by(&self, config: &Config) {
        *locked(&self.0.policies) = named(config);
    }

    /// Nothing was decided yet.
    fn fresh(&self) -> Vec<Decided> {
        limited_by(locked(&self.0.policies).iter().map(String::as_str), &[])
    }

    /// What was decided under each policy in force.
    fn decided(&self) -> Vec<Decided> {
        let mut all = self.fresh();
        for rules in locked(&self.0.rules).iter() {
            for one in locked(&rules.decisions).iter() {
                if let Some(sum) = all.iter_mut().find(|sum| sum.policy == one.policy) {
                    sum.counts
                        .iter_mut()
                        .zip(one.counts)
                        .for_each(|(sum, more)| *sum += more);
                }
            }
        }
        all
    }

    /// Those of one more worker.
    pub fn requests(&self) -> Arc<Requests> {
        let requests = Arc::new(Requests {
            answered: [const { [const { Count::new() }; PLACE_COUNT] }; ASKED],
            durations: [const { Durations::new() }; ASKED],
            waiting: Count::new(),
            claims: Claims::new(Arc::clone(&self.0.campaigns)),
            problems: [const { Count::new() }; Kind::ALL.len()],
        });
        locked(&self.0.requests).push(Arc::clone(&requests));
        requests
    }

    /// Those of one more thread's rules.
    pub fn rules(&self, group: Group) -> Arc<Rules> {
        let rules = Arc::new(Rules {
            group,
            tasks: Count::new(),
            traps: Count::new(),
            starts: Count::new(),
            refused: Arc::default(),
            decisions: Mutex::new(self.fresh()),
        });
        locked(&self.0.rules).push(Arc::clone(&rules));
        rules
    }

    /// Requests that were answered so far: of this kind, or of any; with this status, or with any.
    pub fn answered(&self, asked: Option<Asked>, status: Option<u16>) -> u64 {
        let place = status.and_then(|status| PLACES.get(usize::from(status)).copied());
        self.sum(|kind, at| {
            asked.is_none_or(|asked| asked.place() == kind)
                && place.is_none_or(|place| usize::from(place) == at)
        })
    }

    /// What each policy of the limiter has refused so far, and would have in shadow.
    pub fn refusals(&self) -> Vec<Refusals> {
        let decided = self.decided().into_iter();
        decided
            .map(|one| Refusals {
                refused: one.counts[Decision::Refused as usize],
                would_refuse: one.counts[Decision::WouldRefuse as usize],
                policy: one.policy,
            })
            .collect()
    }

    /// Who was refused most lately, or would have been in shadow.
    pub fn refused_most(&self) -> Vec<refused::Count> {
        let rules = locked(&self.0.rules).clone();
        Refused::most(rules.iter().map(|one| &*one.refused), Instant::now())
    }

    /// Answers with a status of 500 and above, since the start. Not 501: whoever asks for what there is not is at fault.
    pub fn server_errors(&self) -> u64 {
        self.sum(|_, place| match CODES.get(place) {
            Some(code) => *code >= 500 && *code != NOT_IMPLEMENTED,
            None => CLASSES.get(place - CODES.len()) == Some(&"5xx"),
        })
    }

    /// The answers whose kind ([`Asked`]) and place ([`PLACES`]) are meant, of all workers.
    fn sum(&self, is_meant: impl Fn(usize, usize) -> bool) -> u64 {
        let mut sum = 0;
        for requests in locked(&self.0.requests).iter() {
            for (kind, places) in requests.answered.iter().enumerate() {
                let meant = places
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| is_meant(kind, *place));
                sum += meant.map(|(_, count)| count.get()).sum::<u64>();
            }
        }
        sum
    }

    /// Writes the sums.
    pub fn report(&self, sheet: &mut super::sheet::Sheet) {
        use super::table::Metric;
        let requests = locked(&self.0.requests).clone();
        for asked in Asked::all() {
            let name = asked.name();
            for place in 0..PLACE_COUNT {
                let count = |one: &Arc<Requests>| one.answered.get(asked.place())?.get(place).map(Count::get);
                let count: u64 = requests.iter().filter_map(count).sum();
                if count > 0 || is_told_from_zero(place) {
                    sheet.count(Metric::HttpRequests, &[&name, &code(place)], count);
                }
            }
            let durations: Vec<&Durations> = requests
                .iter()
                .filter_map(|one| one.durations.get(asked.place()))
                .collect();
            let distribution = summed(&durations);
            if distribution.buckets.iter().any(|(_, count)| *count > 0) {
                sheet.distribution(Metric::HttpDuration, &[&name], distribution);
            }
        }
        let waiting: u64 = requests.iter().map(|one| one.waiting.get()).sum();
        sheet.number(Metric::HttpWaiting, &[], waiting);
        for kind in Kind::ALL
            .iter()
            .copied()
            .filter(|kind| *kind != Kind::QuotaExceeded)
        {
            let count = |one: &Arc<Requests>| one.problems.get(kind as usize).map(Count::get);
            let count: u64 = requests.iter().filter_map(count).sum();
            sheet.count(Metric::Problems, &[kind.slug()], count);
        }
        claims::report(requests.iter().map(|one| &one.claims), sheet);
        for Decided { policy, counts } in self.decided() {
            for (decision, count) in Decision::ALL.iter().zip(counts) {
                sheet.count(Metric::LimitDecisions, &[&policy, decision.name()], count);
            }
        }
        let rules = locked(&self.0.rules).clone();
        for group in [Group::Crowd, Group::Rest] {
            let name = [group.name()];
            let sum = |of: fn(&Rules) -> &Count| -> u64 {
                let ours = rules.iter().filter(|one| one.group == group);
                ours.map(|one| of(one).get()).sum()
            };
            sheet.number(Metric::RulesTasks, &name, sum(|rules| &rules.tasks));
            sheet.count(Metric::RulesTraps, &name, sum(|rules| &rules.traps));
            sheet.count(Metric::RulesStarts, &name, sum(|rules| &rules.starts));
        }
    }
}

/// Whether it is told from zero on: `increase` takes a series that begins at one for one that has not grown, and an alert
/// would miss the first errors.
fn is_told_from_zero(place: usize) -> bool {
    matches!(CODES.get(place), Some(500 | 503 | 504))
}

fn code(place: usize) -> String {
    match CODES.get(place) {
        Some(code) => code.to_string(),
        None => CLASSES
            .get(place - CODES.len())
            .copied()
            .unwrap_or("other")
            .to_owned(),
    }
}

fn summed(all: &[&Durations]) -> Distribution {
    let count = |index: usize| -> u64 {
        let counts = all.iter().filter_map(|one| one.buckets.get(index));
        counts.map(Count::get).sum()
    };
    let bounds = BOUNDS.iter().map(|micros| *micros as f64 / MICROS_PER_SECOND);
    let nanos: u64 = all.iter().map(|one| one.nanos.get()).sum();
    Distribution {
        sum: nanos as f64 / NANOS_PER_SECOND,
        buckets: bounds
            .chain([f64::INFINITY])
            .enumerate()
            .map(|(index, bound)| (bound, count(index)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_api::calls::Call;

    #[test]
    fn answers_are_summed_by_kind_and_status_over_all_threads() {
        let counted = Counted::default();
        let (claim, other) = (Asked::call(Call::Claim), Asked::call(Call::ListKeys));
        for (asked, status, times) in [(claim, 201, 3), (claim, 410, 2), (other, 201, 1)] {
            for _ in 0..times {
                counted.requests().answered(asked, status, Duration::ZERO);
            }
        }
        assert_eq!(counted.answered(None, None), 6);
        assert_eq!(counted.answered(Some(claim), None), 5);
        assert_eq!(counted.answered(None, Some(201)), 4);
        assert_eq!(counted.answered(Some(claim), Some(201)), 3);
        assert_eq!(counted.answered(Some(claim), Some(503)), 0);
    }

    #[test]
    fn statuses_that_nobody_knows_are_counted_by_class() {
        let told = |status: usize| code(usize::from(PLACES[status]));
        assert_eq!(
            [302, 410, 418, 299, 599, 100].map(told),
            ["302", "410", "4xx", "2xx", "5xx", "1xx"]
        );
        assert_eq!([0, 42, 600, 999].map(told), ["other"; 4]);
    }

    #[test]
    fn what_several_threads_have_counted_is_summed() {
        let counted = Counted::default();
        let (one, other) = (counted.requests(), counted.requests());
        let asked = Asked::call(Call::FollowLink);
        one.answered(asked, 302, Duration::from_micros(40));
        one.answered(asked, 302, Duration::from_micros(50));
        other.answered(asked, 404, Duration::from_micros(51));
        other.gone(asked, Duration::from_secs(100));
        let all: Vec<_> = [&one, &other]
            .iter()
            .map(|one| &one.durations[asked.place()])
            .collect();
        let distribution = summed(&all);
        let counts: Vec<u64> = distribution.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!((counts[0], counts[1], counts[BOUNDS.len()]), (2, 1, 1));
        assert!(
            (distribution.sum - 100.000_141).abs() < 1e-9,
            "{}",
            distribution.sum
        );
        let mut sheet = super::super::sheet::Sheet::default();
        counted.report(&mut sheet);
        let text = sheet.written(super::super::sheet::Format::OpenMetrics);
        for line in [
            "tollgate_http_requests_total{call=\"follow_link\",code=\"302\"} 2\n",
            "tollgate_http_requests_total{call=\"follow_link\",code=\"499\"} 1\n",
            "tollgate_http_requests_total{call=\"claim\",code=\"500\"} 0\n",
            "tollgate_http_request_duration_seconds_count{call=\"follow_link\"} 4\n",
            "tollgate_http_request_duration_seconds_bucket{le=\"+Inf\",call=\"follow_link\"} 4\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
