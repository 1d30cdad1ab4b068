//! A group whose COMMIT may lose its answer, as `tollgate_engines::postgres` writes it: each transaction updates its writer's own row
//! first, so that row is locked for as long as the transaction lives. A model of Postgres and the network; the rule is the writer's.

use super::{World, explore};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// A lost answer is taken for "not done".
    RetriedBlindly,
    /// The row is read without waiting for who holds it.
    ReadsWithoutLock,
    /// A lost answer is taken for "done".
    TakenForDone,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The gateway sends both flights; its connection carries COMMIT.
    Send,
    /// COMMIT reaches the database, also over a connection that the gateway has lost.
    Commits,
    /// The database sees that the connection has ended.
    Aborts,
    /// The answer arrives.
    Answers,
    /// The connection is lost for the gateway.
    Cut,
    /// The gateway asks over a new connection what its row says.
    Resolve,
    /// The gateway itself dies; its client does not know what became of the request.
    Dies,
}

/// A transaction in the database that holds the writer's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transaction {
    number: u8,
    /// Whether COMMIT is still on its way to it.
    is_coming: bool,
    /// Whether the gateway still hears of it.
    is_heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gateway {
    Idle,
    Waits,
    Lost,
    Acknowledged,
    Dead,
}

#[derive(Clone, Debug)]
struct Commits {
    wrong: Wrong,
    gateway: Gateway,
    /// Of the group as it was sent last.
    number: u8,
    transaction: Option<Transaction>,
    /// The writer's row.
    row: u8,
    /// How often the group took effect.
    effects: u8,
    /// Whether an answer is on its way.
    is_answered: bool,
}

impl Commits {
    fn new(wrong: Wrong) -> Self {
        Self {
            wrong,
            gateway: Gateway::Idle,
            number: 0,
            transaction: None,
            row: 0,
            effects: 0,
            is_answered: false,
        }
    }
}

impl World for Commits {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        match self.gateway {
            // A new transaction waits for the row.
            Gateway::Idle if self.transaction.is_none() && self.number < 3 => steps.push(Step::Send),
            Gateway::Waits => {
                steps.extend([Step::Cut, Step::Dies]);
                if self.is_answered {
                    steps.push(Step::Answers);
                }
            }
            // `SELECT … FOR UPDATE` waits for the row, too.
            Gateway::Lost if self.transaction.is_none() || self.wrong == Wrong::ReadsWithoutLock => {
                steps.push(Step::Resolve);
            }
            _ => {}
        }
        if let Some(transaction) = self.transaction {
            if transaction.is_coming {
                steps.push(Step::Commits);
            }
            if !transaction.is_heard {
                steps.push(Step::Aborts);
            }
        }
        steps
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Send => {
                self.number += 1;
                self.gateway = Gateway::Waits;
                self.transaction = Some(Transaction {
                    number: self.number,
                    is_coming: true,
                    is_heard: true,
                });
            }
            Step::Commits => {
                if let Some(transaction) = self.transaction.take() {
                    self.effects += 1;
                    self.row = transaction.number;
                    self.is_answered = transaction.is_heard;
                }
            }
            Step::Aborts => self.transaction = None,
            Step::Answers => self.gateway = Gateway::Acknowledged,
            Step::Cut | Step::Dies => {
                self.is_answered = false;
                if let Some(transaction) = &mut self.transaction {
                    transaction.is_heard = false;
                }
                self.gateway = match (step, self.wrong) {
                    (Step::Dies, _) => Gateway::Dead,
                    (_, Wrong::RetriedBlindly) => Gateway::Idle,
                    (_, Wrong::TakenForDone) => Gateway::Acknowledged,
                    _ => Gateway::Lost,
                };
            }
            Step::Resolve => {
                self.gateway = match self.row == self.number {
                    true => Gateway::Acknowledged,
                    false => Gateway::Idle,
                };
            }
        }
        if self.effects > 1 {
            return Err("a group took effect twice".into());
        }
        // What was acknowledged and did not happen may not be about to happen either: the transaction may be undone.
        if self.gateway == Gateway::Acknowledged && self.effects == 0 {
            return Err("acknowledged, and not done".into());
        }
        Ok(())
    }

    fn text(&self) -> String {
        format!("{self:?}")
    }
}

#[test]
fn a_group_whose_answer_is_lost_takes_effect_once_and_is_told_right() {
    let states = explore(Commits::new(Wrong::Nothing), 40).unwrap();
    eprintln!("{states} states");
    assert!(states > 10);
    for wrong in [
        Wrong::RetriedBlindly,
        Wrong::ReadsWithoutLock,
        Wrong::TakenForDone,
    ] {
        let found = explore(Commits::new(wrong), 40);
        eprintln!("{wrong:?}: {found:?}");
        assert!(found.is_err(), "{wrong:?}");
    }
}
