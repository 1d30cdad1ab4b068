//! TLS: what is spoken, with whom, certificates that change, and who else listens.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::command_line::{run as run_command, tollgate};
use crate::harness::tls::{Authority, ask, connect};
use crate::harness::{ADMIN_KEY, Gateway, Host, Serve, binary, eventually};

mod acme;
mod hostile;
mod proxy;

pub use acme::{
    a_certificate_is_ordered_and_renewed_and_a_dead_directory_stops_nothing,
    names_are_proved_over_plain_http_too_and_what_is_kept_is_used_again,
};
pub use hostile::{
    handshakes_that_lead_nowhere_end_in_time, one_address_shakes_hands_within_its_share,
    plain_http_at_the_port_of_tls_is_told_so,
};
pub use proxy::{
    a_trusted_proxy_says_whose_connection_it_is, headers_that_are_none_end_the_connection,
    strangers_name_nobody_else, the_header_comes_before_the_handshake,
};

/// How long a start that fails may take.
const START: Duration = Duration::from_secs(10);
const GET: &str = "GET /health/live HTTP/1.1\r\nhost: go.test\r\n\r\n";

/// Settings of `[server]` with TLS for `go.test`; `server` and `more` come before and behind.
fn settings(authority: &Authority, server: &str, more: &str) -> String {
    let files = authority.settings("public", &["go.test", "localhost"]);
    format!("[server]\npublic_url = \"https://go.test\"\n{server}\n[server.tls]\n{files}{more}\n")
}

/// Where it says that it listens too.
async fn logged_address(gateway: &Gateway, message: &str) -> String {
    let find = async || {
        let log = gateway.stderr();
        let line = log.lines().find(|line| line.contains(message))?;
        let line: Value = serde_json::from_str(line).ok()?;
        find_key(&line, "address")
    };
    eventually(message, find).await
}

fn find_key(value: &Value, key: &str) -> Option<String> {
    let fields = value.as_object()?;
    let own = fields.get(key).and_then(Value::as_str).map(str::to_owned);
    own.or_else(|| fields.values().find_map(|inner| find_key(inner, key)))
}

/// Metrics of TLS by name and labels, from where operators are served.
fn metric(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|value| value.trim().parse().ok())
}

async fn metrics<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut S) -> String {
    ask(
        stream,
        &format!("GET /metrics HTTP/1.1\r\nhost: go.test\r\nauthorization: Bearer {ADMIN_KEY}\r\n\r\n"),
    )
    .await
}

/// What a program prints; `None`, and a sentence, where it is not on this machine.
fn run(program: &str, arguments: &[&str], input: &str) -> Option<String> {
    use std::io::Write as _;
    use std::process::Stdio;
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        eprintln!("skipped in part: {program} is not on this machine");
        return None;
    };
    let _ = child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

pub async fn health_asks_this_machine_whatever_the_certificate_is_for(host: Host) {
    let authority = Authority::new();
    let gateway = Gateway::start(host, &settings(&authority, "", "")).await;
    // The name of public_url leads nowhere, and the authority is known to nobody.
    let health = || {
        let mut health = tollgate(&["health", "--listen", &gateway.address(), "--json"]);
        health.current_dir(gateway.directory());
        run_command(health)
    };
    let told = health().await.expect(0).json();
    let url = format!("https://{}", gateway.address());
    assert_eq!(
        (&told[0]["ready"], &told[0]["url"]),
        (&Value::Bool(true), &Value::from(url))
    );
    // A URL that is given is another matter.
    let given = ["health", "--url", &format!("https://{}", gateway.address())];
    let refused = run_command(tollgate(&given)).await.expect(1);
    assert!(refused.err.contains("certificate"), "{}", refused.err);
    gateway.stop().await;
    health().await.expect(1);
}

pub async fn both_versions_of_http_are_spoken_and_short_urls_are_https(host: Host) {
    let authority = Authority::new();
    let gateway = Gateway::start(host, &settings(&authority, "", "hsts = \"365d\"\n")).await;
    let address = gateway.address();
    let mut stream = connect(&authority.client(&["http/1.1"], None), &address, "go.test")
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let body = r#"{"url":"https://example.com/","code":"hello"}"#;
    let post = format!(
        "POST /api/links HTTP/1.1\r\nhost: go.test\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let made = ask(&mut stream, &post).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    assert!(made.contains("\"shortUrl\":\"https://go.test/hello\""), "{made}");
    assert!(
        made.contains("strict-transport-security: max-age=31536000\r\n"),
        "{made}"
    );
    // The same connection.
    let visit = "GET /hello HTTP/1.1\r\nhost: go.test\r\n\r\n";
    for _ in 0..3 {
        let moved = ask(&mut stream, visit).await;
        assert!(
            moved.starts_with("HTTP/1.1 302") && moved.contains("location: https://example.com/\r\n"),
            "{moved}"
        );
    }
    let login = format!(
        "POST /admin/session HTTP/1.1\r\nhost: go.test\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-length: 0\r\n\r\n"
    );
    let session = ask(&mut stream, &login).await;
    assert!(
        session.contains("set-cookie: __Host-tollgate=") && session.contains("; Secure"),
        "{session}"
    );
    // Own hosts are no targets, whatever the scheme.
    let own = post.replace("https://example.com/", "http://go.test/abcde");
    let refused = ask(&mut stream, &own).await;
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains("#/url"),
        "{refused}"
    );

    let port = address.rsplit_once(':').unwrap().1.to_owned();
    let ca = authority.file().display().to_string();
    let url = format!("https://localhost:{port}/health/live");
    let ask = |version: &str| {
        run(
            "curl",
            &[
                "-sS",
                version,
                "--cacert",
                &ca,
                "-w",
                " %{http_version} %{http_code}",
                &url,
            ],
            "",
        )
    };
    for (version, told) in [("--http2", " 2 200"), ("--http1.1", " 1.1 200")] {
        if let Some(answer) = ask(version) {
            assert!(answer.ends_with(told), "{answer}");
        }
    }
}

pub async fn old_protocols_and_weak_ciphers_are_refused_and_sessions_resumed(host: Host) {
    let authority = Authority::new();
    let gateway = Gateway::start(host, &settings(&authority, "", "")).await;
    let (address, ca) = (gateway.address(), authority.file().display().to_string());
    let openssl = |more: &[&str], input: &str| {
        let mut arguments = vec![
            "s_client",
            "-connect",
            &*address,
            "-servername",
            "go.test",
            "-CAfile",
            &*ca,
        ];
        arguments.extend(more);
        run("openssl", &arguments, input)
    };
    let Some(modern) = openssl(&["-alpn", "h2,http/1.1"], "") else {
        return;
    };
    assert!(
        modern.contains("Verify return code: 0 (ok)") && modern.contains("TLSv1.3"),
        "{modern}"
    );
    assert!(modern.contains("ALPN protocol: h2"), "{modern}");
    for (refused, arguments) in [
        ("TLS 1.0", &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..]),
        ("TLS 1.1", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]),
        (
            "CBC",
            &[
                "-tls1_2",
                "-cipher",
                "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0",
            ],
        ),
        (
            "RSA key exchange",
            &["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA:@SECLEVEL=0"],
        ),
        (
            "finite fields",
            &["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"],
        ),
        ("an unknown protocol", &["-alpn", "spdy/1"]),
    ] {
        let told = openssl(arguments, "").unwrap_or_default();
        let is_refused = told.contains("no peer certificate available");
        assert!(is_refused && told.contains("alert"), "{refused}: {told}");
    }
    let fine = openssl(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "").unwrap_or_default();
    assert!(fine.contains("Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"), "{fine}");
    assert!(fine.contains("Secure Renegotiation IS supported"), "{fine}");
    // A client that wants to shake hands again is not listened to.
    let again = openssl(&["-tls1_2"], "R\n").unwrap_or_default();
    let (_, after) = again.split_once("RENEGOTIATING").expect("it asks for it");
    let is_refused = ["no renegotiation", "unexpected eof"]
        .iter()
        .any(|how| after.contains(how));
    assert!(is_refused && !after.contains("Cipher is"), "{again}");
    for version in ["-tls1_2", "-tls1_3"] {
        let ticket = authority.file().with_file_name(format!("session{version}"));
        let ticket = ticket.display().to_string();
        // An answer is waited for: with it the tickets of TLS 1.3 have come.
        let first = openssl(
            &[version, "-ign_eof", "-sess_out", &ticket],
            &GET.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"),
        );
        assert!(first.unwrap_or_default().contains("HTTP/1.1 200"), "{version}");
        let second = openssl(&[version, "-sess_in", &ticket], "").unwrap_or_default();
        assert!(second.contains("Reused, TLSv1"), "{version}: {second}");
    }
    let mut stream = connect(&authority.client(&[], None), &address, "go.test")
        .await
        .unwrap();
    let text = metrics(&mut stream).await;
    let of = |outcome: &str| {
        metric(
            &text,
            &format!("tollgate_tls_handshakes_total{{listener=\"public\",outcome=\"{outcome}\"}}"),
        )
    };
    assert_eq!(of("resumed"), Some(2.0), "{text}");
    assert!(of("full") >= Some(4.0) && of("failed") >= Some(6.0), "{text}");
}

pub async fn changed_certificates_are_taken_and_broken_ones_are_not(host: Host) {
    let authority = Authority::new();
    let gateway = Gateway::start(host, &settings(&authority, "", "")).await;
    let (address, client) = (gateway.address(), authority.client(&[], None));
    let mut stays = connect(&client, &address, "go.test")
        .await
        .expect("the first certificate");
    assert!(
        connect(&client, &address, "new.test").await.is_err(),
        "it is for another name"
    );
    let (cert, key) = authority.issue("public", &["go.test", "new.test"]);
    eventually("the new certificate", async || {
        connect(&client, &address, "new.test").await.ok()
    })
    .await;
    assert!(ask(&mut stays, GET).await.starts_with("HTTP/1.1 200"));
    // A key that does not fit is not taken.
    let (other, _) = authority.issue("other", &["third.test"]);
    let good = fs::read(&cert).unwrap();
    fs::copy(other, &cert).unwrap();
    gateway.says("are not taken").await;
    assert!(connect(&client, &address, "new.test").await.is_ok());
    assert!(ask(&mut stays, GET).await.starts_with("HTTP/1.1 200"));
    fs::write(&key, "no key").unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(connect(&client, &address, "new.test").await.is_ok());
    fs::write(&cert, good).unwrap();
    let text = metrics(&mut stays).await;
    assert!(text.starts_with("HTTP/1.1 200"), "connections stay: {text}");
    let reloads = |outcome: &str| {
        metric(
            &text,
            &format!("tollgate_tls_reloads_total{{listener=\"public\",outcome=\"{outcome}\"}}"),
        )
    };
    assert_eq!(
        (reloads("taken"), reloads("refused")),
        (Some(1.0), Some(2.0)),
        "{text}"
    );
    assert!(
        text.contains("tollgate_tls_certificate_expiry_seconds{listener=\"public\",file="),
        "{text}"
    );
    let secret = gateway.stderr();
    assert!(
        !secret.contains("PRIVATE") && !secret.contains("no key\""),
        "{secret}"
    );
}

pub async fn plain_http_is_led_to_https(host: Host) {
    let authority = Authority::new();
    let gateway = Gateway::start(
        host,
        &settings(&authority, "", "redirect_http = \"127.0.0.1:0\"\n"),
    )
    .await;
    let at = logged_address(&gateway, "plain HTTP is redirected here").await;
    for (host, target, location) in [
        ("go.test", "/abc?x=1", "https://go.test/abc?x=1"),
        ("localhost:80", "/", "https://localhost/"),
        ("evil.test", "/abc", "https://go.test/abc"),
        ("go.test", "/metrics", "https://go.test/metrics"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(&at).await.unwrap();
        let answer = ask(
            &mut socket,
            &format!("POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
        assert!(answer.contains(&format!("location: {location}\r\n")), "{answer}");
        assert!(!answer.contains("strict-transport-security"), "{answer}");
    }
    let mut socket = tokio::net::TcpStream::connect(&at).await.unwrap();
    let answer = ask(&mut socket, "GET / HTTP/1.1\r\nhost: a b\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && !answer.contains("location"),
        "{answer}"
    );
}

pub async fn operators_have_a_listener_of_their_own(host: Host) {
    let authority = Authority::new();
    let ca = authority.file();
    let files = authority.settings("admin", &["admin.test"]);
    let text = format!(
        "[server]\npublic_url = \"http://short.test\"\nadmin_listen = \"127.0.0.1:0\"\nmax_connections = 40\nmax_connections_per_address = 40\n\
         [server.admin_tls]\n{files}client_ca = \"{}\"\n",
        ca.display()
    );
    let gateway = Gateway::start(host, &text).await;
    let at = logged_address(&gateway, "operators are served here").await;
    for path in [
        "/metrics",
        "/admin",
        "/admin/",
        "/admin/session",
        "/admin/events",
        "/admin/assets/app.js",
    ] {
        gateway
            .get(path)
            .outside_contract()
            .key(ADMIN_KEY)
            .send()
            .await
            .problem(404, "not-found");
    }
    gateway
        .post("/admin/session")
        .outside_contract()
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
    gateway.get("/health/ready").send().await.expect(200);
    gateway.get("/docs").send().await.expect(200);
    gateway.get("/api/links").key(ADMIN_KEY).send().await.expect(200);

    // Without a certificate of their own nobody gets in; another authority's is none.
    let stranger = Authority::new();
    let (cert, key) = stranger.issue("stranger", &["operator"]);
    for client in [
        authority.client(&[], None),
        authority.client(&[], Some((&cert, &key))),
    ] {
        let answer = match connect(&client, &at, "admin.test").await {
            Ok(mut stream) => ask(&mut stream, GET).await,
            Err(_) => String::new(),
        };
        assert_eq!(answer, "");
    }
    // A crowd at the public listener keeps no operator out.
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(tokio::net::TcpStream::connect(gateway.address()).await.unwrap());
    }
    let (cert, key) = authority.issue("operator", &["operator"]);
    let client = authority.client(&[], Some((&cert, &key)));
    let mut stream = connect(&client, &at, "admin.test").await.expect("an operator");
    let text = metrics(&mut stream).await;
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("tollgate_build_info"),
        "{text}"
    );
    for path in ["/admin", "/health/ready"] {
        let answer = ask(
            &mut stream,
            &format!("GET {path} HTTP/1.1\r\nhost: admin.test\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let login = format!(
        "POST /admin/session HTTP/1.1\r\nhost: admin.test\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-length: 0\r\n\r\n"
    );
    let session = ask(&mut stream, &login).await;
    let cookie = session
        .split_once("set-cookie: ")
        .and_then(|(_, rest)| rest.split_once(';'));
    let cookie = cookie.expect("a session").0.to_owned();
    let read = format!(
        "GET /api/keys HTTP/1.1\r\nhost: admin.test\r\ncookie: {cookie}\r\nx-tollgate-csrf: 1\r\n\r\n"
    );
    assert!(ask(&mut stream, &read).await.starts_with("HTTP/1.1 200"));
    drop(crowd);
    // A session is good where it was made, and not among the crowd.
    eventually("a place for the next", async || {
        let call = gateway.get("/api/keys").outside_contract();
        let answer = call
            .header("cookie", &cookie)
            .header("x-tollgate-csrf", "1")
            .send()
            .await;
        (answer.status == 401).then_some(())
    })
    .await;
}

pub async fn check_reads_certificates_as_serve_does(_: Host) {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = Command::new(binary())
            .arg("check")
            .arg("--config")
            .arg(&file)
            .output()
            .expect("it starts");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    };
    let good = settings(&authority, "", "");
    let (is_sound, told) = check(&good);
    assert!(
        is_sound && told.contains("for go.test, localhost; expires "),
        "{told}"
    );
    let (other, _) = authority.issue("other", &["go.test"]);
    let (is_sound, told) = check(&good.replace("public.crt", "other.crt"));
    assert!(
        !is_sound && told.contains("server.tls") && told.contains(&*other.display().to_string()),
        "{told}"
    );
    let (is_sound, told) = check(&good.replace("public.key", "nowhere.key"));
    assert!(!is_sound && told.contains("nowhere.key"), "{told}");
    let serve = Serve::with_key(ADMIN_KEY);
    let mut program = serve.start(directory.path());
    let started = program.line(crate::harness::address, START).await;
    assert!(
        started.unwrap_err().contains("nowhere.key"),
        "serve refuses what check refuses"
    );
}
