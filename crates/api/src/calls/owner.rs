//! Which component answers which path. The host's routing is this; the routes of `spin.toml` ([`super::spin`]) lead to the same.

use super::one_segment;
use crate::components::Component;
use crate::pattern::Pattern;

/// The component that answers `path`, where these are the patterns of the `[[forward]]` routes and of the
/// `[[components]]`. The host hands requests to those components itself; the rules own no path there. Written
/// by hand, since it runs for every request. Tests compare it with the calls, and with where Spin's routes
/// lead.
pub fn component<'p>(
    path: &str,
    forward: &[Pattern],
    mut hosted: impl Iterator<Item = &'p Pattern>,
) -> Component {
    let (first, rest) = cut(path.trim_start_matches('/'));
    let second = rest.map(|rest| cut(rest).0);
    match (first, second) {
        ("api", Some("links" | "dub")) => return Component::Shortener,
        ("api", Some("campaigns" | "draws" | "rooms" | "challenges" | "receipts")) => {
            return Component::Coupon;
        }
        ("rest", Some("v3" | "health")) => return Component::Shortener,
        ("api", Some("topics" | "messages")) | ("sqs", _) => return Component::Forward,
        (
            "api" | "rest" | ".well-known" | "health" | "metrics" | "openapi.json" | "docs" | "admin"
            | "robots.txt" | "favicon.ico" | "yourls-api.php",
            _,
        ) => {
            return Component::Admin;
        }
        _ => {}
    }
    if forward.iter().any(|route| route.matches(path)) {
        return Component::Forward;
    }
    if hosted.any(|component| component.matches(path)) {
        return Component::Admin;
    }
    match one_segment(path) {
        Some(_) => Component::Shortener,
        None => Component::Admin,
    }
}

/// A path's first segment, and what follows its slash. By bytes: a path is short, and to look for a character
/// takes longer to begin with.
fn cut(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..)),
        None => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_component() {
        for (path, expected) in [
            ("/abc1234", Component::Shortener),
            ("/abc1234+", Component::Shortener),
            ("/abc1234/", Component::Shortener),
            ("/%61bc1234", Component::Shortener),
            ("/abc1234//", Component::Admin),
            ("/abc1234//x", Component::Admin),
            ("//", Component::Admin),
            ("/api/links", Component::Shortener),
            ("/api/links/x/extend", Component::Shortener),
            ("/api/dub/links/upsert", Component::Shortener),
            ("/rest/v3/short-urls", Component::Shortener),
            ("/rest/v2/short-urls", Component::Admin),
            ("/rest", Component::Admin),
            ("/api/campaigns/spring/claims", Component::Coupon),
            ("/api/draws/easter/entries", Component::Coupon),
            ("/api/rooms/sale/tickets", Component::Coupon),
            ("/api/topics/coupon/messages", Component::Forward),
            ("/sqs", Component::Forward),
            ("/sqs/", Component::Forward),
            ("/sqs/coupon/shop", Component::Forward),
            ("/sqs1", Component::Shortener),
            ("/.well-known/jwks.json", Component::Admin),
            ("/.well-known/other", Component::Admin),
            ("/api/keys", Component::Admin),
            ("/robots.txt", Component::Admin),
            ("/", Component::Admin),
            ("/a/b", Component::Admin),
        ] {
            assert_eq!(component(path, &[], std::iter::empty()), expected, "{path}");
        }
    }

    #[test]
    fn a_forward_route_wins_over_a_short_link() {
        let signup = [Pattern::parse("/signup").unwrap()];
        let of = |path| component(path, &signup, std::iter::empty());
        assert_eq!(
            (of("/signup"), of("/sign")),
            (Component::Forward, Component::Shortener)
        );
    }
}
