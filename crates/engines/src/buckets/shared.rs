//! The buckets of a gateway: its own, and those that it shares with the others over one engine.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tollgate_store::bucket::debt;
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::ports::Buckets;

use super::MemoryBuckets;
use super::debts::{Debts, Locked};

/// Where no limit is shared, this is [`MemoryBuckets`] and one branch.
pub struct GatewayBuckets {
    own: MemoryBuckets,
    shared: Option<Shared>,
}

struct Shared {
    debts: Arc<Debts>,
    has_some: AtomicBool,
    /// The names of the limits that are shared.
    names: RwLock<HashSet<String>>,
}

impl Shared {
    /// A bucket's key begins with the name of its limit.
    fn is(&self, key: &str) -> bool {
        let name = key.split('|').next().unwrap_or_default();
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.contains(name)
    }
}

impl GatewayBuckets {
    /// At most `max_keys` own buckets, and, where the engine is one that gateways share, `debts`.
    pub fn new(max_keys: usize, debts: Option<Arc<Debts>>) -> Self {
        Self {
            own: MemoryBuckets::new(max_keys),
            shared: debts.map(|debts| Shared {
                debts,
                has_some: AtomicBool::new(false),
                names: RwLock::default(),
            }),
        }
    }

    /// From now on the limits of these names are shared. Nothing happens where there is nobody to share with.
    pub fn share(&self, names: impl Iterator<Item = String>) {
        if let Some(shared) = &self.shared {
            let names: HashSet<String> = names.collect();
            let has_some = !names.is_empty();
            *shared.names.write().unwrap_or_else(PoisonError::into_inner) = names;
            shared.has_some.store(has_some, Ordering::Release);
        }
    }

    /// What is told of the shared ones, if there are any.
    pub fn debts(&self) -> Option<&Debts> {
        self.sharing().map(|shared| &*shared.debts)
    }

    fn sharing(&self) -> Option<&Shared> {
        let shared = self.shared.as_ref();
        shared.filter(|shared| shared.has_some.load(Ordering::Acquire))
    }

    /// Takes every cost or none. Never waits for anything but other takes.
    ///
    /// # Errors
    /// One lacks its cost, or is out of bounds.
    pub fn take_now(&self, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        match self.sharing() {
            Some(shared) if buckets.iter().any(|bucket| shared.is(&bucket.key)) => {
                self.take_shared(shared, buckets)
            }
            _ => self.own.take_now(buckets),
        }
    }

    /// The same of one bucket.
    ///
    /// # Errors
    /// It lacks its cost, or is out of bounds.
    pub fn take_one_now(&self, bucket: &Bucket) -> Result<Level, TakeError> {
        match self.sharing() {
            Some(shared) if shared.is(&bucket.key) => {
                let levels = self.take_shared(shared, std::slice::from_ref(bucket))?;
                tollgate_store::ports::one_level(&levels)
            }
            _ => self.own.take_one_now(bucket),
        }
    }

    /// How many buckets are kept, the shared ones too.
    pub fn len(&self) -> usize {
        let shared = self.debts().map_or(0, |debts| debts.counts().0);
        self.own.len() + usize::try_from(shared).unwrap_or(usize::MAX)
    }

    /// Whether no bucket is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at the shared ones while they are locked, takes from the others, and then from the shared ones, which have it.
    fn take_shared(&self, shared: &Shared, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        let is_shared: Vec<bool> = buckets.iter().map(|bucket| shared.is(&bucket.key)).collect();
        let meant = buckets.iter().zip(&is_shared).filter(|(_, is)| **is);
        let mut locked = shared.debts.lock(meant.map(|(bucket, _)| bucket.key.as_str()));
        let mut looked = Vec::with_capacity(buckets.len());
        let mut others = Vec::new();
        for (bucket, is_shared) in buckets.iter().zip(&is_shared) {
            let found = match is_shared {
                true => locked.look(bucket)?,
                false => None,
            };
            if found.is_none() {
                others.push(match is_shared {
                    true => debt::share(bucket, shared.debts.sharing().gateways)?,
                    false => bucket.clone(),
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
            .zip(is_shared)
            .filter_map(|((bucket, found), is_shared)| {
                taken(&mut locked, bucket, found, is_shared, &mut levels)
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
        self.take_now(&buckets)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tollgate_store::bucket::debt::Sharing;

    use super::*;

    fn bucket(key: &str, capacity: u64) -> Bucket {
        Bucket {
            key: key.into(),
            capacity,
            refill: 1,
            interval_ns: 3_600_000_000_000,
            cost: 1,
        }
    }

    fn shared() -> (GatewayBuckets, Arc<Debts>) {
        let sharing = Sharing {
            gateways: 2,
            debt_percent: 10,
        };
        let debts = Arc::new(Debts::new(sharing, 1_000));
        let buckets = GatewayBuckets::new(1_000, Some(Arc::clone(&debts)));
        buckets.share(["both".to_owned()].into_iter());
        (buckets, debts)
    }

    #[test]
    fn credit_is_all_until_the_engine_has_answered() {
        let (buckets, debts) = shared();
        let asked = bucket("both|a", 40);
        for _ in 0..2 {
            buckets.take_one_now(&asked).unwrap();
        }
        assert!(matches!(
            buckets.take_one_now(&asked),
            Err(TakeError::Refused { .. })
        ));
        let report = debts.report().unwrap();
        let (key, charge) = &report.charges[0];
        assert_eq!((key.as_str(), charge.units), ("both|a", 2 * charge.token));
        // The other gateway has taken more meanwhile.
        let left = 5 * i64::try_from(charge.token).unwrap();
        debts.answered(&report, &HashMap::from([(key.clone(), left)]));
        assert_eq!(buckets.take_one_now(&asked).unwrap().remaining, 4);
        buckets.take_one_now(&asked).unwrap();
        buckets.take_one_now(&asked).unwrap_err();
        let report = debts.report().unwrap();
        debts.answered(&report, &HashMap::from([("both|a".to_owned(), 0)]));
        let Err(TakeError::Refused { levels, .. }) = buckets.take_one_now(&asked) else {
            panic!("the fleet has none left")
        };
        assert!(levels[0].next_ns > 3_000_000_000_000, "it is told when");
    }

    #[test]
    fn a_take_of_several_is_all_or_nothing() {
        let (buckets, debts) = shared();
        let (mine, ours) = (bucket("mine|a", 1), bucket("both|a", 40));
        let both = [mine.clone(), ours.clone()];
        assert_eq!(buckets.take_now(&both).unwrap().len(), 2);
        let Err(TakeError::Refused { index: 0, levels }) = buckets.take_now(&both) else {
            panic!("its own has none left")
        };
        assert_eq!((levels[0].remaining, levels[1].remaining), (0, 39));
        assert_eq!(debts.report().unwrap().charges[0].1.units, {
            let scale = ours.check().unwrap();
            scale.token
        });
        let more = [bucket("mine|b", 5), ours.clone(), bucket("mine|c", 5)];
        buckets.take_now(&more).unwrap();
        let Err(TakeError::Refused { index: 1, levels }) = buckets.take_now(&more) else {
            panic!("no credit is left")
        };
        assert_eq!(
            (levels.len(), levels[0].remaining, levels[2].remaining),
            (3, 4, 4)
        );
    }

    #[test]
    fn what_is_not_shared_is_not_told_to_anybody() {
        let (buckets, debts) = shared();
        buckets.take_one_now(&bucket("mine|a", 3)).unwrap();
        assert!(debts.report().is_none());
        buckets.share(std::iter::empty());
        buckets.take_one_now(&bucket("both|a", 3)).unwrap();
        assert!(debts.report().is_none() && buckets.debts().is_none());
        assert_eq!(buckets.len(), 2);
    }
}
