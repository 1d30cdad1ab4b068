//! Where people may be sent: the targets of links, and the fallback pages of the settings.

use std::borrow::Cow;

use url::Url;

use crate::own_address::OwnAddresses;
use tollgate_api::problem::Problem;

/// The longest URL, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// A URL that a link, or the gateway, may send people to: http or https, with a host that is not our own. The text is kept as it was sent if
/// it can stand in a `Location` header as it is, and every parser finds the same host in it. Otherwise it
/// becomes the URL that a browser would make of it. What is kept is at most [`MAX_URL_BYTES`] long.
///
/// # Errors
/// It breaks one of these rules: a problem that names `pointer`.
pub fn target(own: &OwnAddresses, text: &str, pointer: &str) -> Result<String, Problem> {
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

/// A URL as it is compared with others: scheme and host do not depend on their case (RFC 3986, 6.2.2.1).
pub fn comparable(url: &str) -> Cow<'_, str> {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(begin..).unwrap_or_default();
    let end = begin + rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (head, tail) = url.split_at(end);
    match head.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned([&head.to_ascii_lowercase(), tail].concat()),
        false => Cow::Borrowed(url),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_case_of_scheme_and_host_does_not_count() {
        for (url, compared) in [
            ("HTTPS://Example.COM/Path?Q#F", "https://example.com/Path?Q#F"),
            ("https://example.com/Path", "https://example.com/Path"),
            ("https://EXAMPLE.com?A=B", "https://example.com?A=B"),
            ("https://EXAMPLE.com#A", "https://example.com#A"),
            ("https://EXAMPLE.com:8080", "https://example.com:8080"),
        ] {
            assert_eq!(comparable(url), compared);
        }
    }

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
