//! The calls that the gateway answers, in one list. A component's door finds its call here, so that no call can be
//! answered that is not listed; `SECURITY.md` says for each who may make it, and a test holds it to that.
//!
//! Not listed: the paths that `[[forward]]` adds (see [`crate::forward`]), and those that only the native host answers
//! by itself. `HEAD` goes wherever `GET` does.

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::http::Request;
use crate::problem::Problem;
use crate::router::Component;

/// The most parameters of a path.
pub const MAX_PARAMETERS: usize = 2;

/// What stands in a path's parameters, in order, still percent-encoded and never empty; `""` beyond their number.
pub type Parameters<'r> = [&'r str; MAX_PARAMETERS];

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $component:ident $method:literal $path:literal,)*) => {
        /// A call of the HTTP contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Call { $($(#[$doc])* $name,)* }

        impl Call {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Call] = &[$(Call::$name,)*];

            /// The component that answers it.
            pub const fn component(self) -> Component { match self { $(Call::$name => Component::$component,)* } }
            /// Its method; `GET` stands for `HEAD` too.
            pub const fn method(self) -> &'static str { match self { $(Call::$name => $method,)* } }
            /// Its path; a segment `:name` is a parameter.
            pub const fn path(self) -> &'static str { match self { $(Call::$name => $path,)* } }
        }
    };
}

calls! {
    /// The redirect, and with a `+` behind the code the page that shows where it leads.
    FollowLink = Shortener "GET" "/:code",
    /// The button of the page that machines get instead of a numbered link: a visit, and the redirect.
    OpenLink = Shortener "POST" "/:code",
    /// The caller's links; an admin sees all.
    ListLinks = Shortener "GET" "/api/links",
    /// A new link.
    CreateLink = Shortener "POST" "/api/links",
    /// One link.
    ReadLink = Shortener "GET" "/api/links/:code",
    /// Changes a link.
    EditLink = Shortener "PATCH" "/api/links/:code",
    /// Removes a link.
    DeleteLink = Shortener "DELETE" "/api/links/:code",
    /// Moves a link's end.
    ExtendLink = Shortener "POST" "/api/links/:code/extend",
    /// All campaigns.
    ListCampaigns = Coupon "GET" "/api/campaigns",
    /// A new campaign.
    CreateCampaign = Coupon "POST" "/api/campaigns",
    /// One campaign with its counters.
    ReadCampaign = Coupon "GET" "/api/campaigns/:id",
    /// Changes or closes a campaign.
    EditCampaign = Coupon "PATCH" "/api/campaigns/:id",
    /// The user's claim.
    Claim = Coupon "POST" "/api/campaigns/:id/claims",
    /// A user's claims.
    ReadClaims = Coupon "GET" "/api/campaigns/:id/claims/:user",
    /// All topics.
    ListTopics = Forward "GET" "/api/topics",
    /// One topic.
    ReadTopic = Forward "GET" "/api/topics/:topic",
    /// A topic's messages.
    ReadMessages = Forward "GET" "/api/topics/:topic/messages",
    /// A request as a message.
    PostMessage = Forward "POST" "/api/topics/:topic/messages",
    /// What became of a message.
    ReadMessage = Forward "GET" "/api/messages/:id",
    /// A topic's push subscriptions.
    ListSubscriptions = Forward "GET" "/api/topics/:topic/subscriptions",
    /// One of them.
    ReadSubscription = Forward "GET" "/api/topics/:topic/subscriptions/:name",
    /// Makes or changes one.
    PutSubscription = Forward "PUT" "/api/topics/:topic/subscriptions/:name",
    /// Removes one.
    DeleteSubscription = Forward "DELETE" "/api/topics/:topic/subscriptions/:name",
    /// Stops deliveries.
    PauseSubscription = Forward "POST" "/api/topics/:topic/subscriptions/:name/pause",
    /// Goes on with them.
    ResumeSubscription = Forward "POST" "/api/topics/:topic/subscriptions/:name/resume",
    /// Sends again to an origin that was left alone.
    ResetBreaker = Forward "POST" "/api/topics/:topic/subscriptions/:name/reset-breaker",
    /// What an origin did not take.
    ListDeadLetters = Forward "GET" "/api/topics/:topic/subscriptions/:name/dead-letters",
    /// Delivers dead letters again.
    Redrive = Forward "POST" "/api/topics/:topic/subscriptions/:name/dead-letters/redrive",
    /// All API keys, without their text.
    ListKeys = Admin "GET" "/api/keys",
    /// A new API key.
    CreateKey = Admin "POST" "/api/keys",
    /// Removes an API key.
    DeleteKey = Admin "DELETE" "/api/keys/:id",
    /// The rate limits in force.
    ListLimits = Admin "GET" "/api/limits",
    /// Whether the process runs.
    HealthLive = Admin "GET" "/health/live",
    /// Whether requests can be answered.
    HealthReady = Admin "GET" "/health/ready",
    /// What crawlers should know.
    Robots = Admin "GET" "/robots.txt",
}

impl Call {
    fn takes(self, method: &str) -> bool {
        self.method() == method || (self.method() == "GET" && method == "HEAD")
    }

    /// The parameters of a path of these segments, if it is this call's.
    fn parameters<'r>(expected: &[&str], segments: &[&'r str]) -> Option<Parameters<'r>> {
        if expected.len() != segments.len() {
            return None;
        }
        let mut found = [""; MAX_PARAMETERS];
        let mut free = found.iter_mut();
        for (expected, &segment) in expected.iter().zip(segments) {
            if !expected.starts_with(':') {
                if segment != *expected {
                    return None;
                }
            } else if segment.is_empty() {
                return None;
            } else {
                *free.next()? = segment;
            }
        }
        Some(found)
    }
}

/// The most segments of a call's path, the empty one before the first slash included.
const MAX_SEGMENTS: usize = 8;

/// Every call with the segments of its path, taken apart once.
static CALLS: LazyLock<Vec<(Call, Vec<&'static str>)>> = LazyLock::new(|| {
    let calls = Call::ALL.iter();
    calls
        .map(|call| (*call, call.path().split('/').collect()))
        .collect()
});

/// What stands between the first slash of a path and its end, if that is one segment: a code. One slash behind it does not
/// count.
pub fn one_segment(path: &str) -> Option<&str> {
    let rest = path.strip_prefix('/')?;
    // By bytes: a path is short, and to look for a character takes longer to begin with.
    match rest.bytes().position(|byte| byte == b'/') {
        None => Some(rest).filter(|segment| !segment.is_empty()),
        Some(slash) if slash > 0 && slash + 1 == rest.len() => rest.get(..slash),
        Some(_) => None,
    }
}

/// The call of `component` that the request makes, and its parameters.
///
/// # Errors
/// 404 for a path that no call has; 405 with `Allow` for a method that none of the path's calls has.
pub fn find(component: Component, request: &Request) -> Result<(Call, Parameters<'_>), Problem> {
    let path = match one_segment(&request.path).filter(|_| component == Component::Shortener) {
        Some(code) => request.path.get(..=code.len()).unwrap_or_default(),
        None => &*request.path,
    };
    let mut segments = [""; MAX_SEGMENTS];
    let mut count = 0;
    let slashes = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    let ends = slashes.map(|(at, _)| at).chain([path.len()]);
    let mut start = 0;
    for end in ends {
        *segments.get_mut(count).ok_or_else(Problem::not_found)? = &path[start..end];
        (start, count) = (end + 1, count + 1);
    }
    let segments = segments.get(..count).unwrap_or_default();
    let mut allowed: Vec<&str> = Vec::new();
    for (call, expected) in CALLS.iter().filter(|(call, _)| call.component() == component) {
        let Some(parameters) = Call::parameters(expected, segments) else {
            continue;
        };
        if call.takes(&request.method) {
            return Ok((*call, parameters));
        }
        allowed.push(call.method());
    }
    if allowed.is_empty() {
        return Err(Problem::not_found());
    }
    if let Some(at) = allowed.iter().position(|method| *method == "GET") {
        allowed.insert(at + 1, "HEAD");
    }
    Err(Problem::method_not_allowed(&allowed.join(", ")))
}
