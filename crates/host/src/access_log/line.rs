//! How a line is written. Whatever strangers send, it is one line of printable ASCII: nothing in it ends the line, its field
//! or a terminal's patience.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use tollgate_rules::config::AccessLogFormat;

/// The most bytes of a path that are written.
const MAX_PATH: usize = 1_024;
/// The most bytes of `Referer`.
const MAX_REFERER: usize = 512;
/// The most bytes of `User-Agent`.
const MAX_USER_AGENT: usize = 256;
/// The most bytes of a method.
const MAX_METHOD: usize = 32;
/// What stands for that which was cut off.
const CUT: &[u8] = b"...";
/// Room for a usual line.
const USUAL: usize = 512;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// What is told of one request.
pub struct Line<'a> {
    /// When it came.
    pub time: SystemTime,
    /// Until its answer, or the end of one that comes in pieces.
    pub duration: Duration,
    /// Behind trusted proxies, whole.
    pub address: IpAddr,
    /// As the limiter counts it, if that is known.
    pub client: Option<&'a str>,
    /// Without these three it was no request of HTTP's: the parser refused it.
    pub request: Option<RequestLine<'a>>,
    pub status: u16,
    /// Of the answer's body.
    pub bytes: u64,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    pub request_id: &'a str,
    /// Of the trace that tells of it too.
    pub trace_id: Option<&'a str>,
}

/// The first line of a request, without the query.
#[derive(Clone, Copy)]
pub struct RequestLine<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub version: http::Version,
}

impl Line<'_> {
    /// With its end.
    pub fn written(&self, format: AccessLogFormat) -> Vec<u8> {
        let mut text = String::with_capacity(USUAL);
        match format {
            AccessLogFormat::Combined => self.combined(&mut text),
            AccessLogFormat::Json | AccessLogFormat::Off => self.json(&mut text),
        }
        text.push('\n');
        text.into_bytes()
    }

    fn json(&self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = write!(text, "{{\"timestamp\":\"{}\"", self.time_text());
        field(text, "request_id", Some(self.request_id.as_bytes()));
        field(text, "client", self.client.map(str::as_bytes));
        let _ = write!(text, ",\"address\":\"{}\"", self.address);
        let request = self.request;
        field(text, "method", request.map(|it| it.method.as_bytes()).map(method));
        let path = request.map(|it| cut(it.path.as_bytes(), MAX_PATH));
        field(text, "path", path.as_deref());
        field(
            text,
            "protocol",
            request.map(|it| protocol(it.version).as_bytes()),
        );
        let _ = write!(
            text,
            ",\"status\":{},\"bytes\":{},\"duration_ms\":{:.3}",
            self.status,
            self.bytes,
            self.duration.as_secs_f64() * 1e3
        );
        field(text, "referer", self.referer().as_deref());
        field(text, "user_agent", self.user_agent().as_deref());
        if let Some(id) = self.trace_id {
            field(text, "trace_id", Some(id.as_bytes()));
        }
        text.push_str(",\"target\":\"access\"}");
    }

    fn combined(&self, text: &mut String) {
        let _ = write!(text, "{} - ", self.address);
        // An address stands there already.
        let name = self.client.filter(|client| !client.starts_with("ip:"));
        match name {
            Some(name) => name.bytes().for_each(|byte| match byte {
                b'[' | b']' => escaped(text, byte),
                byte => quoted_byte(text, byte),
            }),
            None => text.push('-'),
        }
        let time = self.time_text();
        let part = |range| time.get(range).unwrap_or_default();
        let month = part(5..7).parse::<usize>().ok();
        let month = month
            .and_then(|month| MONTHS.get(month.checked_sub(1)?))
            .unwrap_or(&"-");
        let _ = write!(
            text,
            " [{}/{month}/{}:{} +0000] ",
            part(8..10),
            part(0..4),
            part(11..19)
        );
        match self.request {
            None => text.push_str("\"-\""),
            Some(it) => {
                let path = cut(it.path.as_bytes(), MAX_PATH);
                let words = [
                    method(it.method.as_bytes()),
                    b" ",
                    &path,
                    b" ",
                    protocol(it.version).as_bytes(),
                ];
                quoted(text, Some(&words.concat()));
            }
        }
        let _ = write!(text, " {} {} ", self.status, self.bytes);
        quoted(text, self.referer().as_deref());
        text.push(' ');
        quoted(text, self.user_agent().as_deref());
        let _ = write!(text, " {:.6} ", self.duration.as_secs_f64());
        quoted(text, Some(self.request_id.as_bytes()));
    }

    fn time_text(&self) -> String {
        tollgate_api::time::format(crate::clock::millis(self.time))
    }

    /// Without what may be a credential in it: user name and password, query and fragment.
    fn referer(&self) -> Option<Vec<u8>> {
        let referer = self.referer?;
        let end = referer.iter().position(|byte| b"?#".contains(byte));
        let referer = referer.get(..end.unwrap_or(referer.len())).unwrap_or_default();
        let authority = referer
            .windows(3)
            .position(|window| window == b"://")
            .map_or(0, |at| at + 3);
        let (scheme, rest) = referer.split_at_checked(authority)?;
        let host = rest
            .split(|byte| b"/\\".contains(byte))
            .next()
            .unwrap_or_default();
        let user = host.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
        let rest = rest.get(user..).unwrap_or_default();
        Some(cut(&[scheme, rest].concat(), MAX_REFERER))
    }

    fn user_agent(&self) -> Option<Vec<u8>> {
        self.user_agent.map(|agent| cut(agent, MAX_USER_AGENT))
    }
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// A method is a token: it needs no mark where it is cut.
fn method(bytes: &[u8]) -> &[u8] {
    bytes.get(..MAX_METHOD).unwrap_or(bytes)
}

fn cut(bytes: &[u8], most: usize) -> Vec<u8> {
    match bytes.get(..most) {
        Some(start) if bytes.len() > most => [start, CUT].concat(),
        _ => bytes.to_vec(),
    }
}

/// A field of a JSON object, after another; null for none. ASCII alone: all else is escaped.
fn field(text: &mut String, name: &str, value: Option<&[u8]>) {
    let _ = write!(text, ",\"{name}\":");
    let Some(value) = value else {
        return text.push_str("null");
    };
    text.push('"');
    for letter in String::from_utf8_lossy(value).chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            ' '..='~' => text.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text.push('"');
}

/// Between quotes, escaped as nginx does it; `"-"` for nothing.
fn quoted(text: &mut String, value: Option<&[u8]>) {
    text.push('"');
    match value {
        Some(value) => value.iter().for_each(|byte| match byte {
            b' ' => text.push(' '),
            byte => quoted_byte(text, *byte),
        }),
        None => text.push('-'),
    }
    text.push('"');
}

fn quoted_byte(text: &mut String, byte: u8) {
    match byte {
        b'"' | b'\\' => escaped(text, byte),
        b'!'..=b'~' => text.push(char::from(byte)),
        _ => escaped(text, byte),
    }
}

fn escaped(text: &mut String, byte: u8) {
    let _ = write!(text, "\\x{byte:02X}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn line() -> Line<'static> {
        Line {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_120),
            duration: Duration::from_micros(1_234),
            address: "2001:db8::1".parse().expect("an address"),
            client: Some("ip:2001:db8::/64"),
            request: Some(RequestLine {
                method: "GET",
                path: "/hello",
                version: http::Version::HTTP_11,
            }),
            status: 302,
            bytes: 0,
            referer: None,
            user_agent: None,
            request_id: "r-1",
            trace_id: None,
        }
    }

    fn text(line: &Line<'_>, format: AccessLogFormat) -> String {
        let text = String::from_utf8(line.written(format)).expect("ASCII");
        assert!(
            text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')),
            "{text:?}"
        );
        assert_eq!(text.find('\n'), Some(text.len() - 1), "one line: {text:?}");
        text
    }

    fn object(line: &Line<'_>) -> Value {
        serde_json::from_str(&text(line, AccessLogFormat::Json)).expect("JSON")
    }

    #[test]
    fn both_formats_tell_the_same() {
        let mut line = line();
        line.client = Some("id:ann");
        line.user_agent = Some(b"curl/8");
        assert_eq!(
            object(&line),
            json!({
                "timestamp": "2027-01-15T08:00:00.12Z", "request_id": "r-1", "client": "id:ann",
                "address": "2001:db8::1", "method": "GET", "path": "/hello", "protocol": "HTTP/1.1", "status": 302,
                "bytes": 0, "duration_ms": 1.234, "referer": null, "user_agent": "curl/8", "target": "access",
            })
        );
        assert_eq!(
            text(&line, AccessLogFormat::Combined),
            "2001:db8::1 - id:ann [15/Jan/2027:08:00:00 +0000] \"GET /hello HTTP/1.1\" 302 0 \"-\" \"curl/8\" 0.001234 \"r-1\"\n"
        );
        line.request = None;
        assert_eq!(object(&line)["path"], Value::Null);
        assert!(text(&line, AccessLogFormat::Combined).contains("] \"-\" 302"));
    }

    #[test]
    fn nothing_that_is_sent_ends_a_line_or_a_field() {
        let hostile = b"a\" 200 0\n\r\\ \x1b[2J\x7f\x9b \xe2\x80\xa8 \xf0\x9f\x98\x80 \xff]";
        let mut line = line();
        line.user_agent = Some(hostile);
        line.referer = Some(hostile);
        line.client = Some("id:x\"][1/Jan");
        line.request = line.request.map(|it| RequestLine {
            path: "/\u{9b}\"é",
            ..it
        });
        let seen = object(&line);
        assert_eq!(seen["user_agent"], String::from_utf8_lossy(hostile).into_owned());
        assert_eq!(seen["path"], "/\u{9b}\"é");
        let combined = text(&line, AccessLogFormat::Combined);
        assert_eq!(combined.matches('"').count(), 8, "{combined}");
        assert_eq!(combined.matches(" [").count(), 1, "{combined}");
        assert!(
            combined.contains("\"a\\x22 200 0\\x0A\\x0D\\x5C \\x1B[2J\\x7F\\x9B"),
            "{combined}"
        );
        assert!(combined.contains(" - id:x\\x22\\x5D\\x5B1/Jan ["), "{combined}");
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = "x".repeat(40_000);
        let mut line = line();
        (line.user_agent, line.referer) = (Some(long.as_bytes()), Some(long.as_bytes()));
        line.request = Some(RequestLine {
            method: &long,
            path: &long,
            version: http::Version::HTTP_2,
        });
        for format in [AccessLogFormat::Json, AccessLogFormat::Combined] {
            assert!(text(&line, format).len() < 2_500);
        }
        assert_eq!(
            object(&line)["path"].as_str().map(str::len),
            Some(MAX_PATH + CUT.len())
        );
    }

    #[test]
    fn a_referer_tells_no_credentials() {
        for (sent, told) in [
            ("https://a.example/b/c", "https://a.example/b/c"),
            ("https://a.example/b?token=secret", "https://a.example/b"),
            ("https://a.example/#access_token=secret", "https://a.example/"),
            ("https://me:secret@a.example/b@c", "https://a.example/b@c"),
            ("https://a@secret@a.example", "https://a.example"),
            ("me:secret@a.example", "a.example"),
            ("", ""),
        ] {
            let mut line = line();
            line.referer = Some(sent.as_bytes());
            assert_eq!(object(&line)["referer"], told, "{sent}");
        }
    }
}
