//! Whether a request comes from a page of ours.

use http::header::{self, HeaderValue};
use http::request::Parts;

/// What a browser says of where a request comes from (Fetch Metadata, <https://www.w3.org/TR/fetch-metadata/>); no script can
/// set it. It is not sent to plain `http://` addresses other than this machine's.
const SITE: &str = "sec-fetch-site";

/// Whether a request comes from a page of this very origin, or from no page at all: by what the browser says of it; else `Origin`
/// names the host that the request is for. Who sends neither is no browser of today, or asks for something to read.
pub fn is_own_page(head: &Parts) -> bool {
    match head.headers.get(SITE) {
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        None => match head.headers.get(header::ORIGIN) {
            Some(origin) => names_host(origin, head),
            None => true,
        },
    }
}

/// Whether the browser has the page over TLS, as it tells in `Origin`: whatever a proxy in between did.
pub fn is_https(head: &Parts) -> bool {
    let origin = head.headers.get(header::ORIGIN);
    origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

fn names_host(origin: &HeaderValue, head: &Parts) -> bool {
    let authority = head
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    let origin = origin.as_bytes();
    let named = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    match (named, authority.or(host)) {
        (Some(named), Some(host)) => named.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method("POST").uri("/admin/session");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_our_own_pages_are_ours() {
        let host = ("host", "gate.example:8080");
        for ours in [
            &[host][..],
            &[host, (SITE, "same-origin")],
            &[host, (SITE, "none")],
            &[host, ("origin", "http://gate.example:8080")],
            &[host, ("origin", "https://GATE.example:8080")],
            // A proxy that changes the host: the browser knows better.
            &[
                ("host", "127.0.0.1:3000"),
                (SITE, "same-origin"),
                ("origin", "https://gate.example"),
            ],
        ] {
            assert!(is_own_page(&head(ours)), "{ours:?}");
        }
        for others in [
            &[host, (SITE, "cross-site")][..],
            &[host, (SITE, "same-site")],
            &[host, (SITE, "")],
            &[host, (SITE, "cross-site"), ("origin", "http://gate.example:8080")],
            &[host, ("origin", "http://gate.example")],
            &[host, ("origin", "http://gate.example:8081")],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "http://gate.example:8080.evil.example")],
            &[host, ("origin", "ftp://gate.example:8080")],
            &[("origin", "http://gate.example:8080")],
        ] {
            assert!(!is_own_page(&head(others)), "{others:?}");
        }
    }
}
