//! Clients that misuse the handshake.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Authority, GET, ask, connect, metric, metrics, settings};
use crate::harness::{Gateway, Host, crowd};

/// How long it takes until a connection is closed by the other end, at most `limit`; and what came until then.
async fn closes(mut socket: TcpStream, limit: Duration) -> (Duration, Vec<u8>) {
    let began = Instant::now();
    let mut received = Vec::new();
    let _ = tokio::time::timeout(limit, socket.read_to_end(&mut received)).await;
    (began.elapsed(), received)
}

/// The first record of a handshake, as a sound client sends it.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let name = "go.test".to_owned().try_into().expect("a name of a host");
    let mut client = rustls::ClientConnection::new(authority.client(&[], None), name).expect("it is sound");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a vector takes all");
    bytes
}

pub async fn handshakes_that_lead_nowhere_end_in_time(host: Host) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(6);
    let authority = Authority::new();
    let gateway = Gateway::start(host, &settings(&authority, "", "handshake_timeout = \"1s\"\n")).await;
    let (address, hello) = (gateway.address(), client_hello(&authority));
    let before = gateway.memory();
    let huge = [&[22, 3, 1, 0x40, 0, 1, 1, 0, 0][..], &vec![0; 70_000]].concat();
    let garbage: Vec<u8> = std::iter::once(22)
        .chain((0..4_000).map(|_| fastrand::u8(..)))
        .collect();
    let (mut alert, mut application) = (hello.clone(), hello.clone());
    alert[0] = 21;
    application[0] = 23;
    let kinds = [
        ("silence", Vec::new(), true),
        ("half a hello", hello[..hello.len() / 2].to_vec(), true),
        ("a hello and no more", hello.clone(), true),
        ("one byte", vec![22], true),
        ("a huge hello", huge, false),
        ("garbage in a record", garbage, false),
        ("an alert first", alert, false),
        ("data first", application, false),
        ("a hello twice", [&hello[..], &hello].concat(), false),
    ];
    let clients = (0..40).flat_map(|_| kinds.clone());
    let attack = crowd(400, clients, |(what, bytes, waits)| {
        let address = address.clone();
        async move {
            let mut socket = TcpStream::connect(address).await.expect("the gateway listens");
            let _ = socket.write_all(&bytes).await;
            let (took, _) = closes(socket, LIMIT).await;
            (what, took, waits)
        }
    });
    let client = authority.client(&[], None);
    let others = async {
        for _ in 0..10 {
            let mut stream = connect(&client, &address, "go.test")
                .await
                .expect("others get in");
            assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let (ended, ()) = tokio::join!(attack, others);
    for (what, took, waits) in ended {
        assert!(took < LIMIT, "{what}: {took:?}");
        assert!(!waits || took > TIMEOUT / 2, "{what} was given {took:?}");
    }
    // A handshake drip by drip has no more time.
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let began = Instant::now();
    for byte in &hello {
        if socket.write_all(&[*byte]).await.is_err() || began.elapsed() > LIMIT {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let mut stream = connect(&client, &address, "go.test").await.unwrap();
    let text = metrics(&mut stream).await;
    let of = |outcome: &str| {
        metric(
            &text,
            &format!("tollgate_tls_handshakes_total{{listener=\"public\",outcome=\"{outcome}\"}}"),
        )
    };
    assert!(
        of("timed_out") >= Some(160.0) && of("failed") >= Some(150.0),
        "{text}"
    );
    assert!(
        gateway.memory() < before + (64 << 20),
        "memory grew to {}",
        gateway.memory()
    );
}

pub async fn one_address_shakes_hands_within_its_share(host: Host) {
    let authority = Authority::new();
    let server = "max_connections = 400\nmax_connections_per_address = 100\n";
    let gateway = Gateway::start(
        host,
        &settings(&authority, server, "handshake_timeout = \"5s\"\n"),
    )
    .await;
    let (address, hello) = (gateway.address(), client_hello(&authority));
    // Half handshakes by the thousand: those beyond the share are closed at once.
    let half = crowd(500, 0..2_000, |_| {
        let (address, hello) = (address.clone(), hello.clone());
        async move {
            let mut socket = TcpStream::connect(address).await.expect("the gateway listens");
            let _ = socket.write_all(&hello[..20]).await;
            let (took, _) = closes(socket, Duration::from_millis(600)).await;
            took < Duration::from_millis(500)
        }
    });
    let closed = half.await.into_iter().filter(|closed| *closed).count();
    assert!(closed >= 1_000, "{closed} were closed at once");
    // 127.0.0.2 is another address.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(authority.client(&[], None));
    let name = "go.test".to_owned().try_into().expect("a name of a host");
    let mut stream = connector.connect(name, stream).await.expect("others get in");
    assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200"));
}

pub async fn plain_http_at_the_port_of_tls_is_told_so(host: Host) {
    let authority = Authority::new();
    let gateway = Gateway::start(host, &settings(&authority, "", "")).await;
    for request in [
        GET.to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        format!("POST / HTTP/1.1\r\n\r\n{}", "x".repeat(40_000)),
    ] {
        let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
        let answer = ask(&mut socket, &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("https://"),
            "{answer}"
        );
        assert!(
            answer.contains("application/problem+json") && answer.contains("x-request-id"),
            "{answer}"
        );
    }
    // Who names a host that no certificate is for gets the first one, and does not trust it.
    let client = authority.client(&[], None);
    let error = connect(&client, &gateway.address(), "unknown.test")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}
