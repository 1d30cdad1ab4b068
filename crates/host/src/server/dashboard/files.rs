//! The files of the page, carried by the program.

use super::super::service::Answer;
use super::plain;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;
use tollgate_api::{accept, ids};

/// Everything comes from here, and nothing is framed, embedded or sent elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// The same, compressed by the build.
    gzip: &'static [u8],
}

macro_rules! files {
    ($($kind:ident $name:literal $path:literal,)*) => {
        const FILES: &[File] = &[$(File {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!("../../../dashboard/", $path)),
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")),
        },)*];
    };
}

files! {
    HTML "index.html" "index.html",
    HTML "welcome.html" "welcome.html",
    STYLE "style.css" "style.css",
    IMAGE "icon.svg" "icon.svg",
    SCRIPT "app.js" "app.js",
    SCRIPT "api.js" "api.js",
    SCRIPT "live.js" "live.js",
    SCRIPT "ui.js" "ui.js",
    SCRIPT "overview.js" "overview.js",
    SCRIPT "campaigns.js" "campaigns.js",
    SCRIPT "codes.js" "codes.js",
    SCRIPT "rooms.js" "rooms.js",
    SCRIPT "draws.js" "draws.js",
    SCRIPT "links.js" "links.js",
    SCRIPT "limits.js" "limits.js",
    SCRIPT "clients.js" "clients.js",
    SCRIPT "origins.js" "origins.js",
    SCRIPT "topics.js" "topics.js",
    SCRIPT "deliveries.js" "deliveries.js",
    SCRIPT "letters.js" "letters.js",
    SCRIPT "sinks.js" "sinks.js",
    SCRIPT "groups.js" "groups.js",
    SCRIPT "events.js" "events.js",
    SCRIPT "keys.js" "keys.js",
    SCRIPT "configuration.js" "configuration.js",
    SCRIPT "preact.js" "vendor/preact.js",
    SCRIPT "hooks.js" "vendor/hooks.js",
    SCRIPT "htm.js" "vendor/htm.js",
}

/// The digits of an entity tag.
const TAG: usize = 24;

/// A file with its entity tags: as it is, and compressed. They differ, since the bytes do (RFC 9110, section 8.8.3).
type Tagged = (&'static File, [HeaderValue; 2]);

/// The files with their entity tags, worked out once.
static TAGGED: LazyLock<Vec<Tagged>> = LazyLock::new(|| {
    let tag = |bytes: &[u8]| {
        let digest = ids::hex(&Sha256::digest(bytes));
        HeaderValue::try_from(format!("\"{}\"", digest.get(..TAG)?)).ok()
    };
    let tagged = |file: &'static File| Some((file, [tag(file.bytes)?, tag(file.gzip)?]));
    FILES.iter().filter_map(tagged).collect()
});

/// Whether whoever asks takes gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
    accepted.any(|value| value.to_str().is_ok_and(accept::takes_gzip))
}

/// The file of this name, or 304 for who has it already.
pub fn answer(name: &str, headers: &HeaderMap) -> Option<Answer> {
    let (file, [plain_tag, gzip_tag]) = TAGGED.iter().find(|(file, _)| file.name == name)?;
    let is_gzip = takes_gzip(headers);
    let (tag, bytes) = match is_gzip {
        true => (gzip_tag, file.gzip),
        false => (plain_tag, file.bytes),
    };
    let mut known = headers.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known.any(|given| {
        let given = given.to_str().unwrap_or_default().split(',');
        given
            .map(str::trim)
            .any(|one| one == "*" || Some(one.trim_start_matches("W/")) == tag.to_str().ok())
    });
    let mut answer = match is_known {
        true => plain(StatusCode::NOT_MODIFIED, Bytes::new()),
        false => plain(StatusCode::OK, Bytes::from_static(bytes)),
    };
    let fields = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, file.kind),
        // Kept, and asked for again: a new version is seen at once.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields.insert(header::ETAG, tag.clone());
    let vary = match name {
        "welcome.html" => "accept, accept-encoding",
        _ => "accept-encoding",
    };
    fields.insert(header::VARY, HeaderValue::from_static(vary));
    if is_gzip && !is_known {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the dashboard may weigh in all, uncompressed.
    const MAX_BYTES: usize = 200_000;

    fn text(file: &File) -> &str {
        str::from_utf8(file.bytes).unwrap()
    }

    #[test]
    fn it_is_small_and_refers_to_nothing_elsewhere() {
        assert!(FILES.iter().map(|file| file.bytes.len()).sum::<usize>() <= MAX_BYTES);
        for file in FILES.iter().filter(|file| file.kind != SCRIPT) {
            let mut without_names = text(file).replace("http://www.w3.org/2000/svg", "");
            without_names.make_ascii_lowercase();
            for elsewhere in [
                "http:", "https:", "\"//", "@import", "url(", "<style", " style=", "onclick",
            ] {
                assert!(!without_names.contains(elsewhere), "{}: {elsewhere}", file.name);
            }
        }
    }

    #[test]
    fn every_module_that_is_imported_is_there_and_every_file_on_disk_is_served() {
        for file in FILES.iter().filter(|file| file.kind == SCRIPT) {
            for import in text(file).split("from").skip(1) {
                let import = import.trim_start().trim_start_matches(['"', '\'']);
                let Some(name) = import
                    .strip_prefix("./")
                    .and_then(|rest| rest.split(['"', '\'']).next())
                else {
                    continue;
                };
                assert!(
                    FILES.iter().any(|other| other.name == name),
                    "{}: {name}",
                    file.name
                );
            }
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard");
        for entry in std::fs::read_dir(folder)
            .unwrap()
            .chain(std::fs::read_dir(format!("{folder}/vendor")).unwrap())
        {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_text = name == "vendor" || name == "README.md" || name.starts_with("LICENSE-");
            assert!(is_text || FILES.iter().any(|file| file.name == name), "{name}");
        }
    }

    #[test]
    fn who_takes_gzip_gets_the_same_smaller() {
        for file in FILES {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file.gzip), &mut text).unwrap();
            assert_eq!(text, file.bytes, "{}", file.name);
            assert!(file.gzip.len() < file.bytes.len(), "{}", file.name);
        }
        let asked = |coding: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(coding));
            let answer = answer("app.js", &headers).unwrap();
            assert_eq!(answer.headers()[header::VARY], "accept-encoding");
            (
                answer.headers().contains_key(header::CONTENT_ENCODING),
                answer.headers()[header::ETAG].clone(),
            )
        };
        let (_, plain) = asked("");
        for taken in ["gzip", "br, GZIP;q=0.5", "deflate, gzip", "x-gzip", "*"] {
            let (is_gzip, tag) = asked(taken);
            assert!(is_gzip && tag != plain, "{taken}");
        }
        for refused in [
            "br",
            "gzip;q=0",
            "gzip; q=0.0",
            "gzipped",
            "gzip;q=x",
            "*, gzip;q=0",
            "*;q=0",
        ] {
            assert_eq!(asked(refused), (false, plain.clone()), "{refused}");
        }
    }

    #[test]
    fn who_has_a_file_is_not_sent_it_again() {
        let first = answer("app.js", &HeaderMap::new()).unwrap();
        let tag = first.headers()[header::ETAG].clone();
        assert_eq!(first.status(), StatusCode::OK);
        let asked = |tag: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap());
            answer("app.js", &headers).unwrap().status()
        };
        let tag = tag.to_str().unwrap();
        assert_eq!(asked(tag), StatusCode::NOT_MODIFIED);
        assert_eq!(asked(&format!("\"x\", W/{tag}")), StatusCode::NOT_MODIFIED);
        assert_eq!(asked("\"x\""), StatusCode::OK);
        assert!(answer("../Cargo.toml", &HeaderMap::new()).is_none());
    }
}
