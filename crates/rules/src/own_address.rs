//! Which addresses lead back to the gateway itself: links to them would make visitors go round in circles, and messages to
//! them would come back as new ones.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use tollgate_delivery::relay::address::is_local_name;
use url::{Host, Url};

/// `server.listen`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port.
    Address(SocketAddr),
    /// A name, which the host resolves, and a port.
    Name(String, u16),
}

impl Listen {
    /// The port; 0 is one that the system chooses.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }
}

/// The error for a text that is not an address or a name with a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} must be an address and a port, e.g. 127.0.0.1:3000")]
pub struct NoListen(String);

impl FromStr for Listen {
    type Err = NoListen;

    fn from_str(text: &str) -> Result<Self, NoListen> {
        const MAX_NAME: usize = 253;
        let wrong = || NoListen(text.to_owned());
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        // A name needs a letter: otherwise it is an address with a fault.
        let letter = host.bytes().any(|b| b.is_ascii_alphabetic());
        match port.parse() {
            Ok(port) if letter && host.len() <= MAX_NAME && host.bytes().all(name) => {
                Ok(Self::Name(host.to_owned(), port))
            }
            _ => Err(wrong()),
        }
    }
}

/// Where the gateway is reached, as far as its settings tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddresses {
    /// Of `server.public_url`, with its port.
    public: Option<(Host<String>, u16)>,
    listen: Listen,
    /// The other listeners.
    others: Vec<Listen>,
    /// Of this machine.
    machine: Vec<IpAddr>,
    /// Of the `[[domains]]`, in lower case.
    domains: Vec<String>,
}

impl OwnAddresses {
    /// `public`: `server.public_url`; `machine`: the addresses of this machine, for `listen` on all of them.
    pub fn new(public: &Url, listen: Listen, machine: &[IpAddr]) -> Self {
        Self {
            public: host_of(public).map(|(host, port)| (host.to_owned(), port)),
            listen,
            others: Vec::new(),
            machine: machine.to_vec(),
            domains: Vec::new(),
        }
    }

    /// The same with the hosts of `[[domains]]` too, on any port.
    pub fn with_domains(self, domains: Vec<String>) -> Self {
        Self { domains, ..self }
    }

    /// The same with other listeners too.
    pub fn and(self, others: Vec<Listen>) -> Self {
        Self { others, ..self }
    }

    /// `server.listen`.
    pub fn listen(&self) -> &Listen {
        &self.listen
    }

    /// Whether a link to `url` would come back to us. That is so for the host of `server.public_url` on any
    /// port, since a proxy may listen on several. It is also so for every name and address that reaches us,
    /// at the port of `server.listen`. No notation of an address (`0x7f.1`, `2130706433`) is a way around,
    /// since [`Url`] reads them all. A URL without a host or a known port is none of ours.
    pub fn lead_back(&self, url: &Url) -> bool {
        let Some((host, port)) = host_of(url) else {
            return false;
        };
        let public = self.public.as_ref();
        public.is_some_and(|(own, _)| is_same(&borrowed(own), &host))
            || self.domains.iter().any(|own| is_same(&Host::Domain(own), &host))
            || self.at(port).any(|listen| self.listens_on(listen, &host))
    }

    /// Those that listen at a port.
    fn at(&self, port: u16) -> impl Iterator<Item = &Listen> {
        let all = std::iter::once(&self.listen).chain(&self.others);
        all.filter(move |listen| listen.port() == port)
    }

    fn listens_on(&self, listen: &Listen, host: &Host<&str>) -> bool {
        let own = match listen {
            Listen::Name(name, _) => {
                return is_same(&Host::Domain(name), host) || (is_local_name(name) && is_here(host));
            }
            Listen::Address(own) => own.ip().to_canonical(),
        };
        match own.is_unspecified() {
            true => is_here(host) || address(host).is_some_and(|theirs| self.machine.contains(&theirs)),
            false => address(host) == Some(own) || (own.is_loopback() && is_here(host)),
        }
    }

    /// Whether a subscription to `url` plainly posts to the gateway: to its public URL, or to where it listens. Other names and
    /// addresses for it are found when a connection is made.
    pub fn are_target(&self, url: &str) -> bool {
        let Ok(url) = Url::parse(url) else { return false };
        let Some((host, port)) = host_of(&url) else {
            return false;
        };
        let public = self.public.as_ref();
        public.is_some_and(|(own, at)| *at == port && is_same_or_local(&borrowed(own), &host))
            || self
                .at(port)
                .any(|listen| Self::plainly_listens_on(listen, &host))
    }

    fn plainly_listens_on(listen: &Listen, host: &Host<&str>) -> bool {
        let own = match listen {
            Listen::Name(name, _) => return is_same_or_local(&Host::Domain(name), host),
            Listen::Address(own) => own.ip().to_canonical(),
        };
        let here = own.is_unspecified() || own.is_loopback();
        match address(host) {
            Some(theirs) => {
                theirs == own
                    || (here && theirs.is_unspecified())
                    || (own.is_unspecified() && theirs.is_loopback())
            }
            None => here && is_here(host),
        }
    }
}

/// The host of a URL, and its port if that is written or known.
fn host_of(url: &Url) -> Option<(Host<&str>, u16)> {
    Some((url.host()?, url.port_or_known_default()?))
}

fn borrowed(host: &Host<String>) -> Host<&str> {
    match host {
        Host::Domain(name) => Host::Domain(name),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    }
}

/// Also where both are names of this machine.
fn is_same_or_local(own: &Host<&str>, theirs: &Host<&str>) -> bool {
    let local = |host: &Host<&str>| matches!(host, Host::Domain(name) if is_local_name(name));
    is_same(own, theirs) || (local(own) && local(theirs))
}

/// Whether a connection to it reaches this machine, whatever addresses the machine has.
fn is_here(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => is_local_name(name),
        _ => address(host).is_some_and(|address| address.is_loopback() || address.is_unspecified()),
    }
}

/// An IPv4 address in IPv6 clothes is that IPv4 address.
fn address(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(IpAddr::V6(*address).to_canonical()),
    }
}

fn is_same(own: &Host<&str>, theirs: &Host<&str>) -> bool {
    match (own, theirs) {
        (Host::Domain(own), Host::Domain(theirs)) => own
            .trim_end_matches('.')
            .eq_ignore_ascii_case(theirs.trim_end_matches('.')),
        _ => address(own).is_some() && address(own) == address(theirs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(public: &str, listen: &str) -> OwnAddresses {
        let machine = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        OwnAddresses::new(&Url::parse(public).unwrap(), listen.parse().unwrap(), &machine)
    }

    fn own(listen: &str, url: &str) -> bool {
        of("https://go.example.com", listen).lead_back(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_place_to_listen_is_an_address_or_a_name_and_a_port() {
        assert_eq!(
            "[::1]:80".parse(),
            Ok(Listen::Address("[::1]:80".parse().unwrap()))
        );
        assert_eq!("a-b.c:0".parse(), Ok(Listen::Name("a-b.c".into(), 0)));
        for wrong in [
            "",
            ":3000",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:70000",
            "127.0.0.1",
            "127.0.0.256:1",
            "a b:1",
        ] {
            assert!(wrong.parse::<Listen>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_public_name_is_ours_on_any_port() {
        for url in [
            "https://go.example.com/x",
            "http://GO.EXAMPLE.COM.:8080/",
            "http://go%2eexample.com/",
        ] {
            assert!(own("192.0.2.1:3000", url), "{url}");
        }
        for url in [
            "https://example.com/",
            "https://a.go.example.com/",
            "https://go.example.com.evil.example/",
        ] {
            assert!(!own("192.0.2.1:3000", url), "{url}");
        }
    }

    #[test]
    fn every_notation_of_an_address_that_we_listen_on_is_ours() {
        for listen in [
            "127.0.0.1:3000",
            "0.0.0.0:3000",
            "[::]:3000",
            "[::1]:3000",
            "localhost:3000",
        ] {
            for host in [
                "127.0.0.1",
                "127.1",
                "2130706433",
                "0x7f000001",
                "0177.0.0.1",
                "127.9.9.9",
                "0.0.0.0",
                "0",
                "[::1]",
                "[::]",
                "[::ffff:127.0.0.1]",
                "[0:0:0:0:0:ffff:7f00:1]",
                "localhost",
                "LOCALHOST.",
                "x.localhost",
            ] {
                assert!(own(listen, &format!("http://{host}:3000/x")), "{listen} {host}");
                assert!(!own(listen, &format!("http://{host}:3001/x")), "{listen} {host}");
                assert!(!own(listen, &format!("http://{host}/x")), "{listen} {host}");
            }
            assert!(!own(listen, "http://198.51.100.7:3000/"), "{listen}");
        }
    }

    #[test]
    fn who_listens_everywhere_owns_the_addresses_of_the_machine() {
        for (url, everywhere) in [
            ("http://192.0.2.7:80/", true),
            ("http://192.0.2.7/", true),
            ("http://[2001:db8::7]/", true),
            ("http://[::ffff:192.0.2.7]/", true),
            ("https://192.0.2.7/", false),
            ("http://192.0.2.8/", false),
        ] {
            assert_eq!(own("0.0.0.0:80", url), everywhere, "{url}");
            assert!(!own("127.0.0.1:80", url), "{url}");
        }
        assert!(own("192.0.2.1:80", "http://3221225985/") && !own("192.0.2.1:80", "http://127.0.0.1/"));
    }

    #[test]
    fn a_subscription_to_the_gateway_is_known() {
        const LISTEN: &str = "127.0.0.1:3000";
        let is = |url: &str, listen: &str| of("https://go.example", listen).are_target(url);
        for own in [
            "http://127.0.0.1:3000/api/topics/t/messages",
            "http://localhost:3000/",
            "http://0.0.0.0:3000/",
            "http://2130706433:3000/",
            "http://[::ffff:127.0.0.1]:3000/",
            "https://go.example/signup",
            "https://GO.example.:443/signup",
        ] {
            assert!(is(own, LISTEN), "{own}");
        }
        for other in [
            "http://127.0.0.1:3001/",
            "http://192.0.2.7:3000/",
            "http://go.example/",
            "https://other.example/",
        ] {
            assert!(!is(other, LISTEN), "{other}");
        }
        for own in [
            "http://127.9.9.9:3000/",
            "http://[::1]:3000/",
            "http://a.localhost:3000/",
        ] {
            assert!(is(own, "[::]:3000"), "{own}");
        }
        assert!(is("http://localhost:3000/", "localhost:3000") && is("http://Shop.:80/", "shop:80"));
        assert!(!is("http://localhost:3001/", "localhost:3000") && !is("http://192.0.2.7:80/", "shop:80"));
    }
}
