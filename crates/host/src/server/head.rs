//! The head of a request: its bounds, and the answer to one that is not valid.

use super::connection::{MAX_HEAD, MAX_HEADERS};
use super::service::new_request_id;
use bytes::Bytes;
use tollgate_api::problem::{Kind, Problem};

/// HTTP/1 is held to these bounds by its parser; HTTP/2 is not.
pub fn within_bounds<B>(request: &hyper::Request<B>) -> Result<(), Problem> {
    let fields = request.headers();
    // Each counts as RFC 9113, section 10.5.1, says.
    let size = || -> usize {
        let fields = fields
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32);
        fields.sum::<usize>() + path_and_query(request.uri()).len()
    };
    let http2 = request.version() == http::Version::HTTP_2;
    match fields.len() <= MAX_HEADERS && !(http2 && size() > MAX_HEAD) {
        true => Ok(()),
        false => Err(too_large()),
    }
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

/// A whole answer, written by hand, where HTTP is not spoken yet. The connection closes after it.
pub fn refusal(line: &str, problem: Problem) -> Vec<u8> {
    let body = problem.into_response().body;
    let (id, length) = (new_request_id(), body.len());
    let head = format!(
        "{line}\r\ncontent-type: application/problem+json\r\nx-request-id: {id}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.into_bytes(), body].concat()
}

/// The replacement for an answer of hyper's parser, which has no document and no request id. It has that
/// answer's own status and fields, and ours. `None` for any other answer.
pub fn instead_of(parsers: &[u8]) -> Option<Instead> {
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
    let response = problem.into_response();
    let mut answer = [line, "\r\n"].concat();
    for field in fields
        .split("\r\n")
        .filter(|field| !field.starts_with("content-length:"))
    {
        answer.extend([field, "\r\n"]);
    }
    answer.push_str("content-type: application/problem+json\r\nx-request-id: ");
    let request_id = new_request_id();
    answer.push_str(&request_id);
    answer.push_str(&format!("\r\ncontent-length: {}\r\n\r\n", response.body.len()));
    let mut answer = answer.into_bytes();
    let body = response.body.len();
    answer.extend(response.body);
    Some(Instead {
        bytes: answer.into(),
        status: response.status,
        request_id,
        body,
    })
}
