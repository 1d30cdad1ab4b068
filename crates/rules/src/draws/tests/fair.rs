//! The arithmetic of a draw: trees, chances, and who gets which prize.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::draws::merkle::{self, Hash, path, root, root_by};
use crate::draws::pool::{Pool, below};
use crate::draws::prizes::{self, Given, Prize};
use crate::draws::seed::winner;
use tollgate_api::ids::hex;

/// The leaves and roots of the test suite of Certificate Transparency, whose RFC defines these trees.
#[test]
fn roots_are_those_of_certificate_transparency() {
    let leaves: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| merkle::leaf(leaf)).collect();
    for (size, expected) in roots.iter().enumerate() {
        assert_eq!(hex(&root(&hashes[..size])), *expected, "{size}");
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|n| merkle::leaf(&n.to_be_bytes())).collect()
}

proptest! {
    #[test]
    fn a_tree_of_pages_is_the_tree_of_its_leaves(count in 1..200_usize, bits in 0..5_u32, at: prop::sample::Index) {
        let (leaves, page) = (leaves(count), 1 << bits);
        let pages: Vec<Hash> = leaves.chunks(page).map(root).collect();
        prop_assert_eq!(root(&pages), root(&leaves));
        let index = at.index(count);
        let own = leaves.chunks(page).nth(index / page).unwrap();
        let mut steps = path(own, index % page);
        steps.extend(path(&pages, index / page));
        prop_assert_eq!(&steps, &path(&leaves, index));
        let (index, size) = (index as u64, count as u64);
        prop_assert_eq!(root_by(leaves[index as usize], index, size, &steps), Some(root(&leaves)));
    }

    #[test]
    fn a_path_leads_to_the_root_of_its_own_place_alone(
        count in 1..100_usize, at: prop::sample::Index, bit in 0..256_usize, node: prop::sample::Index, other in 0..120_u64,
    ) {
        let leaves = leaves(count);
        let (index, size, expected) = (at.index(count), count as u64, Some(root(&leaves)));
        let steps = path(&leaves, index);
        let flip = |hash: &mut Hash| hash[bit / 8] ^= 1 << (bit % 8);
        let mut leaf = leaves[index];
        flip(&mut leaf);
        prop_assert_ne!(root_by(leaf, index as u64, size, &steps), expected);
        if !steps.is_empty() {
            let mut bad = steps.clone();
            flip(&mut bad[node.index(steps.len())]);
            prop_assert_ne!(root_by(leaves[index], index as u64, size, &bad), expected);
            prop_assert_eq!(root_by(leaves[index], index as u64, size, &steps[1..]), None);
        }
        let longer = [&steps[..], &[[0; 32]]].concat();
        prop_assert_eq!(root_by(leaves[index], index as u64, size, &longer), None);
        if other != index as u64 {
            prop_assert_ne!(root_by(leaves[index], other, size, &steps), expected);
        }
    }

    #[test]
    fn every_entry_gets_the_prize_that_a_list_would_give_it(
        pick in 1..6_u64,
        quantities in proptest::collection::vec((1..6_u64, proptest::option::of(1..5_u64)), 1..5),
        entries in proptest::collection::vec(0..6_u64, 1..40),
        drawn: prop::sample::Index,
    ) {
        let mut prizes: Vec<Prize> = quantities
            .iter()
            .map(|(matches, quantity)| Prize { matches: (*matches).min(pick), name: String::new(), quantity: *quantity })
            .collect();
        prizes.sort_by_key(|prize| std::cmp::Reverse(prize.matches));
        let drawn = drawn.index(entries.len());
        let matches = |at: usize| if at == drawn { pick } else { entries[at].min(pick) };
        // By lists: the drawn entry first, then the others in order.
        let mut left: Vec<u64> = prizes.iter().map(|prize| prize.quantity.unwrap_or(u64::MAX)).collect();
        let mut expected = vec![None; entries.len()];
        let order = std::iter::once(drawn).chain((0..entries.len()).filter(|at| *at != drawn));
        for at in order {
            let place = (0..prizes.len()).find(|place| prizes[*place].matches <= matches(at) && left[*place] > 0);
            if let Some(place) = place {
                left[place] -= 1;
                expected[at] = Some(place);
            }
        }
        let mut given: Vec<Given> = prizes::begin(&prizes, pick);
        for at in (0..entries.len()).filter(|at| *at != drawn) {
            prizes::next(&prizes, &mut given, at as u64 + 1, matches(at));
        }
        prop_assert!(expected[drawn].is_some(), "the first prize has no winner");
        for (at, expected) in expected.iter().enumerate() {
            let got = prizes::of(&prizes, &given, at as u64 + 1, matches(at), at == drawn);
            prop_assert_eq!(got, *expected, "entry {}", at);
        }
        for (place, given) in given.iter().enumerate() {
            let winners = expected.iter().filter(|got| **got == Some(place)).count();
            prop_assert_eq!(given.winners, winners as u64);
        }
    }
}

/// Chi-squared of these counts against all being equal.
fn chi_squared(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum()
}

#[test]
fn over_many_seeds_every_entry_is_drawn_equally_often() {
    const ENTRIES: u64 = 101;
    let fixed = root(&leaves(101));
    for beacon in [None, Some("18391.44")] {
        let mut counts = [0; ENTRIES as usize];
        for n in 0..101_000_u64 {
            let seed: Hash = Sha256::digest(n.to_be_bytes()).into();
            counts[winner(&seed, &fixed, beacon, ENTRIES) as usize] += 1;
        }
        // 100 degrees of freedom: 174 is beyond the 99.999th percentile, 45 below the 0.001st.
        let found = chi_squared(&counts);
        assert!((45.0..174.0).contains(&found), "{found}");
    }
    // And over roots, where the seed is fixed: nobody who adds entries does better than by chance.
    let mut counts = [0; ENTRIES as usize];
    for n in 0..101_000_u64 {
        let root: Hash = Sha256::digest(n.to_be_bytes()).into();
        counts[winner(&[7; 32], &root, None, ENTRIES) as usize] += 1;
    }
    let found = chi_squared(&counts);
    assert!((45.0..174.0).contains(&found), "{found}");
}

#[test]
fn numbers_that_would_favour_some_are_left_out() {
    let hash = |number: u64| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        hash
    };
    // 2^64 = 1 modulo 3: the last number is over.
    assert_eq!(below(&hash(u64::MAX), 3), None);
    assert_eq!(below(&hash(u64::MAX - 1), 3), Some(2));
    // 2^64 is a multiple of 2: none is over.
    assert_eq!(below(&hash(u64::MAX), 2), Some(1));
    assert_eq!(below(&hash(u64::MAX), 1), Some(0));
    // Nearly half of all numbers are over.
    let bound = (1 << 63) + 1;
    assert_eq!(below(&hash(bound), bound), None);
    assert_eq!(below(&hash(bound - 1), bound), Some(bound - 1));
}

#[test]
fn picks_at_random_use_every_word_equally_often() {
    let pool = Pool::Numbers { from: 1, to: 49 };
    let mut counts = [0; 49];
    for n in 0..49_000_u128 {
        let pick = pool.random(6, n.to_be_bytes());
        assert!(pick.len() == 6 && pick.is_sorted_by(|a, b| a < b));
        for place in pick {
            counts[place as usize] += 1;
        }
    }
    // 48 degrees of freedom; words of one pick exclude each other, which makes it less than that.
    let found = chi_squared(&counts);
    assert!((10.0..100.0).contains(&found), "{found}");
    let whole = Pool::Words(vec!["a".into(), "b".into()]);
    assert_eq!(whole.random(2, [0; 16]), [0, 1]);
}
