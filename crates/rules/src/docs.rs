//! `GET /openapi.json` and `GET /docs`: the contract, as a document and as a page. Both are files of this program.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tollgate_api::http::{Request, Response};

use crate::etag;

/// The OpenAPI document; `cargo xtask openapi` writes it.
pub const OPENAPI: &str = include_str!("../../api/openapi.json");

const SCRIPT: &str = include_str!("docs/docs.js");
const STYLE: &str = include_str!("docs/docs.css");
const BODY: &str = include_str!("docs/docs.html");
/// How long a browser may keep either, in seconds.
const KEPT: &str = "public, max-age=300";

struct Asset {
    media: &'static str,
    text: String,
    etag: String,
    /// What a page may do; `None` for what is no page.
    policy: Option<String>,
}

impl Asset {
    fn new(media: &'static str, text: String, policy: Option<String>) -> Self {
        let etag = etag::of(text.as_bytes());
        Self {
            media,
            text,
            etag,
            policy,
        }
    }
}

static DOCUMENT: LazyLock<Asset> = LazyLock::new(|| Asset::new("application/json", OPENAPI.to_owned(), None));

/// The page is one file: its script and style are named to the browser by their digests, and nothing else runs or is loaded.
static PAGE: LazyLock<Asset> = LazyLock::new(|| {
    let text = [
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Tollgate: API</title>\n<style>",
        STYLE,
        "</style>\n<script type=\"module\">",
        SCRIPT,
        "</script>\n</head>\n",
        BODY,
        "</html>\n",
    ];
    let digest = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    Asset::new("text/html; charset=utf-8", text.concat(), Some(policy))
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
    let known = etag::is_known(request, &asset.etag);
    let mut response = match known {
        true => Response::empty(304),
        false => Response::empty(200).with("content-type", asset.media),
    };
    response = response
        .with("etag", asset.etag.as_str())
        .with("cache-control", KEPT);
    if known {
        return response;
    }
    response.body = asset.text.clone().into_bytes();
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
    use tollgate_api::http::Header;

    fn ask(tags: &[&str]) -> Request {
        Request {
            method: "GET".into(),
            path: "/openapi.json".into(),
            query: None,
            headers: tags
                .iter()
                .map(|tag| Header::new("if-none-match", *tag))
                .collect(),
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
