//! JSON whose numbers only the commit knows: a document is serialised once, with [`Number`]s standing in for the
//! claim's sequence, a message's offset or the time, and cut there into the parts that every engine fills in.
//!
//! It is cut as it is written, number by number, so no text of a caller can pass for one.

use std::cell::RefCell;
use std::io;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::commit::{Committed, MAX_STEPS, Part, Template};

/// A number of a JSON document: known already, or bound by the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Known already.
    Known(u64),
    /// The result of the `add` at this mutation index (below [`MAX_STEPS`]).
    Sum(u32),
    /// The sequence of the append at this index (below [`MAX_STEPS`]).
    Sequence(u32),
    /// The time of the commit, Unix milliseconds.
    Time,
}

/// Bound numbers are negative while a template is made; known ones never are.
const SUMS: i64 = -1;
const SEQUENCES: i64 = SUMS - MAX_STEPS as i64;
const TIME: i64 = SEQUENCES - MAX_STEPS as i64;

impl Number {
    /// The value, if it is known.
    pub fn known(self) -> Option<u64> {
        match self {
            Self::Known(value) => Some(value),
            Self::Sum(_) | Self::Sequence(_) | Self::Time => None,
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bound = match *self {
            Self::Known(value) => return serializer.serialize_u64(value),
            Self::Sum(index) => SUMS - i64::from(index),
            Self::Sequence(index) => SEQUENCES - i64::from(index),
            Self::Time => TIME,
        };
        serializer.serialize_i64(bound)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::Known)
    }
}

/// The document as a template: its bound [`Number`]s become parts.
pub fn json(document: &impl Serialize) -> Template {
    let pieces = RefCell::new(Pieces {
        text: Vec::with_capacity(TEXT_BYTES),
        cuts: Vec::with_capacity(CUTS),
    });
    let mut serializer = serde_json::Serializer::with_formatter(Text(&pieces), Binder(&pieces));
    let written = document.serialize(&mut serializer);
    written.expect("our own types hold string keys only, so they serialise");
    let Pieces { text, cuts } = pieces.into_inner();
    let mut parts = Vec::with_capacity(2 * cuts.len() + 1);
    let mut rest = text.as_slice();
    let mut start = 0;
    for (at, part) in cuts {
        let (before, after) = rest.split_at(at - start);
        parts.extend([Part::Bytes(before.to_vec()), part]);
        (rest, start) = (after, at);
    }
    parts.push(Part::Bytes(rest.to_vec()));
    parts
}

/// Room for a document of the usual size, bytes.
const TEXT_BYTES: usize = 256;
/// Room for the bound numbers of a usual document.
const CUTS: usize = 4;

/// What a document has come to so far: its text without the bound numbers, and where they belong.
struct Pieces {
    text: Vec<u8>,
    cuts: Vec<(usize, Part)>,
}

/// Where the serialiser writes.
struct Text<'a>(&'a RefCell<Pieces>);

impl io::Write for Text<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.write_all(text).map(|()| text.len())
    }

    fn write_all(&mut self, text: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().text.extend_from_slice(text);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How the serialiser writes: as always, but for bound numbers.
struct Binder<'a>(&'a RefCell<Pieces>);

impl serde_json::ser::Formatter for Binder<'_> {
    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        let Some(part) = bound(value) else {
            return write!(writer, "{value}");
        };
        let mut pieces = self.0.borrow_mut();
        let at = pieces.text.len();
        pieces.cuts.push((at, part));
        Ok(())
    }
}

/// The index after the string that begins at `at`.
fn after_string(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The part that a number stands for, if it stands for one.
fn bound(number: i64) -> Option<Part> {
    let index = |first: i64| u32::try_from(first - number).ok();
    match number {
        0.. => None,
        _ if number > SEQUENCES => index(SUMS).map(Part::Sum),
        _ if number > TIME => index(SEQUENCES).map(Part::Sequence),
        TIME => Some(Part::Time),
        _ => None,
    }
}

/// The deepest nesting of arrays and objects in a JSON text that parses.
pub fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                at = after_string(text, at);
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// The bytes that the store wrote for a template: what a commit that was just made answers with. Indices that the
/// commit does not have become nothing.
pub fn fill(template: &[Part], done: &Committed) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in template {
        match *part {
            Part::Bytes(ref literal) => bytes.extend_from_slice(literal),
            Part::Sum(index) => extend(&mut bytes, done.sums.get(index as usize)),
            Part::Sequence(index) => extend(&mut bytes, done.sequences.get(index as usize)),
            Part::Time => extend(&mut bytes, Some(&done.time)),
        }
    }
    bytes
}

fn extend(bytes: &mut Vec<u8>, number: Option<&impl ToString>) {
    if let Some(number) = number {
        bytes.extend_from_slice(number.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Sample<'a> {
        user: &'a str,
        sequence: Number,
        offset: Number,
        time: Number,
        known: Number,
    }

    fn sample(user: &str) -> Vec<u8> {
        let sample = Sample {
            user,
            sequence: Number::Sum(1),
            offset: Number::Sequence(0),
            time: Number::Time,
            known: Number::Known(10),
        };
        let done = Committed {
            version: 1,
            sums: vec![-5, 7],
            sequences: vec![9],
            time: 1234,
        };
        fill(&json(&sample), &done)
    }

    #[test]
    fn bound_numbers_are_filled_in() {
        assert_eq!(
            String::from_utf8(sample("ann")).unwrap(),
            r#"{"user":"ann","sequence":7,"offset":9,"time":1234,"known":10}"#
        );
    }

    #[test]
    fn text_of_a_caller_never_passes_for_a_number() {
        for user in [
            SUMS.to_string(),
            format!("\"{}", SUMS - 1),
            format!("\\\",\"x\":{TIME},\"y\":\"\\"),
            "\\".into(),
        ] {
            let value: serde_json::Value = serde_json::from_slice(&sample(&user)).unwrap();
            assert_eq!(value["user"], user);
            assert_eq!(value["sequence"], 7);
            assert_eq!(value.as_object().unwrap().len(), 5);
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth(b"1"), 0);
        assert_eq!(depth(br#"{"a":[1,{"b":"[[[["}],"c":"\"[["}"#), 3);
    }
}
