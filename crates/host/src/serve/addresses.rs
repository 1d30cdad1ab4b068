//! The addresses of this machine, as far as they can be told without asking it for a list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The addresses that this machine sends from. A UDP socket that is told its peer (addresses of documentation, RFC 5737 and
/// RFC 3849) has one; nothing is sent.
pub fn outgoing() -> Vec<IpAddr> {
    let v4 = from(
        (Ipv4Addr::UNSPECIFIED, 0).into(),
        (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
    );
    let peer = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let v6 = from((Ipv6Addr::UNSPECIFIED, 0).into(), (peer, 9).into());
    v4.into_iter().chain(v6).collect()
}

fn from(local: SocketAddr, peer: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}
