//! The pages that people get from links, in the language that they ask for: English, German or Korean. No script, no style, nothing
//! loaded, no cookie needed.

use super::asks;
use crate::html;
pub(super) use crate::html::escape;
use tollgate_api::http::{Request, Response};

/// The policy of a page with a form; others have [`html::NOTHING_ELSE`], whatever a target or title says. Some browsers ask the policy also about where a form's answer redirects to, which
/// may be any http or https address.
const WITH_FORM: &str =
    "default-src 'none'; base-uri 'none'; form-action http: https:; frame-ancestors 'none'";

/// A language that pages are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    En,
    De,
    Ko,
}

impl Language {
    /// The one that is asked for first, if it is one of ours; else English.
    pub(super) fn of(request: &Request) -> Self {
        let asked = asks::language(request).unwrap_or_default();
        let primary = asked.split('-').next().unwrap_or_default();
        let others = [Self::De, Self::Ko];
        let found = others
            .into_iter()
            .find(|language| primary.eq_ignore_ascii_case(language.tag()));
        found.unwrap_or(Self::En)
    }

    fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
            Self::Ko => "ko",
        }
    }

    /// The text in this language, of those in English, German and Korean.
    pub(super) fn say(self, [en, de, ko]: [&'static str; 3]) -> &'static str {
        match self {
            Self::En => en,
            Self::De => de,
            Self::Ko => ko,
        }
    }
}

/// A page. `title` and `body` are HTML; `has_form`: whether there is something to send.
pub(super) fn answer(status: u16, language: Language, title: &str, body: &str, has_form: bool) -> Response {
    let mut response = Response::empty(status)
        .with("content-type", "text/html; charset=utf-8")
        .with(
            "content-security-policy",
            if has_form { WITH_FORM } else { html::NOTHING_ELSE },
        )
        .with("x-content-type-options", "nosniff")
        .with("referrer-policy", "no-referrer")
        .with("x-robots-tag", "noindex, nofollow")
        .with("cache-control", "private, no-store");
    response.body = html::document(language.tag(), title, body);
    response
}
