//! Which rule answers a path, and which calls are open without a credential. Every method and path has one
//! answer; no way of writing a path leads past a credential; and patterns match as a second reading of Spin's
//! syntax does.

use std::cell::RefCell;

use futures::executor::block_on;
use tollgate_api::calls::{self, Call};
use tollgate_api::components::Component;
use tollgate_api::http::Request;
use tollgate_api::pattern::{Pattern, unreserved};
use tollgate_api::units::Span;
use tollgate_rules::config::{Config, Limit, OnFailure, Per, Shared};
use tollgate_rules::identity;
use tollgate_rules::limiter;
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::ports::Buckets;

use crate::gateway::{CANARY, Gateway, SECRET, SETTINGS};
use crate::text;

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND",
];
/// The most patterns of one input.
const MAX_PATTERNS: usize = 4;
/// The calls by which a stranger may change something; see `SECURITY.md`.
const OPEN: [Call; 10] = [
    Call::FollowLink,
    Call::FollowLinkByPut,
    Call::FollowLinkByPatch,
    Call::FollowLinkByDelete,
    Call::OpenLink,
    Call::CreateLink,
    Call::Claim,
    Call::ConfirmClaim,
    Call::ReleaseClaim,
    Call::PostMessage,
];

/// A request of a stranger, and patterns of routes.
pub fn routing(data: &[u8]) {
    let gateway = Gateway::new();
    for input in text::requests(data) {
        let mut request = gateway.prepare(&input);
        request.headers.retain(|header| header.name != "authorization");
        one_answer(&request);
        stranger(&gateway, data, &request);
        let patterns: Vec<Pattern> = input
            .notes("route")
            .take(MAX_PATTERNS)
            .filter_map(pattern)
            .collect();
        order(&patterns, &request.path);
        limits(&gateway, &patterns, &request);
    }
}

/// The call of a request, as each component would find it.
fn calls(request: &Request) -> Vec<(Component, Call)> {
    let found = |component| {
        let call = calls::find(component, request).ok().map(|(call, _)| call);
        call.map(|call| (component, call))
    };
    Component::ALL.into_iter().filter_map(found).collect()
}

/// The call that a door finds.
fn routed(request: &Request) -> Option<Call> {
    let component = SETTINGS.component(&request.path);
    calls::find(component, request).ok().map(|(call, _)| call)
}

/// At most one call; it belongs to the component that the path leads to; `Allow` tells the truth.
fn one_answer(request: &Request) {
    // Any one segment reads as a code; those of the gateway's own, and configured ones, never get that far.
    let mut named = calls(request);
    named.retain(|(_, call)| call.path() != Call::FollowLink.path());
    assert!(named.len() <= 1, "{named:?}");
    let component = SETTINGS.component(&request.path);
    if let [(owner, call)] = named[..] {
        assert_eq!((owner, component), (call.component(), owner));
        let (_, parameters) = calls::find(owner, request).unwrap();
        assert!(parameters.iter().all(|part| !part.contains('/')));
    }
    let mut other = request.clone();
    match calls::find(component, request) {
        Ok(_) => {}
        Err(problem) if problem.kind.status() == 405 => {
            let allow = problem
                .headers
                .iter()
                .find(|header| header.name == "allow")
                .expect("405 has Allow");
            let allow = std::str::from_utf8(&allow.value).unwrap();
            for method in METHODS {
                other.method = tollgate_api::http::method(method);
                let takes = allow.split(", ").any(|one| one == method);
                assert_eq!(
                    calls::find(component, &other).is_ok(),
                    takes,
                    "{method} {}",
                    request.path
                );
            }
        }
        Err(problem) => {
            assert_eq!(problem.kind.status(), 404);
            for method in METHODS {
                other.method = tollgate_api::http::method(method);
                assert!(
                    calls::find(component, &other).is_err(),
                    "{method} {}",
                    request.path
                );
            }
        }
    }
}

/// What a stranger is answered holds nothing of others, and changes only what strangers may.
fn stranger(gateway: &Gateway, data: &[u8], request: &Request) {
    let (response, changes) = gateway.checked(request);
    let holds = |bytes: &[u8], part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
    let own = holds(data, CANARY) || holds(data, SECRET);
    let mut told = response
        .headers
        .iter()
        .map(|header| header.value.as_slice())
        .chain([response.body.as_slice()]);
    assert!(
        own || !told.any(|bytes| holds(bytes, CANARY) || holds(bytes, SECRET)),
        "{} tells",
        request.path
    );
    let configured =
        SETTINGS.component(&request.path) == Component::Forward && !request.path.starts_with("/api/");
    let call = routed(request);
    let open = configured || call.is_some_and(|call| OPEN.contains(&call));
    assert!(
        open || changes == 0,
        "{} {} changed something",
        request.method,
        request.path
    );
    // A path that reads as another one, once decoded and its dots resolved, does not lead there.
    let plain = normal(&request.path);
    if plain != request.path && !configured {
        let mut straight = request.clone();
        straight.path = plain;
        let leads = straight.path.starts_with("/api/") && routed(&straight).is_some();
        assert!(
            !leads || call.is_some() || response.status >= 400,
            "{} {}",
            request.path,
            response.status
        );
    }
}

/// Percent-decoded until nothing changes, backslashes turned, empty and dot segments resolved.
fn normal(path: &str) -> String {
    let mut text = path.as_bytes().to_vec();
    loop {
        let mut decoded = Vec::with_capacity(text.len());
        let mut rest = text.as_slice();
        while let [byte, after @ ..] = rest {
            let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
            match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
                Some(value) if *byte == b'%' => {
                    decoded.push(value);
                    rest = &after[2..];
                }
                _ => {
                    decoded.push(if *byte == b'\\' { b'/' } else { *byte });
                    rest = after;
                }
            }
        }
        if decoded == text {
            break;
        }
        text = decoded;
    }
    let text = String::from_utf8_lossy(&text);
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap_or("") {
            "" | "." => {}
            ".." => drop(segments.pop()),
            plain => segments.push(plain),
        }
    }
    format!("/{}", segments.join("/"))
}

fn pattern(text: &str) -> Option<Pattern> {
    let route = Pattern::parse(text).ok()?;
    assert_eq!(route.pattern(), text);
    assert_eq!(Pattern::parse(route.pattern()).as_ref(), Ok(&route));
    Some(route)
}

/// Matching agrees with a second reading of the syntax, and the order is one.
fn order(patterns: &[Pattern], path: &str) {
    for a in patterns {
        assert_eq!(a.matches(path), reads(a.pattern(), path), "{a} {path}");
        for ends in [
            format!("{path}/"),
            format!("/{path}"),
            format!("//{}//", path.trim_matches('/')),
        ] {
            assert_eq!(a.matches(&ends), a.matches(path), "{a} {ends}");
        }
        for b in patterns {
            assert_eq!(a.cmp(b), b.cmp(a).reverse(), "{a} {b}");
            assert_eq!(a.cmp(b).is_eq(), a == b, "{a} {b}");
            for c in patterns {
                assert!(!(a < b && b < c) || a < c, "{a} {b} {c}");
            }
        }
    }
}

/// Spin's route syntax, read a second time.
fn reads(pattern: &str, path: &str) -> bool {
    let parts = |text: &str| -> Vec<String> {
        let text = text.trim_matches('/');
        let parts = if text.is_empty() {
            None
        } else {
            Some(text.split('/'))
        };
        parts.into_iter().flatten().map(str::to_owned).collect()
    };
    let (mut wanted, mut given) = (parts(pattern), parts(path));
    if wanted.last().is_some_and(|last| last == "...") {
        wanted.pop();
        if given.len() < wanted.len() {
            return false;
        }
        given.truncate(wanted.len());
    }
    let fits = |(want, have): (&String, &String)| match want.starts_with(':') {
        true => !have.is_empty(),
        false => want == have,
    };
    wanted.len() == given.len() && wanted.iter().zip(&given).all(fits)
}

/// Buckets that are always full, and remember which ones were asked.
#[derive(Default)]
struct Asked(RefCell<Vec<String>>);

impl Buckets for Asked {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let full = |bucket: &Bucket| Level {
            remaining: bucket.capacity - bucket.cost,
            next_ns: 0,
            full_ns: 0,
        };
        let levels = buckets.iter().map(full).collect();
        self.0
            .borrow_mut()
            .extend(buckets.into_iter().map(|bucket| bucket.key));
        Ok(levels)
    }
}

/// Exactly the policies whose pattern matches are charged; slashes at the ends of a path are no way to another bucket.
fn limits(gateway: &Gateway, patterns: &[Pattern], request: &Request) {
    let limit = |(index, route): (usize, &Pattern)| Limit {
        name: format!("l{index}"),
        path: route.pattern().to_owned(),
        methods: vec![["*", "GET"][index % 2].to_owned()],
        per: vec![Per::Path, Per::Ip],
        capacity: 10,
        refill: 1,
        interval: Span::from_secs(1),
        cost: 1,
        shadow: false,
        on_store_failure: OnFailure::Allow,
        shared: Shared::Local,
        domain: None,
        descriptor: Vec::new(),
    };
    let config = Config {
        limits: patterns.iter().enumerate().map(limit).collect(),
        ..SETTINGS.config.clone()
    };
    let settings = Settings::compile(config).expect("what was parsed compiles");
    let world = World {
        store: &gateway.store,
        settings: &settings,
        now: gateway.store.inner.now(),
        fresh: &|| [7; 16],
    };
    let charged = |path: &str| {
        let mut request = request.clone();
        path.clone_into(&mut request.path);
        let asked = Asked::default();
        block_on(limiter::check(&world, &asked, &request));
        asked.0.into_inner()
    };
    let found = charged(&request.path);
    let path = &request.path;
    let health = ["/health/live", "/health/ready"].contains(&path.as_str());
    let read = matches!(&*request.method, "GET" | "HEAD");
    // Who says twice who it is, is charged nothing.
    let nobody = identity::unambiguous(&settings.config, request).is_err();
    let (plain, patterns) = (unreserved(path), patterns.iter().enumerate());
    let expected = patterns.filter(|(index, route)| {
        let matches = reads(&unreserved(route.pattern()), &plain);
        !health && !nobody && matches && (index % 2 == 0 || read)
    });
    let names: Vec<String> = expected.map(|(index, _)| format!("l{index}")).collect();
    let keys: Vec<&str> = found.iter().filter_map(|key| key.split('|').next()).collect();
    assert_eq!(keys, names, "{path}");
    if !path.trim_matches('/').starts_with("health") {
        assert_eq!(charged(&format!("{path}/")), found);
        assert_eq!(charged(&format!("/{path}")), found);
    }
}
