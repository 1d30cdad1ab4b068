//! The page that a browser waits on. It needs no script: it asks for itself again, and comes to what is behind the room when its turn has
//! come. What changes is announced to who cannot see it (`role="status"`).

use super::Room;
use super::record::Standing;
use super::tickets::seconds_until;
use crate::html;
use crate::limiter;
use tollgate_api::accept;
use tollgate_api::http::{Request, Response};

/// How soon the page asks again, seconds: near its turn, and far from it.
const REFRESH_SECONDS: (u64, u64) = (2, 20);

/// What it says in one language. `{}` stands for a number, `{title}` for what people wait for.
struct Words {
    language: &'static str,
    title: &'static str,
    wait: &'static str,
    place: &'static str,
    minutes: &'static str,
    soon: &'static str,
    lot: &'static str,
    paused: &'static str,
    keep: &'static str,
    again: &'static str,
}

/// The first is for everybody else.
const WORDS: [Words; 3] = [
    Words {
        language: "en",
        title: "You are in line",
        wait: "Many people are here right now. You will be let in when it is your turn.",
        place: "Your place in line: {}.",
        minutes: "It will take about {} min.",
        soon: "It will take less than a minute.",
        lot: "It has not opened yet. It opens in about {} min. Everybody who comes before gets a place by lot.",
        paused: "The line stands still for the moment. You keep your place.",
        keep: "This page goes on by itself. Keep it open; you keep your place if you reload it.",
        again: "Look now",
    },
    Words {
        language: "ko",
        title: "대기 중입니다",
        wait: "지금 접속자가 많습니다. 차례가 되면 입장합니다.",
        place: "대기 순번: {}번.",
        minutes: "예상 대기 시간은 약 {}분입니다.",
        soon: "예상 대기 시간은 1분 미만입니다.",
        lot: "아직 열리지 않았습니다. 약 {}분 뒤에 열립니다. 그 전에 온 사람의 순번은 추첨으로 정해집니다.",
        paused: "지금은 대기열이 멈춰 있습니다. 순번은 유지됩니다.",
        keep: "이 페이지는 저절로 새로 고쳐집니다. 열어 두세요. 새로 고쳐도 순번은 유지됩니다.",
        again: "지금 확인",
    },
    Words {
        language: "de",
        title: "Sie sind in der Warteschlange",
        wait: "Im Moment sind viele Menschen hier. Sie werden eingelassen, wenn Sie an der Reihe sind.",
        place: "Ihr Platz in der Schlange: {}.",
        minutes: "Es dauert noch etwa {} min.",
        soon: "Es dauert weniger als eine Minute.",
        lot: "Es ist noch nicht geöffnet. Es öffnet in etwa {} min. Wer vorher kommt, bekommt einen Platz durch das Los.",
        paused: "Die Schlange steht gerade still. Sie behalten Ihren Platz.",
        keep: "Diese Seite lädt sich selbst neu. Lassen Sie sie offen; auch wenn Sie sie neu laden, behalten Sie Ihren Platz.",
        again: "Jetzt nachsehen",
    },
];

/// Whether a request is one of a browser that shows a page.
pub(super) fn is_wanted(request: &Request) -> bool {
    request.method == "GET" && request.header("accept").is_some_and(accept::wants_html)
}

/// The page of somebody who waits.
pub(super) fn answer(request: &Request, room: &Room, standing: Standing, now: u64) -> Response {
    let wanted = request.header("accept-language").unwrap_or_default();
    let languages = WORDS.map(|words| words.language);
    let words = &WORDS[accept::language(wanted, &languages)];
    let (position, turn) = match standing {
        Standing::Waiting { position, turn } => (position, turn),
        Standing::Admitted { .. } | Standing::Expired => (Some(0), Some(now)),
    };
    let seconds = turn.map(|turn| seconds_until(turn, now));
    let minutes = seconds.map(|seconds| seconds.div_ceil(60));
    let with = |text: &str, number: u64| text.replace("{}", &number.to_string());
    let when = match (position, minutes) {
        (None, Some(minutes)) => with(words.lot, minutes.max(1)),
        (_, None) => words.paused.to_owned(),
        (Some(_), Some(0 | 1)) => words.soon.to_owned(),
        (Some(_), Some(minutes)) => with(words.minutes, minutes),
    };
    let place = position
        .map(|position| with(words.place, position))
        .unwrap_or_default();
    let (least, most) = REFRESH_SECONDS;
    let refresh = seconds.unwrap_or(most).clamp(least, most);
    let heading = words.title;
    let title = match &room.settings.title {
        Some(title) => format!("{} – {heading}", html::escape(title)),
        None => heading.to_owned(),
    };
    let about = room.settings.title.as_ref();
    let about = about.map(|title| format!("<p><strong>{}</strong></p>\n", html::escape(title)));
    let main = format!(
        "<h1>{heading}</h1>\n{}<p>{}</p>\n<p role=\"status\">{place} {when}</p>\n<p>{}</p>\n<p><a href=\"\">{}</a></p>\n",
        about.unwrap_or_default(),
        words.wait,
        words.keep,
        words.again,
    );
    let mut response = Response::empty(tollgate_api::problem::Kind::WaitingRoom.status());
    for (name, value) in limiter::PAGE_HEADERS {
        response = response.with(name, value);
    }
    response.body = html::refreshing(words.language, &title, &main, refresh);
    response
}
