//! Routing under Spin, where the manifest says once and for all, when it is built, which component gets which path.

use std::collections::BTreeSet;
use std::fmt;

use super::{Call, is_sqs, own_segments};
use crate::components::Component;
use crate::pattern::Pattern;

/// Every route of a manifest and the component that it leads to: those of all components, then the `[[forward]]` routes.
/// Spin chooses the most specific one, and so ends up where [`super::component`] does. Its router (crate routefinder) keeps
/// routes in an order that is none once a route begins with a dot: then some hide others. So `/.well-known/…` has no route of
/// its own, falls to the last one, and the tests ask that very router.
pub fn spin_routes<'p>(forwards: impl Iterator<Item = &'p str>) -> Vec<(String, Component)> {
    let own = Component::ALL
        .iter()
        .flat_map(|component| routes(*component).into_iter().map(|route| (route, *component)));
    let forward = distinct(forwards).into_iter();
    let forward = forward.map(|path| (path, Component::Forward));
    own.chain(forward).collect()
}

/// The routes that a component owns in every configuration: those of its calls, and for [`Component::Admin`]
/// also all of the gateway's own paths that no other component answers.
fn routes(component: Component) -> Vec<String> {
    let calls = Call::ALL.iter().filter(|call| call.component() == component);
    let calls = calls.map(|call| route_of(call.path()));
    let mut routes: Vec<String> = match component {
        Component::Admin => own_segments()
            .filter(|first| !first.starts_with('.') && *first != "sqs")
            .map(|first| format!("/{first}/..."))
            .collect(),
        _ => calls.collect(),
    };
    match component {
        Component::Admin => routes.push("/...".into()),
        Component::Shortener | Component::Coupon | Component::Forward => {}
    }
    let mut seen = BTreeSet::new();
    routes.retain(|route| seen.insert(route.clone()));
    routes
}

/// The route that covers a call: `/api/<second segment>/...` for calls of the API, so for those of a dialect, else the call's own path.
fn route_of(path: &str) -> String {
    if is_sqs(path) {
        return "/sqs/...".to_owned();
    }
    for first in ["/api/", "/rest/"] {
        if let Some(second) = path.strip_prefix(first).and_then(|rest| rest.split('/').next()) {
            return format!("{first}{second}/...");
        }
    }
    path.to_owned()
}

/// The list that a build leaves for its components: the `[[forward]]` routes that its manifest has, one a
/// line.
pub fn built_forwards<'p>(forwards: impl Iterator<Item = &'p str>) -> String {
    distinct(forwards).into_iter().map(|path| path + "\n").collect()
}

fn distinct<'p>(forwards: impl Iterator<Item = &'p str>) -> BTreeSet<String> {
    forwards.map(str::to_owned).collect()
}

/// The `[[forward]]` routes that came or went since the manifest was built: requests to them reach a component that cannot
/// answer them.
#[derive(Clone, Debug, Default)]
pub struct StaleRoutes {
    added: Vec<Pattern>,
    removed: Vec<Pattern>,
}

impl StaleRoutes {
    /// The differences between the paths of `[[forward]]` and `built`, which [`built_forwards`] made.
    pub fn new<'p>(forwards: impl Iterator<Item = &'p str>, built: &str) -> Self {
        let (now, built) = (distinct(forwards), distinct(built.lines()));
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

    /// Whether the manifest matches the configuration.
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
    use crate::calls::component;

    /// Where Spin sends a path: by its own router, with the routes in the order of the manifest.
    fn spin(forwards: &[&str], path: &str) -> Component {
        let mut router = routefinder::Router::new();
        for (route, component) in spin_routes(forwards.iter().copied()) {
            let route = match route.strip_suffix("/...") {
                Some(above) => format!("{above}/*"),
                None => route,
            };
            router.add(route.as_str(), component).unwrap();
        }
        *router.best_match(path).unwrap().handler()
    }

    #[test]
    fn every_call_reaches_its_component() {
        for call in Call::ALL {
            let path = call.path().replace(['{', '}'], "");
            assert_eq!(spin(&["/signup"], &path), call.component(), "{path}");
        }
    }

    #[test]
    fn what_is_ours_is_no_short_link() {
        let signup = ["/signup"];
        // `/.well-known` itself goes to the shortener: no code has a dot.
        for segment in own_segments().filter(|first| !first.starts_with('.')) {
            assert_ne!(
                spin(&signup, &format!("/{segment}")),
                Component::Shortener,
                "{segment}"
            );
        }
        assert_eq!(spin(&signup, "/abc1234"), Component::Shortener);
        assert_eq!(spin(&signup, "/signup"), Component::Forward);
    }

    #[test]
    fn a_route_that_came_or_went_is_told() {
        let built = built_forwards(["/signup", "/orders/..."].into_iter());
        assert!(StaleRoutes::new(["/orders/...", "/signup"].into_iter(), &built).is_empty());
        let stale = StaleRoutes::new(["/signup", "/contact"].into_iter(), &built);
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
            forwards in proptest::collection::vec("/(signup|orders|a|v1[.]2)(/(:x|b|b[.]c|c/d[.]e|[.]{3}))?", 0..5),
            path in "/((api|rest|health|metrics|docs|admin|robots[.]txt|signup|orders|a|v1[.]2|sale[+]?)\
                     (/(links|v3|campaigns|draws|rooms|challenges|receipts|topics|messages|keys|live|b|c|b[.]c|d[.]e)){0,3}/?)?",
        ) {
            let forwards: Vec<&str> = forwards.iter().map(String::as_str).collect();
            let patterns: Vec<_> = forwards.iter().map(|path| Pattern::parse(path).unwrap()).collect();
            let routed = spin(&forwards, &path);
            prop_assert_eq!(routed, component(&path, &patterns, std::iter::empty()), "{}", path);
        }
    }
}
