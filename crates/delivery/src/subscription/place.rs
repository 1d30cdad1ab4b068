//! Where a subscription that is not of HTTP leads: its URL, read once for the rules and for the sinks.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{SinkKind, Subscription};

/// What is said of a URL that cannot be read.
const SYNTAX: &str = "is not the URL of a server";

/// The most servers of a URL. They tell of the others of their cluster.
const MAX_SERVERS: usize = 16;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A name or an address, an IPv6 address without its brackets.
    pub host: String,
    /// Its port, given or the scheme's.
    pub port: u16,
    /// How a connection begins.
    pub security: Security,
    /// Decoded; empty where there is none.
    pub user: String,
    /// With its slash; empty where there is none.
    pub path: String,
}

/// What protects a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Nothing, or what both sides agree on afterwards.
    Plain,
    /// TLS from the first byte on.
    Tls,
}

/// A scheme: its kind, its default port, and how a connection begins.
const SCHEMES: &[(&str, SinkKind, u16, Security)] = &[
    ("kafka", SinkKind::Kafka, 9_092, Security::Plain),
    ("kafka+ssl", SinkKind::Kafka, 9_093, Security::Tls),
    ("nats", SinkKind::Nats, 4_222, Security::Plain),
    ("tls", SinkKind::Nats, 4_222, Security::Tls),
    // Submission, with STARTTLS (RFC 6409); without, from the first byte on (RFC 8314).
    ("smtp", SinkKind::Smtp, 587, Security::Plain),
    ("smtps", SinkKind::Smtp, 465, Security::Tls),
    ("postgres", SinkKind::Postgres, 5_432, Security::Tls),
    ("postgresql", SinkKind::Postgres, 5_432, Security::Tls),
    ("redis", SinkKind::Redis, 6_379, Security::Plain),
    ("rediss", SinkKind::Redis, 6_379, Security::Tls),
    ("http", SinkKind::S3, 80, Security::Plain),
    ("https", SinkKind::S3, 443, Security::Tls),
];

impl Place {
    /// Reads the URL of a server of this kind. The host is read as a browser reads it: odd spellings of addresses become plain
    /// ones, which can be judged.
    ///
    /// # Errors
    /// What is wrong with it; the URL is not quoted, since it might hold a password after all.
    pub fn parse(kind: SinkKind, text: &str) -> Result<Self, Cow<'static, str>> {
        let url = Url::parse(text).map_err(|_| SYNTAX)?;
        let scheme = SCHEMES
            .iter()
            .find(|(scheme, of, ..)| *of == kind && *scheme == url.scheme());
        let Some((_, _, port, security)) = scheme else {
            let of_kind = SCHEMES.iter().filter(|(_, of, ..)| *of == kind);
            let names: Vec<String> = of_kind.map(|(scheme, ..)| format!("{scheme}://")).collect();
            return Err(format!("must begin with {}", names.join(" or ")).into());
        };
        if url.password().is_some() {
            return Err("must not have a password: give it as password, which no answer shows".into());
        }
        let security = match (kind, url.query()) {
            (_, None) => *security,
            (SinkKind::Postgres, Some("sslmode=disable")) => Security::Plain,
            (SinkKind::Postgres, Some("sslmode=require" | "sslmode=verify-full")) => Security::Tls,
            (SinkKind::Postgres, Some(_)) => {
                return Err(
                    "must have no query but sslmode=disable, sslmode=require or sslmode=verify-full".into(),
                );
            }
            (_, Some(_)) => return Err("must not have a query or a fragment".into()),
        };
        if url.fragment().is_some() {
            return Err("must not have a query or a fragment".into());
        }
        // Only schemes of the web have their hosts read so. This one's own default port is never given.
        let (_, rest) = text.split_once("://").ok_or(SYNTAX)?;
        // The web reads a path without a host as a host.
        if rest.starts_with(['/', '\\']) {
            return Err(SYNTAX.into());
        }
        let web = Url::parse(&format!("ftp://{rest}")).map_err(|_| SYNTAX)?;
        let host = web.host_str().ok_or(SYNTAX)?;
        let user = percent_decode_str(web.username()).decode_utf8();
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(*port),
            security,
            user: user.map_err(|_| "must have a user's name in UTF-8")?.into_owned(),
            path: web.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The servers that a URL names, in its order: of Kafka one or several, with commas between them, of others one. They share the user
    /// and the path.
    ///
    /// # Errors
    /// As of [`Place::parse`], of the first that cannot be read; or there are more than [`MAX_SERVERS`].
    pub fn servers(kind: SinkKind, text: &str) -> Result<Vec<Self>, Cow<'static, str>> {
        let (scheme, rest) = text.split_once("://").ok_or(SYNTAX)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        if kind != SinkKind::Kafka || !hosts.contains(',') {
            return Ok(vec![Self::parse(kind, text)?]);
        }
        if hosts.split(',').count() > MAX_SERVERS {
            return Err("must name at most 16 servers".into());
        }
        let one = |host| Self::parse(kind, &format!("{scheme}://{user}{host}{path}"));
        hosts.split(',').map(one).collect()
    }

    /// The same host and port as a URL of the web, for rules that know such.
    pub fn as_web(&self) -> String {
        match self.host.contains(':') {
            true => format!("http://[{}]:{}/", self.host, self.port),
            false => format!("http://{}:{}/", self.host, self.port),
        }
    }
}

impl Subscription {
    /// The hosts and the ports that it leads to, as URLs of the web, whatever they are of, each with its setting. One that cannot be read
    /// stays as it is. A store of Spin's is no host.
    pub fn leads_to(&self) -> impl Iterator<Item = (&'static str, String)> {
        let (kind, second) = (
            self.kind,
            self.fallback_url.iter().map(|url| ("fallback_url", url)),
        );
        std::iter::once(("url", &self.url))
            .chain(second)
            .filter(move |_| kind != SinkKind::KeyValue)
            .flat_map(move |(setting, url)| {
                let servers = match kind {
                    SinkKind::Http => None,
                    kind => Place::servers(kind, url).ok(),
                };
                let targets = servers.map_or_else(
                    || vec![url.clone()],
                    |servers| servers.iter().map(Place::as_web).collect(),
                );
                targets.into_iter().map(move |target| (setting, target))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(text: &str) -> Result<Place, Cow<'static, str>> {
        Place::parse(SinkKind::Redis, text)
    }

    #[test]
    fn a_server_is_read_with_its_defaults() {
        let place = redis("redis://cache.example").unwrap();
        assert_eq!((place.host.as_str(), place.port), ("cache.example", 6_379));
        assert_eq!((place.security, place.user.as_str()), (Security::Plain, ""));
        let place = redis("rediss://a%40b@[::1]:21/3").unwrap();
        assert_eq!(
            (place.host.as_str(), place.port, place.path.as_str()),
            ("::1", 21, "/3")
        );
        assert_eq!((place.security, place.user.as_str()), (Security::Tls, "a@b"));
        assert_eq!(place.as_web(), "http://[::1]:21/");
        assert_eq!(redis("redis://h:80/").unwrap().as_web(), "http://h:80/");
    }

    #[test]
    fn a_cluster_of_kafka_may_be_named_by_several_servers() {
        let of = |text: &str| {
            let servers = Place::servers(SinkKind::Kafka, text)?;
            let shown = servers
                .iter()
                .map(|one| format!("{}@{}:{}{}", one.user, one.host, one.port, one.path));
            Ok::<_, Cow<'static, str>>(shown.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of("kafka://a/t").unwrap(), "@a:9092/t");
        assert_eq!(
            of("kafka+ssl://me@a:1,b,[::1]:2/t").unwrap(),
            "me@a:1/t me@b:9093/t me@::1:2/t"
        );
        let many = |count: usize| format!("kafka://{}", vec!["a"; count].join(","));
        assert!(of(&many(MAX_SERVERS)).is_ok() && of(&many(MAX_SERVERS + 1)).is_err());
        for wrong in [
            "kafka://a,",
            "kafka://,a",
            "kafka://a,,b",
            "kafka://me@,a",
            "kafka://a:x,b",
            "kafka:a,b",
        ] {
            assert!(of(wrong).is_err(), "{wrong}: {:?}", of(wrong));
        }
        // Every one of them is judged, and the last as it is reached.
        let leads = |url: &str| {
            let mut one = Subscription::new("s", url.to_owned());
            one.kind = SinkKind::Kafka;
            one.leads_to().map(|(_, target)| target).collect::<Vec<_>>()
        };
        assert_eq!(
            leads("kafka://a,0x7f.1:1/t"),
            ["http://a:9092/", "http://127.0.0.1:1/"]
        );
    }

    #[test]
    fn a_postgres_is_reached_over_tls_unless_its_url_says_otherwise() {
        let of = |text: &str| {
            Place::parse(SinkKind::Postgres, text).map(|place| (place.port, place.security, place.path))
        };
        let shop = "/shop".to_owned();
        assert_eq!(
            of("postgres://u@h/shop").unwrap(),
            (5_432, Security::Tls, shop.clone())
        );
        assert_eq!(
            of("postgresql://u@h:6/shop?sslmode=verify-full").unwrap(),
            (6, Security::Tls, shop.clone())
        );
        assert_eq!(
            of("postgres://u@h/shop?sslmode=disable").unwrap(),
            (5_432, Security::Plain, shop)
        );
        for query in [
            "sslmode=prefer",
            "sslmode=disable&host=secret",
            "options=secret",
            "",
        ] {
            assert!(
                !of(&format!("postgres://u@h/shop?{query}"))
                    .expect_err(query)
                    .contains("secret")
            );
        }
        assert!(of("postgres://u@h/shop#x").is_err());
    }

    #[test]
    fn storage_is_reached_as_the_scheme_of_its_url_says() {
        let of = |text: &str| {
            let place = Place::parse(SinkKind::S3, text).unwrap();
            (place.host, place.port, place.security, place.user, place.path)
        };
        let (host, user) = ("h".to_owned(), "AKIA".to_owned());
        assert_eq!(
            of("https://AKIA@h/b/p/"),
            (host.clone(), 443, Security::Tls, user.clone(), "/b/p".to_owned())
        );
        assert_eq!(of("https://AKIA@h:443/b").1, 443);
        assert_eq!(of("http://AKIA@h:80/b").1, 80);
        assert_eq!(
            of("http://AKIA@h:9000/b"),
            (host, 9_000, Security::Plain, user, "/b".to_owned())
        );
        assert_eq!(of("http://0x7f.1/b").0, "127.0.0.1");
    }

    #[test]
    fn no_spelling_hides_an_address() {
        for text in [
            "redis://0x7f.1",
            "redis://2130706433",
            "redis://127.1:6379/",
            "redis://u@0177.0.0.1/1",
        ] {
            assert_eq!(redis(text).unwrap().host, "127.0.0.1", "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused_and_not_quoted() {
        for text in [
            "",
            "redis",
            "redis:",
            "redis:x",
            "redis://",
            "redis:///0",
            "http://h/",
            "redis://u:secret@h/",
            "redis://:secret@h/",
            "redis://h/?secret",
            "redis://h/#secret",
            "redis://a b/secret",
            "redis://h:99999/secret",
            "redis://%ff@h/secret",
        ] {
            let fault = redis(text).expect_err(text);
            assert!(!fault.contains("secret"), "{fault}");
        }
        assert!(redis("http://h").unwrap_err().contains("redis:// or rediss://"));
    }
}
