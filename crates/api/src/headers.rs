//! Rules for header fields, and the 400 for what breaks one.

use std::net::Ipv6Addr;

use crate::http::Request;
use crate::problem::Problem;

/// The 400 for a header that was sent more than once.
pub fn sent_twice(name: &str) -> Problem {
    Problem::field(format!("header:{name}"), "must be sent once")
}

/// Checks every `Host` that was sent, and the authority of the target.
///
/// # Errors
/// A 400 for one that is not a host.
pub fn check_hosts<'a>(mut sent: impl Iterator<Item = &'a [u8]>) -> Result<(), Problem> {
    match sent.all(is_host) {
        true => Ok(()),
        false => Err(Problem::field(
            "header:host",
            "must be a name or an address, and perhaps a port",
        )),
    }
}

/// Whether a text is a `Host` (RFC 9110, section 7.2): an address or a registered name that is not empty, and perhaps a
/// port up to 65,535. User information is no part of it.
fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.strip_prefix(b"[") {
        Some(rest) => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => (&text[..end + 2], &rest[end + 1..]),
            None => return false,
        },
        None => text.split_at(text.iter().position(|byte| *byte == b':').unwrap_or(text.len())),
    };
    let port_is_fine = match port.split_first() {
        None => true,
        Some((b':', [])) => true,
        Some((b':', digits)) => {
            let number = std::str::from_utf8(digits).ok().map(str::parse::<u16>);
            digits.iter().all(u8::is_ascii_digit) && matches!(number, Some(Ok(_)))
        }
        Some(_) => false,
    };
    port_is_fine && (is_bracketed(name) || is_registered_name(name))
}

fn is_bracketed(name: &[u8]) -> bool {
    let inner = name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let address = inner.and_then(|inner| std::str::from_utf8(inner).ok());
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// RFC 3986, section 3.2.2, not empty.
fn is_registered_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    while let Some((byte, rest)) = name.split_first() {
        name = match (byte, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            _ if NAME_BYTES[usize::from(*byte)] => rest,
            _ => return false,
        };
    }
    true
}

/// The bytes that a registered name may hold unescaped: `unreserved` and `sub-delims`. A table, since every
/// request is checked.
const NAME_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let marks = b"-._~!$&'()*+,;=";
    let mut byte = 0;
    while byte < allowed.len() {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut mark = 0;
    while mark < marks.len() {
        allowed[marks[mark] as usize] = true;
        mark += 1;
    }
    allowed
};

impl Request {
    /// The value of `name` (lower case), text or not.
    ///
    /// # Errors
    /// A 400 that names the header where it was sent more than once, even with the same value: which one counts would be
    /// a guess.
    pub fn single(&self, name: &str) -> Result<Option<&[u8]>, Problem> {
        let mut sent = self.headers.iter().filter(|header| header.name == name);
        let first = sent.next();
        match sent.next() {
            None => Ok(first.map(|header| header.value.as_slice())),
            Some(_) => Err(sent_twice(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Header;

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_sane_port() {
        for good in [
            "a",
            "example.com",
            "example.com.",
            "EXAMPLE.com:65535",
            "example.com:",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8080",
            "x_y.test",
            "caf%C3%A9.example",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "user@example.com",
            "user:secret@example.com",
            "example.com:65536",
            "example.com:99999999999999999999",
            "example.com:8a",
            "example.com:-1",
            "example.com:+80",
            "example.com:80:80",
            "a b",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "<script>",
            "a%2",
            "a%zz",
            "[::1",
            "[::1]x",
            "[::1]:65536",
            "[]",
            "[fe80::1%eth0]",
            "::1",
            "a|b",
            "\u{e9}.example",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
        assert!(!is_host(b"a\xff"));
    }

    #[test]
    fn a_header_that_may_be_sent_once_is_refused_when_it_is_sent_twice() {
        let request = |values: &[&str]| Request {
            method: "GET".into(),
            path: "/".into(),
            query: None,
            headers: values
                .iter()
                .map(|value| Header::new("x-user-id", *value))
                .collect(),
            body: Vec::new(),
            peer: String::new(),
        };
        assert_eq!(request(&[]).single("x-user-id"), Ok(None));
        assert_eq!(request(&["a"]).single("x-user-id"), Ok(Some(b"a".as_slice())));
        let problem = request(&["a", "a"]).single("x-user-id").unwrap_err();
        assert_eq!(problem.errors[0].pointer, "header:x-user-id");
    }
}
