//! The contract of the ports, run against the component's scripts on a real Redis.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::rc::Rc;

use support::{Fixture, Native, run};
use tollgate_contract::{BucketsHarness, StoreHarness};
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::ports::Buckets;
use tollgate_store_redis::buckets::RedisBuckets;
use tollgate_store_redis::database::Database as _;

const NS_PER_MS: u64 = 1_000_000;
/// 2027, nanoseconds since 1970.
const START_NS: u64 = 1_800_000_000_000 * NS_PER_MS;

/// Buckets whose clock is moved by hand.
struct ByHand {
    buckets: RedisBuckets<Native>,
    database: Rc<Native>,
}

impl Buckets for ByHand {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        self.buckets.take(buckets).await
    }
}

struct Redis;

impl StoreHarness for Redis {
    type Store = Fixture;
    const ALONE: bool = false;

    async fn fresh(&self) -> Fixture {
        let fixture = Fixture::new();
        fixture.stop_clock();
        fixture
    }

    async fn pass(&self, store: &Fixture, ms: u64) {
        store.pass(ms);
    }
}

impl BucketsHarness for Redis {
    type Buckets = ByHand;

    async fn fresh(&self) -> ByHand {
        let database = Fixture::new().database;
        database.set_clock_ns(START_NS);
        ByHand {
            buckets: RedisBuckets::new(Rc::clone(&database)),
            database,
        }
    }

    async fn pass(&self, buckets: &ByHand, ms: u64) {
        let now = buckets.database.bucket_clock().unwrap();
        buckets.database.set_clock_ns(now + ms * NS_PER_MS);
    }
}

mod store {
    use super::*;
    tollgate_contract::store_contract!(Redis, run);
}

mod upkeep {
    use super::*;
    tollgate_contract::upkeep_contract!(Redis, run);
}

mod buckets {
    use super::*;
    tollgate_contract::buckets_contract!(Redis, run);
}

#[test]
fn the_script_decides_as_the_planner_does() {
    run(tollgate_contract::planner::decides_as_the_planner_does(&Redis));
}
