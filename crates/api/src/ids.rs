//! Ids and codes out of fresh randomness; bytes as text.

/// Characters of an id: 62^20, about 2^119.
pub const ID_LENGTH: usize = 20;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits that 64 bits are good for: 62^10 goes into 2^64 some 22 times, so that no token is more than a twentieth likelier
/// than another.
const DIGITS: usize = 10;

/// `length` (at most [`ID_LENGTH`]) base62 characters out of `fresh`, which must be unpredictable: they show most of it.
/// Ten digits already depend on all of it.
pub fn token(fresh: &[u8; 16], length: usize) -> String {
    let fresh = u128::from_le_bytes(*fresh);
    let (low, high) = (fresh as u64, (fresh >> 64) as u64);
    let mut token = String::with_capacity(ID_LENGTH);
    for mut half in [low ^ high, high] {
        for _ in 0..DIGITS.min(length.saturating_sub(token.len())) {
            token.push(char::from(ALPHABET[(half % 62) as usize]));
            half /= 62;
        }
    }
    token
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    let text = bytes.iter().map(digits).collect::<Vec<_>>().into_flattened();
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_in_lower_case() {
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }

    #[test]
    fn tokens_have_their_length_and_differ() {
        let tokens: Vec<_> = (0..200_u8).map(|n| token(&[n; 16], 20)).collect();
        assert!(
            tokens
                .iter()
                .all(|t| t.len() == 20 && t.bytes().all(|b| b.is_ascii_alphanumeric()))
        );
        let distinct: std::collections::HashSet<_> = tokens.iter().collect();
        assert_eq!(distinct.len(), tokens.len());
        assert_eq!(token(&[7; 16], 99).len(), ID_LENGTH);
        assert!(token(&[7; 16], 99).starts_with(&token(&[7; 16], 3)));
        // Wherever the one bit is that two differ in, ten digits tell them apart.
        for bit in 0..128 {
            let token = |bits: u128| token(&bits.to_le_bytes(), 10);
            assert_ne!(
                token(0x0123_4567_89ab_cdef),
                token(0x0123_4567_89ab_cdef ^ (1 << bit)),
                "{bit}"
            );
        }
    }
}
