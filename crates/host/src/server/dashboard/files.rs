//! The files of the page, carried by the program.

use super::super::service::Answer;
use super::plain;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

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
}

macro_rules! files {
    ($($kind:ident $name:literal $path:literal,)*) => {
        const FILES: &[File] = &[$(File {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!("../../../dashboard/", $path)),
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
    SCRIPT "links.js" "links.js",
    SCRIPT "limits.js" "limits.js",
    SCRIPT "topics.js" "topics.js",
    SCRIPT "keys.js" "keys.js",
    SCRIPT "configuration.js" "configuration.js",
    SCRIPT "preact.js" "vendor/preact.js",
    SCRIPT "hooks.js" "vendor/hooks.js",
    SCRIPT "htm.js" "vendor/htm.js",
}

/// The files with their entity tags, worked out once.
static TAGGED: LazyLock<Vec<(&'static File, HeaderValue)>> = LazyLock::new(|| {
    let tagged = |file: &'static File| {
        let digest = Sha256::digest(file.bytes);
        let tag = digest
            .iter()
            .take(12)
            .fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}"))
            + "\"";
        Some((file, HeaderValue::try_from(tag).ok()?))
    };
    FILES.iter().filter_map(tagged).collect()
});

/// The file of this name, or 304 for who has it already.
pub fn answer(name: &str, headers: &HeaderMap) -> Option<Answer> {
    let (file, tag) = TAGGED.iter().find(|(file, _)| file.name == name)?;
    let mut known = headers.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known.any(|given| {
        let given = given.to_str().unwrap_or_default().split(',');
        given
            .map(str::trim)
            .any(|one| one == "*" || Some(one.trim_start_matches("W/")) == tag.to_str().ok())
    });
    let mut answer = match is_known {
        true => plain(StatusCode::NOT_MODIFIED, Bytes::new()),
        false => plain(StatusCode::OK, Bytes::from_static(file.bytes)),
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
    if name == "welcome.html" {
        fields.insert(header::VARY, HeaderValue::from_static("accept"));
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
