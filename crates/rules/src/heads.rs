//! Heads in one piece. What crosses the border of a component is copied field by field, each with an
//! allocation on the other side. A request's head and a response's headers therefore cross as one byte string
//! (`strings` in `wit/edge.wit`). It holds the fields one after the other, each preceded by its length (four
//! bytes, little endian).

use tollgate_api::http::{self, Header, Request};

/// Appends a field. One of 4 GiB or more, which no adapter lets through, is cut.
fn push(packed: &mut Vec<u8>, field: &[u8]) {
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    packed.extend_from_slice(&length.to_le_bytes());
    packed.extend_from_slice(field.get(..length as usize).unwrap_or(field));
}

/// The fields of a packed piece, which end where a length does not fit.
fn fields(mut packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = packed.split_first_chunk()?;
        let (field, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        packed = rest;
        Some(field)
    })
}

/// A request without its body: method, path, query (with its `?`; empty for none), peer, headers.
pub fn head<'a>(
    [method, path, peer]: [&str; 3],
    query: Option<&str>,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Vec<u8> {
    let mut packed = Vec::with_capacity(256);
    push(&mut packed, method.as_bytes());
    push(&mut packed, path.as_bytes());
    match query {
        None => push(&mut packed, b""),
        Some(query) => {
            let length = u32::try_from(query.len()).unwrap_or(u32::MAX - 1);
            packed.extend_from_slice(&(length + 1).to_le_bytes());
            packed.push(b'?');
            packed.extend_from_slice(query.as_bytes().get(..length as usize).unwrap_or_default());
        }
    }
    push(&mut packed, peer.as_bytes());
    for (name, value) in headers {
        push(&mut packed, name.as_bytes());
        push(&mut packed, value);
    }
    packed
}

/// [`head`] of a request.
pub fn head_of(request: &Request) -> Vec<u8> {
    let headers = request.headers.iter();
    let headers = headers.map(|header| (&*header.name, header.value.as_slice()));
    let strings = [&*request.method, &*request.path, &*request.peer];
    head(strings, request.query.as_deref(), headers)
}

/// The request that [`head`] packed, without a body; `None` if it is none.
pub fn request(head: &[u8]) -> Option<Request> {
    let mut fields = fields(head);
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (method, path, query, peer) = (text()?, text()?, text()?, text()?);
    let mut headers = Vec::with_capacity(8);
    while let Some(name) = fields.next() {
        headers.push(Header {
            name: http::seen_header(std::str::from_utf8(name).ok()?),
            value: fields.next()?.to_vec(),
        });
    }
    Some(Request {
        method: http::method(method),
        path: path.to_owned(),
        query: query.strip_prefix('?').map(str::to_owned),
        headers,
        body: Vec::new(),
        peer: peer.to_owned(),
    })
}

/// Headers in one piece.
pub fn headers(headers: &[Header]) -> Vec<u8> {
    let length = |header: &Header| header.name.len() + header.value.len() + 8;
    let mut packed = Vec::with_capacity(headers.iter().map(length).sum());
    for header in headers {
        push(&mut packed, header.name.as_bytes());
        push(&mut packed, &header.value);
    }
    packed
}

/// The names and values that [`headers`] packed.
pub fn pairs(packed: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut fields = fields(packed);
    std::iter::from_fn(move || Some((fields.next()?, fields.next()?)))
}

/// A response whose headers are one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// See [`headers`].
    pub headers: Vec<u8>,
    /// Empty for no body.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether it is the stored answer of an earlier request with the same `Idempotency-Key`.
    pub fn is_replay(&self) -> bool {
        pairs(&self.headers).any(|(name, _)| name == b"idempotency-replayed")
    }
}

impl From<http::Response> for Response {
    fn from(response: http::Response) -> Self {
        Self {
            status: response.status,
            headers: headers(&response.headers),
            body: response.body,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_headers() -> impl Strategy<Value = Vec<Header>> {
        let header = ("[a-z-]{0,12}", proptest::collection::vec(any::<u8>(), 0..20));
        proptest::collection::vec(
            header.prop_map(|(name, value)| Header {
                name: name.into(),
                value,
            }),
            0..6,
        )
    }

    proptest! {
        #[test]
        fn a_head_is_unpacked_as_it_was(
            strings in (".*", ".*", ".*"),
            query in proptest::option::of(".*"),
            headers in any_headers(),
        ) {
            let (method, path, peer) = strings;
            let method = method.into();
            let request = Request { method, path, query, headers, body: Vec::new(), peer };
            prop_assert_eq!(super::request(&head_of(&request)), Some(request));
        }

        #[test]
        fn headers_are_unpacked_as_they_were(headers in any_headers()) {
            let packed = super::headers(&headers);
            let unpacked: Vec<_> = pairs(&packed).collect();
            let expected: Vec<_> =
                headers.iter().map(|header| (header.name.as_bytes(), header.value.as_slice())).collect();
            prop_assert_eq!(unpacked, expected);
        }

        #[test]
        fn what_was_never_packed_ends_early(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = request(&bytes);
            prop_assert!(pairs(&bytes).map(|(name, value)| name.len() + value.len()).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn an_empty_query_is_not_none() {
        for query in [None, Some(""), Some("?a")] {
            let head = head(["GET", "/x", "::1"], query, std::iter::empty());
            assert_eq!(request(&head).unwrap().query.as_deref(), query);
        }
    }
}
