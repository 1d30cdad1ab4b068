//! The page in place of a 429 for a browser. It says nothing that a request could choose, and may load or run nothing.

use crate::html;
use tollgate_api::accept;

/// The headers of the page, in place of those that the problem document has under these names. Nothing may be loaded, run, framed or
/// sent from it.
pub const HEADERS: [(&str, &str); 6] = [
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", html::NOTHING_ELSE),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("vary", "accept, accept-language"),
];
/// How a problem document of the limiter begins.
const BEGINS: &[u8] = b"{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\"";

/// What the page says in one language, with `{}` for the number of seconds.
struct Words {
    language: &'static str,
    title: &'static str,
    text: &'static str,
}

/// The first is for everybody else.
const WORDS: [Words; 3] = [
    Words {
        language: "en",
        title: "Too many requests",
        text: "You have sent many requests in a short time. Please try again in {} s.",
    },
    Words {
        language: "ko",
        title: "요청이 너무 많습니다",
        text: "짧은 시간에 요청이 많았습니다. {}초 뒤에 다시 시도해 주세요.",
    },
    Words {
        language: "de",
        title: "Zu viele Anfragen",
        text: "Von Ihnen kamen in kurzer Zeit viele Anfragen. Bitte versuchen Sie es in {} s noch einmal.",
    },
];

/// The page, with [`HEADERS`], in place of the limiter's refusal, for who asks for `text/html` by name and not rather for JSON.
/// Wildcards do not count: what calls an API accepts anything.
pub fn for_browser(
    body: &[u8],
    retry_after: Option<&str>,
    accept: Option<&str>,
    accept_language: Option<&str>,
) -> Option<Vec<u8>> {
    if !body.starts_with(BEGINS) || !accept::wants_html(accept?) {
        return None;
    }
    let words = words(accept_language.unwrap_or_default());
    let seconds: u64 = retry_after.and_then(|text| text.parse().ok()).unwrap_or(1);
    let text = words.text.replace("{}", &seconds.to_string());
    let Words { language, title, .. } = words;
    let main = format!("<h1>{title}</h1>\n<p>{text}</p>\n");
    Some(html::document(language, title, &main))
}

fn words(accept_language: &str) -> &'static Words {
    &WORDS[accept::language(accept_language, &WORDS.map(|words| words.language))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_api::problem::{Kind, Problem};

    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

    fn page(accept: &str, language: &str) -> Option<String> {
        let refusal = Problem::new(Kind::QuotaExceeded, "wait").into_response();
        let page = for_browser(&refusal.body, Some("42"), Some(accept), Some(language));
        page.map(|page| String::from_utf8(page).unwrap())
    }

    #[test]
    fn a_browser_gets_a_page_and_what_calls_the_api_a_problem() {
        assert!(page(BROWSER, "").unwrap().contains("try again in 42 s"));
        for other in [
            "*/*",
            "",
            "application/json",
            "application/json, text/html;q=0.5",
            "text/html;q=0",
            "text/*",
        ] {
            assert_eq!(page(other, "en"), None, "{other}");
        }
        let body = Problem::new(Kind::Unavailable, "busy").into_response().body;
        assert_eq!(for_browser(&body, Some("1"), Some(BROWSER), None), None);
    }

    #[test]
    fn it_speaks_the_language_that_is_preferred_most() {
        let language = |accept: &str| {
            let page = page(BROWSER, accept).unwrap();
            page.split('"').nth(1).unwrap().to_owned()
        };
        for (accept, spoken) in [
            ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
            ("fr, de;q=0.5, en;q=0.4", "de"),
            ("en;q=0.5, de;q=0.7", "de"),
            ("de;q=0, fr", "en"),
            ("*", "en"),
            ("<script>", "en"),
        ] {
            assert_eq!(language(accept), spoken, "{accept}");
        }
    }

    #[test]
    fn a_wait_that_is_no_number_is_not_shown() {
        let refusal = Problem::new(Kind::QuotaExceeded, "wait").into_response();
        let page = for_browser(&refusal.body, Some("<b>"), Some(BROWSER), None).unwrap();
        assert!(!String::from_utf8(page).unwrap().contains("<b>"));
    }
}
