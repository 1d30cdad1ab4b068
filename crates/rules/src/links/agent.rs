//! Device, system and browser, by words of the user agent: a short list, in the order in which they decide. What is not on
//! it is not known.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use tollgate_api::http::Request;

/// How much of a `User-Agent` is looked at, in bytes.
const MAX_LOOKED_AT: usize = 512;

/// What a user agent says of its device, system and browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// `desktop`, `mobile`, `tablet`, `tv` or `console`.
    pub device: Option<&'static str>,
    /// Such as `windows`.
    pub os: Option<&'static str>,
    /// Such as `firefox`; browsers within apps have the app's name.
    pub browser: Option<&'static str>,
}

/// Names with the words that tell them: the first that is found counts. A word that stands in many others' user agents comes
/// late.
type Names = &'static [(&'static str, &'static [&'static str])];

const SYSTEMS: Names = &[
    ("windows", &["windows phone"]),
    ("harmonyos", &["harmonyos", "openharmony"]),
    ("tizen", &["tizen"]),
    ("webos", &["web0s", "webos"]),
    ("kaios", &["kaios"]),
    ("android", &["android"]),
    ("ios", &["iphone", "ipad", "ipod", "cfnetwork"]),
    ("chromeos", &["cros "]),
    ("windows", &["windows"]),
    ("macos", &["macintosh", "mac os x"]),
    ("linux", &["linux", "x11"]),
];

const BROWSERS: Names = &[
    ("facebook", &["fban", "fbav", "fb_iab", "metaiab"]),
    ("instagram", &["instagram"]),
    ("tiktok", &["bytedancewebview", "musical_ly", "tiktok"]),
    ("wechat", &["micromessenger"]),
    ("snapchat", &["snapchat"]),
    ("pinterest", &["[pinterest/"]),
    ("linkedin", &["linkedinapp"]),
    ("twitter", &["twitter for"]),
    ("line", &[" line/"]),
    ("samsung", &["samsungbrowser"]),
    ("edge", &["edg/", "edga/", "edgios/", "edge/"]),
    ("opera", &["opr/", "opera", "opios/", "opt/"]),
    ("vivaldi", &["vivaldi/"]),
    ("yandex", &["yabrowser"]),
    ("uc", &["ucbrowser", "ubrowser"]),
    ("duckduckgo", &["duckduckgo", "ddg/"]),
    ("huawei", &["huaweibrowser"]),
    ("miui", &["miuibrowser"]),
    ("silk", &["silk/"]),
    ("firefox", &["firefox/", "fxios/", "focus/"]),
    ("google", &["gsa/"]),
    ("ie", &["msie ", "trident/"]),
    ("chrome", &["chrome/", "crios/", "chromium/"]),
    ("safari", &["safari/"]),
    ("curl", &["curl/"]),
    ("wget", &["wget/"]),
    ("httpie", &["httpie/"]),
];

const DEVICES: Names = &[
    (
        "tv",
        &[
            "smart-tv",
            "smarttv",
            "appletv",
            "apple tv",
            "hbbtv",
            "googletv",
            "google tv",
            "android tv",
            "bravia",
            "roku",
            "aft",
            "web0s",
        ],
    ),
    ("console", &["playstation", "xbox", "nintendo"]),
    ("tablet", &["ipad", "tablet", "kindle", "silk/"]),
    (
        "mobile",
        &[
            "mobile",
            "iphone",
            "ipod",
            "windows phone",
            "opera mini",
            "opera mobi",
            "kaios",
        ],
    ),
    // One without `mobile`.
    ("tablet", &["android"]),
    ("desktop", &["windows", "macintosh", "cros ", "x11", "linux"]),
];

/// All words, looked for in one pass, and to which names of which list each belongs.
struct Search {
    automaton: AhoCorasick,
    lists: [Vec<usize>; 3],
}

static SEARCH: LazyLock<Option<Search>> = LazyLock::new(|| {
    let lists = [DEVICES, SYSTEMS, BROWSERS];
    let words = || lists.iter().copied().flatten().flat_map(|(_, words)| *words);
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .kind(Some(AhoCorasickKind::DFA))
        .build(words())
        .ok()?;
    let ranks = |list: Names| {
        let ranked = list.iter().enumerate();
        ranked
            .flat_map(|(rank, (_, words))| words.iter().map(move |_| rank))
            .collect()
    };
    Some(Search {
        automaton,
        lists: lists.map(ranks),
    })
});

/// What a request says of it.
pub fn of(request: &Request) -> Agent {
    let agent = request.headers.iter().find(|header| header.name == "user-agent");
    agent.map_or_else(Agent::default, |header| look(&header.value))
}

fn look(agent: &[u8]) -> Agent {
    let Some(Search { automaton, lists }) = &*SEARCH else {
        return Agent::default();
    };
    let agent = agent.get(..MAX_LOOKED_AT).unwrap_or(agent);
    let mut first = [usize::MAX; 3];
    for found in automaton.find_overlapping_iter(agent) {
        let mut word = found.pattern().as_usize();
        for (list, first) in lists.iter().zip(&mut first) {
            match list.get(word) {
                Some(rank) => {
                    *first = (*first).min(*rank);
                    break;
                }
                None => word -= list.len(),
            }
        }
    }
    let [device, os, browser] = first;
    let name = |list: Names, rank: usize| list.get(rank).map(|(name, _)| *name);
    Agent {
        device: name(DEVICES, device),
        os: name(SYSTEMS, os),
        browser: name(BROWSERS, browser),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_told_apart() {
        let corpus = include_str!("agents.txt");
        let mut count = 0;
        for line in corpus
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let mut fields = line.splitn(4, '|');
            let mut expected = || fields.next().unwrap();
            let (device, os, browser, agent) = (expected(), expected(), expected(), expected());
            let found = look(agent.as_bytes());
            let found = [found.device, found.os, found.browser].map(|name| name.unwrap_or("-"));
            assert_eq!(found, [device, os, browser], "{agent}");
            count += 1;
        }
        assert!(count > 40, "{count} agents");
    }

    #[test]
    fn every_name_is_told_by_each_of_its_words() {
        for (list, of_agent) in [
            (
                DEVICES,
                (|agent| agent.device) as fn(Agent) -> Option<&'static str>,
            ),
            (SYSTEMS, |agent| agent.os),
            (BROWSERS, |agent| agent.browser),
        ] {
            for word in list.iter().flat_map(|(_, words)| *words) {
                assert!(of_agent(look(word.to_uppercase().as_bytes())).is_some(), "{word}");
                assert!(of_agent(look(&[&[b' '; MAX_LOOKED_AT][..], word.as_bytes()].concat())).is_none());
            }
        }
    }

    #[test]
    fn what_says_nothing_is_not_known() {
        for agent in [&b""[..], b"\xff\xfe", b"Some/1.0"] {
            assert_eq!(look(agent), Agent::default());
        }
    }
}
