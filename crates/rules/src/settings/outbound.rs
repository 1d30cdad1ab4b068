//! The hosts that a component may call, in Spin's syntax: `https://api.example.com`, `http://10.0.0.7:8080`,
//! `*://*.example.com:443`.

/// One entry of `allowed_outbound_hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundHost {
    /// `http` or `https`; any if `None`.
    scheme: Option<String>,
    host: Host,
    /// From and to, both included.
    ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    /// Any name with this ending: `.example.com`.
    Below(String),
    /// In lower case, an IPv6 address with its brackets.
    Named(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// The scheme's own.
    Usual,
    Between(u16, u16),
}

/// The port of a scheme where a URL names none.
fn usual_port(scheme: &str) -> u16 {
    match scheme {
        "https" => 443,
        _ => 80,
    }
}

impl OutboundHost {
    /// The rule of [`OutboundHost::parse`], in words.
    pub const RULE: &'static str = "must be a scheme (http, https or *), a host (*, *.example.com or whole) and perhaps a port (80, * or 8000..8999), \
         e.g. https://api.example.com or *://*.example.com:443";

    /// Reads an entry; `None` if it is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme {
            "*" => None,
            "http" | "https" => Some(scheme.to_owned()),
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let end = rest.find(']').map_or(0, |bracket| bracket + 1);
        let (host, ports) = match rest.get(end..)?.find(':') {
            Some(colon) => (rest.get(..end + colon)?, ports(rest.get(end + colon + 1..)?)?),
            None => (rest, Ports::Usual),
        };
        let host = match host.strip_prefix('*') {
            Some("") => Host::Any,
            Some(below) => Host::Below(name(below.strip_prefix('.')?).map(|name| [".", &name].concat())?),
            None => Host::Named(name(host)?),
        };
        Some(Self { scheme, host, ports })
    }

    /// Whether a request there is allowed; the host as a URL has it, an IPv6 address in brackets.
    pub fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let host = host.to_ascii_lowercase();
        let port = port.unwrap_or_else(|| usual_port(scheme));
        let ports = match self.ports {
            Ports::Usual => port == usual_port(scheme),
            Ports::Between(from, to) => (from..=to).contains(&port),
        };
        let named = match &self.host {
            Host::Any => true,
            Host::Below(end) => host.ends_with(end.as_str()) && host.len() > end.len(),
            Host::Named(name) => *name == host,
        };
        ports && named && self.scheme.as_deref().is_none_or(|own| own == scheme)
    }
}

fn ports(text: &str) -> Option<Ports> {
    let (from, to) = match text {
        "*" => (0, u16::MAX),
        _ => match text.split_once("..") {
            Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
            None => (text.parse().ok()?, text.parse().ok()?),
        },
    };
    (from <= to).then_some(Ports::Between(from, to))
}

/// A host's name or address, in lower case.
fn name(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    (!text.is_empty() && text.len() <= 255 && text.bytes().all(plain)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_allows_what_it_names_and_nothing_else() {
        let allows = |entry: &str, scheme: &str, host: &str, port: Option<u16>| {
            OutboundHost::parse(entry).is_some_and(|entry| entry.allows(scheme, host, port))
        };
        assert!(allows(
            "https://api.example.com",
            "https",
            "API.example.com",
            None
        ));
        assert!(allows(
            "https://api.example.com/",
            "https",
            "api.example.com",
            Some(443)
        ));
        assert!(!allows(
            "https://api.example.com",
            "http",
            "api.example.com",
            None
        ));
        assert!(!allows(
            "https://api.example.com",
            "https",
            "api.example.com",
            Some(8443)
        ));
        assert!(!allows(
            "https://api.example.com",
            "https",
            "api.example.com.evil.test",
            None
        ));
        assert!(allows("*://*.example.com:443", "https", "a.b.example.com", None));
        assert!(!allows("*://*.example.com:443", "http", "a.example.com", None));
        assert!(!allows("*://*.example.com:443", "https", "example.com", None));
        assert!(!allows("*://*.example.com:443", "https", "evilexample.com", None));
        assert!(allows(
            "http://127.0.0.1:8000..8999",
            "http",
            "127.0.0.1",
            Some(8500)
        ));
        assert!(!allows(
            "http://127.0.0.1:8000..8999",
            "http",
            "127.0.0.1",
            Some(9000)
        ));
        assert!(allows("http://[::1]:*", "http", "[::1]", Some(1)));
        assert!(allows("*://*:*", "https", "anything.test", Some(1)));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for text in [
            "",
            "example.com",
            "ftp://example.com",
            "https://",
            "https://a/b",
            "https://user@a",
            "https://a:b",
            "https://a:9..8",
            "https://*a.test",
            "https://a.*",
            "https://*.",
        ] {
            assert_eq!(OutboundHost::parse(text), None, "{text}");
        }
    }
}
