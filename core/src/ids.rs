//! Ids and codes out of fresh randomness.

use sha2::{Digest, Sha256};

/// Characters of an id: 62^20, about 2^119.
pub const ID_LENGTH: usize = 20;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits of a chunk that 64 bits hold.
const CHUNK_DIGITS: u32 = 10;
const CHUNK: u128 = 62_u128.pow(CHUNK_DIGITS);

/// `length` (at most [`ID_LENGTH`]) base62 characters out of the SHA-256 of `fresh`. Hashed, so that what is shown
/// says nothing about the generator.
pub fn token(fresh: &[u8; 16], length: usize) -> String {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(fresh)[..16]);
    let rest = u128::from_be_bytes(half);
    // Ten digits at a time: a division of 128 bits costs a component more than all those of 64 bits together.
    let mut chunks = [(rest % CHUNK) as u64, (rest / CHUNK % CHUNK) as u64];
    let mut token = String::with_capacity(ID_LENGTH);
    for chunk in &mut chunks {
        for _ in 0..CHUNK_DIGITS {
            token.push(char::from(ALPHABET[(*chunk % 62) as usize]));
            *chunk /= 62;
        }
    }
    token.truncate(length);
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_length_and_differ() {
        let tokens: Vec<_> = (0..200_u8).map(|n| token(&[n; 16], 10)).collect();
        assert!(
            tokens
                .iter()
                .all(|t| t.len() == 10 && t.bytes().all(|b| b.is_ascii_alphanumeric()))
        );
        let distinct: std::collections::HashSet<_> = tokens.iter().collect();
        assert_eq!(distinct.len(), tokens.len());
        assert_eq!(token(&[7; 16], 99).len(), ID_LENGTH);
        assert!(token(&[7; 16], 99).starts_with(&token(&[7; 16], 3)));
    }
}
