//! What is seen of a visit.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use tollgate_api::accept;
use tollgate_api::http::Request;
use tollgate_store::packed;

use super::HOUR;
use crate::identity::ClientId;
use crate::links::{agent, asks};
use crate::world::World;

/// The form that notes are written in.
const FORM: u8 = 2;
/// The form before, without [`Told`]: an earlier version may have left some.
const OLD_FORM: u8 = 1;
/// The longest user agent that is kept, in bytes; longer ones are cut, which an ellipsis says. So are the others.
pub const MAX_AGENT: usize = 224;
/// The longest referrer and target.
pub const MAX_ADDRESS: usize = 176;
/// The longest name of a referring host, in bytes; of a longer one the end is kept.
const MAX_HOST: usize = 64;
/// Headers that differ from one request to the next, and of which nothing is noted.
const NOT_LOOKED_AT: &[&str] = &["traceparent", "x-request-id"];

/// What visits are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The host of the page that the link was on.
    Referrer,
    /// See [`agent::Agent`].
    Device,
    /// So.
    Os,
    /// So.
    Browser,
    /// ISO 3166-1 alpha-2, in upper case.
    Country,
    /// The language that is wanted most (BCP 47), without its region.
    Language,
}

impl Dimension {
    /// All of them, in the order in which values are kept.
    pub const ALL: [Self; 6] = [
        Self::Referrer,
        Self::Device,
        Self::Os,
        Self::Browser,
        Self::Country,
        Self::Language,
    ];

    /// Its name in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Referrer => "referrer",
            Self::Device => "device",
            Self::Os => "os",
            Self::Browser => "browser",
            Self::Country => "country",
            Self::Language => "language",
        }
    }
}

/// A visit as it is noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Unix milliseconds.
    pub at: u64,
    /// A hash of the client's id. Whoever has the store can find out whether an address was there, and nobody else sees it.
    pub client: u64,
    /// Whether it was a machine, which is not counted.
    pub is_bot: bool,
    /// By dimension; empty where it is not known.
    pub values: [Cow<'static, str>; 6],
    /// Nothing, where no log is kept.
    pub told: Told,
}

/// What only the log of visits keeps; empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The page that the link was on, without its fragment.
    pub referrer: String,
    /// The user agent.
    pub agent: String,
    /// Where it led.
    pub target: String,
}

impl Told {
    fn of(request: &Request, target: &str) -> Self {
        let agent = request.headers.iter().find(|header| header.name == "user-agent");
        let agent = agent.map_or(Cow::Borrowed(""), |header| String::from_utf8_lossy(&header.value));
        let referrer = request.header("referer").unwrap_or_default();
        let referrer = referrer.split('#').next().unwrap_or_default();
        Self {
            referrer: cut(referrer, MAX_ADDRESS),
            agent: cut(&agent, MAX_AGENT),
            target: cut(target, MAX_ADDRESS),
        }
    }
}

/// At most `most` bytes of a text, the last of which are an ellipsis if there was more.
fn cut(text: &str, most: usize) -> String {
    const MORE: &str = "\u{2026}";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most - MORE.len());
    [text.get(..end).unwrap_or_default(), MORE].concat()
}

/// Of [`OLD_FORM`].
#[derive(Deserialize)]
struct Old {
    at: u64,
    client: u64,
    is_bot: bool,
    values: [Cow<'static, str>; 6],
}

impl Seen {
    /// What is seen of a request, which was led to `target`.
    pub fn of<S>(world: &World<'_, S>, request: &Request, is_bot: bool, target: &str) -> Self {
        let settings = world.settings;
        let mut seen = Self {
            at: world.now,
            client: 0,
            is_bot,
            values: Default::default(),
            told: Told::default(),
        };
        if settings.config.links.visit_log > 0 {
            seen.told = Told::of(request, target);
        } else if is_bot {
            // That it came is all that is counted.
            return seen;
        }
        let client = ClientId::without_key(&settings.config, &settings.proxies, request);
        seen.client = SipHasher13::new().hash(client.as_str().as_bytes());
        let agent = agent::of(request);
        let named = |name: Option<&'static str>| Cow::Borrowed(name.unwrap_or_default());
        // What proxies say of an address that they do not know.
        let country = asks::country(settings, request).filter(|country| country != "XX");
        seen.values = [
            Cow::Owned(request.header("referer").and_then(host).unwrap_or_default()),
            named(agent.device),
            named(agent.os),
            named(agent.browser),
            Cow::Owned(country.unwrap_or_default()),
            Cow::Owned(
                request
                    .header("accept-language")
                    .and_then(language)
                    .unwrap_or_default(),
            ),
        ];
        seen
    }

    /// The hour that it belongs to, since 1970.
    pub fn hour(&self) -> u64 {
        self.at / HOUR
    }

    /// As a note.
    pub fn to_bytes(&self) -> Vec<u8> {
        packed::pack(&(FORM, self), 256)
    }

    /// Of a note; `None` for one of another form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.first() == Some(&OLD_FORM) {
            let (_, old) = packed::unpack::<(u8, Old)>(bytes)?;
            return Some(Self {
                at: old.at,
                client: old.client,
                is_bot: old.is_bot,
                values: old.values,
                told: Told::default(),
            });
        }
        let (form, seen) = packed::unpack::<(u8, Self)>(bytes)?;
        (form == FORM).then_some(seen)
    }
}

/// See [`super::mark`]. Whoever makes two requests of the same mark deceives nobody but themselves.
pub fn mark(version: u64, request: &Request) -> u64 {
    let mut hasher = FixedState::with_seed(version).build_hasher();
    hasher.write(request.peer.as_bytes());
    for header in &request.headers {
        if !NOT_LOOKED_AT.contains(&&*header.name) {
            hasher.write_usize(header.name.len());
            hasher.write(header.name.as_bytes());
            hasher.write_usize(header.value.len());
            hasher.write(&header.value);
        }
    }
    hasher.finish()
}

/// As [`mark`], of a request that led nowhere, and of which no more than `kinds` at a moment are told apart.
pub fn lost_mark(request: &Request, kinds: u64) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(request.peer.as_bytes());
    hasher.write(request.path.as_bytes());
    hasher.finish() % kinds.max(1)
}

/// The host of an address, in lower case and without `www.`; `None` where there is none that could be one.
fn host(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let host = match host.strip_prefix('[') {
        Some(_) => host.split_inclusive(']').next()?,
        None => host.split(':').next()?,
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) {
        return None;
    }
    let host = host.strip_prefix("www.").unwrap_or(&host);
    Some(host.get(host.len().saturating_sub(MAX_HOST)..)?.to_owned())
}

/// The language that is wanted most, the first among equals (RFC 9110, 12.5.4).
fn language(accepted: &str) -> Option<String> {
    accept::best(accepted, |tag| {
        let primary = tag.split('-').next().unwrap_or_default();
        let is_language =
            (2..=3).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_alphabetic());
        is_language.then(|| primary.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;
    use serde_json::Value;
    use tollgate_store::plan::coalescer::MAX_ROW;

    #[test]
    fn a_referring_host_is_read_off_an_address() {
        for (address, expected) in [
            ("https://www.Example.com/path?q", Some("example.com")),
            ("http://example.com:8080", Some("example.com")),
            ("https://user:pass@news.example.org./", Some("news.example.org")),
            (
                "android-app://com.google.android.gm/",
                Some("com.google.android.gm"),
            ),
            ("http://[2001:db8::1]:80/x", Some("[2001:db8::1]")),
            ("https://xn--bcher-kva.example/", Some("xn--bcher-kva.example")),
            ("https://b\u{fc}cher.example/", None),
            ("https:///x", None),
            ("about:blank", None),
            ("https://a b/", None),
            ("", None),
        ] {
            assert_eq!(host(address).as_deref(), expected, "{address}");
        }
        let long = format!("https://{}.example.com/", "a".repeat(300));
        let found = host(&long).unwrap();
        assert!(found.len() == MAX_HOST && found.ends_with("a.example.com"));
    }

    #[test]
    fn the_language_that_is_wanted_most_counts() {
        for (accepted, expected) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some("de")),
            ("en;q=0.5, fr;q=0.7", Some("fr")),
            ("*", None),
            ("*, pt-BR;q=0.3", Some("pt")),
            ("zh-Hant-TW", Some("zh")),
            ("en;q=0", None),
            ("x", None),
            ("en;level=1", Some("en")),
            ("en;q=NaN", None),
            ("../../etc, en", Some("en")),
            ("", None),
        ] {
            assert_eq!(language(accepted).as_deref(), expected, "{accepted}");
        }
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_has_room() {
        let long = "x".repeat(MAX_HOST);
        let told = Told {
            referrer: cut(&"r".repeat(3_000), MAX_ADDRESS),
            agent: cut(&"\u{fc}".repeat(3_000), MAX_AGENT),
            target: cut(&"t".repeat(3_000), MAX_ADDRESS),
        };
        let seen = Seen {
            at: u64::MAX,
            client: u64::MAX,
            is_bot: false,
            // Those that are no host are short words.
            values: std::array::from_fn(|at| {
                Cow::Owned(long[..if at == 0 { MAX_HOST } else { 16 }].to_owned())
            }),
            told,
        };
        let bytes = seen.to_bytes();
        assert!(bytes.len() <= MAX_ROW, "{} bytes", bytes.len());
        assert_eq!(Seen::from_bytes(&bytes), Some(seen.clone()));
        let old = packed::pack(
            &(OLD_FORM, seen.at, seen.client, seen.is_bot, seen.values.clone()),
            96,
        );
        let told = Told::default();
        assert_eq!(Seen::from_bytes(&old), Some(Seen { told, ..seen }));
        assert_eq!(Seen::from_bytes(&bytes[1..]), None);
        assert_eq!(Seen::from_bytes(&[&[9], &bytes[1..]].concat()), None);
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("\u{fc}\u{fc}\u{fc}\u{fc}", 7), "\u{fc}\u{fc}\u{2026}");
        let cut = cut(&"\u{fc}".repeat(200), MAX_ADDRESS);
        assert!(cut.len() <= MAX_ADDRESS && cut.ends_with('\u{2026}'));
    }

    #[test]
    fn visits_that_differ_in_anything_that_is_noted_have_marks_of_their_own() {
        let with = |headers: &[(&str, &str)]| mark(1, &request("GET", "/a", headers, &Value::Null));
        let plain = with(&[]);
        assert_eq!(plain, with(&[("x-request-id", "a"), ("traceparent", "b")]));
        for header in [
            ("user-agent", "a"),
            ("referer", "a"),
            ("accept-language", "a"),
            ("sec-purpose", "prefetch"),
            ("x-client-id", "a"),
            ("x-forwarded-for", "a"),
            ("cf-ipcountry", "a"),
        ] {
            assert_ne!(plain, with(&[header]), "{header:?}");
        }
        assert_ne!(with(&[("referer", "ab")]), with(&[("referer", "a")]));
        assert_ne!(mark(2, &request("GET", "/a", &[], &Value::Null)), plain);
    }
}
