//! Which addresses a subscription may target: the public ones, unless it says otherwise. Looked at after names are
//! resolved, when a connection is made, so that a name cannot be pointed elsewhere after it was checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Looks public, but answers virtual machines of Azure with what only they should know, as 169.254.169.254 does elsewhere.
const AZURE_PLATFORM: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Whether `address` is an ordinary one of the public internet, after the IANA special-purpose registries
/// (RFC 6890). These are not: loopback, private, shared (CGNAT), link-local (which holds the metadata
/// services of clouds), unique-local, multicast, unspecified and reserved addresses. Nor are IPv6 forms that
/// carry such an IPv4 address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Whether the host of a URL is a special address or a local name, without resolving any name. Other names
/// are judged by their addresses, at each connection.
pub fn is_plainly_private(url: &str) -> bool {
    let url = url::Url::parse(url).ok();
    match url.as_ref().and_then(url::Url::host) {
        Some(url::Host::Ipv4(address)) => !is_public_v4(address),
        Some(url::Host::Ipv6(address)) => !is_public_v6(address),
        Some(url::Host::Domain(name)) => is_local_name(name),
        None => true,
    }
}

/// Whether a name is always this machine's: RFC 6761, section 6.3.
pub fn is_local_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)                        // this network, private, loopback
            | (100, 64..=127, _)                    // shared address space (RFC 6598)
            | (169, 254, _)                         // link-local, metadata services
            | (172, 16..=31, _) | (192, 168, _)     // private
            | (192, 0, 0 | 2) | (192, 88, 99)       // protocol assignments, documentation, 6to4 relays
            | (198, 18..=19, _) | (198, 51, 100) | (203, 0, 113) // benchmarks, documentation
            | (224.., _, _) // multicast, reserved, broadcast
    );
    !special && address != AZURE_PLATFORM
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [a, b, ..] = segments;
    let low = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(w, x, y, z)
    };
    match segments {
        // IPv4-mapped, NAT64 (RFC 6052) and 6to4 lead to the IPv4 address inside.
        [0, 0, 0, 0, 0, 0xffff, high, rest] | [0x64, 0xff9b, 0, 0, 0, 0, high, rest] => {
            is_public_v4(low(high, rest))
        }
        [0x2002, high, rest, ..] => is_public_v4(low(high, rest)),
        // Only 2000::/3 is handed out; what is special within it follows.
        _ => {
            (a & 0xe000) == 0x2000
                && !(a == 0x2001 && b < 0x0200) // protocol assignments, Teredo, ORCHID
                && !(a == 0x2001 && b == 0x0db8) // documentation
                && !(a == 0x3fff && b < 0x1000) // documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public_in_any_disguise() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::127.0.0.1",
            "64:ff9b:1::1",
            // Both ends of every range, and what metadata services answer at.
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "100.100.100.200",
            "127.0.0.0",
            "168.63.129.16",
            "169.254.0.0",
            "169.254.255.255",
            "169.254.170.2",
            "172.16.0.0",
            "192.0.0.0",
            "192.0.0.192",
            "192.0.2.255",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.0",
            "239.255.255.255",
            "240.0.0.0",
            "::ffff:0.0.0.0",
            "::ffff:10.0.0.1",
            "::ffff:100.64.0.1",
            "::ffff:168.63.129.16",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::0.0.0.0",
            "64:ff9b:1:ffff::10.0.0.1",
            "2002:a00:1::",
            "2002:c0a8:101::1",
            "2002:a9fe:a9fe::1",
            "2002::",
            "100::1",
            "2001:1ff:ffff::",
            "2001:db8:ffff::1",
            "3fff:fff::1",
            "5f00::1",
            "fc00::",
            "fdff:ffff::1",
            "fe80::",
            "febf:ffff::1",
            "fec0::1",
            "ff00::",
            "ffff:ffff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn ordinary_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.0",
            "192.0.1.0",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "2001:200::1",
            "2001:db9::1",
            "2002:808:808::1",
            "3fff:1000::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
