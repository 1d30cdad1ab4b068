//! `GET /openapi.json` and `GET /docs`: the contract, as a document and as a page. Both are files of this program, as they are and
//! compressed by its build: no request costs more than a copy.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tollgate_api::accept::takes_gzip;
use tollgate_api::http::{Request, Response};

use crate::etag;

/// The OpenAPI document; `cargo xtask openapi` writes it.
pub const OPENAPI: &str = include_str!("../../api/openapi.json");

const SCRIPT: &str = include_str!("docs/docs.js");
const STYLE: &str = include_str!("docs/docs.css");
/// The page with both of them, as the build put it together.
const WHOLE: &str = include_str!(concat!(env!("OUT_DIR"), "/docs.html"));
/// How long a browser may keep either, in seconds.
const KEPT: &str = "public, max-age=300";

struct Asset {
    media: &'static str,
    plain: Form,
    gzip: Form,
    /// What a page may do; `None` for what is no page.
    policy: Option<String>,
}

/// The bytes of one coding. Those of another have another tag (RFC 9110, section 8.8.3).
struct Form {
    bytes: &'static [u8],
    etag: String,
}

impl Form {
    fn new(bytes: &'static [u8]) -> Self {
        let etag = etag::of(bytes);
        Self { bytes, etag }
    }
}

static DOCUMENT: LazyLock<Asset> = LazyLock::new(|| Asset {
    media: "application/json",
    plain: Form::new(OPENAPI.as_bytes()),
    gzip: Form::new(include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"))),
    policy: None,
});

/// The page is one file: its script and style are named to the browser by their digests, and nothing else runs or is loaded.
static PAGE: LazyLock<Asset> = LazyLock::new(|| {
    let digest = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    Asset {
        media: "text/html; charset=utf-8",
        plain: Form::new(WHOLE.as_bytes()),
        gzip: Form::new(include_bytes!(concat!(env!("OUT_DIR"), "/docs.html.gz"))),
        policy: Some(policy),
    }
});

/// `GET /openapi.json`.
pub(crate) fn document(request: &Request) -> Response {
    answer(&DOCUMENT, request)
}

/// `GET /docs`.
pub(crate) fn page(request: &Request) -> Response {
    answer(&PAGE, request)
}

fn answer(asset: &Asset, request: &Request) -> Response {
    let is_gzip = request.header_values("accept-encoding").any(takes_gzip);
    let form = if is_gzip { &asset.gzip } else { &asset.plain };
    let known = etag::is_known(request, &form.etag);
    let mut response = match known {
        true => Response::empty(304),
        false => Response::empty(200).with("content-type", asset.media),
    };
    response = response
        .with("etag", form.etag.as_str())
        .with("cache-control", KEPT)
        .with("vary", "accept-encoding");
    if known {
        return response;
    }
    if is_gzip {
        response = response.with("content-encoding", "gzip");
    }
    response.body = form.bytes.to_vec();
    if let Some(policy) = &asset.policy {
        response = response
            .with("content-security-policy", policy.as_str())
            .with("x-content-type-options", "nosniff")
            .with("referrer-policy", "no-referrer")
            .with("x-robots-tag", "noindex, nofollow");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;
    use tollgate_api::http::Header;

    fn ask(tags: &[&str]) -> Request {
        let tags = tags.iter().map(|tag| Header::new("if-none-match", *tag));
        with(tags.collect())
    }

    fn with(headers: Vec<Header>) -> Request {
        Request {
            method: "GET".into(),
            path: "/openapi.json".into(),
            query: None,
            headers,
            body: Vec::new(),
            peer: String::new(),
        }
    }

    #[test]
    fn what_has_not_changed_is_not_sent_again() {
        for asset in [document, page] {
            let first = asset(&ask(&[]));
            let etag = first.header("etag").unwrap().to_owned();
            assert_eq!((first.status, first.header("cache-control")), (200, Some(KEPT)));
            for known in [
                etag.clone(),
                format!("W/{etag}"),
                format!("\"x\", {etag}"),
                "*".into(),
            ] {
                let again = asset(&ask(&[&known]));
                assert_eq!(
                    (again.status, again.body.len(), again.header("etag")),
                    (304, 0, Some(&*etag))
                );
            }
            assert_eq!(asset(&ask(&["\"x\"", "\"y\""])).status, 200);
        }
    }

    #[test]
    fn who_takes_gzip_gets_the_same_smaller_under_a_tag_of_its_own() {
        let accepting = |coding: &str| with(vec![Header::new("accept-encoding", coding)]);
        for asset in [document, page] {
            let (plain, gzip) = (asset(&ask(&[])), asset(&accepting("br, gzip")));
            let mut unpacked = Vec::new();
            GzDecoder::new(&*gzip.body).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, plain.body);
            assert!(gzip.body.len() * 2 < plain.body.len(), "{}", gzip.body.len());
            assert_eq!(
                [&plain, &gzip].map(|answer| answer.header("content-encoding")),
                [None, Some("gzip")]
            );
            let [plain_tag, gzip_tag] =
                [&plain, &gzip].map(|answer| answer.header("etag").unwrap().to_owned());
            assert_ne!(plain_tag, gzip_tag);
            for (tag, status) in [(gzip_tag, 304), (plain_tag, 200)] {
                let mut request = accepting("gzip");
                request.headers.push(Header::new("if-none-match", tag));
                let answer = asset(&request);
                assert_eq!(
                    (answer.status, answer.header("vary")),
                    (status, Some("accept-encoding"))
                );
                assert_eq!(answer.header("content-encoding").is_some(), status == 200);
            }
            assert_eq!(asset(&accepting("br, gzip;q=0")).header("content-encoding"), None);
            assert_eq!(plain.header("vary"), Some("accept-encoding"));
        }
    }

    #[test]
    fn the_page_runs_its_own_script_and_nothing_else() {
        let page = page(&ask(&[]));
        let text = String::from_utf8(page.body.clone()).unwrap();
        let policy = page.header("content-security-policy").unwrap();
        for (open, close) in [("<script type=\"module\">", "</script>"), ("<style>", "</style>")] {
            assert_eq!(
                (text.matches(open).count(), text.matches(close).count()),
                (1, 1),
                "{open}"
            );
            let inside = text.split_once(open).unwrap().1.split_once(close).unwrap().0;
            assert!(policy.contains(&STANDARD.encode(Sha256::digest(inside))));
        }
        for forbidden in [" style=", " onclick=", "src=\"", "innerHTML", "eval("] {
            assert!(!text.contains(forbidden), "{forbidden}");
        }
        assert!(text.len() < 250_000);
    }
}
