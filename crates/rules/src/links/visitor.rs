//! Whether a visit counts. Machines that look at links for people (previews, crawlers) and browsers that
//! fetch ahead must neither be counted nor use up a link. What a user agent says is believed: a false one
//! gains nothing. A person taken for a machine gets through by a button ([`super::preview`]).

mod words;

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use tollgate_api::http::{Header, Request};

/// How much of a `User-Agent` is looked at, in bytes.
const MAX_USER_AGENT: usize = 512;

/// The maker of telephones whose name ends like a robot's.
const CUBOT: &str = "cubot";
/// The headers with which browsers say that nobody has clicked yet, and what they say.
const AHEAD_HEADERS: &[&str] = &["sec-purpose", "purpose", "x-purpose", "x-moz"];
const AHEAD: &[&str] = &["prefetch", "prerender", "preview"];

/// The kind of visitor that asks for a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visitor {
    /// Counted.
    Person,
    /// Asks for the head only: answered as a person, not counted.
    Head,
    /// A bot or a fetch ahead of a click: not counted.
    Machine,
}

pub(super) fn of(request: &Request) -> Visitor {
    // As bytes: one that is not UTF-8 speaks all the same.
    let is_a_machines = |header: &Header| match &*header.name {
        "user-agent" => is_machine(&header.value),
        name if AHEAD_HEADERS.contains(&name) => is_ahead(&header.value),
        _ => false,
    };
    if request.headers.iter().any(is_a_machines) {
        Visitor::Machine
    } else if request.method == "HEAD" {
        Visitor::Head
    } else {
        Visitor::Person
    }
}

fn is_ahead(says: &[u8]) -> bool {
    AHEAD_WORDS.as_ref().is_some_and(|words| words.is_match(says))
}

fn is_machine(agent: &[u8]) -> bool {
    let agent = &agent[..agent.len().min(MAX_USER_AGENT)];
    let begins = |word: &str| {
        let start = agent.get(..word.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    // What browsers begin with is looked for first: they have no such name.
    if !begins("mozilla/") && words::beginnings(agent).iter().any(|word| begins(word)) {
        return true;
    }
    let mut found = MACHINE_WORDS.iter().flat_map(|words| words.find_iter(agent));
    // `CUBOT_X18` is a telephone. Whatever else the agent holds must then speak for itself.
    found.any(|word| {
        let start = word.end().checked_sub(CUBOT.len());
        !start.is_some_and(|start| agent[start..word.end()].eq_ignore_ascii_case(CUBOT.as_bytes()))
    })
}

/// The search for words of machines, in one pass over the text, ignoring case. None of our words is too long
/// for the search.
static MACHINE_WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| automaton(words::within()));
static AHEAD_WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| automaton(AHEAD.iter().copied()));

fn automaton(words: impl Iterator<Item = &'static str>) -> Option<AhoCorasick> {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .kind(Some(AhoCorasickKind::DFA))
        .build(words)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Visitor {
        of(&Request {
            method: "GET".into(),
            path: "/abc".into(),
            query: None,
            headers: vec![Header::new(name.to_owned(), value)],
            body: Vec::new(),
            peer: "192.0.2.1".into(),
        })
    }

    #[test]
    fn people_count() {
        for agent in [
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 Chrome/111.0.0.0 Mobile Safari/537.36",
            "curl/8.14.1",
            "Wget/1.25.0",
            "HTTPie/3.2.2",
            "",
            // Browsers within apps.
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Flipboard/4.3.48",
            "Mozilla/5.0 (Linux; Android 14; SM-S918B; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36 Flipboard/4.3.20/5410,4.3.20.5410",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 385.0.0.38.84 (iPhone15,2; iOS 18_5; en_GB; en; scale=3.00; 1179x2556; 738781364)",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/520.0.0.38.101;FBBV/757093711;FBDV/iPhone15,2;FBMD/iPhone;FBSN/iOS;FBSV/18.5;FBSS/3;FBCR/;FBID/phone;FBLC/en_GB;FBOP/80]",
            "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP2A.240905.003; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/520.0.0.43.99;IABMV/1;]",
            "Mozilla/5.0 (Linux; Android 16; Pixel 10 Pro XL; wv) AppleWebKit/537.36 Version/4.0 Chrome/146.0.0.0 Mobile Safari/537.36 MetaIAB Facebook",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [LinkedInApp]/9.31.2150",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [Pinterest/iOS]",
            "Mozilla/5.0 (Linux; Android 14; SM-A546B; wv) AppleWebKit/537.36 Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36 [Pinterest/Android]",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 WhatsApp/25.16.81",
            "Mozilla/5.0 (Linux; Android 14; SM-A546B; wv) AppleWebKit/537.36 Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36 Telegram-Android/11.13.1 (Samsung SM-A546B; Android 14; SDK 34; AVERAGE)",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Snapchat/13.47.0.44 (like Safari/8621.2.5.10.3, panda)",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Safari/604.1 Line/15.8.0/IAB",
            "Mozilla/5.0 (Linux; Android 14; SM-S911N; wv) AppleWebKit/537.36 Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36 NAVER(inapp; search; 2000; 12.13.2)",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Twitter for iPhone/11.4",
            "Mozilla/5.0 (Linux; Android 13; 2201117TY; wv) AppleWebKit/537.36 Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36 musical_ly_2024001030 BytedanceWebview/d8a21c6",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.60(0x18003c2f) NetType/WIFI Language/en",
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36 (Ecosia android@138.0.0.0)",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) coc_coc_browser/134.0 Chrome/128.0.0.0 Safari/537.36",
            "Opera/9.80 (Android; Opera Mini/36.2/191.249; U; en) Presto/2.12.423 Version/12.16",
        ] {
            assert_eq!(with("user-agent", agent), Visitor::Person, "{agent}");
        }
        assert_eq!(with("sec-purpose", "navigate"), Visitor::Person);
    }

    #[test]
    fn beginnings_are_in_order() {
        assert!(words::BEGINNINGS.is_sorted());
    }

    #[test]
    fn every_word_is_found_in_any_case() {
        for word in words::within() {
            let agent = format!("Some{}/1", word.to_uppercase());
            assert_eq!(with("user-agent", &agent), Visitor::Machine, "{word}");
        }
        for word in words::BEGINNINGS {
            let agent = format!("{}/1", word.to_uppercase());
            assert_eq!(with("user-agent", &agent), Visitor::Machine, "{word}");
            let within = format!("Mozilla/5.0 (Linux) {word} 1");
            assert_eq!(with("user-agent", &within), Visitor::Person, "{word}");
        }
    }

    /// Agents that the data set calls crawlers and that are none: tools that people run by hand, and browsers
    /// within apps and editors.
    const TOOLS: &[&str] = &["curl", "Wget/", "HTTPie/"];
    const BROWSERS: &[&str] = &["Instagram", "MetaIAB", " Code/", " Trae/", " Fluid/"];

    #[test]
    fn every_machine_of_the_data_set_is_known() {
        let crawlers = include_str!("visitor/crawlers.txt");
        let agents: Vec<&str> = crawlers
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .collect();
        assert!(agents.len() > 2_000);
        let mut excepted = 0;
        for agent in agents {
            let by_hand = TOOLS.iter().any(|word| agent.starts_with(word));
            let expected = match by_hand || BROWSERS.iter().any(|word| agent.contains(word)) {
                true => Visitor::Person,
                false => Visitor::Machine,
            };
            excepted += usize::from(expected == Visitor::Person);
            assert_eq!(with("user-agent", agent), expected, "{agent}");
        }
        assert!(excepted < 20, "{excepted} exceptions");
    }

    #[test]
    fn a_user_agent_that_is_no_text_speaks_all_the_same() {
        let mut request = Request {
            method: "GET".into(),
            path: "/abc".into(),
            query: None,
            headers: vec![Header::new("user-agent", "")],
            body: Vec::new(),
            peer: String::new(),
        };
        request.headers[0].value = b"Some\xff\xfebot/1".to_vec();
        assert_eq!(of(&request), Visitor::Machine);
        request.headers[0].value = b"Mozilla/5.0 caf\xe9".to_vec();
        assert_eq!(of(&request), Visitor::Person);
    }

    #[test]
    fn known_machines_do_not() {
        for agent in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "Slack-ImgProxy (+https://api.slack.com/robots)",
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            "WhatsApp/2.23.20.0",
            "TelegramBot (like TwitterBot)",
            "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
            "Mozilla/5.0 (Windows NT 6.1) SkypeUriPreview Preview/0.5",
            "LinkedInBot/1.0",
            "Mozilla/5.0 (Linux; CUBOT) (compatible; AhrefsBot/7.0)",
            "YandexSPIDER",
            "Bluesky Cardyb/1.1 (+mailto:support@bsky.app)",
            "Mozilla/5.0 (compatible; Bluesky Cardyb/1.1; +mailto:support@bsky.app)",
            "Discourse Forum Onebox v3.3.0.beta1-dev",
            "FlipboardProxy/1.2; +http://flipboard.com/browserproxy",
        ] {
            assert_eq!(with("user-agent", agent), Visitor::Machine, "{agent}");
        }
    }

    #[test]
    fn fetches_ahead_of_a_click_do_not() {
        for (name, value) in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("purpose", "prefetch"),
            ("x-moz", "prefetch"),
            ("x-purpose", "preview"),
        ] {
            assert_eq!(with(name, value), Visitor::Machine, "{name}: {value}");
        }
    }

    #[test]
    fn a_long_user_agent_costs_bounded_work() {
        let agent = "x".repeat(MAX_USER_AGENT) + "bot";
        assert_eq!(with("user-agent", &agent), Visitor::Person);
    }
}
