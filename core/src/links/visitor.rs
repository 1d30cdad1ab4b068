//! Whether a visit counts. Machines that look at links for people (previews, crawlers) and browsers that fetch ahead
//! must neither be counted nor use up a link. What a user agent says is believed: whoever lies gains nothing.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::http::Request;

/// How much of a `User-Agent` is looked at, in bytes.
const MAX_USER_AGENT: usize = 512;

/// Parts of user agents of machines that fetch links to show or index them, lower case. `bot` alone covers most
/// (Googlebot, Slackbot, Twitterbot, Discordbot, TelegramBot, LinkedInBot, bingbot, Applebot, PetalBot, …).
const MACHINES: &[&str] = &[
    "bot",
    "crawl",
    "spider",
    "slurp",
    "preview",
    "facebookexternalhit",
    "facebookcatalog",
    "meta-external",
    "whatsapp",
    "embedly",
    "vkshare",
    "quora link",
    "flipboard",
    "google-",
    "mediapartners",
    "feedfetcher",
    "lighthouse",
    "pingdom",
    "statuscake",
    "archiver",
    "bitrix link",
    "iframely",
    "xing-contenttabreceiver",
];
/// The maker of telephones whose name ends like a robot's.
const CUBOT: &str = "cubot";
/// The headers with which browsers say that nobody has clicked yet, and what they say.
const AHEAD_HEADERS: &[&str] = &["sec-purpose", "purpose", "x-purpose", "x-moz"];
const AHEAD: &[&str] = &["prefetch", "prerender", "preview"];

/// Who asks for a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visitor {
    /// Counts.
    Person,
    /// Asks for the head only: answered as a person, not counted.
    Head,
    /// A bot or a fetch ahead of a click: not counted.
    Machine,
}

pub(super) fn of(request: &Request) -> Visitor {
    if is_ahead(request) || request.header("user-agent").is_some_and(is_machine) {
        Visitor::Machine
    } else if request.method == "HEAD" {
        Visitor::Head
    } else {
        Visitor::Person
    }
}

fn is_ahead(request: &Request) -> bool {
    AHEAD_HEADERS.iter().any(|name| {
        let says = |value: &str| AHEAD_WORDS.as_ref().is_some_and(|words| words.is_match(value));
        request.header(name).is_some_and(says)
    })
}

fn is_machine(agent: &str) -> bool {
    let agent = agent.as_bytes();
    let agent = &agent[..agent.len().min(MAX_USER_AGENT)];
    let mut found = MACHINE_WORDS.iter().flat_map(|words| words.find_iter(agent));
    // `CUBOT_X18` is a telephone. Whatever else the agent holds must then speak for itself.
    found.any(|word| {
        let start = word.end().checked_sub(CUBOT.len());
        !start.is_some_and(|start| agent[start..word.end()].eq_ignore_ascii_case(CUBOT.as_bytes()))
    })
}

/// What is looked for, in one pass over the text, whatever its case. None of our words is too long for the search.
static MACHINE_WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| words(MACHINES));
static AHEAD_WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| words(AHEAD));

fn words(words: &[&str]) -> Option<AhoCorasick> {
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
    use crate::http::Header;

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
            "",
        ] {
            assert_eq!(with("user-agent", agent), Visitor::Person, "{agent}");
        }
        assert_eq!(with("sec-purpose", "navigate"), Visitor::Person);
    }

    #[test]
    fn every_word_is_found_in_any_case() {
        for word in MACHINES {
            assert_eq!(
                with("user-agent", &format!("Some{}/1", word.to_uppercase())),
                Visitor::Machine,
                "{word}"
            );
        }
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
