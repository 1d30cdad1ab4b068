//! Listening: resolves names to addresses, and opens the socket.

use anyhow::{Context as _, Result, anyhow, bail};
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use tollgate_rules::own_address::Listen;

/// Connections that the kernel queues before we accept them.
const BACKLOG: u32 = 4_096;
/// Ports below it take rights.
const FIRST_FREE_PORT: u16 = 1_024;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// `server.listen`.
    Public,
    /// `server.admin_listen`.
    Admin,
    /// `server.tls.redirect_http`.
    Redirect,
}

/// The addresses of a setting: the one that it is, or those that its name has, IPv4 before IPv6. May wait for a
/// name server.
///
/// # Errors
/// The name is not known here.
pub fn resolve(listen: &Listen, setting: &str) -> Result<Vec<SocketAddr>> {
    let (name, port) = match listen {
        Listen::Address(address) => return Ok(vec![*address]),
        Listen::Name(name, port) => (name.as_str(), *port),
    };
    let found = (name, port).to_socket_addrs();
    let found =
        found.with_context(|| format!("{setting}: {name:?} must be a name that this machine knows"))?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() {
        bail!("{setting}: the name {name:?} has no address");
    }
    Ok(addresses)
}

/// Sockets that a service manager has opened for us and listens on (socket activation, `sd_listen_fds(3)`).
#[derive(Debug, Default)]
pub struct Inherited(Vec<(Listener, TcpListener)>);

impl Inherited {
    /// Those of this process: `admin` and `redirect` by these names (`FileDescriptorName=`), any other is the public one. To be called
    /// before there are other threads: it removes variables of the environment.
    ///
    /// # Errors
    /// One of them is no TCP socket.
    pub fn take() -> Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = listenfd::ListenFd::from_env();
        let mut all = Vec::new();
        for index in 0..sockets.len() {
            let listener = match names.next() {
                Some("admin") => Listener::Admin,
                Some("redirect") => Listener::Redirect,
                _ => Listener::Public,
            };
            let socket = sockets.take_tcp_listener(index);
            let socket = socket.context("a socket that the service manager has opened cannot be used")?;
            if let Some(socket) = socket {
                socket.set_nonblocking(true)?;
                all.push((listener, socket));
            }
        }
        Ok(Self(all))
    }

    /// The first for this listener.
    pub fn of(&mut self, listener: Listener) -> Option<TcpListener> {
        let at = self.0.iter().position(|(one, _)| *one == listener)?;
        Some(self.0.swap_remove(at).1)
    }
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
        let resolved = |text: &str| resolve(&text.parse().unwrap(), "server.listen");
        assert_eq!(resolved("[::1]:80").unwrap(), ["[::1]:80".parse().unwrap()]);
        let local = resolved("localhost:3000").unwrap();
        assert!(
            local
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 3_000),
            "{local:?}"
        );
        let error = format!("{:#}", resolved("no.such.name.invalid:80").unwrap_err());
        assert!(error.contains("server.listen"), "{error}");
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
