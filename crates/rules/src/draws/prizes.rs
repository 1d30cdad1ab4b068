//! Who gets which prize. Prizes are kept with the most `matches` first. An entry gets the first of them that it reaches and that
//! there is one left of. The entry that was drawn comes first, then the entries in order. So who got what follows from an entry's
//! sequence and its matches, without a list of winners.

use serde::{Deserialize, Serialize};

/// A prize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prize {
    /// Words that an entry must share with the winning words.
    pub matches: u64,
    /// Its name.
    pub name: String,
    /// How many there are; where it is missing, one for everybody who reaches it.
    pub quantity: Option<u64>,
}

/// Of a prize, who has it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// How many have it.
    pub winners: u64,
    /// The sequence of the last that got one in order, once none is left; 0 if the drawn entry got the only one.
    pub full_after: Option<u64>,
}

/// Words that two picks share. Both ascend.
pub fn matches(one: &[u32], other: &[u32]) -> u64 {
    let shared = one.iter().filter(|place| other.binary_search(place).is_ok());
    shared.count() as u64
}

/// Nobody has a prize but the drawn entry, which matches all `pick` words.
pub fn begin(prizes: &[Prize], pick: u64) -> Vec<Given> {
    let mut given = vec![Given::default(); prizes.len()];
    if let Some(at) = prizes.iter().position(|prize| prize.matches <= pick) {
        give(&prizes[at], &mut given[at], 0);
    }
    given
}

fn give(prize: &Prize, given: &mut Given, sequence: u64) {
    given.winners += 1;
    if prize.quantity.is_some_and(|quantity| given.winners >= quantity) {
        given.full_after = Some(sequence);
    }
}

/// The next entry in order, other than the drawn one, gets its prize.
pub fn next(prizes: &[Prize], given: &mut [Given], sequence: u64, matches: u64) {
    let mut all = prizes.iter().zip(given);
    if let Some((prize, given)) =
        all.find(|(prize, given)| prize.matches <= matches && given.full_after.is_none())
    {
        give(prize, given, sequence);
    }
}

/// The place of the prize that an entry has got, once all are given.
pub fn of(prizes: &[Prize], given: &[Given], sequence: u64, matches: u64, is_drawn: bool) -> Option<usize> {
    let mut all = prizes.iter().zip(given);
    all.position(|(prize, given)| {
        let was_left = given.full_after.is_none_or(|last| sequence <= last);
        prize.matches <= matches && (is_drawn || was_left)
    })
}
