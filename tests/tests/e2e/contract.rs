//! The contract itself: the document and the page that are served, and what others make of them. That every answer of every
//! case is as the document says, the harness sees to (`harness/contract.rs`).

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{ADMIN_KEY, Gateway, Host, Serve, root};

/// The file that a gateway carries.
const FILE: &str = include_str!("../../../crates/api/openapi.json");
/// How long schemathesis may take, and how many requests it makes of one call.
const LIMIT: Duration = Duration::from_secs(200);
const EXAMPLES: &str = "40";
/// The checks: no 5xx, no undocumented status or content type, no answer outside its schema.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";

pub async fn document_and_page_are_served(host: Host) {
    let gateway = Gateway::shared(host).await;
    let document = gateway.get("/openapi.json").send().await.expect(200);
    assert!(document.text() == FILE, "another document than the repository's");
    assert_eq!(document.header("content-type"), "application/json");
    let page = gateway.get("/docs").send().await.expect(200);
    assert!(page.text().contains("/openapi.json"), "{}", page.shown());
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    for (path, first) in [("/openapi.json", &document), ("/docs", &page)] {
        assert_eq!(first.header("cache-control"), "public, max-age=300");
        let known = first.header("etag");
        let again = gateway
            .get(path)
            .header("if-none-match", known)
            .send()
            .await
            .expect(304);
        assert_eq!((again.body.len(), again.header("etag")), (0, known));
        gateway
            .get(path)
            .header("if-none-match", "\"another\"")
            .send()
            .await
            .expect(200);
        let head = gateway.head(path).send().await.expect(200);
        assert_eq!((head.body.len(), head.header("etag")), (0, known));
        let smaller = gateway
            .get(path)
            .header("accept-encoding", "br, gzip")
            .send()
            .await;
        let smaller = smaller.expect(200);
        assert_eq!(smaller.header("content-encoding"), "gzip");
        assert_eq!(smaller.header("vary"), "accept-encoding");
        assert_eq!(&smaller.body[..2], [0x1f, 0x8b]);
        assert!(smaller.body.len() * 2 < first.body.len() && smaller.header("etag") != known);
        let refused = gateway.post(path).send().await;
        refused.problem(405, "method-not-allowed");
        assert_eq!(refused.header("allow"), "GET, HEAD");
    }
}

/// Where schemathesis is, if the environment says so.
fn schemathesis() -> Option<PathBuf> {
    env::var_os("TOLLGATE_SCHEMATHESIS").map(Into::into)
}

pub async fn schemathesis_finds_nothing(host: Host) {
    let Some(program) = schemathesis() else {
        eprintln!(
            "TOLLGATE_SCHEMATHESIS names no program: skipped (python3 -m venv build/schemathesis && \
             build/schemathesis/bin/pip install -r tests/schemathesis/requirements.txt)"
        );
        return;
    };
    let gateway = Gateway::start_as(host, Serve::with_key(ADMIN_KEY), "").await;
    let configuration = root().join("tests/schemathesis");
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(configuration.join("schemathesis.toml"))
        .args(["run", &format!("http://{}/openapi.json", gateway.address())])
        .args([
            "--checks",
            CHECKS,
            "--max-examples",
            EXAMPLES,
            "--seed",
            "1",
            "--workers",
            "1",
        ])
        .args(["-H", &format!("authorization: Bearer {ADMIN_KEY}")])
        .args(["-H", "x-client-id: schemathesis", "-H", "x-user-id: schemathesis"])
        .env("SCHEMATHESIS_HOOKS", configuration.join("hooks.py"))
        .env("NO_COLOR", "1")
        .current_dir(gateway.directory());
    let running = tokio::task::spawn_blocking(move || command.output());
    let ended = tokio::time::timeout(LIMIT, running)
        .await
        .expect("it ends in time");
    let output = ended.expect("nothing in it panics").expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}");
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // It was there, and served everything it was asked for.
    let _: Value = gateway.get("/health/ready").send().await.expect(200).json();
}
