//! Codes and ids: short, unguessable, and never in the way of the gateway's own paths.

use sha2::{Digest as _, Sha256};
use std::borrow::Cow;

use crate::config::{Config, MAX_CODE_LENGTH, MIN_CODE_LENGTH};
use tollgate_api::calls::own_segments;

/// The fewest characters of a custom code.
pub const MIN_CUSTOM: usize = 3;
/// The most characters of any code.
pub const MAX_CUSTOM: usize = 64;
/// Codes that would collide with the calls of `/api/links`.
const RESERVED_CODES: &[&str] = &["bulk", "top", "claim", "orphans"];
/// How often a reserved word is hashed away. With the largest configuration a word is reserved with a probability
/// below 1/1,000, so the bound is never met.
const MAX_REHASHES: u8 = 64;
/// Base62 digits of a `u128`.
const U128_DIGITS: usize = 22;
/// Digits taken from each half of the hash. 62^16 is about 2^95: reducing 128 bits to it favours no digit string
/// by more than 2^-32.
const HALF_DIGITS: usize = 16;
/// Crockford's base32 in lower case: no i, l, o, u.
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of an id: 128 bits in base32.
const ID_CHARS: usize = 26;

/// The code of a fresh id: its SHA-256 in base62, the first `length` characters (4 to 32; others are clamped).
/// Every code of a length is equally likely (to within 2^-32), and one code tells nothing about the next. A word that
/// is reserved is hashed again.
pub fn generate(fresh: [u8; 16], length: u8, config: &Config) -> String {
    let length = usize::from(length.clamp(MIN_CODE_LENGTH, MAX_CODE_LENGTH));
    let mut hash: [u8; 32] = Sha256::digest(fresh).into();
    let mut code = first_digits(&hash, length);
    for _ in 0..MAX_REHASHES {
        if !is_reserved(&code, config) {
            break;
        }
        hash = Sha256::digest(hash).into();
        code = first_digits(&hash, length);
    }
    code
}

fn first_digits(hash: &[u8; 32], length: usize) -> String {
    let mut code = String::with_capacity(2 * HALF_DIGITS);
    let (halves, _) = hash.as_chunks::<16>();
    for half in halves {
        let digits = base62::encode(u128::from_be_bytes(*half));
        // The low digits are the uniform ones: the highest of 22 is never above 7.
        let padded = format!("{digits:0>U128_DIGITS$}");
        code.push_str(&padded[U128_DIGITS - HALF_DIGITS..]);
    }
    code.truncate(length);
    code
}

/// The code that a new link is kept under: in lower case where the settings say that case does not matter.
pub fn folded<'a>(config: &Config, code: &'a str) -> Cow<'a, str> {
    match config.links.case_insensitive && code.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(code.to_ascii_lowercase()),
        false => Cow::Borrowed(code),
    }
}

/// Whether `code` has the form of a code: 3 to 64 of `[A-Za-z0-9_-]`. Generated ones do, too.
pub fn is_code(code: &str) -> bool {
    (MIN_CUSTOM..=MAX_CUSTOM).contains(&code.len())
        && code
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// What stands between a domain's host and a code in a [`name`]: no code and no host holds it.
const MARK: char = ':';

/// What a link is kept under: its code alone, or on one of the `[[domains]]` behind the host and a colon. So the same code on two
/// hosts is two links, and links of a time without domains are found as ever.
pub fn name<'a>(host: Option<&str>, code: &'a str) -> Cow<'a, str> {
    match host {
        None => Cow::Borrowed(code),
        Some(host) => Cow::Owned(format!("{host}{MARK}{code}")),
    }
}

/// The host and the code of a [`name`].
pub fn parts(name: &str) -> (Option<&str>, &str) {
    match name.split_once(MARK) {
        Some((host, code)) => (Some(host), code),
        None => (None, name),
    }
}

/// Whether a text has the form of a [`name`].
pub fn is_name(name: &str) -> bool {
    let (host, code) = parts(name);
    is_code(code) && host.is_none_or(is_host)
}

/// Whether a text has the form of a domain's host: names in lower case and digits, with a letter in the last.
pub fn is_host(host: &str) -> bool {
    const MAX_HOST: usize = 253;
    const MAX_LABEL: usize = 63;
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= MAX_HOST && host.split('.').all(label) && last.bytes().any(|b| b.is_ascii_lowercase())
}

/// Whether a path of that first segment belongs to the gateway or to a route of `[[forward]]`, `[[components]]` or `[[proxy]]`, whatever its case.
pub fn is_reserved(code: &str, config: &Config) -> bool {
    let same = |word: &str| word.eq_ignore_ascii_case(code);
    let forwarded = |path: &str| same(path.trim_start_matches('/').split('/').next().unwrap_or(""));
    own_segments().chain(RESERVED_CODES.iter().copied()).any(same)
        || config.forward.iter().any(|rule| forwarded(&rule.path))
        || config.components.iter().any(|rule| forwarded(&rule.path))
        || config.proxy.iter().any(|rule| forwarded(&rule.path))
}

/// An id that sorts by time and cannot be guessed: 48 bits of Unix milliseconds and 80 random bits, in 26 characters
/// of lower-case base32 (a ULID).
pub fn id(now: u64, fresh: [u8; 16]) -> String {
    const RANDOM_BITS: u32 = 80;
    let random = u128::from_be_bytes(fresh) & ((1 << RANDOM_BITS) - 1);
    let time = u128::from(now) & ((1 << 48) - 1);
    let value = time << RANDOM_BITS | random;
    let digit = |place: usize| CROCKFORD[(value >> (5 * place)) as usize & 31] as char;
    (0..ID_CHARS).rev().map(digit).collect()
}

/// The time that an [`id`] was made at, Unix milliseconds; `None` for what is no id.
pub fn time_of(id: &str) -> Option<u64> {
    const TIME_CHARS: usize = 10;
    if id.len() != ID_CHARS {
        return None;
    }
    let digits = id
        .bytes()
        .map(|digit| CROCKFORD.iter().position(|known| *known == digit));
    let digits: Vec<usize> = digits.collect::<Option<_>>()?;
    let (time, _) = digits.split_at_checked(TIME_CHARS)?;
    // 50 bits, of which an id uses 48.
    time.iter()
        .try_fold(0_u64, |time, digit| Some(time << 5 | u64::try_from(*digit).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Forward;
    use proptest::prelude::*;

    fn numbered(n: u32) -> [u8; 16] {
        u128::from(n).to_be_bytes()
    }

    proptest! {
        #[test]
        fn a_code_is_base62_of_the_length_asked_for(fresh: [u8; 16], length in MIN_CODE_LENGTH..=MAX_CODE_LENGTH) {
            let code = generate(fresh, length, &Config::default());
            prop_assert_eq!(code.len(), usize::from(length));
            prop_assert!(code.bytes().all(|b| b.is_ascii_alphanumeric()));
            prop_assert!(is_code(&code) && !is_reserved(&code, &Config::default()));
        }

        #[test]
        fn the_same_id_gives_the_same_code_and_a_longer_one_extends_it(fresh: [u8; 16]) {
            let config = Config::default();
            let long = generate(fresh, 32, &config);
            prop_assert_eq!(&generate(fresh, 32, &config), &long);
            prop_assert!(long.starts_with(&generate(fresh, 12, &config)));
        }

        #[test]
        fn ids_sort_by_time(a in 0u64..1 << 48, b in 0u64..1 << 48, fresh: [u8; 16], other: [u8; 16]) {
            prop_assume!(a < b);
            prop_assert!(id(a, fresh) < id(b, other));
            prop_assert_eq!(id(a, fresh).len(), ID_CHARS);
            prop_assert_eq!(time_of(&id(a, fresh)), Some(a));
        }
    }

    #[test]
    fn a_name_is_a_code_and_perhaps_a_host() {
        assert_eq!(name(None, "abc"), "abc");
        let named = name(Some("go.example"), "abc");
        assert_eq!(
            (&*named, parts(&named)),
            ("go.example:abc", (Some("go.example"), "abc"))
        );
        assert_eq!(parts("abc"), (None, "abc"));
        for good in ["abc", "go.example:abc", "localhost:abc", "a-1.b2.xn--p1ai:A_-"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            ":abc",
            "go.example:",
            "Go.example:abc",
            "go..example:abc",
            "-a.example:abc",
            "go.example:a:bc",
            "127.0.0.1:abc",
            "go.example/:abc",
            "go.example:ab",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn every_place_of_a_code_uses_every_digit_about_equally() {
        const CODES: u32 = 20_000;
        let config = Config::default();
        let mut counts = vec![[0u32; 128]; 32];
        for n in 0..CODES {
            for (place, byte) in generate(numbered(n), 32, &config).bytes().enumerate() {
                counts[place][usize::from(byte)] += 1;
            }
        }
        let expected = f64::from(CODES) / 62.0;
        for (place, counts) in counts.iter().enumerate() {
            let used: Vec<f64> = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n)).collect();
            let chi_squared: f64 = used.iter().map(|n| (n - expected).powi(2) / expected).sum();
            assert_eq!(used.len(), 62, "place {place}");
            // 61 degrees of freedom: 130 is beyond the 99.9999th percentile.
            assert!(chi_squared < 130.0, "place {place}: {chi_squared}");
        }
    }

    #[test]
    fn different_ids_give_different_codes() {
        let config = Config::default();
        let codes: std::collections::HashSet<String> =
            (0..50_000).map(|n| generate(numbered(n), 12, &config)).collect();
        assert_eq!(codes.len(), 50_000);
    }

    #[test]
    fn a_reserved_word_is_never_generated() {
        let free = generate(numbered(7), 5, &Config::default());
        let rule = Forward {
            path: format!("/{}/...", free.to_ascii_lowercase()),
            methods: vec!["POST".into()],
            topic: "t".into(),
            kind: "x".into(),
            verify: None,
            secret: None,
            previous_secret: None,
            headers: Vec::new(),
            ordering: crate::config::Ordering::None,
        };
        let config = Config {
            forward: vec![rule],
            ..Config::default()
        };
        let other = generate(numbered(7), 5, &config);
        assert_ne!(other, free);
        assert!(!is_reserved(&other, &config));
    }

    #[test]
    fn custom_codes_are_checked_for_form_and_reserved_words() {
        for good in ["abc", "A_-9", &"a".repeat(64)] {
            assert!(is_code(good), "{good}");
        }
        for bad in ["", "ab", &"a".repeat(65), "a b", "a/b", "a+b", "äbc", "a.b"] {
            assert!(!is_code(bad), "{bad}");
        }
        let config = Config::default();
        for word in [
            "api",
            "API",
            "Health",
            "docs",
            "admin",
            "metrics",
            "robots.txt",
            "signup",
            "Bulk",
        ] {
            assert!(is_reserved(word, &config), "{word}");
        }
        assert!(!is_reserved("apis", &config) && !is_reserved("my-signup", &config));
    }

    #[test]
    fn an_id_is_a_ulid() {
        // The example of the ULID specification's time part: 01ARZ3NDEK.
        assert_eq!(&id(1_469_922_850_259, [0; 16])[..10], "01arz3ndek");
        assert_eq!(id(0, [0xff; 16]), format!("{}{}", "0".repeat(10), "z".repeat(16)));
        assert_eq!(
            id(u64::MAX, [0; 16]),
            format!("7{}{}", "z".repeat(9), "0".repeat(16))
        );
    }
}
