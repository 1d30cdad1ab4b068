//! What is picked from: words, or a range of numbers. Inside, a pick is an ascending list of places in the pool.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use tollgate_api::json;
use tollgate_api::problem::Problem;

/// The most words of a pick.
pub const MAX_PICK: u64 = 20;
/// The most words of a pool.
pub const MAX_WORDS: usize = 1_000;
/// The longest word, in characters.
pub const MAX_WORD: usize = 64;
/// The largest number of a pool of numbers.
pub const MAX_NUMBER: u32 = 1_000_000;

/// A word of a pool, as answers show it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawWord")
)]
#[serde(untagged)]
pub enum Word {
    /// Of a range of numbers.
    Number(u32),
    /// Of a list of words.
    Text(String),
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What is picked from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawPool")
)]
#[serde(untagged)]
pub enum Pool {
    /// These words, all different.
    Words(Vec<String>),
    /// All whole numbers from one to another, both included.
    Numbers {
        /// The first.
        from: u32,
        /// The last.
        to: u32,
    },
}

impl Pool {
    /// A caller's pool.
    pub fn parse(value: &Value) -> Result<Self, Problem> {
        const FORM: &str = "must be a list of words, or {\"from\": 1, \"to\": 49}";
        match value {
            Value::Array(words) => words_of(words).map(Self::Words),
            Value::Object(fields) => {
                if let Some(name) = fields.keys().find(|name| *name != "from" && *name != "to") {
                    let shown: String = name.chars().take(64).collect();
                    return Err(Problem::field(
                        format!("#/pool/{}", json::escape(&shown)),
                        "is not a field of a pool",
                    ));
                }
                let bound = |name: &str| {
                    let number = fields.get(name).and_then(Value::as_u64);
                    let number = number.and_then(|number| u32::try_from(number).ok());
                    number.filter(|number| *number <= MAX_NUMBER).ok_or_else(|| {
                        let rule = format!("must be a whole number from 0 to {MAX_NUMBER}");
                        Problem::field(format!("#/pool/{name}"), rule)
                    })
                };
                let (from, to) = (bound("from")?, bound("to")?);
                if to < from {
                    return Err(Problem::field("#/pool/to", "must not be below from"));
                }
                Ok(Self::Numbers { from, to })
            }
            _ => Err(Problem::field("#/pool", FORM)),
        }
    }

    /// How many words it has.
    pub fn len(&self) -> u32 {
        match self {
            Self::Words(words) => u32::try_from(words.len()).unwrap_or(u32::MAX), // at most MAX_WORDS
            Self::Numbers { from, to } => to.saturating_sub(*from).saturating_add(1),
        }
    }

    /// The word at a place.
    pub fn word(&self, place: u32) -> Word {
        match self {
            Self::Words(words) => Word::Text(words.get(place as usize).cloned().unwrap_or_default()),
            Self::Numbers { from, .. } => Word::Number(from.saturating_add(place)),
        }
    }

    /// The words of a pick.
    pub fn words(&self, places: &[u32]) -> Vec<Word> {
        places.iter().map(|place| self.word(*place)).collect()
    }

    fn place(&self, word: &Value) -> Option<u32> {
        match self {
            Self::Words(words) => {
                let word = word.as_str()?;
                let place = words.iter().position(|one| one == word)?;
                u32::try_from(place).ok()
            }
            Self::Numbers { from, to } => {
                let number = u32::try_from(word.as_u64()?).ok()?;
                (*from..=*to).contains(&number).then(|| number - from)
            }
        }
    }

    /// A user's pick, in the order of the pool.
    pub fn pick(&self, words: &[Value], pick: u64) -> Result<Vec<u32>, Problem> {
        if words.len() as u64 != pick {
            return Err(Problem::field(
                "#/words",
                format!("must hold {pick} words of the pool"),
            ));
        }
        let mut places = BTreeSet::new();
        for (at, word) in words.iter().enumerate() {
            let at = format!("#/words/{at}");
            let place = self
                .place(word)
                .ok_or_else(|| Problem::field(&*at, "is not in the draw's pool"))?;
            if !places.insert(place) {
                return Err(Problem::field(at, "is picked twice"));
            }
        }
        Ok(places.into_iter().collect())
    }

    /// A pick at random, every one equally likely (Floyd's method). `fresh` must be unpredictable.
    pub fn random(&self, pick: u64, fresh: [u8; 16]) -> Vec<u32> {
        let mut numbers = Numbers { fresh, count: 0 };
        let mut places = BTreeSet::new();
        let len = self.len();
        let pick = u32::try_from(pick).unwrap_or(u32::MAX).min(len);
        for top in len - pick..len {
            let place = u32::try_from(numbers.below(u64::from(top) + 1)).unwrap_or(top);
            if !places.insert(place) {
                places.insert(top);
            }
        }
        places.into_iter().collect()
    }
}

fn words_of(words: &[Value]) -> Result<Vec<String>, Problem> {
    if !(1..=MAX_WORDS).contains(&words.len()) {
        let rule = format!("must hold 1 to {MAX_WORDS} words");
        return Err(Problem::field("#/pool", rule));
    }
    let mut seen = BTreeSet::new();
    let mut texts = Vec::with_capacity(words.len());
    for (at, word) in words.iter().enumerate() {
        let text = word
            .as_str()
            .filter(|text| is_line(text, MAX_WORD))
            .ok_or_else(|| {
                let rule =
                    format!("must be a text of 1 to {MAX_WORD} characters, none of them a control character");
                Problem::field(format!("#/pool/{at}"), rule)
            })?;
        if !seen.insert(text) {
            return Err(Problem::field(format!("#/pool/{at}"), "is in the pool twice"));
        }
        texts.push(text.to_owned());
    }
    Ok(texts)
}

/// Whether this is a text of 1 to `most` characters on one line.
pub fn is_line(text: &str, most: usize) -> bool {
    !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
}

/// Unpredictable numbers out of sixteen such bytes.
struct Numbers {
    fresh: [u8; 16],
    count: u64,
}

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        loop {
            let hash = Sha256::new()
                .chain_update(self.fresh)
                .chain_update(self.count.to_be_bytes());
            self.count += 1;
            if let Some(number) = below(&hash.finalize().into(), bound) {
                return number;
            }
        }
    }
}

/// A number below `bound` (at least 1) out of a hash, all equally likely; `None` for the few hashes that would favour some. The
/// hash counts by its first eight bytes, the most significant first.
pub fn below(hash: &[u8; 32], bound: u64) -> Option<u64> {
    let (first, _) = hash.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let number = u64::from_be_bytes(*first);
    // 2^64 mod bound: so many numbers at the top are left over.
    let over = (u64::MAX % bound + 1) % bound;
    (number <= u64::MAX - over).then(|| number % bound)
}
