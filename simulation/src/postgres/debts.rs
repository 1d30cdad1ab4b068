//! A limit that gateways share by bounded debt, after `crates/engines/src/buckets/debts.rs` and `telling.rs`: what a gateway may admit
//! at once, and what it tells, is decided by the product's `store::bucket::debt`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use tollgate_store::bucket::debt::{Account, Charge, Debt, Sharing, credit, share};
use tollgate_store::bucket::{Bucket, Level, TakeError};

use super::Gateway;
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::executor::TaskId;
use crate::world::Sim;

/// The limit that is shared.
const SHARED: &str = "everybody";
/// Per cent of a capacity that all gateways may have admitted and not told.
const DEBT_PERCENT: u32 = 40;
/// Between two reports, unless one is urgent, microseconds.
const REPORT: u64 = 50_000;
/// Between two attempts to tell, microseconds.
const AGAIN: u64 = 250_000;
/// How long a report may stay unanswered before a gateway counts by its share, microseconds.
const PATIENCE: u64 = 2_000_000;
/// Admissions that are looked back upon.
const REMEMBERED: usize = 64;

/// Whether a bucket is shared: its key begins with the name of its limit.
pub fn is_shared(bucket: &Bucket) -> bool {
    bucket.key.split('|').next() == Some(SHARED)
}

/// What the database keeps of shared buckets, which no crash needs to spare.
#[derive(Default)]
pub struct Accounts {
    accounts: RefCell<BTreeMap<String, Option<Account>>>,
    /// The last report of each gateway.
    reports: RefCell<BTreeMap<String, u64>>,
    judge: RefCell<Judge>,
}

/// What all gateways have admitted.
#[derive(Default)]
struct Judge {
    /// Of each bucket: nanoseconds and tokens.
    admitted: BTreeMap<String, Vec<(u64, u64)>>,
    /// When a gateway died; when levels were lost; when a gateway began to count by its share.
    deaths: Vec<u64>,
    losses: Vec<u64>,
    apart: Vec<u64>,
    /// Tokens that each gateway admitted, and those that were charged to it, by gateway and bucket.
    owed: BTreeMap<(String, String), i64>,
    charged: BTreeSet<(String, u64)>,
}

impl Accounts {
    /// A gateway has ended, and what it owed with it.
    pub fn died(&self, sim: &Sim, name: &str) {
        let mut judge = self.judge.borrow_mut();
        judge.deaths.push(sim.bucket_time());
        judge.owed.retain(|(gateway, _), _| gateway != name);
    }

    /// The database has lost all levels.
    pub fn lost(&self, sim: &Sim) {
        self.accounts.borrow_mut().clear();
        self.reports.borrow_mut().clear();
        let mut judge = self.judge.borrow_mut();
        judge.charged.clear();
        judge.losses.push(sim.bucket_time());
    }

    /// Charges a report, unless it was charged before. The levels, in units.
    fn charge(&self, sim: &Sim, by: &str, number: u64, report: &[(String, Charge)]) -> Vec<i64> {
        let before = self.reports.borrow().get(by).copied().unwrap_or(0);
        let is_new = number > before || sim.has(Bug::ChargeTwice);
        self.reports.borrow_mut().insert(by.to_owned(), number);
        if is_new {
            let mut judge = self.judge.borrow_mut();
            let first = judge.charged.insert((by.to_owned(), number));
            sim.ensure(first, || format!("report {number} of {by} was charged twice"));
            for (key, charge) in report {
                let owed = judge.owed.entry((by.to_owned(), key.clone())).or_default();
                *owed -= i64::try_from(charge.units / charge.token).unwrap_or(i64::MAX);
            }
        } else {
            sim.saw(Seen::ReportsRepeated);
        }
        let mut accounts = self.accounts.borrow_mut();
        let levels = report.iter().map(|(key, charge)| {
            let units = if is_new { charge.units } else { 0 };
            let charge = Charge { units, ..*charge };
            charge.apply(accounts.entry(key.clone()).or_default(), sim.bucket_time())
        });
        levels.collect()
    }

    /// A gateway has admitted a request: over every window all of them stay within the bound.
    fn admitted(&self, sim: &Sim, by: &str, bucket: &Bucket, sharing: Sharing) {
        let judge = &mut *self.judge.borrow_mut();
        let tokens = i64::try_from(bucket.cost).unwrap_or(i64::MAX);
        *judge.owed.entry((by.to_owned(), bucket.key.clone())).or_default() += tokens;
        let now = sim.bucket_time();
        let all = judge.admitted.entry(bucket.key.clone()).or_default();
        all.push((now, bucket.cost));
        if all.len() > REMEMBERED {
            all.remove(0);
        }
        let each = credit(bucket.capacity, bucket.cost, sharing);
        let mut tokens = 0;
        for (since, cost) in all.iter().rev() {
            tokens += cost;
            let within = |times: &[u64]| times.iter().filter(|at| **at >= *since).count() as u64;
            let gained = bucket.refill * (now - since) / bucket.interval_ns + 1;
            let owed = each * (u64::from(sharing.gateways) + within(&judge.deaths));
            // A share of the capacity for each gateway that counts apart, and what it goes on to admit by the time.
            let apart = within(&judge.apart) * (bucket.capacity / u64::from(sharing.gateways)).max(1);
            let most = bucket.capacity * (1 + within(&judge.losses)) + gained + owed + apart;
            sim.ensure(tokens <= most, || {
                format!(
                    "{tokens} tokens of {} were admitted in {} ns, of {most}",
                    bucket.key,
                    now - since
                )
            });
        }
    }

    /// When nothing is under way: what was admitted was charged.
    pub fn check_end(&self) -> Result<(), String> {
        let judge = self.judge.borrow();
        // What was charged before the levels were lost may be charged again.
        let is_wrong = |owed: i64| owed > 0 || owed < 0 && judge.losses.is_empty();
        match judge.owed.iter().find(|(_, owed)| is_wrong(**owed)) {
            Some(((gateway, key), owed)) => Err(format!("{gateway} never told of {owed} tokens of {key}")),
            None => Ok(()),
        }
    }
}

struct Known {
    debt: Debt,
    is_touched: bool,
    /// When the database is asked for it again, nanoseconds.
    again: Option<u64>,
}

/// The shared buckets of a gateway.
#[derive(Default)]
pub struct Debts {
    known: RefCell<BTreeMap<String, Known>>,
    is_urgent: Cell<bool>,
    is_apart: Cell<bool>,
    /// Who tells what was admitted, while it waits.
    teller: Cell<Option<TaskId>>,
}

impl Gateway {
    fn sharing(&self) -> Sharing {
        Sharing {
            gateways: self.sim.gateways().into(),
            debt_percent: DEBT_PERCENT,
        }
    }

    /// Whether the bucket has its cost, and its level. `None`: it is decided by the gateway's share.
    pub fn look_shared(&self, bucket: &Bucket) -> Result<Option<(bool, Level)>, TakeError> {
        let (scale, sharing, now) = (bucket.check()?, self.sharing(), self.sim.bucket_time());
        let mut known = self.debts.known.borrow_mut();
        let known = known.entry(bucket.key.clone()).or_insert_with(|| Known {
            debt: Debt::new(bucket, &scale, sharing, now),
            is_touched: false,
            again: None,
        });
        if self.debts.is_apart.get() {
            return Ok(None);
        }
        known.debt.fit(bucket, &scale, sharing);
        let has = known.debt.has(bucket.cost);
        let level = known.debt.level(bucket.cost, now, REPORT * 1_000);
        known.is_touched |= !has && level.next_ns <= REPORT * 1_000;
        self.wake_teller();
        Ok(Some((has, level)))
    }

    /// Charges a bucket that was looked at, or what the gateway's share has admitted. Its level now.
    pub fn take_shared(&self, bucket: &Bucket) -> Option<Level> {
        let mut all = self.debts.known.borrow_mut();
        let known = all.get_mut(&bucket.key)?;
        known.debt.admit(bucket.cost);
        known.is_touched |= bucket.cost > 0;
        self.debts
            .is_urgent
            .set(self.debts.is_urgent.get() || known.debt.is_urgent());
        let level = known.debt.level(bucket.cost, self.sim.bucket_time(), 0);
        drop(all);
        self.wake_teller();
        self.sim.saw(Seen::SharedAdmitted);
        self.sim
            .database
            .accounts
            .admitted(&self.sim, &self.name, bucket, self.sharing());
        Some(level)
    }

    /// What the bucket is while the database cannot be asked.
    pub fn share_of(&self, bucket: &Bucket) -> Result<Bucket, TakeError> {
        self.sim.saw(Seen::ByShare);
        share(bucket, self.sharing().gateways)
    }

    /// Waits until something is to be told, or to be asked again.
    async fn something_to_tell(&self) {
        let executor = &self.sim.executor;
        poll_fn(|_| {
            let known = self.debts.known.borrow();
            let next = known.values().filter_map(|known| known.again).min();
            if known.values().any(|known| known.is_touched)
                || next.is_some_and(|at| at <= self.sim.bucket_time())
            {
                return Poll::Ready(());
            }
            if let Some(next) = next {
                executor.wake_at(next.div_ceil(1_000));
            }
            self.debts.teller.set(Some(executor.current()));
            Poll::Pending
        })
        .await;
    }

    /// Waits for as long as others may join.
    async fn others_join(&self) {
        let executor = &self.sim.executor;
        let until = executor.now() + REPORT;
        executor.wake_at(until);
        poll_fn(|_| {
            if executor.now() >= until || self.debts.is_urgent.get() {
                return Poll::Ready(());
            }
            self.debts.teller.set(Some(executor.current()));
            Poll::Pending
        })
        .await;
    }

    fn wake_teller(&self) {
        if let Some(teller) = self.debts.teller.take() {
            self.sim.executor.wake(teller);
        }
    }

    fn next_report(&self) -> Vec<(String, Charge)> {
        let now = self.sim.bucket_time();
        self.debts.is_urgent.set(false);
        let mut report = Vec::new();
        for (key, known) in self.debts.known.borrow_mut().iter_mut() {
            let is_due = known.again.is_some_and(|at| at <= now);
            if known.is_touched || is_due {
                (known.is_touched, known.again) = (false, None);
                report.push((key.clone(), known.debt.report()));
            }
        }
        report
    }

    fn report_answered(&self, report: &[(String, Charge)], levels: &[i64], sent_at: u64) {
        let mut all = self.debts.known.borrow_mut();
        for ((key, charge), level) in report.iter().zip(levels) {
            if let Some(known) = all.get_mut(key) {
                known.again = known.debt.answered(charge, *level, sent_at);
            }
        }
    }
}

/// Tells what was admitted, until the process ends.
pub async fn tell(gateway: Rc<Gateway>) {
    let (sim, debts) = (&gateway.sim, &gateway.debts);
    let mut number = 0;
    loop {
        gateway.something_to_tell().await;
        gateway.others_join().await;
        let (report, sent_at) = (gateway.next_report(), sim.bucket_time());
        if report.is_empty() {
            continue;
        }
        number += 1;
        let since = sim.executor.now();
        loop {
            let charged =
                gateway.ask_for(|database| database.accounts.charge(sim, &gateway.name, number, &report));
            if let Some(levels) = charged.await {
                gateway.report_answered(&report, &levels, sent_at);
                debts.is_apart.set(false);
                break;
            }
            if sim.has(Bug::ForgetReport) {
                let levels: Vec<i64> = report.iter().map(|(_, charge)| charge.full as i64).collect();
                gateway.report_answered(&report, &levels, sent_at);
                break;
            }
            if sim.executor.now() > since + PATIENCE && !debts.is_apart.replace(true) {
                sim.saw(Seen::CountedApart);
                sim.database
                    .accounts
                    .judge
                    .borrow_mut()
                    .apart
                    .push(sim.bucket_time());
            }
            sim.executor.sleep(AGAIN).await;
        }
    }
}
