//! Ids and codes out of fresh randomness.

use sha2::{Digest, Sha256};

/// Characters of an id: 62^20, about 2^119.
pub const ID_LENGTH: usize = 20;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `length` (at most [`ID_LENGTH`]) base62 characters out of the SHA-256 of `fresh`. Hashed, so that what is shown
/// says nothing about the generator. Six bits of each byte are a digit, or none if they stand for 62 or 63, so that all
/// digits are equally likely.
pub fn token(fresh: &[u8; 16], length: usize) -> String {
    let length = length.min(ID_LENGTH);
    let mut token = String::with_capacity(ID_LENGTH);
    let mut hash = Sha256::digest(fresh);
    loop {
        let digits = hash
            .iter()
            .filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        token.extend(digits.take(length - token.len()).map(|digit| char::from(*digit)));
        if token.len() == length {
            return token;
        }
        // Fewer than 20 digits of 32 bytes: once in 10^11 times.
        hash = Sha256::digest(hash);
    }
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
