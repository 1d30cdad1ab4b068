//! What people get who follow a link that leads nowhere: the place that the settings name, a page for browsers, a problem for all others.

use super::domain;
use super::page::{self, Language};
use super::redirect::private;
use crate::world::World;
use tollgate_api::accept;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};

type Words = [&'static str; 3];

const NOT_FOUND: (Words, Words) = (
    [
        "This link leads nowhere",
        "Dieser Link führt nirgendwohin",
        "연결된 페이지가 없습니다",
    ],
    [
        "Perhaps it was mistyped, or it is not open yet.",
        "Vielleicht ist er falsch geschrieben, oder er gilt noch nicht.",
        "주소를 잘못 입력했거나 아직 열리지 않은 링크일 수 있습니다.",
    ],
);
const GONE: Words = [
    "This link has ended",
    "Dieser Link gilt nicht mehr",
    "종료된 링크입니다",
];
/// Why, by the member `state` of the problem.
const WHY: &[(&str, Words)] = &[
    (
        "expired",
        [
            "Its time is over.",
            "Seine Zeit ist abgelaufen.",
            "유효 기간이 지났습니다.",
        ],
    ),
    (
        "idle",
        [
            "Nobody used it for a long time.",
            "Er wurde lange nicht benutzt.",
            "오랫동안 사용되지 않았습니다.",
        ],
    ),
    (
        "exhausted",
        [
            "It was opened as often as it may be.",
            "Er wurde so oft geöffnet, wie er darf.",
            "허용된 횟수만큼 모두 사용되었습니다.",
        ],
    ),
    (
        "archived",
        [
            "It was switched off.",
            "Er wurde abgeschaltet.",
            "사용이 중지되었습니다.",
        ],
    ),
];

/// The answer to a request for a short link that came to nothing.
pub(super) fn answer<S>(world: &World<'_, S>, request: &Request, problem: Problem) -> Response {
    let config = &world.settings.config;
    let (not_found, gone) = match domain::of(config, request) {
        Some(domain) => (&domain.not_found_url, &domain.gone_url),
        None => (&config.links.not_found_url, &config.links.gone_url),
    };
    let elsewhere = match problem.kind {
        Kind::NotFound => not_found,
        Kind::Gone => gone,
        _ => return private(problem.into_response()),
    };
    let reads = matches!(&*request.method, "GET" | "HEAD");
    match elsewhere {
        Some(url) if reads => private(Response::empty(302).with("location", url)),
        _ if reads && accept::wants_html(request.header("accept").unwrap_or_default()) => {
            in_words(request, &problem)
        }
        _ => private(problem.into_response()),
    }
}

fn in_words(request: &Request, problem: &Problem) -> Response {
    let state = problem.member("state").unwrap_or_default();
    let why = WHY
        .iter()
        .find(|(name, _)| *name == state)
        .map(|(_, words)| *words);
    let (title, why) = match problem.kind {
        Kind::Gone => (GONE, why),
        _ => (NOT_FOUND.0, Some(NOT_FOUND.1)),
    };
    let language = Language::of(request);
    let (title, why) = (language.say(title), why.map(|why| language.say(why)));
    let why = why.map_or(String::new(), |why| format!("<p>{why}</p>\n"));
    let body = format!("<h1>{title}</h1>\n{why}");
    page::answer(problem.kind.status(), language, title, &body, false)
}
