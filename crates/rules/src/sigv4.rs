//! Requests that are signed as AWS' clients sign them, by Signature Version 4
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
//!
//! Of an API key the gateway keeps a hash, so a signature alone cannot be checked. The key comes with the request, as what AWS
//! calls the session token, and is looked up like any other. Then the signature is checked with it as the secret.

use std::fmt::Write as _;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::keys;
use tollgate_api::http::Request;
use tollgate_api::ids::hex;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::time;

/// The header that has the key.
const TOKEN: &str = "x-amz-security-token";
/// The header that says when the request was signed.
const DATE: &str = "x-amz-date";
const SCHEME: &str = "AWS4-HMAC-SHA256";
/// Headers that have to be signed; of those that are sent.
const MUST_BE_SIGNED: [&str; 4] = ["host", DATE, TOKEN, "x-amz-target"];
/// The most headers that are signed.
const MAX_SIGNED: usize = 64;
/// How far the time of a signature may be from ours, milliseconds; as with AWS.
const TOLERANCE_MS: u64 = 5 * 60 * 1_000;

/// The key of a request that is signed so: `authorization` is its credential.
pub(crate) fn token<'r>(request: &'r Request, authorization: &str) -> Option<&'r str> {
    let sent = authorization
        .starts_with(SCHEME)
        .then(|| request.single(TOKEN).ok()?)??;
    std::str::from_utf8(sent).ok()
}

/// A signature, taken apart.
#[derive(Debug)]
pub(crate) struct Signature<'r> {
    /// Whom it names: the id of a key.
    pub(crate) id: &'r str,
    date: &'r str,
    region: &'r str,
    service: &'r str,
    /// Lower case and ascending.
    headers: Vec<&'r str>,
    /// Hexadecimal.
    mac: &'r str,
}

impl<'r> Signature<'r> {
    /// Of a request that is signed; `None` for one that is not.
    ///
    /// # Errors
    /// 401 for one that cannot be read.
    pub(crate) fn of(request: &'r Request) -> Result<Option<Self>, Problem> {
        let sent = request.single(keys::HEADER)?;
        let sent = sent.and_then(|value| std::str::from_utf8(value).ok());
        let Some(rest) = sent.and_then(|value| value.strip_prefix(SCHEME)) else {
            return Ok(None);
        };
        match Self::parse(rest) {
            Some(signature) => Ok(Some(signature)),
            None => Err(refused("The signature cannot be read.")),
        }
    }

    /// ` Credential=<id>/<date>/<region>/<service>/aws4_request, SignedHeaders=a;b, Signature=<hex>`
    fn parse(rest: &'r str) -> Option<Self> {
        let mut found = [None; 3];
        for part in rest.strip_prefix(' ')?.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let at = ["Credential", "SignedHeaders", "Signature"]
                .iter()
                .position(|known| *known == name)?;
            if found.get_mut(at)?.replace(value).is_some() {
                return None;
            }
        }
        let [Some(credential), Some(headers), Some(mac)] = found else {
            return None;
        };
        let parts: Vec<&str> = credential.split('/').collect();
        let [id, date, region, service, "aws4_request"] = parts[..] else {
            return None;
        };
        let headers: Vec<&str> = headers.split(';').collect();
        let ascends = headers.iter().zip(headers.iter().skip(1)).all(|(a, b)| a < b);
        (headers.len() <= MAX_SIGNED && ascends).then_some(Self {
            id,
            date,
            region,
            service,
            headers,
            mac,
        })
    }

    /// Whether it is of this request, by whoever has this secret, and of now: Unix milliseconds.
    ///
    /// # Errors
    /// 401: it is not.
    pub(crate) fn check(&self, request: &Request, secret: &str, now: u64) -> Result<(), Problem> {
        let time = request.header(DATE).unwrap_or_default();
        let at = parsed(time).ok_or_else(|| refused("The header x-amz-date is missing, or no time."))?;
        if at.abs_diff(now) > TOLERANCE_MS {
            let detail = "Signature expired: the time of the signature and the gateway's are more than 300 seconds apart.";
            return Err(refused(detail));
        }
        let is_sent = |name: &str| request.headers.iter().any(|header| header.name == name);
        let unsigned = MUST_BE_SIGNED
            .iter()
            .find(|name| is_sent(name) && !self.headers.contains(name));
        if let Some(name) = unsigned {
            return Err(refused(&format!("The header {name} is not signed.")));
        }
        let canonical = self.canonical(request);
        let signed = canonical.and_then(|canonical| self.is_by(secret, time, &canonical).then_some(()));
        let detail = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key, \
                      and whether a proxy changes the request.";
        signed.ok_or_else(|| refused(detail))
    }

    /// The canonical request, hashed; `None` where a signed header is missing.
    fn canonical(&self, request: &Request) -> Option<String> {
        let mut text = format!("{}\n{}\n\n", request.method, encoded(&request.path));
        for name in &self.headers {
            let mut values = request.header_values(name).peekable();
            values.peek()?;
            let values: Vec<String> = values.map(collapsed).collect();
            let _ = writeln!(text, "{name}:{}", values.join(","));
        }
        let body = hex(&Sha256::digest(&request.body));
        let _ = write!(text, "\n{}\n{body}", self.headers.join(";"));
        Some(hex(&Sha256::digest(text)))
    }

    fn is_by(&self, secret: &str, time: &str, canonical: &str) -> bool {
        let Self {
            date,
            region,
            service,
            ..
        } = self;
        let text = format!("{SCHEME}\n{time}\n{date}/{region}/{service}/aws4_request\n{canonical}");
        let mut key = ["AWS4", secret].concat().into_bytes();
        for part in [date, region, service, "aws4_request", &*text] {
            key = mac(&key, part.as_bytes());
        }
        // The scope's day is the time's; otherwise the key would be one of another day.
        time.starts_with(date) && bool::from(hex(&key).as_bytes().ct_eq(self.mac.as_bytes()))
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn refused(detail: &str) -> Problem {
    Problem::new(Kind::InvalidSignature, detail)
}

/// Unix milliseconds of `20270115T080000Z`.
fn parsed(time: &str) -> Option<u64> {
    let (day, hour) = time.strip_suffix('Z')?.split_once('T')?;
    let is_plain =
        |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(day, 8) || !is_plain(hour, 6) {
        return None;
    }
    let (year, month, day) = (day.get(..4)?, day.get(4..6)?, day.get(6..)?);
    let (hour, minute, second) = (hour.get(..2)?, hour.get(2..4)?, hour.get(4..)?);
    time::parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// A path as it is signed: what is percent-encoded already is encoded once more.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte))
            }
            _ => _ = write!(text, "%{byte:02X}"),
        }
    }
    text
}

/// A value without spaces at its ends, and with one where there were several.
fn collapsed(value: &str) -> String {
    let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_api::http::Header;

    /// What botocore 1.44.8 made of this key and time.
    const SECRET: &str = "tg_AbCdEfGhIjKl_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH";
    const AT: u64 = 1_800_000_000_000;
    const BODY: &str = r#"{"QueueName":"coupon/shop"}"#;
    const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AbCdEfGhIjKl/20270115/us-east-1/sqs/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target;x-amzn-query-mode, Signature=380f4d83154c1dcdbc5e03b3a89f4dccac560676d1962cc1e551df1e78fde427";

    fn request() -> Request {
        let headers = [
            ("host", "queue.example:3000"),
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-date", "20270115T080000Z"),
            ("x-amz-target", "AmazonSQS.GetQueueUrl"),
            ("x-amzn-query-mode", "true"),
            ("x-amz-security-token", SECRET),
            ("user-agent", "Boto3/1.44.8"),
            ("authorization", AUTHORIZATION),
        ];
        Request {
            method: "POST".into(),
            path: "/sqs".into(),
            query: None,
            headers: headers.map(|(name, value)| Header::new(name, value)).into(),
            body: BODY.into(),
            peer: "192.0.2.1".into(),
        }
    }

    fn check(request: &Request, secret: &str, now: u64) -> Result<(), String> {
        let signature = Signature::of(request).map_err(|problem| problem.detail)?;
        let signature = signature.ok_or("not signed")?;
        signature
            .check(request, secret, now)
            .map_err(|problem| problem.detail)
    }

    #[test]
    fn what_botocore_signs_is_signed() {
        assert_eq!(check(&request(), SECRET, AT), Ok(()));
        assert_eq!(token(&request(), AUTHORIZATION), Some(SECRET));
        let id = Signature::of(&request()).unwrap().unwrap().id.to_owned();
        assert_eq!(id, "AbCdEfGhIjKl");
        for now in [AT - TOLERANCE_MS, AT + TOLERANCE_MS] {
            assert_eq!(check(&request(), SECRET, now), Ok(()));
        }
    }

    #[test]
    fn nothing_that_is_signed_may_change() {
        let said = |request: &Request| check(request, SECRET, AT).unwrap_err();
        let is_other = |text: String| text.starts_with("The request signature we calculated does not match");
        assert!(is_other(check(&request(), "another", AT).unwrap_err()));
        for at in [0, 1, 3, 4] {
            let mut other = request();
            other.headers[at].value.extend(b"x");
            assert!(is_other(said(&other)), "{at}");
        }
        let (mut body, mut path, mut method) = (request(), request(), request());
        body.body.push(b' ');
        path.path.push('/');
        method.method = "PUT".into();
        for other in [body, path, method] {
            assert!(is_other(said(&other)), "{other:?}");
        }
        for now in [AT - TOLERANCE_MS - 1, AT + TOLERANCE_MS + 1] {
            let text = check(&request(), SECRET, now).unwrap_err();
            assert!(text.starts_with("Signature expired"), "{text}");
        }
    }

    #[test]
    fn a_signature_that_leaves_something_out_or_makes_no_sense_is_refused() {
        let with = |authorization: String| {
            let mut other = request();
            other.headers[7].value = authorization.into_bytes();
            check(&other, SECRET, AT).unwrap_err()
        };
        for name in MUST_BE_SIGNED {
            let text = with(AUTHORIZATION.replace(name, "zz"));
            assert!(
                text.contains("not signed") || text.contains("cannot be read"),
                "{name}: {text}"
            );
        }
        for bad in [
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 ",
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request",
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0",
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host;host, Signature=0",
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=b;a, Signature=0, Signature=0",
            "AWS4-HMAC-SHA256é, Signature=0",
        ] {
            assert_eq!(with(bad.to_owned()), "The signature cannot be read.", "{bad}");
        }
        let mut unsigned = request();
        unsigned.headers[7].value = b"Bearer x".to_vec();
        assert!(Signature::of(&unsigned).unwrap().is_none());
        let mut undated = request();
        undated.headers[2].value = b"20271315T080000Z".to_vec();
        assert!(check(&undated, SECRET, AT).unwrap_err().contains("no time"));
    }
}
