//! The buckets of a gateway: its own, and those that it shares with the others over one engine.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tollgate_store::bucket::debt::{self, Sharing};
use tollgate_store::bucket::{Bucket, Level, MAX_BUCKETS, TakeError};
use tollgate_store::ports::Buckets;

use super::debts::{Debts, Locked};
use super::exact::Exact;
use super::{DEFAULT_MAX_KEYS, MemoryBuckets};

/// How the gateways of a fleet count under a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// Each admits at once, and tells the others soon.
    Debt,
    /// Each take is decided by the engine.
    Exact,
}

/// What a gateway shares with others over one engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedLimits {
    /// What it admits at once.
    pub debts: Arc<Debts>,
    /// What the engine decides.
    pub exact: Arc<Exact>,
    /// Ends whoever asks the engine, where nobody else does.
    _end: Option<Arc<End>>,
}

#[derive(Debug)]
struct End(watch::Sender<bool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl SharedLimits {
    /// `patience`: see [`Exact::new`].
    pub fn new(sharing: Sharing, patience: Duration) -> Self {
        Self {
            debts: Arc::new(Debts::new(sharing, DEFAULT_MAX_KEYS)),
            exact: Arc::new(Exact::new(patience)),
            _end: None,
        }
    }

    /// The same; with the last copy, `true` is sent.
    pub fn with_end(self, end: watch::Sender<bool>) -> Self {
        Self {
            _end: Some(Arc::new(End(end))),
            ..self
        }
    }
}

/// Where no limit is shared, this is [`MemoryBuckets`] and one branch.
pub struct GatewayBuckets {
    own: MemoryBuckets,
    shared: Option<Shared>,
}

struct Shared {
    limits: SharedLimits,
    has_some: AtomicBool,
    /// The names of the limits that are shared.
    names: RwLock<HashMap<String, Together>>,
}

impl Shared {
    /// A bucket's key begins with the name of its limit.
    fn how(&self, key: &str) -> Option<Together> {
        let name = key.split('|').next().unwrap_or_default();
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(name).copied()
    }

    fn all(&self, buckets: &[Bucket]) -> Vec<Option<Together>> {
        buckets.iter().map(|bucket| self.how(&bucket.key)).collect()
    }
}

impl Shared {
    fn locked<'s>(&'s self, buckets: &[Bucket], how: &[Option<Together>]) -> Locked<'s> {
        let meant = buckets.iter().zip(how).filter(|(_, how)| how.is_some());
        self.limits
            .debts
            .lock(meant.map(|(bucket, _)| bucket.key.as_str()))
    }

    /// What a bucket is while the engine is away.
    fn share_of(&self, bucket: &Bucket) -> Result<Bucket, TakeError> {
        debt::share(bucket, self.limits.debts.sharing().gateways)
    }
}

impl GatewayBuckets {
    /// At most `max_keys` own buckets, and, where there is an engine that gateways share, what they share over it.
    pub fn new(max_keys: usize, limits: Option<SharedLimits>) -> Self {
        Self {
            own: MemoryBuckets::new(max_keys),
            shared: limits.map(|limits| Shared {
                limits,
                has_some: AtomicBool::new(false),
                names: RwLock::default(),
            }),
        }
    }

    /// From now on the limits of these names are shared. Nothing happens where there is nobody to share with.
    pub fn share(&self, names: impl Iterator<Item = (String, Together)>) {
        if let Some(shared) = &self.shared {
            let names: HashMap<String, Together> = names.collect();
            let has_some = !names.is_empty();
            *shared.names.write().unwrap_or_else(PoisonError::into_inner) = names;
            shared.has_some.store(has_some, Ordering::Release);
        }
    }

    /// What is told of the shared ones, if there are any.
    pub fn shared(&self) -> Option<&SharedLimits> {
        self.sharing().map(|shared| &shared.limits)
    }

    fn sharing(&self) -> Option<&Shared> {
        let shared = self.shared.as_ref();
        shared.filter(|shared| shared.has_some.load(Ordering::Acquire))
    }

    /// Takes every cost or none. Never waits for anything but other takes. `None`: one of them is exact over the fleet, which
    /// [`Self::take_exact`] waits for; nothing was taken.
    ///
    /// # Errors
    /// One lacks its cost, or is out of bounds.
    pub fn take_now(&self, buckets: &[Bucket]) -> Option<Result<Vec<Level>, TakeError>> {
        let Some(shared) = self.sharing() else {
            return Some(self.own.take_now(buckets));
        };
        let how = shared.all(buckets);
        if how.contains(&Some(Together::Exact)) {
            return None;
        }
        Some(match how.contains(&Some(Together::Debt)) {
            true => self.take_shared(shared, buckets, &how),
            false => self.own.take_now(buckets),
        })
    }

    /// The same of one bucket.
    ///
    /// # Errors
    /// It lacks its cost, or is out of bounds.
    pub fn take_one_now(&self, bucket: &Bucket) -> Option<Result<Level, TakeError>> {
        let how = self
            .sharing()
            .and_then(|shared| Some((shared, shared.how(&bucket.key)?)));
        match how {
            None => Some(self.own.take_one_now(bucket)),
            Some((shared, Together::Debt)) => {
                let levels = self.take_shared(shared, std::slice::from_ref(bucket), &[Some(Together::Debt)]);
                Some(levels.and_then(|levels| tollgate_store::ports::one_level(&levels)))
            }
            Some((_, Together::Exact)) => None,
        }
    }

    /// Takes every cost or none; waits for the engine where one is exact over the fleet.
    ///
    /// # Errors
    /// One lacks its cost, or is out of bounds; the engine cannot be asked.
    pub async fn take_exact(&self, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        let shared = match (self.take_now(buckets), self.sharing()) {
            (Some(taken), _) => return taken,
            (None, Some(shared)) => shared,
            (None, None) => return self.own.take_now(buckets),
        };
        if buckets.len() > MAX_BUCKETS {
            return Err(TakeError::Invalid(format!(
                "more than {MAX_BUCKETS} buckets in one take"
            )));
        }
        let how = shared.all(buckets);
        let is_exact: Vec<bool> = how.iter().map(|how| *how == Some(Together::Exact)).collect();
        let split = |exact: bool| -> Vec<Bucket> {
            let both = buckets.iter().zip(&is_exact);
            let found = both.filter(|(_, is)| **is == exact);
            found.map(|(bucket, _)| bucket.clone()).collect()
        };
        let (asked, others) = (split(true), split(false));
        // Who is refused here costs the engine nothing.
        let looked = self.look(shared, &others)?;
        if looked.iter().any(|level| level.next_ns > 0) {
            let unknown = vec![Level::UNKNOWN; asked.len()];
            return Err(refused(&is_exact, unknown, looked));
        }
        let (levels, at) = match shared.limits.exact.take(asked.clone()).await {
            Ok(taken) => taken,
            Err(TakeError::Refused { levels, .. }) => return Err(refused(&is_exact, levels, looked)),
            Err(error) => return Err(error),
        };
        if others.is_empty() {
            return Ok(levels);
        }
        let error = match self.take_now(&others) {
            Some(Ok(taken)) => return Ok(merged(&is_exact, levels, taken)),
            Some(Err(error)) => error,
            // It was made exact just now.
            None => TakeError::Busy("the limits are being changed".into()),
        };
        // Others took meanwhile what was seen before.
        shared.limits.exact.give_back(&asked, at);
        let back = levels.into_iter().zip(&asked).map(|(level, bucket)| Level {
            remaining: level.remaining.saturating_add(bucket.cost),
            ..level
        });
        Err(match error {
            TakeError::Refused { levels, .. } => refused(&is_exact, back.collect(), levels),
            other => other,
        })
    }

    /// The levels of buckets of which none is exact. Nothing is taken; `next_ns` is 0 where a bucket has its cost.
    fn look(&self, shared: &Shared, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        let how = shared.all(buckets);
        let mut locked = shared.locked(buckets, &how);
        let mut levels = Vec::with_capacity(buckets.len());
        for (bucket, how) in buckets.iter().zip(how) {
            let found = match how {
                None => None,
                Some(_) => locked.look(bucket)?,
            };
            levels.push(match (found, how) {
                (Some((_, level)), _) => level,
                (None, None) => self.own.look_now(bucket)?,
                (None, Some(_)) => self.own.look_now(&shared.share_of(bucket)?)?,
            });
        }
        Ok(levels)
    }

    /// How many buckets are kept, the shared ones too.
    pub fn len(&self) -> usize {
        let shared = self.shared().map_or(0, |limits| limits.debts.counts().0);
        self.own.len() + usize::try_from(shared).unwrap_or(usize::MAX)
    }

    /// Whether no bucket is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at the shared ones while they are locked, takes from the others, and then from the shared ones, which have it.
    fn take_shared(
        &self,
        shared: &Shared,
        buckets: &[Bucket],
        how: &[Option<Together>],
    ) -> Result<Vec<Level>, TakeError> {
        let mut locked = shared.locked(buckets, how);
        let mut looked = Vec::with_capacity(buckets.len());
        let mut others = Vec::new();
        for (bucket, how) in buckets.iter().zip(how) {
            let found = match how {
                Some(_) => locked.look(bucket)?,
                None => None,
            };
            if found.is_none() {
                others.push(match how {
                    Some(_) => shared.share_of(bucket)?,
                    None => bucket.clone(),
                });
            }
            looked.push(found);
        }
        if let Some(lacking) = looked.iter().position(|found| found.is_some_and(|(has, _)| !has)) {
            return Err(self.lacks(lacking, looked, others));
        }
        let mut levels = match others.is_empty() {
            true => Vec::new(),
            false => self
                .own
                .take_now(&others)
                .map_err(|error| in_place(error, &looked))?,
        }
        .into_iter();
        Ok(buckets
            .iter()
            .zip(looked)
            .zip(how)
            .filter_map(|((bucket, found), how)| {
                taken(&mut locked, bucket, found, how.is_some(), &mut levels)
            })
            .collect())
    }

    /// The shared bucket at this place lacks its cost: nothing is taken from the others.
    fn lacks(&self, index: usize, looked: Vec<Option<(bool, Level)>>, mut others: Vec<Bucket>) -> TakeError {
        others.iter_mut().for_each(|bucket| bucket.cost = 0);
        let levels = match others.is_empty() {
            true => Ok(Vec::new()),
            false => self.own.take_now(&others),
        };
        let Ok(levels) = levels else {
            return TakeError::Busy("the levels cannot be told".into());
        };
        let mut levels = levels.into_iter();
        let all = looked.into_iter().filter_map(|found| match found {
            Some((_, level)) => Some(level),
            None => levels.next(),
        });
        TakeError::Refused {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            levels: all.collect(),
        }
    }
}

fn taken(
    locked: &mut Locked<'_>,
    bucket: &Bucket,
    found: Option<(bool, Level)>,
    is_shared: bool,
    levels: &mut impl Iterator<Item = Level>,
) -> Option<Level> {
    match found {
        Some((_, level)) => locked.take(bucket).or(Some(level)),
        None => {
            if is_shared {
                locked.owe(bucket);
            }
            levels.next()
        }
    }
}

/// Levels of the exact buckets and of the others, each in its place.
fn merged(is_exact: &[bool], exact: Vec<Level>, others: Vec<Level>) -> Vec<Level> {
    let (mut exact, mut others) = (exact.into_iter(), others.into_iter());
    let all = is_exact.iter().filter_map(|is_exact| match is_exact {
        true => exact.next(),
        false => others.next(),
    });
    all.collect()
}

fn refused(is_exact: &[bool], exact: Vec<Level>, others: Vec<Level>) -> TakeError {
    let levels = merged(is_exact, exact, others);
    let index = levels.iter().position(|level| level.next_ns > 0).unwrap_or(0);
    TakeError::Refused {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        levels,
    }
}

/// A refusal of some of a take's buckets, as one of all.
fn in_place(error: TakeError, looked: &[Option<(bool, Level)>]) -> TakeError {
    let TakeError::Refused { index, levels } = error else {
        return error;
    };
    let places = looked.iter().enumerate().filter(|(_, found)| found.is_none());
    let place = places.map(|(place, _)| place).nth(index as usize).unwrap_or(0);
    let mut levels = levels.into_iter();
    let all = looked.iter().filter_map(|found| match found {
        Some((_, level)) => Some(*level),
        None => levels.next(),
    });
    TakeError::Refused {
        index: u32::try_from(place).unwrap_or(u32::MAX),
        levels: all.collect(),
    }
}

impl Buckets for GatewayBuckets {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        match self.take_now(&buckets) {
            Some(taken) => taken,
            None => self.take_exact(&buckets).await,
        }
    }
}
