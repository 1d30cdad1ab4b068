//! Claims by campaign and outcome. Campaigns are made over the API: the first of them are told by name, and all others
//! together.

use super::sheet::Sheet;
use super::slow::MAX_CAMPAIGNS;
use super::table::Metric;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tollgate_api::problem::Kind;
use tollgate_rules::heads;

/// What became of a claim that a campaign has judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Admitted,
    Replayed,
    AlreadyClaimed,
    SoldOut,
    NotStarted,
    Ended,
    NotEligible,
}

/// All of them, with their names.
const OUTCOMES: [(Outcome, &str); 7] = [
    (Outcome::Admitted, "admitted"),
    (Outcome::Replayed, "replayed"),
    (Outcome::AlreadyClaimed, "already_claimed"),
    (Outcome::SoldOut, "sold_out"),
    (Outcome::NotStarted, "not_started"),
    (Outcome::Ended, "ended"),
    (Outcome::NotEligible, "not_eligible"),
];

/// What every campaign beyond [`MAX_CAMPAIGNS`] is called. No campaign's id: those of that name are counted with the others.
const OTHER: &str = "other";

impl Outcome {
    /// What an answer says; nothing where no campaign has judged, so that a name that nobody has made is never told.
    fn of(response: &heads::Response) -> Option<Self> {
        if response.status == 201 {
            return Some(match response.is_replay() {
                true => Self::Replayed,
                false => Self::Admitted,
            });
        }
        match Kind::of(response.status, &response.body)? {
            Kind::AlreadyClaimed => Some(Self::AlreadyClaimed),
            Kind::SoldOut => Some(Self::SoldOut),
            Kind::NotStarted => Some(Self::NotStarted),
            Kind::Ended => Some(Self::Ended),
            Kind::NotEligible => Some(Self::NotEligible),
            _ => None,
        }
    }
}

/// The campaigns that are told by name, whichever thread met them first.
#[derive(Debug, Default)]
pub struct Names(Mutex<BTreeSet<String>>);

impl Names {
    /// The name under which a campaign is counted.
    fn of(&self, campaign: &str) -> String {
        let mut names = locked(&self.0);
        if !names.contains(campaign) {
            if names.len() >= MAX_CAMPAIGNS {
                return OTHER.to_owned();
            }
            names.insert(campaign.to_owned());
        }
        campaign.to_owned()
    }
}

type Counts = [u64; OUTCOMES.len()];

/// The claims of one worker. Its lock is its own, but for a scrape.
#[derive(Debug)]
pub struct Claims {
    names: Arc<Names>,
    counts: Mutex<BTreeMap<String, Counts>>,
}

impl Claims {
    /// None yet.
    pub fn new(names: Arc<Names>) -> Self {
        Self {
            names,
            counts: Mutex::default(),
        }
    }

    /// A claim was answered. `path`: of the call [`Claim`](tollgate_api::calls::Call::Claim).
    pub fn answered(&self, path: &str, response: &heads::Response) {
        // By bytes: to look for a character takes longer to begin with.
        let campaign = path.as_bytes().split(|byte| *byte == b'/').nth(3);
        let campaign = campaign.and_then(|campaign| std::str::from_utf8(campaign).ok());
        let (Some(campaign), Some(outcome)) = (campaign, Outcome::of(response)) else {
            return;
        };
        let mut counts = locked(&self.counts);
        let counts = match counts.get_mut(campaign) {
            Some(counts) => counts,
            None => counts.entry(self.names.of(campaign)).or_default(),
        };
        if let Some(count) = counts.get_mut(outcome as usize) {
            *count += 1;
        }
    }
}

/// Writes the sums.
pub fn report<'a>(all: impl Iterator<Item = &'a Claims>, sheet: &mut Sheet) {
    let mut sums = BTreeMap::<String, Counts>::new();
    for claims in all {
        for (campaign, counts) in &*locked(&claims.counts) {
            let sums = sums.entry(campaign.clone()).or_default();
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }
    for (campaign, counts) in &sums {
        for ((_, outcome), count) in OUTCOMES.iter().zip(counts) {
            sheet.count(Metric::Claims, &[campaign, outcome], *count);
        }
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that runs under the lock panics.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_api::http::Response;
    use tollgate_api::problem::Problem;

    fn problem(kind: Kind) -> heads::Response {
        Problem::new(kind, "told").into_response().into()
    }

    #[test]
    fn answers_say_what_became_of_a_claim() {
        for (index, (outcome, _)) in OUTCOMES.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
        }
        let made = Response::json(201, &());
        let replayed = made.clone().with("idempotency-replayed", "true");
        assert_eq!(Outcome::of(&made.into()), Some(Outcome::Admitted));
        assert_eq!(Outcome::of(&replayed.into()), Some(Outcome::Replayed));
        for (kind, outcome) in [
            (Kind::AlreadyClaimed, Some(Outcome::AlreadyClaimed)),
            (Kind::SoldOut, Some(Outcome::SoldOut)),
            (Kind::NotStarted, Some(Outcome::NotStarted)),
            (Kind::Ended, Some(Outcome::Ended)),
            (Kind::NotFound, None),
            (Kind::QuotaExceeded, None),
            (Kind::Unavailable, None),
        ] {
            assert_eq!(Outcome::of(&problem(kind)), outcome, "{kind:?}");
        }
    }

    #[test]
    fn a_bounded_number_of_campaigns_is_told_by_name_over_all_threads() {
        let names = Arc::new(Names::default());
        let threads = [Claims::new(Arc::clone(&names)), Claims::new(names)];
        let admitted = Response::json(201, &()).into();
        for number in 0..1_000 {
            for thread in &threads {
                thread.answered(&format!("/api/campaigns/c{number}/claims"), &admitted);
            }
        }
        threads[0].answered("/api/campaigns/nobodys/claims", &problem(Kind::NotFound));
        let mut sheet = Sheet::default();
        report(threads.iter(), &mut sheet);
        let text = sheet.written(crate::metrics::sheet::Format::OpenMetrics);
        let told: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("outcome=\"admitted\""))
            .collect();
        assert_eq!(told.len(), MAX_CAMPAIGNS + 1);
        assert!(
            text.contains("tollgate_claims_total{campaign=\"c0\",outcome=\"admitted\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("tollgate_claims_total{campaign=\"other\",outcome=\"admitted\"} 1800\n"),
            "{text}"
        );
        assert!(!text.contains("nobodys"));
    }
}
