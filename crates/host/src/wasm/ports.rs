//! The port `memory` of `wit/edge.wit`, answered by the native engines. Glue only: shapes in, shapes out.

use super::bindings::memory;
use crate::metrics::count::Counted;
use crate::metrics::refused::Refused;
use crate::outbound::Outbound;
use crate::ranking::Ranking;
use crate::server::settle::Settling;
use std::sync::Arc;
use tollgate_engines::{AnyEngine, Engine as _, GatewayBuckets};
use tollgate_rules::machine::{Memory, Taken};
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::commit::{Commit, Entry};
use tollgate_store::packed;
use tollgate_store::ports::Store as _;
use wasmtime::component::HasData;

/// The engines that the ports reach.
#[derive(Clone)]
pub struct Engines {
    /// Keys and topics.
    pub store: AnyEngine,
    /// Token buckets.
    pub buckets: Arc<GatewayBuckets>,
    /// The threads that run rules, for clicks that they hold back.
    pub settling: Settling,
    /// What these threads count.
    pub counted: Counted,
    /// Counts whom the rules of this thread refuse.
    pub refused: Arc<Refused>,
    /// The links that are visited most.
    pub ranking: Arc<Ranking>,
    /// Who posts forms to whom the settings name.
    pub outbound: Arc<Outbound>,
}

/// Names the data that the ports work on.
pub struct Ports;

impl HasData for Ports {
    type Data<'a> = &'a mut Engines;
}

tollgate_store::wit_buckets!(crate::wasm::bindings::buckets);
tollgate_store::wit_store!(crate::wasm::bindings::store);

/// Counts whom a take has refused.
pub fn count_refused(refused: &Refused, buckets: &[Bucket], taken: &Result<Vec<Level>, TakeError>) {
    if let Err(TakeError::Refused { levels, .. }) = taken {
        let lacking = buckets.iter().zip(levels).filter(|(_, level)| level.next_ns > 0);
        lacking.for_each(|(bucket, _)| refused.add(&bucket.key));
    }
}

impl Engines {
    /// A take that memory does not decide.
    ///
    /// # Errors
    /// See [`GatewayBuckets::take_exact`].
    pub async fn take(&self, refused: &Refused, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let taken = self.buckets.take_exact(&buckets).await;
        count_refused(refused, &buckets, &taken);
        taken
    }
}

impl Memory for Engines {
    fn take(&self, buckets: Vec<Bucket>) -> Taken<Vec<Bucket>, Vec<Level>> {
        let Some(taken) = self.buckets.take_now(&buckets) else {
            return Taken::Elsewhere(buckets);
        };
        count_refused(&self.refused, &buckets, &taken);
        Taken::Decided(taken)
    }

    fn take_one(&self, bucket: Bucket) -> Taken<Bucket, Level> {
        let Some(taken) = self.buckets.take_one_now(&bucket) else {
            return Taken::Elsewhere(bucket);
        };
        if let Err(TakeError::Refused { .. }) = &taken {
            self.refused.add(&bucket.key);
        }
        Taken::Decided(taken)
    }

    fn get(&self, key: &str) -> Option<Option<Entry>> {
        let found = self.store.get_now(key)?;
        Some(found.map(|entry| Entry::clone(&entry)))
    }

    fn get_all(&self, keys: &[String]) -> Option<Vec<Option<Entry>>> {
        let found = self.store.get_all_now(keys)?;
        let copied = found
            .into_iter()
            .map(|entry| entry.map(|entry| Entry::clone(&entry)));
        Some(copied.collect())
    }

    fn defer(&self, commits: Vec<Commit>) {
        self.ranking.saw(&commits);
        for commit in commits {
            self.store.defer(commit);
        }
    }
}

impl memory::Host for Engines {
    fn take(&mut self, wanted: Vec<memory::Bucket>) -> Option<Result<Vec<memory::Level>, memory::TakeError>> {
        match Memory::take(self, wanted.into_iter().map(Into::into).collect()) {
            Taken::Decided(taken) => {
                let levels = taken.map(|levels| levels.into_iter().map(Into::into).collect());
                Some(levels.map_err(Into::into))
            }
            Taken::Elsewhere(_) => None,
        }
    }

    fn take_one(&mut self, wanted: memory::Bucket) -> memory::Taken {
        match Memory::take_one(self, wanted.into()) {
            Taken::Decided(Ok(level)) => memory::Taken::Taken(level.into()),
            Taken::Decided(Err(TakeError::Refused { levels, .. })) if levels.len() == 1 => {
                memory::Taken::Refused(levels[0].into())
            }
            Taken::Decided(Err(error)) => memory::Taken::Failed(error.into()),
            Taken::Elsewhere(_) => memory::Taken::Elsewhere,
        }
    }

    fn get(&mut self, key: String) -> Option<Option<memory::Entry>> {
        Memory::get(self, &key).map(|found| found.map(Into::into))
    }

    fn get_all(&mut self, keys: Vec<String>) -> Option<Vec<Option<memory::Entry>>> {
        let found = Memory::get_all(self, &keys)?;
        Some(found.into_iter().map(|entry| entry.map(Into::into)).collect())
    }

    fn defer(&mut self, packed: Vec<u8>) {
        match packed::unpack(&packed) {
            Some(commits) => Memory::defer(self, commits),
            None => tracing::error!("what the rules deferred is not a list of commits"),
        }
    }
}
