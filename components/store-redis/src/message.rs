//! Entries and messages as Redis keeps them: a few decimals, each followed by a space, then bytes.

use tollgate_store::commit::{Append, Entry, Message};

use crate::database::Failure;
use crate::reply::{parse, unexpected};

/// What a message has before its payload, but for its time, which a script writes before it: the lengths of id, key, type, media type and
/// attributes, and those.
pub fn head(append: &Append) -> Vec<u8> {
    let parts = parts(append);
    let mut head = Vec::with_capacity(24 + parts.iter().map(|part| part.len()).sum::<usize>());
    for part in parts {
        head.extend_from_slice(itoa::Buffer::new().format(part.len()).as_bytes());
        head.push(b' ');
    }
    head.extend(parts.concat());
    head
}

fn parts(append: &Append) -> [&[u8]; 5] {
    [
        append.id.as_bytes(),
        append.key.as_bytes(),
        append.kind.as_bytes(),
        append.content_type.as_bytes(),
        &append.attributes,
    ]
}

/// Reads pieces from the left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn word(&mut self) -> Result<&'a [u8], Failure> {
        let end = self.0.iter().position(|byte| *byte == b' ');
        let (word, rest) = end
            .and_then(|end| self.0.split_at_checked(end))
            .ok_or_else(unexpected)?;
        self.0 = rest.get(1..).unwrap_or_default();
        Ok(word)
    }

    fn number<N: std::str::FromStr>(&mut self) -> Result<N, Failure> {
        parse(self.word()?).ok_or_else(unexpected)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Failure> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(unexpected)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self, length: usize) -> Result<String, Failure> {
        String::from_utf8(self.bytes(length)?.to_vec()).map_err(|_| unexpected())
    }
}

/// An entry: `version expires value`.
///
/// # Errors
/// It is damaged.
pub fn entry(raw: &[u8]) -> Result<Entry, Failure> {
    let mut reader = Reader(raw);
    let version = reader.number()?;
    let expires = match reader.word()? {
        [] => None,
        text => Some(parse(text).ok_or_else(unexpected)?),
    };
    Ok(Entry {
        value: reader.0.to_vec(),
        version,
        expires,
    })
}

/// A message of a topic.
///
/// # Errors
/// It is damaged.
pub fn message(topic: &str, sequence: u64, raw: &[u8]) -> Result<Message, Failure> {
    let mut reader = Reader(raw);
    let time = reader.number()?;
    let mut lengths = [0; 5];
    for length in &mut lengths {
        *length = reader.number()?;
    }
    let [id, key, kind, content_type, attributes] = lengths;
    Ok(Message {
        topic: topic.to_owned(),
        sequence,
        time,
        id: reader.text(id)?,
        key: reader.text(key)?,
        kind: reader.text(kind)?,
        content_type: reader.text(content_type)?,
        attributes: reader.bytes(attributes)?.to_vec(),
        payload: reader.0.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_an_error() {
        assert_eq!(
            entry(b"7  a b"),
            Ok(Entry {
                value: b"a b".to_vec(),
                version: 7,
                expires: None
            })
        );
        assert_eq!(entry(b"7 9 ").map(|entry| entry.expires), Ok(Some(9)));
        for raw in [
            &b""[..],
            b"7",
            b"7 ",
            b"x  v",
            b"7 x v",
            b"-1  v",
            b"18446744073709551616  v",
        ] {
            assert!(entry(raw).is_err(), "{raw:?}");
        }
        assert!(message("t", 1, b"5 1 0 0 0 0 m").is_ok());
        for raw in [
            &b""[..],
            b"5 1 0 0 0 m",
            b"5 9 0 0 0 0 m",
            b"5 1 0 0 0 0 \xff",
            b"5 18446744073709551615 0 0 0 0 m",
        ] {
            assert!(message("t", 1, raw).is_err(), "{raw:?}");
        }
    }
}
