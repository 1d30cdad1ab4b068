//! `/api/check` and `/api/check/…`: the verdict on a request that another server was sent, for nginx's `auth_request`, Caddy's and
//! Traefik's forward auth, and Envoy's `ext_authz`.
//!
//! The limits are those of the original method and path, which stand in `X-Forwarded-Method` and `X-Forwarded-Uri`, or (Envoy) in the
//! tail of the path. A trusted proxy is believed; a call from anywhere else is an ordinary request, and ends with 403.

use std::borrow::Cow;

use super::{Told, Verdict, judge};
use crate::identity;
use crate::settings::Settings;
use crate::world::World;
use tollgate_api::calls::Call;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::pattern::{has_dots, merged, unreserved};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::{Buckets, Outbound, Store};

const METHOD: &str = "x-forwarded-method";
const URI: &str = "x-forwarded-uri";
/// The status that a refusal would have had.
const STATUS: &str = "x-tollgate-status";
/// The longest method, in bytes: as of a limit.
const MAX_METHOD: usize = 32;

/// Whether a path is one of these calls.
pub fn is_check(path: &str) -> bool {
    let rest = path.strip_prefix(Call::Check.path());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The answer to who is no trusted proxy.
pub(crate) fn not_a_proxy() -> Problem {
    Problem::new(
        Kind::Forbidden,
        "Only the proxies of server.trusted_proxies may ask about requests of others.",
    )
}

/// Whether it is a proxy's question.
pub(super) fn is_question(settings: &Settings, request: &Request) -> bool {
    is_check(&request.path) && settings.proxies.sent(request)
}

/// What the proxy is answered.
pub(super) async fn answer<S: Store + Outbound, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
) -> Response {
    let response = match question(request) {
        Err(problem) => problem.into_response(),
        Ok(original) => match judge(world, buckets, &original.request, Told::Always).await {
            Verdict::Admit(headers) => {
                admitted(world, &original, headers).unwrap_or_else(Problem::into_response)
            }
            Verdict::Answer(response) => response,
        },
    };
    as_asked_for(request, response).with("cache-control", "no-store")
}

/// What is answered of a request that the limits let go on. Where a user's token is asked for, it tells the user: in the header that
/// names one, so that the proxy can put it in the place of what the caller may have sent.
fn admitted<S>(world: &World<'_, S>, original: &Original, headers: Vec<Header>) -> Result<Response, Problem> {
    let settings = world.settings;
    let mut response = Response {
        headers,
        ..Response::empty(original.admitted)
    };
    let path = unreserved(&original.request.path);
    if let Some(jwt) = settings.jwt.as_ref().filter(|jwt| jwt.is_asked_for(&path)) {
        let token = jwt.shown(&original.request, world.now)?;
        let token = token.ok_or_else(|| identity::user_required(settings, "asks"))?;
        let header = Header::new(settings.config.users.header.clone(), &*token.user);
        response.headers.push(header);
    }
    Ok(response)
}

/// A request that a proxy asks about, and the status that lets it go on.
struct Original {
    request: Request,
    admitted: u16,
}

/// The original request.
fn question(request: &Request) -> Result<Original, Problem> {
    let method = match text(request, METHOD)? {
        None => request.method.clone(),
        Some(method) => {
            let is_method = (1..=MAX_METHOD).contains(&method.len())
                && method
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte));
            if !is_method {
                return Err(Problem::field(format!("header:{METHOD}"), "must be a method"));
            }
            Cow::Owned(method.to_owned())
        }
    };
    let tail = request.path.strip_prefix(Call::Check.path()).unwrap_or_default();
    let (path, query) = match tail {
        "" => {
            let uri = text(request, URI)?;
            let uri = uri.ok_or_else(|| Problem::field(format!("header:{URI}"), "must be sent"))?;
            // To nginx, a path ends before a `#`, which no client sends.
            let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
            if !uri.starts_with('/') || !uri.bytes().all(is_plain) {
                let rule = "must be a path, and perhaps a query, as they were sent";
                return Err(Problem::field(format!("header:{URI}"), rule));
            }
            let (path, query) = match uri.split_once('?') {
                Some((path, query)) => (path, Some(query.to_owned())),
                None => (uri, None),
            };
            (path.to_owned(), query)
        }
        tail => (tail.to_owned(), request.query.clone()),
    };
    // Whoever serves the path may read it as another one, which a limit or an access list is for. No client sends such dots.
    if has_dots(&path) {
        let rule = "must have no segments that are . or ..: the server may read it as another path";
        let field = match tail {
            "" => format!("header:{URI}"),
            _ => "path".to_owned(),
        };
        return Err(Problem::field(field, rule));
    }
    // Empty segments are sent by mistake, and are none to most servers.
    let path = match merged(&path) {
        Cow::Owned(merged) => merged,
        Cow::Borrowed(_) => path,
    };
    // Envoy takes nothing but 200 for a yes.
    let admitted = if tail.is_empty() { 204 } else { 200 };
    let request = Request {
        method,
        path,
        query,
        ..request.clone()
    };
    Ok(Original { request, admitted })
}

fn text<'r>(request: &'r Request, name: &str) -> Result<Option<&'r str>, Problem> {
    let Some(value) = request.single(name)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value).ok();
    text.map(Some)
        .ok_or_else(|| Problem::field(format!("header:{name}"), "must be text"))
}

/// Whether the proxy's own configuration asks for a 403. Caddy, and whoever else is not told a query, hands on the client's: one that
/// `X-Forwarded-Uri` has too asks for nothing. Nor does a header, since proxies hand on those of clients. Anything else in the query
/// is not ours to refuse.
fn is_deny_asked_for(request: &Request) -> bool {
    let Some(query) = request.query.as_deref() else {
        return false;
    };
    let uri = request.header(URI).unwrap_or_default();
    let is_clients = uri
        .split_once('?')
        .is_some_and(|(_, of_client)| of_client == query);
    let fields = || request.query_fields().into_iter();
    request.path == Call::Check.path()
        && !is_clients
        && fields().any(|(name, value)| name == "deny" && value == "403")
}

/// With `deny`, a refusal is a 403 that says what it would have been: nginx hands on 401 and 403, and makes a 500 of any other.
fn as_asked_for(request: &Request, mut response: Response) -> Response {
    if is_deny_asked_for(request) && response.status >= 400 && response.status != Kind::Unauthorized.status()
    {
        response
            .headers
            .push(Header::new(STATUS, response.status.to_string()));
        response.status = Kind::Forbidden.status();
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter;
    use crate::testing::{Gateway, body, pointer, ready, request, slug};
    use serde_json::Value;

    const FILE: &str = "[server]\ntrusted_proxies = [\"192.0.2.1\"]\n\
        [[limits]]\nname = \"cart\"\npath = \"/cart/...\"\nmethods = [\"POST\"]\nper = [\"ip\"]\ncapacity = 2\nrefill = 1\ninterval = \"1h\"\n\
        [[access]]\nname = \"bad\"\naction = \"deny\"\ncidrs = [\"203.0.113.66\"]\n";

    fn gateway() -> Gateway {
        Gateway::with_settings(Settings::parse(FILE, "tollgate.toml").unwrap())
    }

    fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        ask_from(gateway, "192.0.2.1", method, path, headers)
    }

    fn ask_from(
        gateway: &Gateway,
        peer: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let fresh = || gateway.fresh();
        let world = World {
            store: &gateway.store,
            settings: &gateway.settings,
            now: gateway.store.now(),
            fresh: &fresh,
        };
        let mut request = request(method, path, headers, &Value::Null);
        request.peer = peer.into();
        match ready(limiter::check(&world, &gateway.buckets, &request)) {
            Verdict::Answer(response) => response,
            Verdict::Admit(_) => gateway.send(&request),
        }
    }

    #[test]
    fn the_original_request_is_judged() {
        let gateway = gateway();
        let of = |method, uri, address| {
            let headers = [(METHOD, method), (URI, uri), ("x-forwarded-for", address)];
            ask(&gateway, "GET", "/api/check", &headers)
        };
        for left in ["r=1", "r=0"] {
            let answer = of("POST", "/cart/1?x=1", "198.51.100.1");
            assert_eq!(answer.status, 204);
            assert!(answer.header("ratelimit").unwrap().contains(left));
        }
        let refused = of("POST", "/c%61rt/2", "198.51.100.1");
        assert_eq!(
            (refused.status, refused.header("retry-after")),
            (429, Some("3600"))
        );
        assert_eq!(body(&refused)["violated-policies"][0], "cart");
        // Another method, path or client.
        assert_eq!(of("GET", "/cart/1", "198.51.100.1").status, 204);
        assert_eq!(of("POST", "/other", "198.51.100.1").status, 204);
        assert_eq!(of("POST", "/cart/1", "198.51.100.2").status, 204);
        assert_eq!(
            of("POST", "/health/live", "203.0.113.66").status,
            403,
            "denied, whatever the path"
        );
    }

    #[test]
    fn the_tail_of_the_path_is_the_original_one() {
        let gateway = gateway();
        let of = |method, path| {
            ask(
                &gateway,
                method,
                path,
                &[("x-forwarded-for", "198.51.100.1"), (URI, "/forged")],
            )
        };
        assert_eq!(of("POST", "/api/check/cart/1?deny=403").status, 200);
        assert_eq!(of("POST", "/api/check/cart/2").status, 200);
        assert_eq!(
            of("POST", "/api/check/cart/3?deny=403").status,
            429,
            "the query is the client's"
        );
        assert_eq!(of("GET", "/api/check/cart/3").status, 200);
        assert_eq!(of("POST", "/api/check/").status, 200);
        assert_eq!(of("POST", "/api/checked").status, 404);
    }

    #[test]
    fn a_path_that_the_server_may_read_as_another_is_no_way_around() {
        let gateway = gateway();
        let of = |path: &str, uri: &str| {
            let headers = [(METHOD, "POST"), (URI, uri), ("x-forwarded-for", "198.51.100.1")];
            ask(&gateway, "POST", path, &headers)
        };
        for uri in [
            "/a/../cart/1",
            "/./cart/1",
            "/a/%2e%2E/cart/1",
            "/a/..%2fcart/1",
            "/a/..\\cart/1",
            "/a/..;x=1/cart/1?y",
        ] {
            let refused = of("/api/check", uri);
            assert_eq!(
                (refused.status, pointer(&refused)),
                (400, "header:x-forwarded-uri".to_owned()),
                "{uri}"
            );
            let refused = of("/api/check?deny=403", uri);
            assert_eq!((refused.status, refused.header(STATUS)), (403, Some("400")));
        }
        let refused = of("/api/check/a/%2e%2e/cart/1", "/forged");
        assert_eq!((refused.status, pointer(&refused)), (400, "path".to_owned()));
        // Dots that are no segments of their own, and empty segments.
        assert_eq!(of("/api/check", "/a/..b/.c/...").status, 204);
        for uri in ["//cart/1", "/cart//1"] {
            assert_eq!(of("/api/check", uri).status, 204, "{uri}");
        }
        assert_eq!(of("/api/check", "///cart///2/").status, 429);
        assert_eq!(of("/api/check//cart//2", "/forged").status, 429);
        assert_eq!(of("/api/check", "//").status, 204);
    }

    #[test]
    fn nginx_gets_a_403_that_says_what_it_is() {
        let gateway = gateway();
        let headers = [
            (METHOD, "POST"),
            (URI, "/cart"),
            ("x-forwarded-for", "198.51.100.1"),
        ];
        let of = |headers: &[(&str, &str)], path| ask(&gateway, "GET", path, headers);
        for _ in 0..2 {
            assert_eq!(of(&headers, "/api/check?deny=403").status, 204);
        }
        let refused = of(&headers, "/api/check?deny=403");
        assert_eq!((refused.status, refused.header(STATUS)), (403, Some("429")));
        assert_eq!(refused.header("retry-after"), Some("3600"));
        let twice = [headers[0], headers[1], ("x-client-id", "a"), ("x-client-id", "b")];
        let refused = of(&twice, "/api/check?deny=403");
        assert_eq!((refused.status, refused.header(STATUS)), (403, Some("400")));
    }

    #[test]
    fn the_query_that_caddy_leaves_there_is_not_refused() {
        let gateway = gateway();
        let headers = [
            (METHOD, "POST"),
            (URI, "/cart/1?deny=1&x=1"),
            ("x-forwarded-for", "198.51.100.1"),
        ];
        for _ in 0..2 {
            assert_eq!(
                ask(&gateway, "GET", "/api/check?deny=1&x=1", &headers).status,
                204
            );
        }
        assert_eq!(
            ask(&gateway, "GET", "/api/check?deny=1&x=1", &headers).status,
            429
        );
    }

    #[test]
    fn a_client_behind_a_proxy_does_not_choose_the_status() {
        let gateway = gateway();
        let of = |path: &str, uri: &str| {
            let headers = [
                (METHOD, "POST"),
                (URI, uri),
                ("x-forwarded-for", "198.51.100.1"),
                ("x-tollgate-deny", "403"),
            ];
            ask(&gateway, "GET", path, &headers).status
        };
        for _ in 0..2 {
            assert_eq!(of("/api/check", "/cart/1"), 204);
        }
        // Caddy: the query of the question is that of the client, and so are the headers.
        assert_eq!(of("/api/check", "/cart/1"), 429);
        assert_eq!(of("/api/check?deny=403", "/cart/1?deny=403"), 429);
        assert_eq!(of("/api/check?a=b&deny=403", "/cart/1?a=b&deny=403"), 429);
        // nginx: its own, whatever the client sends.
        assert_eq!(of("/api/check?deny=403&of=5f2c", "/cart/1?deny=403"), 403);
        assert_eq!(of("/api/check?deny=403", "/cart/1?a=b"), 403);
    }

    #[test]
    fn strangers_are_told_nothing_and_drain_nobody() {
        let gateway = gateway();
        let headers = [
            (METHOD, "POST"),
            (URI, "/cart"),
            ("x-forwarded-for", "198.51.100.1"),
        ];
        for method in ["GET", "POST", "OPTIONS", "PROPFIND"] {
            for path in ["/api/check", "/api/check/cart", "/api/check?deny=403"] {
                let answer = ask_from(&gateway, "192.0.2.7", method, path, &headers);
                assert_eq!((answer.status, slug(&answer)), (403, "forbidden".to_owned()));
            }
        }
        let answer = ask(&gateway, "GET", "/api/check", &headers);
        assert!(
            answer.header("ratelimit").unwrap().contains("r=1"),
            "nothing was taken"
        );
    }

    #[test]
    fn what_a_proxy_says_wrong_is_named() {
        let gateway = gateway();
        for (path, headers, field) in [
            ("/api/check", &[(METHOD, "POST")][..], "header:x-forwarded-uri"),
            ("/api/check", &[(URI, "cart")], "header:x-forwarded-uri"),
            ("/api/check", &[(URI, "/a b")], "header:x-forwarded-uri"),
            ("/api/check", &[(URI, "/cart/1#x")], "header:x-forwarded-uri"),
            (
                "/api/check",
                &[(URI, "/cart#/../x?y#z")],
                "header:x-forwarded-uri",
            ),
            (
                "/api/check",
                &[(URI, "/a"), (URI, "/b")],
                "header:x-forwarded-uri",
            ),
            (
                "/api/check",
                &[(URI, "/a"), (METHOD, "get")],
                "header:x-forwarded-method",
            ),
        ] {
            assert_eq!(pointer(&ask(&gateway, "GET", path, headers)), field, "{path}");
        }
    }
}
