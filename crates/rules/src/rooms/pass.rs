//! Tickets and tokens: signed numbers. The room keeps nothing of a visitor; a visitor keeps this.
//!
//! A pass is base64url of a kind, one or two numbers of eight bytes, and the first 16 bytes of an HMAC-SHA-256 over them, the room's id and
//! whose pass it is. It does not say whose: another visitor's pass is as false as a forged one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// The bytes of a signature.
const SIGNATURE: usize = 16;
/// The longest pass, in characters.
const MAX_TEXT: usize = 64;

/// What a pass says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// A lot, from before the room opened, and when it was drawn, Unix milliseconds.
    Lot { number: u64, time: u64 },
    /// A turn, and when it was given out, Unix milliseconds.
    Turn { number: u64, time: u64 },
    /// Its holder is admitted until then, Unix milliseconds.
    Token { until: u64 },
}

impl Pass {
    fn bytes(self) -> Vec<u8> {
        let (kind, numbers) = match self {
            Self::Lot { number, time } => (1, vec![number, time]),
            Self::Turn { number, time } => (2, vec![number, time]),
            Self::Token { until } => (3, vec![until]),
        };
        let numbers = numbers.into_iter().flat_map(u64::to_be_bytes);
        [kind].into_iter().chain(numbers).collect()
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (kind, numbers) = bytes.split_first()?;
        let (numbers, rest) = numbers.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes));
        let mut next = || numbers.next();
        let pass = match kind {
            1 => Self::Lot {
                number: next()?,
                time: next()?,
            },
            2 => Self::Turn {
                number: next()?,
                time: next()?,
            },
            3 => Self::Token { until: next()? },
            _ => return None,
        };
        (rest.is_empty() && next().is_none()).then_some(pass)
    }
}

/// What signs the passes of one room.
pub(super) struct Signer<'a> {
    /// The room's id: a room that takes another's name has another.
    pub(super) room: &'a str,
    pub(super) secret: &'a [u8],
}

impl Signer<'_> {
    /// The text of a pass of this holder.
    pub(super) fn sign(&self, pass: Pass, holder: &str) -> String {
        let mut bytes = pass.bytes();
        let signature = self.signature(&bytes, holder);
        bytes.extend(signature);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a text says that was signed for this holder; `None` for any other.
    pub(super) fn read(&self, text: &str, holder: &str) -> Option<Pass> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (said, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE)?)?;
        let is_good = bool::from(self.signature(said, holder).as_slice().ct_eq(signature));
        is_good.then(|| Pass::of(said)).flatten()
    }

    fn signature(&self, said: &[u8], holder: &str) -> [u8; SIGNATURE] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret) else {
            // HMAC takes keys of any length.
            unreachable!("a key of any length is taken")
        };
        // Each with its length, so that no two say the same.
        for part in [said, self.room.as_bytes(), holder.as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let bytes = mac.finalize().into_bytes();
        bytes.first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNER: Signer<'_> = Signer {
        room: "r",
        secret: &[7; 32],
    };

    #[test]
    fn a_pass_says_what_it_said_and_to_nobody_else() {
        for pass in [
            Pass::Lot { number: 1, time: 5 },
            Pass::Turn {
                number: u64::MAX,
                time: 0,
            },
            Pass::Token { until: 9 },
        ] {
            let text = SIGNER.sign(pass, "id:ann");
            assert!(text.len() <= MAX_TEXT);
            assert_eq!(SIGNER.read(&text, "id:ann"), Some(pass));
            assert_eq!(SIGNER.read(&text, "id:bob"), None);
            let other = Signer { room: "s", ..SIGNER };
            assert_eq!(other.read(&text, "id:ann"), None);
            let other = Signer {
                secret: &[8; 32],
                ..SIGNER
            };
            assert_eq!(other.read(&text, "id:ann"), None);
        }
    }

    #[test]
    fn a_pass_that_was_changed_in_one_bit_is_none() {
        let text = SIGNER.sign(Pass::Turn { number: 3, time: 4 }, "id:ann");
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(SIGNER.read(&changed, "id:ann"), None, "{bit}");
        }
        for text in [
            "",
            "a",
            "%",
            &text[..text.len() - 1],
            &(text.clone() + "A"),
            &"A".repeat(1_000),
        ] {
            assert_eq!(SIGNER.read(text, "id:ann"), None, "{text}");
        }
    }
}
