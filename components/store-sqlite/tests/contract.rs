//! The contract of the ports, run against the component's SQL on a database in a file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use support::{Fixture, run};
use tollgate_contract::{BucketsHarness, StoreHarness};
use tollgate_store_sqlite::buckets::SqliteBuckets;

struct Sqlite;

impl StoreHarness for Sqlite {
    type Store = Fixture;

    async fn fresh(&self) -> Fixture {
        Fixture::new()
    }

    async fn pass(&self, _: &Fixture, ms: u64) {
        support::sleep(ms).await;
    }
}

impl BucketsHarness for Sqlite {
    type Buckets = SqliteBuckets<support::Native>;

    async fn fresh(&self) -> Self::Buckets {
        SqliteBuckets::new(Fixture::new().database)
    }

    async fn pass(&self, _: &Self::Buckets, ms: u64) {
        support::sleep(ms).await;
    }
}

mod store {
    use super::*;
    tollgate_contract::store_contract!(Sqlite, run);
}

mod buckets {
    use super::*;
    tollgate_contract::buckets_contract!(Sqlite, run);
}
