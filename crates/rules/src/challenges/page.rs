//! The page on which a browser solves a challenge: a script of ours searches, or the provider's widget asks. The solution is kept
//! in a cookie, and the page asks again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Challenge;
use super::altcha::Altcha;
use super::siteverify::Widget;
use crate::html;
use crate::limiter;
use crate::world::World;
use tollgate_api::accept;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Kind;

/// Searches, in steps between which the page can be used. Its own text is what the page's policy allows.
const SOLVE: &str = include_str!("solve.js");
/// Takes what the widget gives.
const TAKE: &str = include_str!("take.js");
/// How long the cookie is kept, seconds: until the page has asked again.
const COOKIE_SECONDS: u64 = 60;

/// In each language: its tag, the title, what is done, what to do without scripts, what is asked for.
const WORDS: [[&str; 5]; 3] = [
    [
        "en",
        "One moment",
        "Your browser solves a small task, so that machines do not get ahead of people. It takes a few seconds; the page goes on by itself.",
        "This page needs JavaScript.",
        "Please show that you are a person. The page goes on by itself.",
    ],
    [
        "ko",
        "잠시만 기다려 주세요",
        "자동 프로그램이 사람보다 앞서지 않도록 브라우저가 작은 문제를 풉니다. 몇 초면 끝나고, 페이지는 저절로 넘어갑니다.",
        "이 페이지에는 JavaScript가 필요합니다.",
        "사람인지 확인해 주세요. 확인되면 페이지는 저절로 넘어갑니다.",
    ],
    [
        "de",
        "Einen Moment",
        "Ihr Browser löst eine kleine Aufgabe, damit Maschinen den Menschen nicht zuvorkommen. Es dauert ein paar Sekunden; die Seite geht von selbst weiter.",
        "Diese Seite braucht JavaScript.",
        "Bitte zeigen Sie, dass Sie ein Mensch sind. Die Seite geht von selbst weiter.",
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

/// The words in the language that is wanted.
fn words(request: &Request) -> [&'static str; 5] {
    let wanted = request.header("accept-language").unwrap_or_default();
    WORDS[accept::language(wanted, &WORDS.map(|[language, ..]| language))]
}

/// The attributes that tell a script where to keep the solution.
fn kept<S>(world: &World<'_, S>, challenge: &Challenge) -> String {
    let secure = match world.settings.public_url.starts_with("https:") {
        true => "; Secure",
        false => "",
    };
    format!(
        "data-name=\"{}\" data-cookie=\"; Path=/; Max-Age={COOKIE_SECONDS}; SameSite=Lax{secure}\"",
        cookie_name(&challenge.settings.name),
    )
}

/// The page that does a proof of work.
pub(super) fn of_work<S>(
    world: &World<'_, S>,
    request: &Request,
    challenge: &Challenge,
    altcha: &Altcha,
) -> Response {
    let [language, title, text, without, _] = words(request);
    let altcha = serde_json::to_string(altcha).unwrap_or_default();
    let main = format!(
        "<h1>{title}</h1>\n<p role=\"status\" data-altcha=\"{}\" {}>{text}</p>\n\
         <noscript><p>{without}</p></noscript>\n<script>{SOLVE}</script>\n",
        html::escape(&altcha),
        kept(world, challenge),
    );
    page(html::document(language, title, &main), SOLVE, "")
}

/// The page that shows a provider's widget.
pub(super) fn of_widget<S>(
    world: &World<'_, S>,
    request: &Request,
    challenge: &Challenge,
    widget: &Widget<'_>,
) -> Response {
    let [language, title, _, without, text] = words(request);
    let action = widget.action.map(html::escape);
    let action = action.map(|action| format!(" data-action=\"{action}\""));
    let main = format!(
        "<h1>{title}</h1>\n<p role=\"status\" {}>{text}</p>\n\
         <div class=\"{}\" data-sitekey=\"{}\" data-callback=\"tollgateSolved\"{}></div>\n\
         <noscript><p>{without}</p></noscript>\n<script>{TAKE}</script>\n<script src=\"{}\" async defer></script>\n",
        kept(world, challenge),
        widget.class,
        html::escape(widget.site_key),
        action.unwrap_or_default(),
        widget.script,
    );
    page(html::document(language, title, &main), TAKE, widget.sources)
}

/// A page that may run this script, and load from these sources.
fn page(body: Vec<u8>, script: &str, sources: &str) -> Response {
    let hash = STANDARD.encode(Sha256::digest(script));
    let further = match sources {
        "" => String::new(),
        // Widgets write styles of their own.
        _ => format!(
            "; frame-src {sources}; connect-src {sources}; img-src {sources} data:; style-src {sources} 'unsafe-inline'"
        ),
    };
    let from = if sources.is_empty() { "" } else { " " };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{hash}'{from}{sources}{further}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response =
        Response::empty(Kind::ChallengeRequired.status()).with("content-security-policy", policy);
    for (name, value) in limiter::PAGE_HEADERS {
        if name != "content-security-policy" {
            response = response.with(name, value);
        }
    }
    response.body = body;
    response
}
