//! Which addresses lead back to the gateway itself: links to them would make visitors go round in circles, and messages to
//! them would come back as new ones.

use std::net::IpAddr;

use url::{Host, Url};

use crate::config::Config;

/// Whether a URL's host and port are our own: the host of `server.public_url` on any port, since a proxy may listen on
/// several; and at the port of `server.listen` every name and address that reaches it. `host` as [`Url`] reads it, so that
/// no notation of an address (`0x7f.1`, `2130706433`) is a way around.
pub fn is_own_address(config: &Config, host: &Host<&str>, port: u16) -> bool {
    let public = Url::parse(&config.server.public_url).ok();
    if let Some(own) = public.as_ref().and_then(Url::host)
        && is_same(&own, host)
    {
        return true;
    }
    let Some((listen, own_port)) = config.server.listen.rsplit_once(':') else {
        return false;
    };
    own_port.parse() == Ok(port) && listens_on(config, listen, host)
}

/// As [`is_own_address`], of a whole URL. One without a host or a known port is none of ours.
pub fn is_own_url(config: &Config, url: &Url) -> bool {
    match (url.host(), url.port_or_known_default()) {
        (Some(host), Some(port)) => is_own_address(config, &host, port),
        _ => false,
    }
}

fn listens_on(config: &Config, listen: &str, host: &Host<&str>) -> bool {
    let listen = listen.trim_start_matches('[').trim_end_matches(']');
    let Ok(own) = listen.parse::<IpAddr>() else {
        let by_name = is_same(&Host::Domain(listen), host);
        return by_name || (is_local_name(listen) && is_here(host));
    };
    let own = own.to_canonical();
    match own.is_unspecified() {
        true => {
            is_here(host) || address(host).is_some_and(|theirs| config.server.own_addresses.contains(&theirs))
        }
        false => address(host) == Some(own) || (own.is_loopback() && is_here(host)),
    }
}

/// Whether whoever connects to it reaches this machine, whatever addresses it has.
fn is_here(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => is_local_name(name),
        _ => address(host).is_some_and(|address| address.is_loopback() || address.is_unspecified()),
    }
}

/// RFC 6761, section 6.3.
fn is_local_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
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

    fn own(listen: &str, url: &str) -> bool {
        let mut config = Config::default();
        config.server.public_url = "https://go.example.com".into();
        config.server.listen = listen.into();
        config.server.own_addresses = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        is_own_url(&config, &Url::parse(url).unwrap())
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
}
