//! Where the gateway listens: names to addresses, and the socket.

use anyhow::{Context as _, Result, anyhow, bail};
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};

/// Connections that the kernel queues before we accept them.
const BACKLOG: u32 = 4_096;
/// Ports below it take rights.
const FIRST_FREE_PORT: u16 = 1_024;

/// The addresses of `server.listen`: the one that it is, or those that its name has, IPv4 before IPv6. May wait for a
/// name server.
///
/// # Errors
/// It is neither, or the name is not known here.
pub fn resolve(listen: &str) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = listen.parse() {
        return Ok(vec![address]);
    }
    let what = "must be an address and a port, e.g. 127.0.0.1:3000";
    let (host, port) = listen.rsplit_once(':').unwrap_or_default();
    if host.is_empty() || port.parse::<u16>().is_err() {
        bail!("server.listen: {listen:?} {what}");
    }
    let found = listen
        .to_socket_addrs()
        .with_context(|| format!("server.listen: {listen:?} {what}, or a name that this machine knows"))?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() {
        bail!("server.listen: the name in {listen:?} has no address");
    }
    Ok(addresses)
}

/// Listens on the first of the addresses that can be had.
///
/// # Errors
/// None can; why the first cannot.
pub fn bind(addresses: &[SocketAddr]) -> Result<TcpListener> {
    let mut first = None;
    for address in addresses {
        match listener(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => first = first.or(Some(why(*address, &error))),
        }
    }
    Err(first.unwrap_or_else(|| anyhow!("there is no address to listen on")))
}

fn listener(address: SocketAddr) -> Result<TcpListener, Error> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn why(address: SocketAddr, error: &Error) -> anyhow::Error {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => "is another program there?",
        ErrorKind::PermissionDenied if address.port() < FIRST_FREE_PORT => {
            "ports below 1024 take rights that this user does not have"
        }
        ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => return anyhow!("cannot listen on {address}: {error}"),
    };
    anyhow!("cannot listen on {address}: {error}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_resolved() {
        assert_eq!(resolve("[::1]:80").unwrap(), ["[::1]:80".parse().unwrap()]);
        let local = resolve("localhost:3000").unwrap();
        assert!(
            local
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 3_000),
            "{local:?}"
        );
        for wrong in [
            "",
            ":3000",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:70000",
            "127.0.0.1",
            "no.such.name.invalid:80",
        ] {
            let error = format!("{:#}", resolve(wrong).unwrap_err());
            assert!(error.contains("server.listen"), "{wrong}: {error}");
        }
    }

    #[test]
    fn each_reason_not_to_listen_has_its_own_sentence() {
        let taken = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let told = |address: &str| format!("{:#}", bind(&[address.parse().unwrap()]).unwrap_err());
        let address = taken.local_addr().unwrap();
        assert!(told(&address.to_string()).contains("another program"));
        let strange = told("192.0.2.1:0");
        assert!(
            strange.contains("no such address") && !strange.contains("another program"),
            "{strange}"
        );
        let denied = why(
            "127.0.0.1:80".parse().unwrap(),
            &ErrorKind::PermissionDenied.into(),
        )
        .to_string();
        assert!(denied.contains("below 1024"), "{denied}");
        // The next address is taken where the first cannot be had.
        let second = bind(&[address, "127.0.0.1:0".parse().unwrap()]).unwrap();
        assert_ne!(second.local_addr().unwrap(), address);
    }
}
