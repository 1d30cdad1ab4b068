//! The lease of a relay, as it is, over the store in memory: gateways that stand still between any two steps.

use futures::executor::block_on;
use tollgate_delivery::lease::{self, Found, Held, Terms, Trust};
use tollgate_delivery::relay::record::Keys;
use tollgate_store::commit::{Commit, Mutation, Outcome, literal};
use tollgate_store::memory::InMemoryStore;
use tollgate_store::ports::Store as _;

use super::{World, explore};

const TERMS: Terms = Terms { attempt_ms: 1_000 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Progress is written without the fence.
    NoFence,
    /// Attempts begin whatever is left of the lease.
    NoTrust,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Look(usize),
    Take(usize),
    AskToRenew(usize),
    Renew(usize),
    Begin(usize),
    Progress(usize),
    /// So many milliseconds.
    Pass(u64),
}

#[derive(Debug, Default)]
struct Gateway {
    found: Option<(u64, Found)>,
    held: Option<(Held, Trust)>,
    renewing: Option<u64>,
    /// When its attempt began.
    attempt: Option<u64>,
}

/// The steps so far; they are taken again for each state, since the store is not to be copied.
#[derive(Clone)]
struct Leases {
    gateways: usize,
    wrong: Wrong,
    path: Vec<Step>,
    text: String,
    next: Vec<Step>,
}

impl Leases {
    fn new(gateways: usize, wrong: Wrong) -> Self {
        let mut world = Self {
            gateways,
            wrong,
            path: Vec::new(),
            text: String::new(),
            next: Vec::new(),
        };
        world.play().expect("nothing has happened");
        world
    }

    fn play(&mut self) -> Result<(), String> {
        let (store, keys) = (InMemoryStore::new(), Keys::new("t", "s"));
        let start = store.now();
        let mut all: Vec<Gateway> = (0..self.gateways).map(|_| Gateway::default()).collect();
        let (mut now, mut latest) = (0, None);
        for step in &self.path {
            match *step {
                Step::Pass(time) => {
                    now += time;
                    store.set_now(start + now);
                }
                Step::Look(n) => {
                    let found = block_on(lease::look(&store, &keys)).expect("it works");
                    all[n].found = Some((now, found));
                }
                Step::Take(n) => {
                    let (asked_at, found) = all[n].found.take().expect("it looked");
                    let taken = block_on(lease::take(&store, &keys, "g", TERMS, &found)).expect("it works");
                    if let Some(held) = taken {
                        latest = Some(n);
                        all[n].held = Some((held, Trust::new(TERMS, asked_at)));
                    }
                }
                Step::AskToRenew(n) => all[n].renewing = Some(now),
                Step::Renew(n) => {
                    let asked_at = all[n].renewing.take().expect("it asked");
                    let Some((held, trust)) = &mut all[n].held else {
                        continue;
                    };
                    match block_on(held.renew(&store, &keys, "g", TERMS)).expect("it works") {
                        true => trust.renewed(asked_at),
                        false => all[n].held = None,
                    }
                }
                Step::Begin(n) => {
                    let other = |(place, other): (usize, &Gateway)| {
                        place != n && other.attempt.is_some_and(|began| now < began + TERMS.attempt_ms)
                    };
                    if all.iter().enumerate().any(other) {
                        return Err("two attempts at once".into());
                    }
                    all[n].attempt = Some(now);
                }
                Step::Progress(n) => {
                    all[n].attempt = None;
                    let Some((held, _)) = &all[n].held else { continue };
                    let mut commit = Commit {
                        partition: keys.partition().to_owned(),
                        mutations: vec![Mutation::Set {
                            key: keys.progress(),
                            value: literal("p"),
                            expires: None,
                        }],
                        ..Commit::default()
                    };
                    if self.wrong != Wrong::NoFence {
                        held.fence(&keys, &mut commit);
                    }
                    match block_on(store.commit(commit)).expect("it works") {
                        Outcome::Committed(_) if latest != Some(n) => {
                            return Err("progress of a gateway that was overtaken".into());
                        }
                        Outcome::Committed(_) => {}
                        _ => all[n].held = None,
                    }
                }
            }
        }
        self.next = self.possible(&all, now);
        let entries = block_on(store.get(keys.partition(), &[keys.lease(), keys.epoch()])).expect("it works");
        self.text = format!("{now} {latest:?} {all:?} {entries:?}");
        Ok(())
    }

    fn possible(&self, all: &[Gateway], now: u64) -> Vec<Step> {
        let mut steps = vec![Step::Pass(1_000), Step::Pass(5_000)];
        for (n, gateway) in all.iter().enumerate() {
            match (&gateway.held, &gateway.found) {
                (None, None) => steps.push(Step::Look(n)),
                (None, Some(_)) => steps.push(Step::Take(n)),
                _ => {}
            }
            let Some((_, trust)) = &gateway.held else { continue };
            steps.push(match gateway.renewing {
                None => Step::AskToRenew(n),
                Some(_) => Step::Renew(n),
            });
            match gateway.attempt {
                None if self.wrong == Wrong::NoTrust || trust.covers(now) => steps.push(Step::Begin(n)),
                None => {}
                Some(_) => steps.push(Step::Progress(n)),
            }
        }
        steps
    }
}

impl World for Leases {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        self.next.clone()
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        self.path.push(step);
        self.play()
    }

    fn text(&self) -> String {
        self.text.clone()
    }
}

#[test]
fn one_gateway_at_a_time_serves_and_whoever_was_overtaken_changes_nothing() {
    let states = explore(Leases::new(3, Wrong::Nothing), 7).unwrap();
    let deeper = explore(Leases::new(2, Wrong::Nothing), 9).unwrap();
    eprintln!("{states} states of three gateways, {deeper} of two");
    assert!(states > 1_000 && deeper > 1_000);
    for wrong in [Wrong::NoFence, Wrong::NoTrust] {
        let found = explore(Leases::new(2, wrong), 9);
        eprintln!("{wrong:?}: {found:?}");
        assert!(found.is_err(), "{wrong:?}");
    }
}
