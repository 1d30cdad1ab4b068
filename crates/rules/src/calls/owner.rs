//! Which component answers which path. The host's routing is this; the routes of `spin.toml` ([`super::spin`]) lead to the same.

use super::one_segment;
use crate::components::Component;
use crate::pattern::Pattern;
use crate::settings::ComponentRoute;

/// The component that answers `path`, where these are the patterns of the `[[forward]]` routes and the `[[components]]`. What one
/// of those answers is handed to it by the host; the rules own nothing there. By hand, since every request is asked; tests hold it
/// to the calls, and to where Spin's routes lead.
pub(crate) fn component(path: &str, forward: &[Pattern], hosted: &[ComponentRoute]) -> Component {
    let mut segments = path.trim_start_matches('/').split('/');
    let first = segments.next().unwrap_or("");
    let second = segments.next();
    match (first, second) {
        ("api", Some("links")) => return Component::Shortener,
        ("api", Some("campaigns" | "receipts")) => return Component::Coupon,
        ("api", Some("topics" | "messages")) => return Component::Forward,
        (
            "api" | "health" | "metrics" | "openapi.json" | "docs" | "admin" | "robots.txt" | "favicon.ico",
            _,
        ) => {
            return Component::Admin;
        }
        _ => {}
    }
    if forward.iter().any(|route| route.matches(path)) {
        return Component::Forward;
    }
    if hosted.iter().any(|component| component.path.matches(path)) {
        return Component::Admin;
    }
    match one_segment(path) {
        Some(_) => Component::Shortener,
        None => Component::Admin,
    }
}

#[cfg(test)]
mod tests {
    use crate::components::Component;
    use crate::config::Config;
    use crate::settings::Settings;

    #[test]
    fn every_path_has_one_component() {
        let settings = Settings::default();
        for (path, component) in [
            ("/abc1234", Component::Shortener),
            ("/abc1234+", Component::Shortener),
            ("/abc1234/", Component::Shortener),
            ("/%61bc1234", Component::Shortener),
            ("/abc1234//", Component::Admin),
            ("/abc1234//x", Component::Admin),
            ("//", Component::Admin),
            ("/api/links", Component::Shortener),
            ("/api/links/x/extend", Component::Shortener),
            ("/api/campaigns/spring/claims", Component::Coupon),
            ("/api/topics/coupon/messages", Component::Forward),
            ("/api/keys", Component::Admin),
            ("/robots.txt", Component::Admin),
            ("/", Component::Admin),
            ("/a/b", Component::Admin),
        ] {
            assert_eq!(settings.component(path), component, "{path}");
        }
    }

    #[test]
    fn a_forward_route_wins_over_a_short_link() {
        let config = Config {
            forward: vec![crate::config::Forward {
                path: "/signup".into(),
                methods: vec!["POST".into()],
                topic: "signup".into(),
                headers: Vec::new(),
                ordering: crate::config::Ordering::None,
            }],
            ..Config::default()
        };
        assert_eq!(
            Settings::compile(config).unwrap().component("/signup"),
            Component::Forward
        );
    }
}
