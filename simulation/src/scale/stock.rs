//! A campaign whose users are spread over databases by a hash of their names, each with a part of the stock. Units move between the
//! home of the campaign and a database by messages that may be lost, doubled and overtaken.
//!
//! Each side changes its own rows in one commit, with what it has promised the other: a number for each database and direction, and the
//! amount of the last one. So a repeated question gets the answer that it got before, a repeated answer is credited once, and both need a
//! row for each database, however long the sale lasts.

use std::collections::{BTreeSet, VecDeque};

use fastrand::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// A grant that comes again is credited again.
    CreditsTwice,
    /// A question that comes again is granted anew.
    GrantsAnew,
    /// What goes back is credited again each time it comes.
    TakesBackTwice,
    /// Units go back and stay.
    GivesWithoutDebit,
    /// A database without units says that the campaign is sold out, as soon as home has none.
    SaysSoldOutTooEarly,
}

const ALL: [Wrong; 5] = [
    Wrong::CreditsTwice,
    Wrong::GrantsAnew,
    Wrong::TakesBackTwice,
    Wrong::GivesWithoutDebit,
    Wrong::SaysSoldOutTooEarly,
];

#[derive(Clone, Copy, Debug)]
enum Message {
    /// A database asks for units, and tells how many it has sold.
    Ask { from: usize, number: u64, sold: u64 },
    /// Home answers; `over`: all are sold.
    Grant {
        to: usize,
        number: u64,
        units: u64,
        over: bool,
    },
    /// Home asks for units that others need.
    Reclaim { to: usize },
    /// A database gives units back.
    Give {
        from: usize,
        number: u64,
        units: u64,
        sold: u64,
    },
    /// Home has them.
    Taken { to: usize, number: u64 },
}

/// What home knows of a database: one row.
#[derive(Clone, Copy, Default)]
struct Known {
    asked: u64,
    granted: u64,
    given: u64,
    sold: u64,
}

/// A database with a part of the stock.
#[derive(Default)]
struct Part {
    units: u64,
    users: BTreeSet<u64>,
    /// The number of the question that is open, or was the last.
    ask: u64,
    credited: u64,
    /// The number of the last give, and its units until home has them.
    give: u64,
    giving: Option<u64>,
    over: bool,
    /// When it asks again, after an answer of no units.
    quiet: u64,
}

struct Sale {
    quantity: u64,
    left: u64,
    known: Vec<Known>,
    parts: Vec<Part>,
    network: Vec<Message>,
    wrong: Wrong,
    /// In claims and in ticks of timers.
    clock: u64,
    /// How long nothing is asked again where there was nothing.
    pause: u64,
    /// When home asks again for units back.
    reclaims: u64,
    /// Messages that were delivered.
    delivered: u64,
    /// Claims that were told to come back.
    later: u64,
}

impl Sale {
    fn new(databases: usize, quantity: u64, pause: u64, wrong: Wrong) -> Self {
        Self {
            quantity,
            left: quantity,
            known: vec![Known::default(); databases],
            parts: (0..databases).map(|_| Part::default()).collect(),
            network: Vec::new(),
            wrong,
            clock: 0,
            pause,
            reclaims: 0,
            delivered: 0,
            later: 0,
        }
    }

    fn sold(&self) -> u64 {
        self.parts.iter().map(|part| part.users.len() as u64).sum()
    }

    /// Each unit is in one place.
    fn check(&self) -> Result<(), String> {
        let mut all = self.left + self.sold();
        for (part, known) in self.parts.iter().zip(&self.known) {
            all += part.units;
            // Granted, and not credited yet.
            all += if part.credited < known.asked {
                known.granted
            } else {
                0
            };
            // Given, and not with home yet.
            all += match part.giving {
                Some(units) if known.given < part.give => units,
                _ => 0,
            };
        }
        match all == self.quantity && self.sold() <= self.quantity {
            true => Ok(()),
            false => Err(format!("{all} units of {}, {} sold", self.quantity, self.sold())),
        }
    }

    /// A user claims where it belongs. `None`: it is to come again.
    fn claim(&mut self, user: u64) -> Result<Option<bool>, String> {
        let place = usize::try_from(user).unwrap_or(0) % self.parts.len();
        let early = self.wrong == Wrong::SaysSoldOutTooEarly && self.left == 0;
        self.clock += 1;
        let part = &mut self.parts[place];
        if part.users.contains(&user) {
            return Ok(Some(true));
        }
        if part.units > 0 {
            part.units -= 1;
            part.users.insert(user);
            return Ok(Some(true));
        }
        if part.over || early {
            let (sold, quantity) = (self.sold(), self.quantity);
            return match sold == quantity {
                true => Ok(Some(false)),
                false => Err(format!(
                    "told to be sold out, though {sold} of {quantity} are sold"
                )),
            };
        }
        self.later += 1;
        if part.ask == part.credited && self.clock >= part.quiet {
            // One that is open is repeated by a timer.
            part.ask += 1;
            self.ask(place);
        }
        Ok(None)
    }

    fn ask(&mut self, from: usize) {
        let part = &self.parts[from];
        self.network.push(Message::Ask {
            from,
            number: part.ask,
            sold: part.users.len() as u64,
        });
    }

    fn deliver(&mut self, message: Message) {
        self.delivered += 1;
        match message {
            Message::Ask { from, number, sold } => {
                let share = (self.left / (2 * self.parts.len() as u64)).max(1).min(self.left);
                let known = &mut self.known[from];
                known.sold = known.sold.max(sold);
                if number > known.asked || (number == known.asked && self.wrong == Wrong::GrantsAnew) {
                    (known.asked, known.granted) = (number, share);
                    self.left -= share;
                }
                let units = known.granted;
                if number != known.asked {
                    return; // overtaken by a later one
                }
                let over = self.known.iter().map(|known| known.sold).sum::<u64>() == self.quantity;
                self.network.push(Message::Grant {
                    to: from,
                    number,
                    units,
                    over,
                });
                if units == 0 && !over && self.clock >= self.reclaims {
                    self.reclaims = self.clock + self.pause;
                    let others = (0..self.parts.len()).filter(|to| *to != from);
                    self.network.extend(others.map(|to| Message::Reclaim { to }));
                }
            }
            Message::Grant {
                to,
                number,
                units,
                over,
            } => {
                let part = &mut self.parts[to];
                part.over |= over;
                let is_open = number == part.ask && number > part.credited;
                if is_open || self.wrong == Wrong::CreditsTwice {
                    part.credited = part.credited.max(number);
                    part.units += units;
                    part.quiet = if units == 0 { self.clock + self.pause } else { 0 };
                }
            }
            Message::Reclaim { to } => {
                let part = &mut self.parts[to];
                if part.giving.is_none() {
                    let units = part.units.div_ceil(2);
                    part.give += 1;
                    part.giving = Some(units);
                    if self.wrong != Wrong::GivesWithoutDebit {
                        part.units -= units;
                    }
                }
                self.give(to);
            }
            Message::Give {
                from,
                number,
                units,
                sold,
            } => {
                let known = &mut self.known[from];
                known.sold = known.sold.max(sold);
                if number > known.given || self.wrong == Wrong::TakesBackTwice {
                    known.given = number;
                    self.left += units;
                }
                self.network.push(Message::Taken { to: from, number });
            }
            Message::Taken { to, number } => {
                let part = &mut self.parts[to];
                if part.give == number {
                    part.giving = None;
                }
            }
        }
    }

    fn give(&mut self, from: usize) {
        let part = &self.parts[from];
        if let Some(units) = part.giving {
            self.network.push(Message::Give {
                from,
                number: part.give,
                units,
                sold: part.users.len() as u64,
            });
        }
    }

    /// One message: delivered, doubled or lost, in any order.
    fn network(&mut self, random: &mut Rng, may_fail: bool) {
        if self.network.is_empty() {
            return;
        }
        let index = random.usize(..self.network.len());
        match random.u64(..8) {
            0 if may_fail => drop(self.network.swap_remove(index)),
            1 if may_fail => self.deliver(self.network[index]),
            _ => {
                let message = self.network.swap_remove(index);
                self.deliver(message);
            }
        }
    }
}

/// A sale with a crowd that is larger than the stock, and messages that come to harm.
fn sale(seed: u64, wrong: Wrong) -> Result<(), String> {
    let mut random = Rng::with_seed(seed);
    let mut sale = Sale::new(2 + random.usize(..5), 1 + random.u64(..60), 4, wrong);
    let users = sale.quantity + 1 + random.u64(..40);
    for _ in 0..1_000 {
        match random.u64(..4) {
            0 => drop(sale.claim(random.u64(..users))?),
            1 => {
                // What waits is repeated by a timer, also of a database that has just been started anew.
                let place = random.usize(..sale.parts.len());
                if sale.parts[place].ask > sale.parts[place].credited {
                    sale.ask(place);
                }
                sale.give(place);
            }
            _ => sale.network(&mut random, true),
        }
        sale.network.truncate(200);
        sale.check()?;
    }
    // Nothing fails any more: everybody gets an answer.
    let mut waiting: BTreeSet<u64> = (0..users).collect();
    for _ in 0..2_000 {
        let Some(user) = random.choice(&waiting).copied() else {
            break;
        };
        if sale.claim(user)?.is_some() {
            waiting.remove(&user);
        }
        for place in 0..sale.parts.len() {
            if sale.parts[place].ask > sale.parts[place].credited {
                sale.ask(place);
            }
            sale.give(place);
        }
        while !sale.network.is_empty() {
            sale.network(&mut random, false);
        }
        sale.check()?;
    }
    match (waiting.len(), sale.sold() == sale.quantity) {
        (0, true) => Ok(()),
        (waiting, _) => Err(format!(
            "{waiting} wait for ever, {} of {} sold",
            sale.sold(),
            sale.quantity
        )),
    }
}

fn sales(seeds: u64) {
    for seed in 0..seeds {
        if let Err(why) = sale(seed, Wrong::Nothing) {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn parts_sell_exactly_the_stock_whatever_happens_to_messages() {
    sales(3_000);
}

#[test]
#[ignore = "a million seeds take minutes: cargo test --release -p tollgate-simulation -- --ignored"]
fn a_million_sales() {
    sales(1_000_000);
}

/// 100,000 units over eight databases, for a crowd twice as large in no order, while each message takes as long as 200 claims.
#[test]
fn a_large_sale_takes_few_messages() {
    const QUANTITY: u64 = 100_000;
    let (mut random, mut waiting) = (Rng::with_seed(1), VecDeque::new());
    let mut sale = Sale::new(8, QUANTITY, 2_000, Wrong::Nothing);
    let mut users: Vec<u64> = (0..2 * QUANTITY).collect();
    for last in (1..users.len()).rev() {
        users.swap(last, random.usize(..last + 1));
    }
    let (mut claims, mut refused) = (0_u64, 0);
    waiting.extend(users);
    while let Some(user) = waiting.pop_front() {
        match sale.claim(user).unwrap_or_else(|why| panic!("{why}")) {
            Some(true) => {}
            Some(false) => refused += 1,
            None => waiting.push_back(user),
        }
        claims += 1;
        if claims.is_multiple_of(200) {
            for message in std::mem::take(&mut sale.network) {
                sale.deliver(message);
            }
        }
    }
    println!(
        "{} sold, {refused} refused, {} messages, {} claims told to come back",
        sale.sold(),
        sale.delivered,
        sale.later
    );
    assert_eq!((sale.sold(), refused), (QUANTITY, QUANTITY));
    assert!(sale.delivered < QUANTITY / 10, "{} messages", sale.delivered);
}

#[test]
fn deliberate_bugs_of_parts_are_found() {
    for wrong in ALL {
        let found = (0..300).any(|seed| sale(seed, wrong).is_err());
        assert!(found, "{wrong:?}");
    }
}
