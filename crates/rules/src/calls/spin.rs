//! Routing under Spin, where the manifest says once and for all, when it is built, which component gets which path.

use std::collections::BTreeSet;
use std::fmt;

use super::{Call, own_segments};
use crate::components::Component;
use crate::config::Config;
use crate::pattern::Pattern;

/// Every route of a manifest and the component that it leads to: those of all components, then the `[[forward]]` routes.
/// Spin chooses the most specific one ([`Pattern`]'s order), and so ends up where [`super::component`] does.
pub fn spin_routes(config: &Config) -> Vec<(String, Component)> {
    let own = Component::ALL
        .iter()
        .flat_map(|component| routes(*component).into_iter().map(|route| (route, *component)));
    let forward = forwards(config)
        .into_iter()
        .map(|path| (path, Component::Forward));
    own.chain(forward).collect()
}

/// The routes that a component owns in every configuration: those of its calls, and for [`Component::Admin`] all that is our
/// own and nobody else's.
fn routes(component: Component) -> Vec<String> {
    let calls = Call::ALL.iter().filter(|call| call.component() == component);
    let calls = calls.map(|call| route_of(call.path()));
    let mut routes: Vec<String> = match component {
        Component::Admin => own_segments().map(|first| format!("/{first}/...")).collect(),
        _ => calls.collect(),
    };
    match component {
        // For calls that there will be.
        Component::Coupon => routes.push("/api/receipts/...".into()),
        Component::Admin => routes.push("/...".into()),
        Component::Shortener | Component::Forward => {}
    }
    let mut seen = BTreeSet::new();
    routes.retain(|route| seen.insert(route.clone()));
    routes
}

/// What begins as a call of the API does, and else its path.
fn route_of(path: &str) -> String {
    match path.strip_prefix("/api/").and_then(|rest| rest.split('/').next()) {
        Some(second) => format!("/api/{second}/..."),
        None => path.to_owned(),
    }
}

/// What a build leaves for its components: the `[[forward]]` routes that its manifest has, one a line.
pub fn built_forwards(config: &Config) -> String {
    forwards(config).into_iter().map(|path| path + "\n").collect()
}

fn forwards(config: &Config) -> BTreeSet<String> {
    config.forward.iter().map(|route| route.path.clone()).collect()
}

/// The `[[forward]]` routes that came or went since the manifest was built: requests to them reach a component that cannot
/// answer them.
#[derive(Clone, Debug, Default)]
pub struct StaleRoutes {
    added: Vec<Pattern>,
    removed: Vec<Pattern>,
}

impl StaleRoutes {
    /// What of `config` differs from `built`, which [`built_forwards`] made.
    pub fn new(config: &Config, built: &str) -> Self {
        let now = forwards(config);
        let built: BTreeSet<String> = built.lines().map(str::to_owned).collect();
        let parsed = |paths: Vec<&String>| {
            paths
                .into_iter()
                .filter_map(|path| Pattern::parse(path).ok())
                .collect()
        };
        Self {
            added: parsed(now.difference(&built).collect()),
            removed: parsed(built.difference(&now).collect()),
        }
    }

    /// Whether the manifest is as the configuration wants it.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Whether a path belongs to one of them.
    pub fn concerns(&self, path: &str) -> bool {
        self.added
            .iter()
            .chain(&self.removed)
            .any(|route| route.matches(path))
    }
}

/// `+/orders -/signup`
impl fmt::Display for StaleRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs = [(&self.added, '+'), (&self.removed, '-')];
        let all = signs
            .iter()
            .flat_map(|(routes, sign)| routes.iter().map(move |route| (sign, route)));
        for (index, (sign, route)) in all.enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{sign}{route}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::calls::own_segments;
    use crate::config::Forward;
    use crate::settings::Settings;

    fn config(paths: &[&str]) -> Config {
        let forward = |path: &&str| Forward {
            path: (*path).to_owned(),
            methods: vec!["POST".into()],
            topic: "t".into(),
            headers: Vec::new(),
            ordering: crate::config::Ordering::None,
        };
        Config {
            forward: paths.iter().map(forward).collect(),
            ..Config::default()
        }
    }

    /// Where Spin sends a path.
    fn spin(config: &Config, path: &str) -> Component {
        let routes = spin_routes(config).into_iter();
        let parsed = routes.map(|(route, component)| (Pattern::parse(&route).unwrap(), component));
        let matching = parsed.filter(|(route, _)| route.matches(path));
        matching.max_by(|a, b| a.0.cmp(&b.0)).unwrap().1
    }

    #[test]
    fn what_is_ours_is_no_short_link() {
        let config = config(&["/signup"]);
        for segment in own_segments() {
            assert_ne!(
                spin(&config, &format!("/{segment}")),
                Component::Shortener,
                "{segment}"
            );
        }
        assert_eq!(spin(&config, "/abc1234"), Component::Shortener);
        assert_eq!(spin(&config, "/signup"), Component::Forward);
    }

    #[test]
    fn a_route_that_came_or_went_is_told() {
        let built = built_forwards(&config(&["/signup", "/orders/..."]));
        assert!(StaleRoutes::new(&config(&["/orders/...", "/signup"]), &built).is_empty());
        let stale = StaleRoutes::new(&config(&["/signup", "/contact"]), &built);
        assert_eq!(stale.to_string(), "+/contact -/orders/...");
        for (path, concerns) in [
            ("/contact", true),
            ("/contact/", true),
            ("/orders/7", true),
            ("/signup", false),
            ("/abc1234", false),
        ] {
            assert_eq!(stale.concerns(path), concerns, "{path}");
        }
        assert!(!StaleRoutes::default().concerns("/"));
    }

    proptest! {
        #[test]
        fn spin_and_the_host_route_alike(
            forwards in proptest::collection::vec("/(signup|orders|a)(/(:x|b|[.]{3}))?", 0..4),
            path in "/((api|health|metrics|docs|admin|robots[.]txt|signup|orders|a|sale[+]?)\
                     (/(links|campaigns|receipts|topics|messages|keys|live|b|c)){0,3}/?)?",
        ) {
            let forwards: Vec<&str> = forwards.iter().map(String::as_str).collect();
            let config = config(&forwards);
            let routed = spin(&config, &path);
            prop_assert_eq!(routed, Settings::compile(config).unwrap().component(&path), "{}", path);
        }
    }
}
