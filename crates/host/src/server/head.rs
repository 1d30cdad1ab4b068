//! The head of a request: its bounds, and the answer to one that is not valid.

use super::connection::{MAX_HEAD, MAX_HEADERS};
use bytes::Bytes;
use http::header::COOKIE;
use hyper::header::HeaderValue;
use tollgate_api::headers::check_hosts;
use tollgate_api::problem::{Kind, Problem};
use tollgate_rules::cors::Field;
use tollgate_rules::identity;

/// The parser of HTTP/1 looks at its bound only after it has read more, and that of HTTP/2 is not asked: both are held here.
pub fn within_bounds<B>(request: &hyper::Request<B>) -> Result<(), Problem> {
    let fields = request.headers();
    // As RFC 9113, section 10.5.1, counts; of HTTP/1, the colon, the space and the end of the line.
    let each = match request.version() {
        http::Version::HTTP_2 => 32,
        _ => 4,
    };
    let size: usize = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + each)
        .sum();
    match fields.len() <= MAX_HEADERS && size + path_and_query(request.uri()).len() <= MAX_HEAD {
        true => Ok(()),
        false => Err(too_large()),
    }
}

/// HTTP/1.1 takes exactly one `Host`, and an invalid one is never taken (RFC 9112, section 3.2). With two, a
/// proxy and we could mean different ones.
pub fn one_host<B>(request: &hyper::Request<B>) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(http::header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let none_is_fine = request.version() != http::Version::HTTP_11;
    if another.is_some() || (host.is_none() && !none_is_fine) {
        return Err(Problem::field("header:host", "must be there exactly once"));
    }
    // The target may hold it too: always in HTTP/2.
    let target = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    check_hosts(target.into_iter().chain(host.map(HeaderValue::as_bytes)))
}

/// `chunked` is the only transfer coding that is decoded here (RFC 9112, section 6.1). With another one
/// beneath it (`gzip, chunked`), the body would be taken as it is coded.
pub fn known_coding<B>(request: &hyper::Request<B>) -> Result<(), Problem> {
    let mut codings = request.headers().get_all(http::header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Problem::new(
            Kind::NotImplemented,
            "The only transfer coding that is taken is chunked.",
        )
        .with_header("connection", "close")),
    }
}

/// A client of HTTP/2 may send its cookies in several fields, and browsers do. Whoever gets them here gets one (RFC 9113, section 8.2.3).
pub fn one_cookie(head: &mut http::request::Parts) {
    if head.version != http::Version::HTTP_2 {
        return;
    }
    let all = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let all: Vec<&[u8]> = all.collect();
    if all.len() < 2 {
        return;
    }
    if let Ok(mut one) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        one.set_sensitive(true);
        head.headers.insert(COOKIE, one);
    }
}

/// The caller's request id if it is a sane token, else a new one. Ids tell requests apart, and are no secret: the
/// thread's own generator, seeded by the operating system, is good enough.
pub fn request_id<B>(request: &hyper::Request<B>) -> HeaderValue {
    let given = request
        .headers()
        .get("x-request-id")
        .filter(|value| identity::is_request_id(value.as_bytes()));
    match given {
        Some(value) => value.clone(),
        None => HeaderValue::try_from(new_request_id()).unwrap_or(HeaderValue::from_static("-")),
    }
}

/// A new request id.
pub fn new_request_id() -> String {
    identity::new_request_id(fastrand::u128(..).to_le_bytes())
}

fn path_and_query(uri: &http::Uri) -> &str {
    uri.path_and_query().map_or("", |target| target.as_str())
}

fn too_large() -> Problem {
    let detail = format!("The head of a request may have at most {MAX_HEADERS} fields, and 32 KiB.");
    Problem::new(Kind::HeadTooLarge, detail)
}

/// What is sent in place of an answer of hyper's parser.
pub struct Instead {
    /// Head and body.
    pub bytes: Bytes,
    /// Its status.
    pub status: u16,
    /// Its request id.
    pub request_id: String,
    /// The bytes of its body.
    pub body: usize,
}

/// A whole answer, written by hand, where HTTP is not spoken yet. `line`: its status line. The connection closes after it.
pub fn refusal(line: &str, problem: Problem) -> Bytes {
    written([line, "\r\nconnection: close\r\n"].concat(), problem).bytes
}

/// An answer that begins so, with whole lines: its other fields and its document follow.
fn written(mut head: String, problem: Problem) -> Instead {
    let response = problem.into_response();
    let (request_id, body) = (new_request_id(), response.body.len());
    head.push_str("content-type: application/problem+json\r\nx-request-id: ");
    head.push_str(&request_id);
    head.push_str(&format!("\r\ncontent-length: {body}\r\n\r\n"));
    Instead {
        bytes: [head.into_bytes(), response.body].concat().into(),
        status: response.status,
        request_id,
        body,
    }
}

/// The replacement for an answer of hyper's parser, which has no document and no request id. It has that
/// answer's own status and fields, and ours, and these. `None` for any other answer.
pub fn instead_of(parsers: &[u8], more: &[Field]) -> Option<Instead> {
    let parsers = parsers.strip_suffix(b"\r\n\r\n")?;
    if !parsers.starts_with(b"HTTP/1.") {
        return None;
    }
    let (line, fields) = str::from_utf8(parsers).ok()?.split_once("\r\n")?;
    let problem = match line.split(' ').nth(1)? {
        "400" => Problem::new(
            Kind::InvalidRequest,
            "This is not a request as HTTP/1.1 has them.",
        ),
        "431" => too_large(),
        _ => return None,
    };
    let mut head = [line, "\r\n"].concat();
    for field in fields
        .split("\r\n")
        .filter(|field| !field.starts_with("content-length:"))
    {
        head.extend([field, "\r\n"]);
    }
    for (name, value) in more {
        head.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value)));
    }
    Some(written(head, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_of_http_2_become_one_field() {
        let sent = |version, cookies: &[&str]| {
            let mut request = http::Request::builder().version(version).header("a", "b");
            for cookie in cookies {
                request = request.header(COOKIE, *cookie);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            one_cookie(&mut head);
            let found = head.headers.get_all(COOKIE).iter();
            found
                .map(|value| value.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let two = http::Version::HTTP_2;
        assert_eq!(sent(two, &["a=1", "b=2; c=3", "d=4"]), ["a=1; b=2; c=3; d=4"]);
        assert_eq!(sent(two, &["a=1"]), ["a=1"]);
        assert_eq!(sent(two, &[]), [""; 0]);
        assert_eq!(sent(http::Version::HTTP_11, &["a=1", "b=2"]), ["a=1", "b=2"]);
    }
}
