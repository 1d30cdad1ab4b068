//! The page on which a browser solves a challenge by itself: a script of ours searches, keeps the solution in a cookie of this path, and asks again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Challenge;
use super::altcha::Altcha;
use crate::html;
use crate::limiter;
use crate::world::World;
use tollgate_api::accept;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Kind;

/// Searches, in steps between which the page can be used. Its own text is what the page's policy allows.
const SCRIPT: &str = include_str!("solve.js");
/// How long the cookie is kept, seconds: until the page has asked again.
const COOKIE_SECONDS: u64 = 60;

/// In each language: its tag, the title, what is done, what to do without scripts.
const WORDS: [[&str; 4]; 3] = [
    [
        "en",
        "One moment",
        "Your browser solves a small task, so that machines do not get ahead of people. It takes a few seconds; the page goes on by itself.",
        "This page needs JavaScript.",
    ],
    [
        "ko",
        "잠시만 기다려 주세요",
        "자동 프로그램이 사람보다 앞서지 않도록 브라우저가 작은 문제를 풉니다. 몇 초면 끝나고, 페이지는 저절로 넘어갑니다.",
        "이 페이지에는 JavaScript가 필요합니다.",
    ],
    [
        "de",
        "Einen Moment",
        "Ihr Browser löst eine kleine Aufgabe, damit Maschinen den Menschen nicht zuvorkommen. Es dauert ein paar Sekunden; die Seite geht von selbst weiter.",
        "Diese Seite braucht JavaScript.",
    ],
];

fn cookie_name(name: &str) -> String {
    ["tollgate-challenge-", name].concat()
}

/// The solution in the cookie.
pub(super) fn cookie_of<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let wanted = cookie_name(name);
    let cookies = request.header_values("cookie").flat_map(|value| value.split(';'));
    let mut pairs = cookies.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// Whether a request is one of a browser that shows a page.
pub(super) fn is_wanted(request: &Request) -> bool {
    request.method == "GET" && request.header("accept").is_some_and(accept::wants_html)
}

/// The page.
pub(super) fn answer<S>(
    world: &World<'_, S>,
    request: &Request,
    challenge: &Challenge,
    altcha: &Altcha,
) -> Response {
    let wanted = request.header("accept-language").unwrap_or_default();
    let languages = WORDS.map(|[language, ..]| language);
    let [language, title, text, without] = WORDS[accept::language(wanted, &languages)];
    let secure = world.settings.config.server.public_url.starts_with("https:");
    let cookie = format!(
        "; Path=/; Max-Age={COOKIE_SECONDS}; SameSite=Lax{}",
        if secure { "; Secure" } else { "" }
    );
    let name = cookie_name(&challenge.settings.name);
    let altcha = serde_json::to_string(altcha).unwrap_or_default();
    let main = format!(
        "<h1>{title}</h1>\n<p role=\"status\" data-altcha=\"{}\" data-name=\"{name}\" data-cookie=\"{cookie}\">{text}</p>\n\
         <noscript><p>{without}</p></noscript>\n<script>{SCRIPT}</script>\n",
        html::escape(&altcha),
    );
    let hash = STANDARD.encode(Sha256::digest(SCRIPT));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response =
        Response::empty(Kind::ChallengeRequired.status()).with("content-security-policy", policy);
    for (name, value) in limiter::PAGE_HEADERS {
        if name != "content-security-policy" {
            response = response.with(name, value);
        }
    }
    response.body = html::document(language, title, &main);
    response
}
