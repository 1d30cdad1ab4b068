//! What requests are counted as.

use tollgate_api::calls::{self, Call};
use tollgate_api::components::Component;
use tollgate_rules::settings::Settings;

/// What a request asks for: a call of the contract, or one of four kinds beside them. So there are as many as the program
/// knows, whatever strangers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked(usize);

/// Kinds of requests.
pub(super) const ASKED: usize = Call::ALL.len() + BESIDE.len();
/// What is no call: a route of `[[forward]]`, one of the `[[components]]`, one of the `[[proxy]]`, and what nobody answers.
const BESIDE: [&str; 4] = ["forward", "component", "proxy", "other"];
const FORWARD: Asked = Asked(Call::ALL.len());
const COMPONENT: Asked = Asked(Call::ALL.len() + 1);
const PROXY: Asked = Asked(Call::ALL.len() + 2);
pub(super) const OTHER: Asked = Asked(Call::ALL.len() + 3);

impl Asked {
    /// What a request with this method and path asks for. A few comparisons for what a crowd asks for.
    pub fn of(settings: &Settings, method: &str, path: &str) -> Self {
        let component = settings.component(path);
        let is_api = path.starts_with("/api/");
        match component {
            Component::Shortener if !is_api => match method {
                "GET" | "HEAD" => Self::call(Call::FollowLink),
                "POST" => Self::call(Call::OpenLink),
                "PUT" => Self::call(Call::FollowLinkByPut),
                "PATCH" => Self::call(Call::FollowLinkByPatch),
                "DELETE" => Self::call(Call::FollowLinkByDelete),
                _ => OTHER,
            },
            Component::Forward if !is_api => FORWARD,
            Component::Admin if settings.is_proxied(path) => PROXY,
            Component::Admin if settings.hosted(path).is_some() => COMPONENT,
            component => {
                calls::find_call(component, method, path).map_or(OTHER, |(call, _)| Self::call(call))
            }
        }
    }

    /// Every kind, in the order of their places.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..ASKED).map(Self)
    }

    /// Its place among [`ASKED`].
    pub(super) const fn place(self) -> usize {
        self.0
    }

    /// Of a call.
    pub const fn call(call: Call) -> Self {
        Self(call as usize)
    }

    /// The call, if it is one.
    pub fn known(self) -> Option<Call> {
        Call::ALL.get(self.0).copied()
    }

    /// The pattern of its path, or what kind of request it is.
    pub fn route(self) -> &'static str {
        self.known().map_or_else(|| self.beside(), |call| call.path())
    }

    /// What kind of request it is that is no call.
    fn beside(self) -> &'static str {
        let kind = self.0.checked_sub(Call::ALL.len());
        kind.and_then(|kind| BESIDE.get(kind)).copied().unwrap_or("other")
    }

    /// Its name in a label.
    pub(super) fn name(self) -> String {
        match self.known() {
            Some(call) => snake(&format!("{call:?}")),
            None => self.beside().to_owned(),
        }
    }
}

/// `FollowLink` as `follow_link`.
fn snake(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_counted_under_a_name_that_the_program_knows() {
        let settings =
            Settings::parse("[[forward]]\npath = \"/signup\"\ntopic = \"signup\"\n", "test").unwrap();
        for (method, path, name) in [
            ("GET", "/abc1234", "follow_link"),
            ("HEAD", "/abc1234+", "follow_link"),
            ("POST", "/abc1234", "open_link"),
            ("DELETE", "/abc1234", "follow_link_by_delete"),
            ("POST", "/signup", "forward"),
            ("GET", "/signup", "forward"),
            ("POST", "/api/campaigns/x/claims", "claim"),
            ("GET", "/api/campaigns/x/claims/u", "read_claims"),
            ("PUT", "/api/topics/t/subscriptions/s", "put_subscription"),
            ("GET", "/health/ready", "health_ready"),
            ("GET", "/metrics", "metrics"),
            ("GET", "/api/nothing", "other"),
            ("BREW", "/api/links", "other"),
            ("GET", "/a/b/c", "other"),
            ("GET", "", "other"),
        ] {
            assert_eq!(Asked::of(&settings, method, path).name(), name, "{method} {path}");
        }
    }

    #[test]
    fn every_call_has_its_own_place() {
        for (index, call) in Call::ALL.iter().enumerate() {
            assert_eq!(Asked::call(*call).place(), index);
        }
        let beside = [FORWARD, COMPONENT, PROXY, OTHER].map(|one| one.name().to_owned());
        assert_eq!(beside, BESIDE);
    }
}
