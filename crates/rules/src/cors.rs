//! Requests by pages of other origins: the CORS protocol of the [Fetch standard](https://fetch.spec.whatwg.org/#http-cors-protocol).
//!
//! Credentials of the browser's own (cookies, client certificates) are never allowed: callers send theirs in headers. So whatever
//! an origin may read, it could have asked for by itself. What no origin is known for may be read by all: it holds nothing of anybody.

use tollgate_api::http::{Request, Response};

/// The methods that calls take.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// What scripts may read of an answer, besides what the standard lets them.
const EXPOSED: &str =
    "etag, idempotency-replayed, location, ratelimit, ratelimit-policy, retry-after, x-request-id";
/// How long a browser may remember what it may do, in seconds. No browser does for longer than a day, Chromium for two hours.
const MAX_AGE: &str = "7200";
/// The longest list of headers that a preflight may ask for, in bytes.
const MAX_ASKED: usize = 2_048;

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const EXPOSE_HEADERS: &str = "access-control-expose-headers";

/// An origin of `server.cors_origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    /// This one, as browsers write it.
    One(String),
    /// Every name below a domain: what such an origin begins with, and ends with.
    Below(String, String),
}

/// Which origins may call, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    anybody: bool,
    origins: Vec<Allowed>,
}

/// Where links are called as another shortener's: its pages are anywhere.
pub static ANYBODY: Cors = Cors {
    anybody: true,
    origins: Vec::new(),
};

/// A header field of an answer.
pub type Field = (&'static str, Vec<u8>);

impl Cors {
    /// The origins of the settings: `*` alone, or origins as browsers write them, a name perhaps beginning with `*.`.
    ///
    /// # Errors
    /// The rule that one of them breaks, and which.
    pub fn compile(origins: &[String]) -> Result<Self, (usize, &'static str)> {
        if let Some(star) = origins.iter().position(|origin| origin == "*") {
            return match origins.len() {
                1 => Ok(Self {
                    anybody: true,
                    origins: Vec::new(),
                }),
                _ => Err((star, "must stand alone")),
            };
        }
        let parsed = origins.iter().enumerate();
        let parsed = parsed.map(|(index, origin)| Allowed::parse(origin).map_err(|rule| (index, rule)));
        Ok(Self {
            anybody: false,
            origins: parsed.collect::<Result<_, _>>()?,
        })
    }

    /// Whether any origin may call. Where none may, answers say nothing of it.
    pub fn is_on(&self) -> bool {
        self.anybody || !self.origins.is_empty()
    }

    fn allows(&self, origin: &[u8]) -> bool {
        self.anybody || self.origins.iter().any(|allowed| allowed.matches(origin))
    }

    /// The fields that an answer to this `Origin` gets. `vary` is one more of its name; the others are the only ones.
    pub fn fields(&self, origin: Option<&[u8]>) -> Vec<Field> {
        let mut fields = self.allow(origin);
        if fields.iter().any(|(name, _)| *name == ALLOW_ORIGIN) {
            fields.push((EXPOSE_HEADERS, EXPOSED.into()));
        }
        fields
    }

    fn allow(&self, origin: Option<&[u8]>) -> Vec<Field> {
        if self.anybody {
            return vec![(ALLOW_ORIGIN, b"*".into())];
        }
        if !self.is_on() {
            return Vec::new();
        }
        // Whoever asks: a cache must not give one origin's answer to another.
        let vary = ("vary", b"origin".into());
        match origin.filter(|origin| self.allows(origin)) {
            Some(origin) => vec![(ALLOW_ORIGIN, origin.into()), vary],
            None => vec![vary],
        }
    }

    /// The fields of an answer to what could not be read, so that nobody knows where it came from.
    pub fn of_unread(&self) -> Vec<Field> {
        match self.is_on() {
            true => vec![(ALLOW_ORIGIN, b"*".into()), (EXPOSE_HEADERS, EXPOSED.into())],
            false => Vec::new(),
        }
    }

    /// The answer to a preflight, by its method and a look at its header fields; `None` for any other request. It needs no rule, no
    /// store and no bucket: it tells what the settings say.
    pub fn preflight<'a>(
        &self,
        method: &str,
        header: impl Fn(&'static str) -> Option<&'a [u8]>,
    ) -> Option<Response> {
        if method != "OPTIONS" || !self.is_on() {
            return None;
        }
        let (origin, _) = (header("origin")?, header("access-control-request-method")?);
        let mut answer = Response::empty(204);
        if self.allows(origin) {
            answer = answer
                .with("access-control-allow-methods", METHODS)
                .with("access-control-max-age", MAX_AGE);
            // As many as the settings name: those of clients and users, and what consumers are sent.
            let asked = header("access-control-request-headers").filter(|asked| is_list(asked));
            if let Some(asked) = asked.and_then(|asked| str::from_utf8(asked).ok()) {
                answer = answer.with("access-control-allow-headers", asked);
            }
        }
        Some(answer.with("vary", "access-control-request-headers"))
    }

    /// The same, of a request as the rules see it.
    pub fn preflight_of(&self, request: &Request) -> Option<Response> {
        let header = |name| {
            let found = request.headers.iter().find(|header| header.name == name)?;
            Some(&*found.value)
        };
        self.preflight(&request.method, header)
    }
}

/// Whether this is a list of header names.
fn is_list(asked: &[u8]) -> bool {
    let listed = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(b);
    asked.len() <= MAX_ASKED && asked.iter().all(listed)
}

impl Allowed {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be * or an origin as a browser sends it, in lower case, without a path or a usual port, e.g. https://app.example.com; a name may begin with *.";
        let (scheme, rest) = text.split_once("://").ok_or(RULE)?;
        let below = rest.strip_prefix("*.");
        let plain = match below {
            Some(domain) => format!("{scheme}://{domain}"),
            None => text.to_owned(),
        };
        let url = url::Url::parse(&plain).map_err(|_| RULE)?;
        let is_one = matches!(url.scheme(), "http" | "https")
            && url.origin().ascii_serialization() == plain
            && !plain.contains('*');
        // A star before an address, or one label, would stand for what nobody owns.
        let is_domain = matches!(url.host(), Some(url::Host::Domain(name)) if name.contains('.'));
        match below {
            _ if !is_one => Err(RULE),
            None => Ok(Self::One(plain)),
            Some(domain) if is_domain => Ok(Self::Below(format!("{scheme}://"), format!(".{domain}"))),
            Some(_) => Err(RULE),
        }
    }

    fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Self::One(one) => one.as_bytes() == origin,
            Self::Below(begin, end) => {
                let name = origin.strip_prefix(begin.as_bytes());
                let name = name.and_then(|rest| rest.strip_suffix(end.as_bytes()));
                let label = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(b);
                name.is_some_and(|name| !name.is_empty() && name.iter().all(label))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        Cors::compile(&origins.iter().map(|one| one.to_string()).collect::<Vec<_>>()).unwrap()
    }

    fn value<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
        let found = fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| str::from_utf8(value).unwrap())
    }

    #[test]
    fn an_origin_is_echoed_if_it_is_listed_and_caches_are_told() {
        let cors = cors(&[
            "https://app.example",
            "http://127.0.0.1:8080",
            "https://*.preview.example:444",
        ]);
        for good in [
            "https://app.example",
            "http://127.0.0.1:8080",
            "https://a.preview.example:444",
            "https://a-1.b.preview.example:444",
        ] {
            let fields = cors.fields(Some(good.as_bytes()));
            assert_eq!(value(&fields, ALLOW_ORIGIN), Some(good));
            assert_eq!(value(&fields, "vary"), Some("origin"));
            assert_eq!(value(&fields, EXPOSE_HEADERS), Some(EXPOSED));
            assert_eq!(value(&fields, "access-control-allow-credentials"), None);
        }
        for bad in [
            "",
            "null",
            "*",
            "http://app.example",
            "https://app.example:444",
            "https://app.example.evil.example",
            "https://evil-app.example",
            "https://APP.example",
            "https://preview.example:444",
            "https://.preview.example:444",
            "https://a.preview.example",
            "https://evil.example/.preview.example:444",
            "https://evil.example#.preview.example:444",
            "https://a@b.preview.example:444",
        ] {
            let fields = cors.fields(Some(bad.as_bytes()));
            assert_eq!(fields, [("vary", b"origin".to_vec())], "{bad}");
        }
        assert_eq!(cors.fields(None), [("vary", b"origin".to_vec())]);
    }

    #[test]
    fn a_star_is_for_everybody_and_never_goes_with_credentials() {
        let cors = cors(&["*"]);
        for origin in [None, Some(&b"null"[..]), Some(b"https://any.example")] {
            let fields = cors.fields(origin);
            assert_eq!(value(&fields, ALLOW_ORIGIN), Some("*"));
            assert!(
                fields
                    .iter()
                    .all(|(name, _)| !name.ends_with("credentials") && *name != "vary")
            );
        }
    }

    #[test]
    fn without_the_setting_nothing_is_said() {
        let off = cors(&[]);
        assert!(
            !off.is_on() && off.of_unread().is_empty() && off.fields(Some(b"https://a.example")).is_empty()
        );
        assert_eq!(off.preflight("OPTIONS", |_| Some(b"GET")), None);
    }

    #[test]
    fn a_preflight_is_an_options_with_an_origin_and_a_method() {
        let cors = cors(&["https://app.example"]);
        let asked = |origin: &'static str, headers: &'static str| {
            move |name: &'static str| match name {
                "origin" => Some(origin.as_bytes()),
                "access-control-request-method" => Some(&b"PATCH"[..]),
                _ => Some(headers.as_bytes()),
            }
        };
        let answer = cors.preflight(
            "OPTIONS",
            asked("https://app.example", "authorization,x-client-id"),
        );
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("authorization,x-client-id")
        );
        assert!(
            answer
                .header("access-control-allow-methods")
                .unwrap()
                .contains("PATCH")
        );
        let stranger = cors
            .preflight("OPTIONS", asked("https://evil.example", "a"))
            .unwrap();
        assert!(
            stranger.headers.iter().all(|header| header.name == "vary"),
            "{stranger:?}"
        );
        for bad in ["a\r\nb: c", "a;b", "\u{e4}"] {
            let answer = cors
                .preflight("OPTIONS", asked("https://app.example", bad))
                .unwrap();
            assert_eq!(answer.header("access-control-allow-headers"), None, "{bad}");
        }
        assert_eq!(cors.preflight("GET", asked("https://app.example", "a")), None);
        let plain = |name| (name == "origin").then_some(&b"https://app.example"[..]);
        assert_eq!(cors.preflight("OPTIONS", plain), None);
    }

    #[test]
    fn what_no_browser_sends_is_no_origin() {
        for bad in [
            "",
            "app.example",
            "https://app.example/",
            "https://app.example:443",
            "https://APP.example",
            "https://app.example/a",
            "ftp://app.example",
            "https://u@app.example",
            "null",
            "https://*",
            "https://*.example",
            "https://*.127.0.0.1",
            "https://a.*.example.com",
            "https://exämple.com",
        ] {
            assert!(Cors::compile(&[bad.to_owned()]).is_err(), "{bad}");
        }
        let two = ["https://a.example".to_owned(), "*".to_owned()];
        assert_eq!(Cors::compile(&two), Err((1, "must stand alone")));
    }
}
