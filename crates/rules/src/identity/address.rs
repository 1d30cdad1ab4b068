//! The client's address behind trusted proxies.
//!
//! Only what a trusted proxy says is believed, and each proxy knows only its own peer. `Forwarded` (RFC 7239)
//! and `X-Forwarded-For` are therefore read from the right. The first address that is not a trusted proxy is
//! the client. A malformed or hidden address (`unknown`, `_secret`) ends the walk at the hop that sent it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use tollgate_api::http::Request;

/// The most hops that are walked back.
const MAX_HOPS: usize = 64;
/// The bits of an IPv6 address that name a subscriber; the rest a client chooses freely.
const IPV6_CLIENT_BITS: u32 = 64;
/// The bits before the IPv4 address in an IPv4-mapped IPv6 address.
const MAPPED_BITS: u8 = 96;

/// The trusted proxies, whose statements about addresses are believed. Parse once, ask for every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// From CIDRs or plain addresses.
    ///
    /// # Errors
    /// The index of the first entry that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, usize> {
        let net = |(index, entry): (usize, &String)| network(entry).ok_or(index);
        let networks = entries.iter().enumerate().map(net);
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// The address that the request came from, as a bucket key: an IPv4 address, an IPv6 /64
    /// (`2001:db8::/64`), or `unknown` where the adapter did not give an address.
    pub fn client_ip<'a>(&self, request: &'a Request) -> Cow<'a, str> {
        match self.resolve(request) {
            None => Cow::Borrowed("unknown"),
            // An IPv4 address has one way to be written, so the peer's own text will do.
            Some(IpAddr::V4(address)) => match request.peer.parse::<Ipv4Addr>() {
                Ok(peer) if address == peer => Cow::Borrowed(request.peer.as_str()),
                _ => Cow::Owned(address.to_string()),
            },
            Some(IpAddr::V6(address)) => Cow::Owned(format!("{}/{IPV6_CLIENT_BITS}", prefix(address))),
        }
    }

    /// The address that the request came from, whole. `None` if the peer's is not known.
    pub fn resolve(&self, request: &Request) -> Option<IpAddr> {
        let peer = plain_address(&request.peer)?;
        if !self.trust(peer) {
            return Some(peer);
        }
        let forwarded =
            field(request, "forwarded").map(|value| self.walk(peer, Elements(&value).map(forwarded_for)));
        let x_forwarded = field(request, "x-forwarded-for")
            .map(|value| self.walk(peer, value.rsplit(',').map(|text| node(text.trim()))));
        Some(match (forwarded, x_forwarded) {
            // A proxy that writes one of them passes the other one on as the client wrote it: where they
            // differ, one is forged, and there is no telling which.
            (Some(one), Some(other)) if one != other => peer,
            (Some(address), _) | (None, Some(address)) => address,
            (None, None) => peer,
        })
    }

    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut last = peer;
        for hop in hops.take(MAX_HOPS) {
            let Some(address) = hop else { break };
            last = address;
            if !self.trust(address) {
                break;
            }
        }
        last
    }

    /// Whether the request comes from a trusted proxy.
    pub fn sent(&self, request: &Request) -> bool {
        !self.0.is_empty() && plain_address(&request.peer).is_some_and(|peer| self.trust(peer))
    }

    /// Whether this is a trusted proxy.
    pub fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }
}

/// The network of one subscriber: an IPv4 address stands for itself, an IPv6 address for its /64.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => prefix(address).into(),
    }
}

fn prefix(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(address) >> IPV6_CLIENT_BITS << IPV6_CLIENT_BITS)
}

/// All lines of a list field as one value. A line that is not UTF-8 stays, as a malformed one. If it were
/// left out, the line before it, which the client wrote, would be believed instead.
fn field(request: &Request, name: &str) -> Option<String> {
    let mut lines = request
        .headers
        .iter()
        .filter(|header| header.name == name)
        .peekable();
    lines.peek()?;
    Some(
        lines
            .map(|header| String::from_utf8_lossy(&header.value))
            .collect::<Vec<_>>()
            .join(","),
    )
}

/// A CIDR or a plain address.
pub(crate) fn network(entry: &str) -> Option<IpNet> {
    let net = entry
        .parse()
        .ok()
        .or_else(|| entry.parse::<IpAddr>().ok().map(IpNet::from))?;
    // Addresses are compared in their canonical form, so a mapped network must be in it too.
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= MAPPED_BITS
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return Ipv4Net::new(v4, v6.prefix_len() - MAPPED_BITS)
            .ok()
            .map(IpNet::V4);
    }
    Some(net)
}

/// An address without a port; an IPv6 zone is cut off, an IPv4-mapped address becomes IPv4.
fn plain_address(text: &str) -> Option<IpAddr> {
    let text = text.split('%').next()?;
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return plain_address(address).filter(|_| port_is_fine && address.contains(':'));
    }
    match text.split_once(':') {
        Some((address, port)) if !port.contains(':') => plain_address(address).filter(|_| is_port(port)),
        _ => plain_address(text),
    }
}

/// A port, or an obfuscated one (RFC 7239, section 6).
fn is_port(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The elements of a `Forwarded` value, from the right. It is split from the right too, so that nothing a
/// client wrote on the left, an open quote say, changes how the last proxy's element reads.
struct Elements<'a>(&'a str);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = self.0.as_bytes();
        let mut quoted = false;
        for at in (0..bytes.len()).rev() {
            match bytes.get(at) {
                Some(b'"') => {
                    // Inside a quoted string `\"` is a character; the bytes before it tell.
                    let slashes = bytes
                        .iter()
                        .take(at)
                        .rev()
                        .take_while(|&&byte| byte == b'\\')
                        .count();
                    quoted ^= !(quoted && slashes % 2 == 1);
                }
                Some(b',') if !quoted => {
                    let element = self.0.get(at + 1..).unwrap_or("");
                    self.0 = self.0.get(..at).unwrap_or("");
                    return Some(element);
                }
                _ => {}
            }
        }
        Some(std::mem::take(&mut self.0))
    }
}

/// The address in the one `for` of a forwarded-element; `None` if there is none, or more, or it is not an
/// address.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = element.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (value, after) = after.split_at_checked(end)?;
                (value.trim_end().to_owned(), after)
            }
        };
        if name.trim().eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
        let after = after.trim_start();
        rest = if after.is_empty() {
            ""
        } else {
            after.strip_prefix(';')?.trim_start()
        };
    }
    node(&found?)
}

/// A quoted-string (RFC 9110, section 5.6.4) after its opening quote: its text, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}
