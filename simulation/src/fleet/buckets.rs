//! A bucket that gateways share, as it is: reports that are late, repeated, or die with their gateway.

use tollgate_store::bucket::Bucket;
use tollgate_store::bucket::debt::{Account, Charge, Debt, Sharing, credit};

use super::{World, explore};

const CAPACITY: u64 = 2;
const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Credit is given whatever the level is.
    DebtWithoutBound,
    /// A report whose answer is lost is not repeated.
    ForgetsReports,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit(usize),
    Report(usize),
    /// The report reaches the database, once or again.
    Arrive(usize),
    Answer(usize),
    Dies(usize),
    /// A second passes: a token comes.
    Pass,
}

#[derive(Clone, Debug)]
struct Report {
    charge: Charge,
    sent_at: u64,
    is_charged: bool,
    level: Option<i64>,
}

#[derive(Clone, Debug)]
struct Gateway {
    debt: Debt,
    report: Option<Report>,
}

#[derive(Clone, Debug)]
struct Buckets {
    wrong: Wrong,
    sharing: Sharing,
    gateways: Vec<Gateway>,
    account: Option<Account>,
    admitted: u64,
    deaths: u64,
    seconds: u64,
}

fn bucket() -> Bucket {
    Bucket {
        key: "k".into(),
        capacity: CAPACITY,
        refill: 1,
        interval_ns: SECOND,
        cost: 1,
    }
}

impl Buckets {
    fn new(gateways: u32, wrong: Wrong) -> Self {
        let sharing = Sharing {
            gateways,
            debt_percent: 10,
        };
        let gateway = |_| Gateway {
            debt: Debt::new(&bucket(), &bucket().check().expect("it is one"), sharing, 0),
            report: None,
        };
        Self {
            wrong,
            sharing,
            gateways: (0..gateways).map(gateway).collect(),
            account: None,
            admitted: 0,
            deaths: 0,
            seconds: 0,
        }
    }

    fn now(&self) -> u64 {
        self.seconds * SECOND
    }
}

impl World for Buckets {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (n, gateway) in self.gateways.iter().enumerate() {
            if gateway.debt.has(1) {
                steps.push(Step::Admit(n));
            }
            match &gateway.report {
                None => steps.push(Step::Report(n)),
                Some(report) => {
                    steps.push(Step::Arrive(n));
                    if report.level.is_some() {
                        steps.push(Step::Answer(n));
                    }
                }
            }
            if self.deaths == 0 {
                steps.push(Step::Dies(n));
            }
        }
        if self.seconds < 2 {
            steps.push(Step::Pass);
        }
        steps
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        let (now, sharing, wrong) = (self.now(), self.sharing, self.wrong);
        match step {
            Step::Admit(n) => {
                self.gateways[n].debt.admit(1);
                self.admitted += 1;
            }
            Step::Report(n) => {
                let gateway = &mut self.gateways[n];
                gateway.report = Some(Report {
                    charge: gateway.debt.report(),
                    sent_at: now,
                    is_charged: wrong == Wrong::ForgetsReports,
                    level: None,
                });
            }
            Step::Arrive(n) => {
                if let Some(report) = &mut self.gateways[n].report {
                    let units = if report.is_charged { 0 } else { report.charge.units };
                    let charge = Charge {
                        units,
                        ..report.charge
                    };
                    report.is_charged = true;
                    report.level = Some(charge.apply(&mut self.account, now));
                }
            }
            Step::Answer(n) => {
                let gateway = &mut self.gateways[n];
                if let Some(Report {
                    charge,
                    sent_at,
                    level: Some(level),
                    ..
                }) = gateway.report.take()
                {
                    let level = match wrong {
                        Wrong::DebtWithoutBound => level.max(i64::try_from(charge.full).unwrap_or(i64::MAX)),
                        _ => level,
                    };
                    let _ = gateway.debt.answered(&charge, level, sent_at);
                }
            }
            Step::Dies(n) => {
                self.deaths += 1;
                let scale = bucket().check().map_err(|error| error.to_string())?;
                self.gateways[n] = Gateway {
                    debt: Debt::new(&bucket(), &scale, sharing, now),
                    report: None,
                };
            }
            Step::Pass => self.seconds += 1,
        }
        let each = credit(CAPACITY, 1, sharing);
        let owed = (self.gateways.len() as u64 + self.deaths) * each;
        let bound = CAPACITY + self.seconds + owed;
        match self.admitted > bound {
            true => Err(format!("{} were admitted, of at most {bound}", self.admitted)),
            false => Ok(()),
        }
    }

    fn text(&self) -> String {
        format!("{self:?}")
    }
}

#[test]
fn no_order_of_steps_admits_more_than_the_bound() {
    let states = explore(Buckets::new(2, Wrong::Nothing), 11).unwrap();
    let of_three = explore(Buckets::new(3, Wrong::Nothing), 7).unwrap();
    eprintln!("{states} states of two gateways, {of_three} of three");
    assert!(states > 1_000 && of_three > 1_000);
    for wrong in [Wrong::DebtWithoutBound, Wrong::ForgetsReports] {
        let found = explore(Buckets::new(1, wrong), 30);
        eprintln!("{wrong:?}: {found:?}");
        assert!(found.is_err(), "{wrong:?}");
    }
}
