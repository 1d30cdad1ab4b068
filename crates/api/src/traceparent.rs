//! The place of a request in a trace, as the header `traceparent` states it (W3C Trace Context). It goes on with the message
//! that the request becomes, to whoever receives that.

use std::fmt;

use crate::http::Request;

/// The header's name.
pub const HEADER: &str = "traceparent";

/// The only version that is written.
const VERSION: &str = "00";
/// The length of one of that version.
const LENGTH: usize = 55;
/// Flags that are known: sampled, and (level 2) that the trace id is random.
const KNOWN_FLAGS: u8 = 0x03;
const SAMPLED: u8 = 0x01;

/// A `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// Never zero.
    pub trace_id: u128,
    /// Of the span that the sender was in; never zero.
    pub parent_id: u64,
    flags: u8,
}

impl Traceparent {
    /// A place in a trace. `None` for an id of zero, which is none.
    pub fn new(trace_id: u128, parent_id: u64, is_sampled: bool) -> Option<Self> {
        (trace_id != 0 && parent_id != 0).then_some(Self {
            trace_id,
            parent_id,
            flags: u8::from(is_sampled),
        })
    }

    /// Reads the header's value. `None` for what is malformed: it counts as not sent (section 4.3).
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let rest = bytes.get(LENGTH..)?;
        let [version, trace_id, parent_id, flags] = [(0, 2), (3, 35), (36, 52), (53, 55)];
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let version = number(text, version)?;
        // Later versions may have more behind a dash (section 3.2.4); 255 is none.
        let fits = match version {
            0 => rest.is_empty(),
            255 => false,
            _ => rest.is_empty() || rest.first() == Some(&b'-'),
        };
        if !dashes || !fits {
            return None;
        }
        let flags = u8::try_from(number(text, flags)?).ok()? & KNOWN_FLAGS;
        let (trace_id, parent_id) = (
            number(text, trace_id)?,
            u64::try_from(number(text, parent_id)?).ok()?,
        );
        Self::new(trace_id, parent_id, false).map(|place| Self { flags, ..place })
    }

    /// The one that a request was sent with, if that is sound and there are no two.
    pub fn of(request: &Request) -> Option<Self> {
        let sent = request.headers.iter().filter(|header| header.name == HEADER);
        Self::sent(sent.map(|header| header.value.as_slice()))
    }

    /// The same, of the values of all headers of that name.
    pub fn sent<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<Self> {
        let (Some(one), None) = (values.next(), values.next()) else {
            return None;
        };
        Self::parse(std::str::from_utf8(one).ok()?)
    }

    /// Whether its sender recorded it.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Lower-case hexadecimal digits.
fn number(text: &str, (start, end): (usize, usize)) -> Option<u128> {
    let digits = text.get(start..end)?;
    let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match digits.bytes().all(is_lower) {
        true => u128::from_str_radix(digits, 16).ok(),
        false => None,
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            parent_id,
            flags,
        } = self;
        write!(f, "{VERSION}-{trace_id:032x}-{parent_id:016x}-{flags:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Header;
    use proptest::prelude::*;

    /// The example of the specification.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_sound_is_read_and_written_as_it_was() {
        let read = Traceparent::parse(EXAMPLE).unwrap();
        assert_eq!(read.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert!(read.is_sampled());
        assert_eq!(read.to_string(), EXAMPLE);
        let with = |flags: &str| EXAMPLE.replace("-01", flags);
        assert!(!Traceparent::parse(&with("-00")).unwrap().is_sampled());
        // Flags of a later time are not passed on; a later version is read as this one.
        assert_eq!(Traceparent::parse(&with("-ff")).unwrap().to_string(), with("-03"));
        for later in [
            EXAMPLE.replacen("00", "cc", 1),
            EXAMPLE.replacen("00", "01", 1) + "-what-the-future-will-be",
        ] {
            assert_eq!(
                Traceparent::parse(&later).unwrap().to_string(),
                EXAMPLE,
                "{later}"
            );
        }
    }

    // After the test suite of the W3C.
    #[test]
    fn what_is_malformed_counts_as_not_sent() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what-the-future-will-not-be",
            "0--4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-é4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn two_of_them_count_as_none() {
        let request = |values: &[&str]| Request {
            method: "GET".into(),
            path: "/".into(),
            query: None,
            headers: values.iter().map(|value| Header::new(HEADER, *value)).collect(),
            body: Vec::new(),
            peer: String::new(),
        };
        assert!(Traceparent::of(&request(&[EXAMPLE])).is_some());
        assert_eq!(Traceparent::of(&request(&[])), None);
        assert_eq!(Traceparent::of(&request(&[EXAMPLE, EXAMPLE])), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".*") {
            if let Some(read) = Traceparent::parse(&text) {
                prop_assert_eq!(Traceparent::parse(&read.to_string()), Some(read));
            }
        }
    }
}
