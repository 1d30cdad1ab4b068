//! A certificate that the gateway orders by itself, from Pebble: the directory server that Let's Encrypt tests clients with.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;
use rustls::ClientConfig;
use serde_json::json;

use super::*;
use crate::harness::Program;
use crate::harness::tls::trusting;

/// How long a certificate is for, in the case that sees it renewed: after two thirds of it.
const SHORT_SECONDS: u64 = 24;
/// An account of the authority's own, which it asks for.
const EXTERNAL_ID: &str = "kid-1";
const EXTERNAL_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// Pebble, and the name server that it asks: all names lead to this machine.
struct Pebble {
    _program: Program,
    _names: Program,
    manager: String,
}

/// Where it will be, and its own certificate.
struct Place {
    authority: Authority,
    port: u16,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            authority: Authority::new(),
            port: free_port(),
            directory: tempfile::tempdir().expect("there is a directory for such things"),
        }
    }

    /// The settings of a gateway that orders there.
    fn acme(&self, domains: &str, more: &str) -> String {
        format!(
            "acme = {{ domains = [{domains}], contact = \"ops@go.test\", directory = \"https://localhost:{}/dir\", \
             directory_ca = \"{}\"{more} }}\n",
            self.port,
            self.authority.file().display()
        )
    }

    /// Starts it; it looks for names' proofs at these ports. `None`, and a sentence, where it is not on this machine.
    async fn start(&self, tls_port: u16, http_port: u16, more: &[(&str, Value)]) -> Option<Pebble> {
        let at = |name: &str| self.directory.path().join(name);
        let (cert, key) = self.authority.issue("pebble", &["localhost"]);
        let (manager, names) = (free_port(), free_port());
        let mut settings = json!({
            "listenAddress": format!("127.0.0.1:{}", self.port), "managementListenAddress": format!("127.0.0.1:{manager}"),
            "certificate": cert, "privateKey": key, "httpPort": http_port, "tlsPort": tls_port,
        });
        for (name, value) in more {
            settings[*name] = value.clone();
        }
        fs::write(at("pebble.json"), json!({ "pebble": settings }).to_string()).expect("it is ours");
        let mut server = Command::new(program("pebble-challtestsrv"));
        server.args(["-dns01", &format!("127.0.0.1:{names}"), "-defaultIPv6", ""]);
        server.args(["-management", &format!("127.0.0.1:{}", free_port())]);
        server.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let mut pebble = Command::new(program("pebble"));
        pebble
            .arg("-config")
            .arg(at("pebble.json"))
            .args(["-dnsserver", &format!("127.0.0.1:{names}")])
            .env("PEBBLE_VA_NOSLEEP", "1");
        let (names, pebble) = (
            Program::start(server, &at("names")),
            Program::start(pebble, &at("pebble")),
        );
        let manager = format!("127.0.0.1:{manager}");
        eventually("the directory answers", async || {
            tokio::net::TcpStream::connect(&manager).await.ok()
        })
        .await;
        Some(Pebble {
            _program: pebble,
            _names: names,
            manager,
        })
    }

    /// A client that trusts what this Pebble issues: its root is another at every start.
    async fn client(&self, pebble: &Pebble) -> Arc<ClientConfig> {
        let own = self.authority.client(&["http/1.1"], None);
        let mut stream = connect(&own, &pebble.manager, "localhost")
            .await
            .expect("it has our certificate");
        let answer = ask(&mut stream, "GET /roots/0 HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        trusting(&answer)
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    socket.local_addr().expect("it has one").port()
}

/// Pebble's programs (Debian's package `pebble`): in `TOLLGATE_PEBBLE`, a directory, or found by `PATH`.
fn program(name: &str) -> PathBuf {
    std::env::var_os("TOLLGATE_PEBBLE")
        .map_or_else(|| name.into(), |directory| Path::new(&directory).join(name))
}

fn is_there() -> bool {
    let is_there = ["pebble", "pebble-challtestsrv"]
        .iter()
        .all(|name| Command::new(program(name)).arg("-help").output().is_ok());
    if !is_there {
        eprintln!("skipped: pebble is not on this machine (apt install pebble)");
    }
    is_there
}

fn port_of(address: &str) -> u16 {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    port.and_then(|port| port.parse().ok()).expect("an address")
}

/// What operators see.
async fn orders(gateway: &Gateway, outcome: &str) -> f64 {
    let at = logged_address(gateway, "operators are served here").await;
    let mut stream = tokio::net::TcpStream::connect(&at).await.expect("a place");
    let text = metrics(&mut stream).await;
    metric(
        &text,
        &format!("tollgate_tls_acme_orders_total{{outcome=\"{outcome}\"}}"),
    )
    .unwrap_or_else(|| panic!("{text}"))
}

pub async fn a_certificate_is_ordered_and_renewed_and_a_dead_directory_stops_nothing(host: Host) {
    if !is_there() {
        return;
    }
    let place = Place::new();
    let files = place.authority.settings("public", &["files.test"]);
    let account = format!(", external_account = {{ id = \"{EXTERNAL_ID}\", key = \"{EXTERNAL_KEY}\" }}");
    let text = format!(
        "[server]\npublic_url = \"https://go.test\"\nadmin_listen = \"127.0.0.1:0\"\n[server.tls]\n{files}{}",
        place.acme("\"go.test\", \"www.go.test\"", &account)
    );
    // Its directory is not there.
    let gateway = Gateway::start(host, &text).await;
    let address = gateway.address();
    gateway.says("no certificate was issued").await;
    let own = place.authority.client(&[], None);
    let mut stays = connect(&own, &address, "files.test").await.expect("from files");
    assert!(ask(&mut stays, GET).await.starts_with("HTTP/1.1 200"));
    assert_eq!(orders(&gateway, "issued").await, 0.0);

    let more = [
        ("certificateValidityPeriod", json!(SHORT_SECONDS)),
        ("externalAccountBindingRequired", json!(true)),
        ("externalAccountMACKeys", json!({ EXTERNAL_ID: EXTERNAL_KEY })),
    ];
    let pebble = place
        .start(port_of(&address), 1, &more)
        .await
        .expect("it is there");
    // Nobody waits for the next attempt who asks for a reload.
    gateway.signal(Signal::HUP);
    let client = place.client(&pebble).await;
    for name in ["go.test", "www.go.test"] {
        eventually("the certificate is issued", async || {
            connect(&client, &address, name).await.ok()
        })
        .await;
    }
    assert!(connect(&own, &address, "files.test").await.is_ok(), "files go on");
    let kept = gateway.directory().join("data/acme");
    let mode = |path: &Path| fs::metadata(path).expect("it is kept").permissions().mode() & 0o777;
    assert_eq!(mode(&kept), 0o700);
    for file in ["account.json", "certificate.pem"] {
        assert_eq!(mode(&kept.join(file)), 0o600, "{file}");
    }
    let first = fs::read(kept.join("certificate.pem")).unwrap();
    assert_eq!(orders(&gateway, "issued").await, 1.0);
    assert!(orders(&gateway, "failed").await >= 1.0);

    // It is renewed before it ends, on what is kept of the account, and nobody is sent away.
    eventually("it is renewed", async || {
        (fs::read(kept.join("certificate.pem")).unwrap() != first).then_some(())
    })
    .await;
    eventually("the new one is served", async || {
        connect(&client, &address, "go.test").await.ok()
    })
    .await;
    assert!(
        ask(&mut stays, GET).await.starts_with("HTTP/1.1 200"),
        "connections stay"
    );
    let log = gateway.stderr();
    assert_eq!(log.matches("an ACME account was made").count(), 1, "{log}");
    for secret in [EXTERNAL_KEY, "PRIVATE KEY"] {
        assert!(!log.contains(secret), "{log}");
    }
    // The authority's protocol alone leads to no HTTP, and to no certificate where nothing is asked for.
    let asks = place.authority.client(&["acme-tls/1"], None);
    assert!(connect(&asks, &address, "go.test").await.is_err());
}

pub async fn names_are_proved_over_plain_http_too_and_what_is_kept_is_used_again(host: Host) {
    if !is_there() {
        return;
    }
    let place = Place::new();
    let settings = |domains: &str| {
        format!(
            "[server]\npublic_url = \"https://go.test\"\nadmin_listen = \"127.0.0.1:0\"\n[server.tls]\nredirect_http = \"127.0.0.1:0\"\n{}",
            place.acme(domains, ", challenge = \"http-01\"")
        )
    };
    let (one, two) = (settings("\"go.test\""), settings("\"go.test\", \"new.test\""));
    let gateway = Gateway::start(host, &one).await;
    let address = gateway.address();
    let no_certificate = place.authority.client(&[], None);
    assert!(
        connect(&no_certificate, &address, "go.test").await.is_err(),
        "there is none, and none is made up"
    );
    let plain = logged_address(&gateway, "plain HTTP is redirected here").await;
    let pebble = place.start(1, port_of(&plain), &[]).await.expect("it is there");
    gateway.signal(Signal::HUP);
    let client = place.client(&pebble).await;
    eventually("the certificate is issued", async || {
        connect(&client, &address, "go.test").await.ok()
    })
    .await;
    let mut socket = tokio::net::TcpStream::connect(&plain).await.unwrap();
    let stranger = ask(
        &mut socket,
        "GET /.well-known/acme-challenge/x HTTP/1.1\r\nhost: go.test\r\n\r\n",
    )
    .await;
    assert!(stranger.starts_with("HTTP/1.1 308"), "{stranger}");

    // A restart orders nothing, and needs no directory.
    drop(pebble);
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    let address = gateway.address();
    assert!(connect(&client, &address, "go.test").await.is_ok());
    assert_eq!(
        orders(&gateway, "issued").await + orders(&gateway, "failed").await,
        0.0
    );

    // Another name is another order. This Pebble knows nothing of the account.
    let plain = logged_address(&gateway, "plain HTTP is redirected here").await;
    let pebble = place.start(1, port_of(&plain), &[]).await.expect("it is there");
    let client = place.client(&pebble).await;
    let file = gateway.directory().join("tollgate.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&one));
    fs::write(&file, text.replace(&one, &two)).unwrap();
    eventually("the certificate for both is issued", async || {
        connect(&client, &address, "new.test").await.ok()
    })
    .await;
    assert!(connect(&client, &address, "go.test").await.is_ok());
    assert_eq!(orders(&gateway, "issued").await, 1.0);
}
