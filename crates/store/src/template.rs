//! JSON with numbers that only the commit knows. A document is serialised once, with [`Number`]s standing in
//! for the claim's sequence, a message's offset or the time. There it is cut into the parts that every engine
//! fills in.
//!
//! It is cut as it is written, number by number, so no text of a caller can pass for one.
//!
//! Documents that differ in a few texts only (the claims of a crowd) are serialised once for all of them, as a [`Form`] with
//! [`Blank`]s.

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

/// A text of a document that differs each time: the one at this index of what [`Form::fill`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blank(pub u32);

/// A JSON value of a document that differs each time, put in as it is: the one at this index of what [`Form::fill`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonBlank(pub u32);

/// Bound numbers and blanks are negative numbers while a form is made; known numbers never are.
const SUMS: i64 = -1;
const SEQUENCES: i64 = SUMS - MAX_STEPS as i64;
const TIME: i64 = SEQUENCES - MAX_STEPS as i64;
const BLANKS: i64 = TIME - 1;
const JSON_BLANKS: i64 = BLANKS - MAX_STEPS as i64;

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

impl Serialize for Blank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(BLANKS - i64::from(self.0))
    }
}

impl Serialize for JsonBlank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(JSON_BLANKS - i64::from(self.0))
    }
}

/// The document as a template: its bound [`Number`]s become parts.
pub fn json(document: &impl Serialize) -> Template {
    Form::of(document).fill(&[])
}

/// Room for a document of the usual size, bytes.
const TEXT_BYTES: usize = 256;
/// Room for the bound numbers of a usual document.
const MARKS: usize = 4;

/// A document with blanks: its text without them and the bound numbers, and where each belongs.
#[derive(Clone, Debug)]
pub struct Form {
    text: Vec<u8>,
    marks: Vec<(usize, Mark)>,
}

/// The value that belongs between two pieces of text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Number(Part),
    Blank(u32),
    Json(u32),
}

impl Form {
    /// The document, serialised.
    pub fn of(document: &impl Serialize) -> Self {
        let form = RefCell::new(Self {
            text: Vec::with_capacity(TEXT_BYTES),
            marks: Vec::with_capacity(MARKS),
        });
        let mut serializer = serde_json::Serializer::with_formatter(Text(&form), Binder(&form));
        let written = document.serialize(&mut serializer);
        written.expect("our own types hold string keys only, so they serialise");
        form.into_inner()
    }

    /// The template of the document with these texts in its blanks (below [`MAX_STEPS`]). A blank that has no text here is an empty
    /// string. The text of a [`JsonBlank`] must be JSON: it is what stands there.
    pub fn fill(&self, texts: &[&str]) -> Template {
        let room = self.text.len() + texts.iter().map(|text| text.len() + 2).sum::<usize>();
        let mut parts = Vec::with_capacity(2 * self.marks.len() + 1);
        let mut literal = Vec::with_capacity(room);
        let mut start = 0;
        for (at, mark) in &self.marks {
            literal.extend_from_slice(&self.text[start..*at]);
            start = *at;
            match mark {
                Mark::Blank(index) => {
                    push_string(
                        &mut literal,
                        texts.get(*index as usize).copied().unwrap_or_default(),
                    );
                }
                Mark::Json(index) => {
                    let json = texts.get(*index as usize).filter(|json| !json.is_empty());
                    literal.extend_from_slice(json.unwrap_or(&"null").as_bytes());
                }
                Mark::Number(part) => {
                    let rest = Vec::with_capacity(room - literal.len().min(room));
                    parts.push(Part::Bytes(std::mem::replace(&mut literal, rest)));
                    parts.push(part.clone());
                }
            }
        }
        literal.extend_from_slice(&self.text[start..]);
        parts.push(Part::Bytes(literal));
        parts
    }
}

/// Appends a JSON string.
fn push_string(json: &mut Vec<u8>, text: &str) {
    let plain = |byte| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
    } else {
        serde_json::to_writer(json, text).expect("a string serialises, and a vector takes it");
    }
}

/// Where the serialiser writes.
struct Text<'a>(&'a RefCell<Form>);

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

/// How the serialiser writes: as always, but for bound numbers and blanks.
struct Binder<'a>(&'a RefCell<Form>);

impl serde_json::ser::Formatter for Binder<'_> {
    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        let Some(mark) = mark(value) else {
            return write!(writer, "{value}");
        };
        let mut form = self.0.borrow_mut();
        let at = form.text.len();
        form.marks.push((at, mark));
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

/// The mark that a number stands for, if it is not an ordinary number.
fn mark(number: i64) -> Option<Mark> {
    let index = |first: i64| u32::try_from(first - number).ok();
    match number {
        0.. => None,
        _ if number > SEQUENCES => index(SUMS).map(Part::Sum).map(Mark::Number),
        _ if number > TIME => index(SEQUENCES).map(Part::Sequence).map(Mark::Number),
        TIME => Some(Mark::Number(Part::Time)),
        _ if number > JSON_BLANKS => index(BLANKS).map(Mark::Blank),
        _ => index(JSON_BLANKS).map(Mark::Json),
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
    const DIGITS: usize = 20; // of the largest number
    let room = template.iter().map(|part| match part {
        Part::Bytes(literal) => literal.len(),
        Part::Sum(_) | Part::Sequence(_) | Part::Time => DIGITS,
    });
    let mut bytes = Vec::with_capacity(room.sum());
    for part in template {
        match *part {
            Part::Bytes(ref literal) => bytes.extend_from_slice(literal),
            Part::Sum(index) => extend(&mut bytes, done.sums.get(index as usize).copied()),
            Part::Sequence(index) => extend(&mut bytes, done.sequences.get(index as usize).copied()),
            Part::Time => extend(&mut bytes, Some(done.time)),
        }
    }
    bytes
}

fn extend(bytes: &mut Vec<u8>, number: Option<impl itoa::Integer>) {
    if let Some(number) = number {
        bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
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

    /// What a caller's text and number are, filled into a form, and serialised as always.
    #[test]
    fn a_form_filled_in_is_the_document_serialised() {
        #[derive(Serialize)]
        struct Document<T> {
            first: T,
            number: Number,
            again: T,
            missing: Option<T>,
            second: T,
        }
        fn document<T: Copy + Serialize>(first: T, second: T) -> Form {
            Form::of(&Document {
                first,
                number: Number::Sequence(3),
                again: first,
                missing: None,
                second,
            })
        }
        let form = document(Blank(0), Blank(1));
        for first in [
            "",
            "ann",
            "\"",
            "a\\\"b",
            "\u{1}\n",
            "é\u{7f}\u{2028}",
            "-1",
            "]}",
        ] {
            for second in ["x", "\\"] {
                let expected = document(first, second).fill(&[]);
                assert_eq!(form.fill(&[first, second]), expected, "{first:?} {second:?}");
            }
        }
        let empty = form.fill(&[]);
        assert_eq!(
            empty,
            form.fill(&["", ""]),
            "what is not given is an empty string"
        );
    }

    #[test]
    fn a_value_is_put_in_as_it_is() {
        #[derive(Serialize)]
        struct Document {
            first: Blank,
            value: JsonBlank,
            number: Number,
        }
        let form = Form::of(&Document {
            first: Blank(0),
            value: JsonBlank(1),
            number: Number::Sum(0),
        });
        let done = Committed {
            version: 1,
            sums: vec![7],
            sequences: Vec::new(),
            time: 0,
        };
        // Numbers that stand for bound ones elsewhere are the caller's own here.
        for json in ["{\"a\":-1,\"b\":[-65,-130]}", "{}", "null", "-1"] {
            let filled = fill(&form.fill(&["x", json]), &done);
            let expected = format!(r#"{{"first":"x","value":{json},"number":7}}"#);
            assert_eq!(String::from_utf8(filled).unwrap(), expected);
        }
        let filled = fill(&form.fill(&["x"]), &done);
        assert!(filled.windows(12).any(|part| part == b"\"value\":null"));
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth(b"1"), 0);
        assert_eq!(depth(br#"{"a":[1,{"b":"[[[["}],"c":"\"[["}"#), 3);
    }
}
