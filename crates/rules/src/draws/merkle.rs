//! Merkle trees as in RFC 6962, section 2.1 (RFC 9162, section 2.1, says the same with proofs that are easier to follow).
//!
//! Written here, and held to a library by the tests: libraries keep all leaves of a tree, and this one is put together from
//! the roots of its pages.

use sha2::{Digest as _, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];
/// Bytes of a [type@Hash].
pub const HASH: usize = 32;

/// The hash of a leaf.
pub fn leaf(data: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(data)
        .finalize()
        .into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let hash = Sha256::new().chain_update([1]);
    hash.chain_update(left).chain_update(right).finalize().into()
}

/// Where a tree of `size` (at least 2) nodes is divided: the largest power of two below it.
fn half(size: usize) -> usize {
    1 << (usize::BITS - 1 - (size - 1).leading_zeros())
}

/// The root over nodes that are hashed already: leaves, or the roots of pages that are full but for the last, where a page
/// has a power of two of leaves.
pub fn root(nodes: &[Hash]) -> Hash {
    match nodes {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        _ => {
            let (left, right) = nodes.split_at(half(nodes.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The hashes that lead from the node at `index` to [`root`], from below; none if there is no such node.
pub fn path(nodes: &[Hash], index: usize) -> Vec<Hash> {
    let mut above = Vec::new();
    let (mut nodes, mut index) = (nodes, index);
    while nodes.len() > 1 {
        let at = half(nodes.len());
        let (left, right) = nodes.split_at(at);
        if index < at {
            above.push(root(right));
            nodes = left;
        } else {
            above.push(root(left));
            (nodes, index) = (right, index - at);
        }
    }
    above.reverse();
    above
}

/// The root that a path leads to from a leaf at `index` of `size` leaves; `None` if it has the wrong length for that, or there is
/// no such leaf. RFC 9162, section 2.1.3.2.
pub fn root_by(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Hashes one after the other.
pub fn join(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// The hashes that [`join`] joined; `None` for anything else.
pub fn split(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH>();
    rest.is_empty().then(|| hashes.to_vec())
}

/// A hash in hexadecimal, read; `None` for anything else.
pub fn parse(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != 2 * HASH {
        return None;
    }
    let mut hash = [0; HASH];
    let (pairs, _) = digits.as_chunks::<2>();
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}
