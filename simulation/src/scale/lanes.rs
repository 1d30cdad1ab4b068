//! A lane that moves from one database to another: in every order of steps, with movers that stand still or begin again, and gateways
//! that believe an old map.
//!
//! The map has for each lane a number, its epoch, that grows with each decision; commits carry the epoch that their gateway read. A database
//! refuses commits of epochs before the one that it was closed, or filled, at. The map's row decides: a move counts once it is written there.

use crate::fleet::{World, explore};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// It is copied before it is closed.
    CopiesWhileOpen,
    /// A database takes any copy, also a late one.
    TakesLateCopies,
    /// A database takes commits of any epoch.
    NoFence,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A gateway reads the map.
    Read(usize),
    /// A gateway commits where its map says.
    Commit(usize),
    /// The next step of a mover.
    Move(usize),
    /// Somebody gives up the move that the map shows.
    GiveUp,
}

/// A database's part: what it holds of the lane, and since when.
#[derive(Clone, Debug, Default)]
struct Database {
    /// The commits that it has, by number.
    commits: Vec<u32>,
    fence: u32,
}

/// A mover that has written its plan into the map: from, to, its epoch, what it has copied, and how far it is.
#[derive(Clone, Debug)]
struct Mover {
    epoch: u32,
    from: usize,
    copy: Option<Vec<u32>>,
    at: u8,
}

#[derive(Clone, Debug)]
struct Lane {
    wrong: Wrong,
    databases: [Database; 2],
    /// The map: the owner, the epoch, and whether it is moving away.
    owner: usize,
    epoch: u32,
    is_moving: bool,
    /// What gateways believe: owner and epoch.
    gateways: [(usize, u32); 2],
    movers: Vec<Mover>,
    acknowledged: Vec<u32>,
}

const MOVES: usize = 3;
const COMMITS: usize = 4;

impl Lane {
    fn new(wrong: Wrong) -> Self {
        Self {
            wrong,
            databases: Default::default(),
            owner: 0,
            epoch: 1,
            is_moving: false,
            gateways: [(0, 1); 2],
            movers: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    fn commit(&mut self, gateway: usize) -> Result<(), String> {
        let (place, epoch) = self.gateways[gateway];
        let database = &mut self.databases[place];
        if epoch < database.fence && self.wrong != Wrong::NoFence {
            return Ok(()); // refused: it reads the map again
        }
        let number = database.commits.last().copied().unwrap_or(0) + 1;
        database.commits.push(number);
        if self.acknowledged.contains(&number) {
            return Err(format!("number {number} was given twice"));
        }
        self.acknowledged.push(number);
        Ok(())
    }

    /// The four steps: the plan, closing, copying, the decision.
    fn step(&mut self, index: usize) {
        let late = self.wrong == Wrong::TakesLateCopies;
        let Mover { epoch, from, at, .. } = self.movers[index];
        let to = 1 - from;
        let (close, copy) = match self.wrong {
            Wrong::CopiesWhileOpen => (2, 1),
            _ => (1, 2),
        };
        match at {
            step if step == close => {
                let source = &mut self.databases[from];
                source.fence = source.fence.max(epoch);
            }
            step if step == copy => self.movers[index].copy = Some(self.databases[from].commits.clone()),
            3 => {
                let target = &mut self.databases[to];
                if target.fence < epoch || late {
                    target.fence = epoch;
                    target.commits = self.movers[index].copy.clone().unwrap_or_default();
                }
            }
            _ => {
                if self.is_moving && self.epoch == epoch {
                    (self.owner, self.is_moving) = (to, false);
                }
            }
        }
        self.movers[index].at += 1;
    }
}

impl World for Lane {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = [0, 1].map(Step::Read).to_vec();
        if self.acknowledged.len() < COMMITS {
            steps.extend([0, 1].map(Step::Commit));
        }
        steps.extend(
            (0..self.movers.len())
                .filter(|n| self.movers[*n].at <= 4)
                .map(Step::Move),
        );
        if self.movers.len() < MOVES && !self.is_moving {
            steps.push(Step::Move(self.movers.len()));
        }
        if self.is_moving {
            steps.push(Step::GiveUp);
        }
        steps
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            // One that is moving away is still where it was, until it is closed: the epoch is that of before.
            Step::Read(gateway) => {
                self.gateways[gateway] = (self.owner, self.epoch - u32::from(self.is_moving));
            }
            Step::Commit(gateway) => self.commit(gateway)?,
            Step::Move(index) if index == self.movers.len() => {
                self.epoch += 1;
                self.is_moving = true;
                self.movers.push(Mover {
                    epoch: self.epoch,
                    from: self.owner,
                    copy: None,
                    at: 1,
                });
            }
            Step::Move(index) => self.step(index),
            Step::GiveUp => {
                self.epoch += 1;
                self.is_moving = false;
            }
        }
        // What was acknowledged is where the map leads.
        let owner = &self.databases[self.owner].commits;
        match self.acknowledged.iter().find(|number| !owner.contains(number)) {
            Some(number) => Err(format!("commit {number} is not where the map leads")),
            None => Ok(()),
        }
    }

    fn text(&self) -> String {
        format!("{self:?}")
    }
}

#[test]
fn a_lane_that_moves_loses_nothing_in_any_order_of_steps() {
    let states = explore(Lane::new(Wrong::Nothing), 16).unwrap_or_else(|why| panic!("{why}"));
    assert!(states > 10_000, "{states} states");
    println!("{states} states");
}

#[test]
fn deliberate_bugs_of_moves_are_found() {
    for wrong in [Wrong::CopiesWhileOpen, Wrong::TakesLateCopies, Wrong::NoFence] {
        assert!(explore(Lane::new(wrong), 13).is_err(), "{wrong:?}");
    }
}
