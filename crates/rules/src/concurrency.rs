//! Concurrency limits: how many requests may be under way at once. Which places a request needs, and what one too many is told; a host
//! keeps the places, since only it knows when an answer has ended.

#[cfg(test)]
mod tests;

use crate::access::{self, Access};
use crate::config::ConcurrencySettings;
use crate::limiter;
use crate::policies::Policy;
use crate::settings::Settings;
use crate::world::World;
use tollgate_api::calls::Call;
use tollgate_api::http::Request;
use tollgate_api::pattern::{Pattern, unreserved};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// Seconds after which one too many may try again: a place is free as soon as an answer has ended, which nobody knows.
const RETRY_SECONDS: u64 = 1;

/// A concurrency limit, compiled.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// How it tells callers apart, and which requests it matches.
    by: Policy,
    max: u32,
    is_unavailable: bool,
}

impl Concurrency {
    /// Whether it keeps the rules is for [`crate::settings`] to say.
    pub(crate) fn new(settings: &ConcurrencySettings, pattern: Pattern) -> Self {
        Self {
            by: Policy::counting(&settings.name, &settings.methods, &settings.per, pattern),
            max: settings.max,
            is_unavailable: settings.status == Kind::Unavailable.status(),
        }
    }

    pub(crate) fn by(&self) -> &Policy {
        &self.by
    }

    /// What one too many is told.
    fn refusal(&self) -> Problem {
        let name = self.by.name.as_str();
        let detail = ["As many requests are under way as ", name, " allows at once."].concat();
        let kind = match self.is_unavailable {
            true => Kind::Unavailable,
            false => Kind::QuotaExceeded,
        };
        let problem = Problem::new(kind, detail).with_retry_after(RETRY_SECONDS);
        match self.is_unavailable {
            true => problem,
            false => problem.with_member("violated-policies", vec![name]),
        }
    }
}

/// A place that a request needs for as long as it is under way.
#[derive(Clone, Debug)]
pub struct Place<'s> {
    limit: &'s Concurrency,
    /// Of the limit and of whom it counts; bounded.
    pub key: String,
}

impl<'s> Place<'s> {
    /// The limit's name.
    pub fn name(&self) -> &'s str {
        &self.limit.by.name
    }

    /// How many such places there are.
    pub fn max(&self) -> u32 {
        self.limit.max
    }

    /// What is told where all of them are taken.
    pub fn refusal(&self) -> Problem {
        self.limit.refusal()
    }
}

/// Whether a request of this method and path may need a place. No look into the store, and where nothing is configured, nothing at all.
pub fn is_wanted(settings: &Settings, method: &str, path: &str) -> bool {
    if settings.concurrency.is_empty() {
        return false;
    }
    // Forward auth answers at once; when the request that it is about ends, nobody tells.
    if Call::is_health(path) || limiter::is_check(path) {
        return false;
    }
    let path = unreserved(path);
    let mut all = settings.concurrency.iter();
    all.any(|one| one.by.falls_under(method, &path))
}

/// The places that a request needs. To be asked, and they to be taken, before the limiter, so that one too many is not charged. None for
/// who is on an access list: denied, it is not under way for long; exempt, it is not limited.
///
/// # Errors
/// Who asks is ambiguous (400).
pub async fn places<'s, S: Store>(
    world: &World<'s, S>,
    request: &Request,
) -> Result<Vec<Place<'s>>, Problem> {
    let settings = world.settings;
    let path = &*unreserved(&request.path);
    let matching = settings.concurrency.iter();
    let matching: Vec<&Concurrency> = matching
        .filter(|one| one.by.falls_under(&request.method, path))
        .collect();
    limiter::unambiguous(settings, request)?;
    if matching.is_empty() || access::judge(world, request, path).await != Access::Open {
        return Ok(Vec::new());
    }
    let wanted = matching.iter().any(|one| one.by.per_client);
    let client = limiter::identify(world, request, wanted).await;
    let caller = limiter::caller(settings, request, path, client, world.now);
    let of = |limit| Place {
        limit,
        key: limit.by.key(&caller),
    };
    Ok(matching.into_iter().map(of).collect())
}
