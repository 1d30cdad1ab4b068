//! Buckets of which some are a fleet's.

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
    let limits = SharedLimits::new(sharing, Duration::from_millis(250));
    let debts = Arc::clone(&limits.debts);
    let buckets = GatewayBuckets::new(1_000, Some(limits));
    buckets.share([("both".to_owned(), Together::Debt)].into_iter());
    (buckets, debts)
}

fn one(buckets: &GatewayBuckets, asked: &Bucket) -> Result<Level, TakeError> {
    buckets.take_one_now(asked).unwrap()
}

#[test]
fn credit_is_all_until_the_engine_has_answered() {
    let (buckets, debts) = shared();
    let asked = bucket("both|a", 40);
    for _ in 0..2 {
        one(&buckets, &asked).unwrap();
    }
    assert!(matches!(one(&buckets, &asked), Err(TakeError::Refused { .. })));
    let report = debts.report().unwrap();
    let (key, charge) = &report.charges[0];
    assert_eq!((key.as_str(), charge.units), ("both|a", 2 * charge.token));
    // The other gateway has taken more meanwhile.
    let left = 5 * i64::try_from(charge.token).unwrap();
    debts.answered(&report, &HashMap::from([(key.clone(), left)]));
    assert_eq!(one(&buckets, &asked).unwrap().remaining, 4);
    one(&buckets, &asked).unwrap();
    one(&buckets, &asked).unwrap_err();
    let report = debts.report().unwrap();
    debts.answered(&report, &HashMap::from([("both|a".to_owned(), 0)]));
    let Err(TakeError::Refused { levels, .. }) = one(&buckets, &asked) else {
        panic!("the fleet has none left")
    };
    assert!(levels[0].next_ns > 3_000_000_000_000, "it is told when");
}

#[test]
fn a_take_of_several_is_all_or_nothing() {
    let (buckets, debts) = shared();
    let (mine, ours) = (bucket("mine|a", 1), bucket("both|a", 40));
    let both = [mine.clone(), ours.clone()];
    assert_eq!(buckets.take_now(&both).unwrap().unwrap().len(), 2);
    let Err(TakeError::Refused { index: 0, levels }) = buckets.take_now(&both).unwrap() else {
        panic!("its own has none left")
    };
    assert_eq!((levels[0].remaining, levels[1].remaining), (0, 39));
    assert_eq!(debts.report().unwrap().charges[0].1.units, {
        let scale = ours.check().unwrap();
        scale.token
    });
    let more = [bucket("mine|b", 5), ours.clone(), bucket("mine|c", 5)];
    buckets.take_now(&more).unwrap().unwrap();
    let Err(TakeError::Refused { index: 1, levels }) = buckets.take_now(&more).unwrap() else {
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
    one(&buckets, &bucket("mine|a", 3)).unwrap();
    assert!(debts.report().is_none());
    buckets.share(std::iter::empty());
    one(&buckets, &bucket("both|a", 3)).unwrap();
    assert!(debts.report().is_none() && buckets.shared().is_none());
    assert_eq!(buckets.len(), 2);
}
