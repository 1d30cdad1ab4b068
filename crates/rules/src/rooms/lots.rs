//! The places of those who came before a room opened: a permutation of their lots, chosen by a seed that is made when it opens. Nobody
//! can know it before, and each place is computed alone.
//!
//! Few lots are shuffled (Fisher–Yates). Many go through a Feistel network over the smallest square that holds them, again and again until the
//! result is one of them ("cycle walking", Black and Rogaway 2002).

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// Up to so many lots are shuffled.
const SHUFFLED: u64 = 256;
/// Rounds of the network; as many as NIST SP 800-38G asks for in FF1.
const ROUNDS: u8 = 10;

/// What chooses.
pub(super) type Seed = [u8; 32];

type Keyed = Hmac<Sha256>;

/// Eight pseudo-random bytes for a text.
fn word(keyed: &Keyed, kind: u8, text: u64) -> u64 {
    let mut mac = keyed.clone();
    mac.update(&[kind]);
    mac.update(&text.to_be_bytes());
    let bytes = mac.finalize().into_bytes();
    let first = bytes.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}

/// The place, from 1 to `lots`, of the lot `lot`, from 1 to `lots`; another number is its own place.
pub(super) fn place(seed: &Seed, lot: u64, lots: u64) -> u64 {
    let (Ok(keyed), true) = (Keyed::new_from_slice(seed), (1..=lots).contains(&lot)) else {
        return lot;
    };
    match lots <= SHUFFLED {
        true => shuffled(&keyed, lot, lots),
        false => 1 + network(&keyed, lot - 1, lots),
    }
}

fn shuffled(keyed: &Keyed, lot: u64, lots: u64) -> u64 {
    let mut places: Vec<u64> = (1..=lots).collect();
    for last in (1..places.len()).rev() {
        let choices = last as u64 + 1;
        // 2^64 is so much more than 256 that no place is favoured by a measurable amount.
        let chosen = word(keyed, 0, last as u64) % choices;
        places.swap(last, usize::try_from(chosen).unwrap_or(last));
    }
    let index = usize::try_from(lot - 1).ok();
    index.and_then(|index| places.get(index).copied()).unwrap_or(lot)
}

fn network(keyed: &Keyed, lot: u64, lots: u64) -> u64 {
    let half = (64 - (lots - 1).leading_zeros()).div_ceil(2);
    let mask = (1_u64 << half) - 1;
    let mut at = lot;
    // The domain is less than four times as large as the lots, so that this ends soon; it ends at the lot itself at the latest.
    loop {
        let (mut left, mut right) = (at >> half, at & mask);
        for round in 1..=ROUNDS {
            (left, right) = (right, left ^ (word(keyed, round, right) & mask));
        }
        at = (left << half) | right;
        if at < lots {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(number: u64) -> Seed {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        seed
    }

    #[test]
    fn each_lot_has_a_place_of_its_own() {
        for lots in [1, 2, 3, 255, 256, 257, 1_000, 4_097] {
            let mut places: Vec<u64> = (1..=lots).map(|lot| place(&seed(7), lot, lots)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(1..=lots), "{lots}");
        }
        assert_eq!((place(&seed(7), 0, 5), place(&seed(7), 6, 5)), (0, 6));
    }

    /// Chi-square over many seeds: where one lot comes to is uniform.
    #[test]
    fn no_lot_is_favoured() {
        const SEEDS: u64 = 8_000;
        for (lots, lot) in [(2, 1), (10, 3), (300, 1), (300, 299), (1_000, 17)] {
            let bins = lots.min(20);
            let mut counts = vec![0_f64; usize::try_from(bins).unwrap()];
            for number in 0..SEEDS {
                let place = place(&seed(number), lot, lots) - 1;
                counts[usize::try_from(place * bins / lots).unwrap()] += 1.0;
            }
            let expected = SEEDS as f64 / bins as f64;
            let chi: f64 = counts
                .iter()
                .map(|count| (count - expected).powi(2) / expected)
                .sum();
            // The 99.99th percentile of 19 degrees of freedom is 51.
            assert!(chi < 51.0, "{lots} lots: {chi}");
        }
    }

    #[test]
    fn another_seed_is_another_order() {
        let order = |number| (1..=500).map(move |lot| place(&seed(number), lot, 500));
        let same = order(1).zip(order(2)).filter(|(a, b)| a == b).count();
        assert!(same < 10, "{same}");
    }
}
