//! ALTCHA's proof of work, version 1 (<https://altcha.org/docs/v2/proof-of-work/>): find the number for which SHA-256(salt ‖ number) is the challenge.
//! The gateway keeps nothing of a challenge: it signs what it made, and the salt tells when it expires.
//!
//! The salt ends with `&`. Otherwise digits could be moved from the number to the time at its end, and the same work would count again
//! (CVE-2025-68113).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use tollgate_api::ids::hex;

const ALGORITHM: &str = "SHA-256";
/// The longest solution, bytes.
pub(super) const MAX_SOLUTION: usize = 2_048;
/// The longest salt, bytes.
const MAX_SALT: usize = 256;

/// What is to be solved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Altcha"))]
pub(crate) struct Altcha {
    /// How salt and number are hashed.
    #[cfg_attr(feature = "schema", schemars(extend("const" = "SHA-256")))]
    algorithm: String,
    /// The hash of the salt and the number that is searched for, hexadecimal.
    challenge: String,
    /// The largest number to try.
    maxnumber: u64,
    /// What the number is appended to, in decimal.
    salt: String,
    /// Shows that the gateway made it.
    signature: String,
}

/// A solution, as ALTCHA's clients send it: this as JSON, in base64.
#[derive(Deserialize)]
struct Solution {
    algorithm: String,
    challenge: String,
    number: u64,
    salt: String,
    signature: String,
}

/// Why a solution is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It cannot be read, or is not the solution of one of ours.
    Invalid,
    /// It was, but its time is over.
    Expired,
}

/// A good solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Solved {
    /// Tells it from all others.
    pub(super) id: String,
    /// When it expires, Unix milliseconds.
    pub(super) expires: u64,
}

fn hash(salt: &str, number: u64) -> String {
    let hash = Sha256::new().chain_update(salt);
    hex(&hash.chain_update(number.to_string()).finalize())
}

fn sign(key: &[u8], challenge: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(challenge.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// A new one. `fresh`: unpredictable.
pub(super) fn make(key: &[u8], max_number: u64, expires: u64, fresh: [[u8; 16]; 2]) -> Altcha {
    let [salt, number] = fresh;
    let seconds = expires.div_ceil(1_000);
    let salt = format!("{}?expires={seconds}&", hex(&salt));
    let number = u128::from_be_bytes(number) % (u128::from(max_number) + 1);
    let challenge = hash(&salt, u64::try_from(number).unwrap_or(0));
    Altcha {
        algorithm: ALGORITHM.to_owned(),
        signature: sign(key, &challenge),
        challenge,
        maxnumber: max_number,
        salt,
    }
}

/// Checks a solution.
pub(super) fn check(key: &[u8], text: &str, now: u64) -> Result<Solved, Wrong> {
    if text.len() > MAX_SOLUTION {
        return Err(Wrong::Invalid);
    }
    let json = STANDARD.decode(text).map_err(|_| Wrong::Invalid)?;
    let solution: Solution = serde_json::from_slice(&json).map_err(|_| Wrong::Invalid)?;
    let expected = sign(key, &solution.challenge);
    let is_ours = bool::from(expected.as_bytes().ct_eq(solution.signature.as_bytes()));
    let is_solved = solution.algorithm == ALGORITHM
        && solution.salt.len() <= MAX_SALT
        && hash(&solution.salt, solution.number) == solution.challenge;
    let seconds = solution
        .salt
        .strip_suffix('&')
        .and_then(|salt| salt.split_once("?expires="));
    let seconds = seconds.and_then(|(_, seconds)| seconds.parse::<u64>().ok());
    let Some(expires) = seconds.filter(|_| is_ours && is_solved) else {
        return Err(Wrong::Invalid);
    };
    let expires = expires.saturating_mul(1_000);
    match now < expires {
        true => Ok(Solved {
            id: solution.challenge,
            expires,
        }),
        false => Err(Wrong::Expired),
    }
}

/// The solution, found by trying: for tests.
#[cfg(test)]
pub(super) fn solve(altcha: &Altcha) -> String {
    let number = (0..=altcha.maxnumber)
        .find(|number| hash(&altcha.salt, *number) == altcha.challenge)
        .unwrap();
    let solution = serde_json::json!({
        "algorithm": altcha.algorithm, "challenge": altcha.challenge, "number": number, "salt": altcha.salt,
        "signature": altcha.signature, "took": 12,
    });
    STANDARD.encode(solution.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key of this test";
    const EXPIRES: u64 = 1_800_000_600_000;

    fn made() -> Altcha {
        make(KEY, 1_000, EXPIRES, [[1; 16], [9; 16]])
    }

    #[test]
    fn a_solution_counts_until_it_expires() {
        let text = solve(&made());
        let solved = check(KEY, &text, EXPIRES - 1).unwrap();
        assert_eq!((solved.id, solved.expires), (made().challenge, EXPIRES));
        assert_eq!(check(KEY, &text, EXPIRES), Err(Wrong::Expired));
        assert_eq!(check(b"another key", &text, 0), Err(Wrong::Invalid));
    }

    #[test]
    fn what_was_changed_is_no_solution() {
        let good = String::from_utf8(STANDARD.decode(solve(&made())).unwrap()).unwrap();
        let with = |from: &str, to: &str| {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good, "{from}");
            check(KEY, &STANDARD.encode(changed), 0)
        };
        for (from, to) in [
            ("SHA-256", "SHA-512"),
            ("expires=1800000600", "expires=9900000600"),
            ("expires=1800000600&", "expires=1800000600"),
            ("\"number\":", "\"number\":1"),
            ("\"number\":", "\"number\":-"),
            ("\"signature\":\"", "\"signature\":\"00"),
            ("\"salt\":\"", "\"salt\":\"0"),
        ] {
            assert_eq!(with(from, to), Err(Wrong::Invalid), "{from}");
        }
        for text in ["", "e30=", "bnVsbA==", "%%%", &"A".repeat(MAX_SOLUTION + 1)] {
            assert_eq!(check(KEY, text, 0), Err(Wrong::Invalid));
        }
    }

    /// CVE-2025-68113: the last digits of the time, moved to the number.
    #[test]
    fn digits_moved_from_the_number_to_the_time_make_no_second_solution() {
        let altcha = (0..u8::MAX).map(|byte| make(KEY, 1_000, EXPIRES, [[byte; 16], [byte; 16]]));
        for altcha in altcha {
            let text = String::from_utf8(STANDARD.decode(solve(&altcha)).unwrap()).unwrap();
            let number = serde_json::from_str::<serde_json::Value>(&text).unwrap()["number"].to_string();
            let (moved, rest) = number.split_at(1);
            let spliced = text.replace(&altcha.salt, &format!("{}{moved}", altcha.salt));
            let spliced = spliced.replace(
                &format!("\"number\":{number}"),
                &format!("\"number\":{}", if rest.is_empty() { "0" } else { rest }),
            );
            assert_eq!(check(KEY, &STANDARD.encode(spliced), 0), Err(Wrong::Invalid));
        }
    }
}
