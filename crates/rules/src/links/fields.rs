//! The rules of a link's fields, the same for creation and change. Each breach names its field.

use url::Url;

use super::record::Limits;
use crate::codes;
use crate::config::Config;
use crate::config::MAX_IDLE_SECONDS;
use crate::own_address::OwnAddresses;
use tollgate_api::problem::Problem;
use tollgate_api::time;

/// The longest URL, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;
/// The most tags of a link.
pub const MAX_TAGS: usize = 10;
/// The largest `maxVisits`: the largest whole number that JSON numbers hold exactly everywhere.
pub const MAX_VISITS: u64 = 1 << 53;
const MAX_TAG_CHARS: usize = 64;
const MAX_TITLE_CHARS: usize = 200;
const MAX_EXTERNAL_ID_CHARS: usize = 128;

/// Where a link may lead: http or https, with a host that is not our own. The text is kept as it was sent if
/// it can stand in a `Location` header as it is, and every parser finds the same host in it. Otherwise it
/// becomes the URL that a browser would make of it. What is kept is at most [`MAX_URL_BYTES`] long.
pub(crate) fn target(own: &OwnAddresses, text: &str, pointer: &str) -> Result<String, Problem> {
    let refuse = |detail: &str| Err(Problem::field(pointer, detail));
    // A parser drops line breaks and surrounding space; what is stored must be what was checked.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("must be a URL without spaces or control characters");
    }
    let Ok(url) = Url::parse(text) else {
        return refuse("must be an absolute http or https URL");
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return refuse("must be an absolute http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not hold a user name or password");
    }
    if own.lead_back(&url) {
        return refuse("must not lead back to this service");
    }
    let kept = match is_unambiguous(text, &url) {
        true => text.to_owned(),
        false => url.into(),
    };
    if kept.len() > MAX_URL_BYTES {
        return refuse("must be at most 2,048 bytes, as a browser would send it");
    }
    Ok(kept)
}

/// Whether every reader of `text` finds the host that we found: it stands right behind `://`, as it is compared, and nothing
/// in the text needs to be encoded.
fn is_unambiguous(text: &str, url: &Url) -> bool {
    let head = [url.scheme(), "://", url.host_str().unwrap_or_default()].concat();
    let written = text.get(..head.len());
    let rest = text.get(head.len()..).unwrap_or_default();
    text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && written.is_some_and(|written| written.eq_ignore_ascii_case(&head))
        && (rest.is_empty() || rest.starts_with([':', '/', '?', '#']))
}

pub(super) fn custom_code(config: &Config, code: &str) -> Result<(), Problem> {
    if !codes::is_code(code) {
        return Err(Problem::field(
            "#/code",
            "must be 3 to 64 of A-Z, a-z, 0-9, _ and -",
        ));
    }
    if codes::is_reserved(code, config) {
        return Err(Problem::field("#/code", "is reserved"));
    }
    Ok(())
}

pub(super) fn code_length(length: u64) -> Result<u8, Problem> {
    let bounds = crate::config::MIN_CODE_LENGTH..=crate::config::MAX_CODE_LENGTH;
    let length = u8::try_from(length).ok().filter(|length| bounds.contains(length));
    length.ok_or_else(|| Problem::field("#/codeLength", "must be from 4 to 32"))
}

pub(super) fn redirect(status: u64) -> Result<u16, Problem> {
    match status {
        301 => Ok(301),
        302 => Ok(302),
        307 => Ok(307),
        308 => Ok(308),
        _ => Err(Problem::field("#/redirect", "must be 301, 302, 307 or 308")),
    }
}

/// A time that is being set to when a link ends.
pub(super) fn future(at: u64, now: u64) -> Result<(), Problem> {
    if at <= now {
        Err(Problem::field("#/expiresAt", "must be in the future"))
    } else {
        Ok(())
    }
}

/// The rules of numbers, and of times among each other. `window` names the field that is at fault where the link would
/// end before it begins.
pub(super) fn limits(limits: &Limits, window: &str) -> Result<(), Problem> {
    if limits
        .expire_after_idle
        .is_some_and(|seconds| !(1..=MAX_IDLE_SECONDS).contains(&seconds))
    {
        return Err(Problem::field(
            "#/expireAfterIdle",
            format!("must be from 1 to {MAX_IDLE_SECONDS} seconds"),
        ));
    }
    if limits
        .max_visits
        .is_some_and(|most| !(1..=MAX_VISITS).contains(&most))
    {
        return Err(Problem::field("#/maxVisits", "must be from 1 to 2^53"));
    }
    if let (Some(from), Some(end)) = (limits.valid_from, limits.expires_at)
        && from >= end
    {
        return Err(Problem::field(window, "validFrom must be before expiresAt"));
    }
    Ok(())
}

/// Tags without repetitions, in the order they were sent.
pub(super) fn tags(sent: Vec<String>) -> Result<Vec<String>, Problem> {
    if sent.len() > MAX_TAGS {
        return Err(Problem::field("#/tags", "must hold at most 10 tags"));
    }
    let mut tags: Vec<String> = Vec::with_capacity(sent.len());
    for (index, tag) in sent.into_iter().enumerate() {
        text(&tag, 1, MAX_TAG_CHARS, &format!("#/tags/{index}"))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

pub(super) fn title(title: &str) -> Result<(), Problem> {
    text(title, 0, MAX_TITLE_CHARS, "#/title")
}

pub(super) fn external_id(id: &str) -> Result<(), Problem> {
    text(id, 1, MAX_EXTERNAL_ID_CHARS, "#/externalId")
}

fn text(text: &str, least: usize, most: usize, pointer: &str) -> Result<(), Problem> {
    let within = (least..=most).contains(&text.chars().count());
    if within && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::field(
        pointer,
        format!("must be {least} to {most} characters, none of them a control character"),
    ))
}

/// `now` moved by whole seconds, within the times that can be written.
pub(super) fn later(now: u64, seconds: u64, pointer: &str) -> Result<u64, Problem> {
    let at = seconds.checked_mul(1_000).and_then(|ms| now.checked_add(ms));
    at.filter(|at| *at <= time::MAX_TIME)
        .ok_or_else(|| Problem::field(pointer, "must lead to a time before the year 10000"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(public_url: &str) -> OwnAddresses {
        let listen = "127.0.0.1:3000".parse().unwrap();
        OwnAddresses::new(&Url::parse(public_url).unwrap(), listen, &[])
    }

    fn own() -> OwnAddresses {
        at("https://go.example.com:8443/s")
    }

    #[test]
    fn a_target_is_kept_as_it_was_sent() {
        for url in [
            "https://example.com",
            "HTTP://EXAMPLE.com/%7Ea?b=c#d",
            "https://[2001:db8::1]:8080/",
            "http://127.0.0.1:9/x",
        ] {
            assert_eq!(target(&own(), url, "#/url").as_deref(), Ok(url));
        }
        let longest = format!("https://example.com/{}", "a".repeat(MAX_URL_BYTES - 20));
        assert_eq!(target(&own(), &longest, "#/url"), Ok(longest));
    }

    #[test]
    fn a_target_that_no_header_can_carry_becomes_what_a_browser_would_ask_for() {
        for (sent, kept) in [
            (
                "https://exämple.com/ü?ß",
                "https://xn--exmple-cua.com/%C3%BC?%C3%9F",
            ),
            (r"https:\\example.com\a", "https://example.com/a"),
            ("https:example.com", "https://example.com/"),
            ("http:///example.com/a", "http://example.com/a"),
            ("http:////example.com", "http://example.com/"),
            ("http:/example.com", "http://example.com/"),
            ("http://0xc0.0.2.1/a", "http://192.0.2.1/a"),
            ("http://3221225985", "http://192.0.2.1/"),
            ("http://ex%61mple.com/", "http://example.com/"),
            ("http://[2001:DB8:0:0::1]/", "http://[2001:db8::1]/"),
        ] {
            assert_eq!(target(&own(), sent, "#/url").as_deref(), Ok(kept), "{sent}");
        }
    }

    #[test]
    fn the_bound_holds_for_what_is_kept() {
        let of = |count| format!("https://example.com/{}", "\u{fc}".repeat(count));
        let most = (MAX_URL_BYTES - 20) / 6;
        let kept = target(&own(), &of(most), "#/url").unwrap();
        assert!(kept.len() <= MAX_URL_BYTES && kept.len() > MAX_URL_BYTES - 6);
        let longer = of(most + 1);
        assert!(longer.len() < MAX_URL_BYTES);
        assert!(target(&own(), &longer, "#/url").is_err());
        // A host in other letters is longer as it is stored, too; and what is shorter as it is stored may be long as sent.
        let letters = format!("https://\u{fc}.example/{}", "a".repeat(MAX_URL_BYTES - 19));
        assert!(letters.len() <= MAX_URL_BYTES && target(&own(), &letters, "#/url").is_err());
        let dots = format!(r"https:\\example.com/{}a", "../".repeat(MAX_URL_BYTES));
        assert_eq!(
            target(&own(), &dots, "#/url").as_deref(),
            Ok("https://example.com/a")
        );
    }

    #[test]
    fn a_target_that_breaks_a_rule_is_refused() {
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL_BYTES - 19));
        for bad in [
            "",
            "example.com",
            "/path",
            "ftp://example.com/",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://",
            "https:///",
            "http:///go.example.com/x",
            "http://127.0.0.1:3000/x",
            "http://localhost:3000/",
            "http://0x7f.1:3000/",
            "http://[::ffff:7f00:1]:3000/",
            "http://0:3000/",
            "https://u:p@example.com/",
            "https://go.example.com@evil.example/",
            " https://example.com",
            "https://example.com/\r\nset-cookie: a=b",
            "java\nscript:alert(1)",
            "https://go.example.com/abc",
            "http://GO.example.com.:1/",
            "https://go%2Eexample.com/",
            r"https:\\go.example.com",
            &long,
        ] {
            let problem = target(&own(), bad, "#/url").unwrap_err();
            assert_eq!(problem.errors[0].pointer, "#/url", "{bad}");
        }
    }

    #[test]
    fn an_address_is_our_own_host_in_every_notation() {
        let own = at("http://127.0.0.1:3000");
        for url in ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1:99/"] {
            assert!(target(&own, url, "#/url").is_err(), "{url}");
        }
        assert!(target(&own, "http://127.0.0.2/", "#/url").is_ok());
    }

    #[test]
    fn numbers_and_times_have_bounds() {
        let with = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            super::limits(&limits, "#/validFrom").map_err(|problem| problem.errors[0].pointer.clone())
        };
        assert_eq!(with(|l| l.max_visits = Some(0)), Err("#/maxVisits".into()));
        assert_eq!(
            with(|l| l.max_visits = Some(MAX_VISITS + 1)),
            Err("#/maxVisits".into())
        );
        assert_eq!(with(|l| l.max_visits = Some(MAX_VISITS)), Ok(()));
        assert_eq!(
            with(|l| l.expire_after_idle = Some(0)),
            Err("#/expireAfterIdle".into())
        );
        assert_eq!(
            with(|l| (l.valid_from, l.expires_at) = (Some(5), Some(5))),
            Err("#/validFrom".into())
        );
        assert!(later(0, u64::MAX, "#/seconds").is_err() && later(5, 1, "#/seconds") == Ok(1_005));
    }

    #[test]
    fn tags_are_bounded_and_not_repeated() {
        let strings = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        assert_eq!(tags(strings(&["a", "b", "a"])), Ok(strings(&["a", "b"])));
        assert_eq!(
            tags(strings(&["a", ""])).unwrap_err().errors[0].pointer,
            "#/tags/1"
        );
        assert_eq!(tags(strings(&["t"; 11])).unwrap_err().errors[0].pointer, "#/tags");
        assert!(tags(strings(&[&"ü".repeat(64)])).is_ok() && tags(strings(&[&"ü".repeat(65)])).is_err());
    }

    proptest! {
        #[test]
        fn what_is_kept_can_stand_in_a_header_and_leads_to_the_same_place(text in "https?:[/\\\\]{0,3}\\PC{0,40}") {
            if let Ok(kept) = target(&own(), &text, "#/url") {
                prop_assert!(kept.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert_eq!(Url::parse(&kept).unwrap(), Url::parse(&text).unwrap());
                prop_assert!(kept.to_ascii_lowercase().starts_with("http"));
            }
        }
    }
}
