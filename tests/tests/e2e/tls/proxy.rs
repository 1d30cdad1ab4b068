//! The PROXY protocol, with TLS behind it and without.

use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Authority, ask, settings};
use crate::harness::{Gateway, Host};

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = true\n";
/// Three requests of one address in an hour.
const BOUNDED: &str = "GET /api/bounded/address/proxied HTTP/1.1\r\nhost: short.test\r\n\r\n";

fn plain(server: &str) -> String {
    format!("[server]\npublic_url = \"http://short.test\"\n{server}")
}

async fn asked(address: &str, header: &[u8], request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("the gateway listens");
    let _ = socket.write_all(header).await;
    ask(&mut socket, request).await
}

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.9 4000 80\r\n").into_bytes()
}

fn v2(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([192, 0, 2, 9, 0x0f, 0xa0, 0, 80]);
    header
}

pub async fn a_trusted_proxy_says_whose_connection_it_is(host: Host) {
    let server = format!("{TRUSTED}max_connections_per_address = 8\n");
    let gateway = Gateway::start(host, &plain(&server)).await;
    gateway_is_up(&gateway).await;
    let address = gateway.address();
    // Its bucket is the client's, in both versions, and no other's.
    for header in [v1("198.51.100.1"), v2([198, 51, 100, 1]), v1("198.51.100.1")] {
        let answer = asked(&address, &header, BOUNDED).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
    let refused = asked(&address, &v2([198, 51, 100, 1]), BOUNDED).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    // The client is not believed what a proxy would be.
    let forged = BOUNDED.replace("\r\n\r\n", "\r\nx-forwarded-for: 203.0.113.7\r\n\r\n");
    let refused = asked(&address, &v1("198.51.100.1"), &forged).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(
        asked(&address, &v1("198.51.100.2"), BOUNDED)
            .await
            .starts_with("HTTP/1.1 404")
    );

    // Its share of connections is the client's own.
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(&v1("198.51.100.3")).await.unwrap();
        assert!(ask(&mut socket, super::GET).await.starts_with("HTTP/1.1 200"));
        held.push(socket);
    }
    assert_eq!(
        asked(&address, &v1("198.51.100.3"), super::GET).await,
        "",
        "closed at once"
    );
    assert!(
        asked(&address, &v1("198.51.100.4"), super::GET)
            .await
            .starts_with("HTTP/1.1 200")
    );
    drop(held);
}

/// A proxy that looks whether we are well speaks for itself.
async fn gateway_is_up(gateway: &Gateway) {
    for local in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let answer = asked(&gateway.address(), local, super::GET).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

pub async fn headers_that_are_none_end_the_connection(host: Host) {
    let gateway = Gateway::start(host, &plain(TRUSTED)).await;
    let address = gateway.address();
    for (what, header) in [
        ("a missing one", &b""[..]),
        ("garbage", b"PROXY TCP9 a b c d\r\n"),
        ("a long one", &[b'P'; 300]),
        ("a long version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"),
    ] {
        assert_eq!(asked(&address, header, super::GET).await, "", "{what}");
    }
    // A slow one has 5 s.
    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.write_all(b"PROXY TCP4 19").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), socket.read(&mut [0; 10])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    gateway_is_up(&gateway).await;
}

pub async fn strangers_name_nobody_else(host: Host) {
    let server = "trusted_proxies = [\"192.0.2.0/24\"]\nproxy_protocol = true\n";
    let gateway = Gateway::start(host, &plain(server)).await;
    let answer = asked(&gateway.address(), &v1("198.51.100.1"), super::GET).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let answer = asked(&gateway.address(), &v2([198, 51, 100, 1]), super::GET).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    gateway.get("/health/live").send().await.expect(200);
}

pub async fn the_header_comes_before_the_handshake(host: Host) {
    let authority = Authority::new();
    let gateway = Gateway::start(host, &settings(&authority, TRUSTED, "")).await;
    let connector = tokio_rustls::TlsConnector::from(authority.client(&["http/1.1"], None));
    let name = || ServerName::try_from("go.test").expect("a name of a host");
    for (number, header) in [v1("198.51.100.1"), v2([198, 51, 100, 1])]
        .into_iter()
        .cycle()
        .take(4)
        .enumerate()
    {
        let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
        socket.write_all(&header).await.unwrap();
        let mut stream = connector
            .connect(name(), socket)
            .await
            .expect("TLS behind the header");
        let answer = ask(&mut stream, BOUNDED).await;
        let status = if number < 3 {
            "HTTP/1.1 404"
        } else {
            "HTTP/1.1 429"
        };
        assert!(answer.starts_with(status), "{answer}");
    }
    let socket = TcpStream::connect(gateway.address()).await.unwrap();
    assert!(
        connector.connect(name(), socket).await.is_err(),
        "a header that is missing"
    );
}
