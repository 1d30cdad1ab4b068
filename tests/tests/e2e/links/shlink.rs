//! Shlink's API: a session of its own client, and what browsers ask first.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Method;
use serde_json::json;
use tokio::process::Command;

use crate::harness::{ADMIN_KEY, Gateway, Host, unique};

/// Set where the client must be there: without it the case fails, instead of being left out.
const WANTED: &str = "TOLLGATE_SHLINK";

fn node() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).map(|folder| folder.join("node"));
    places.into_iter().find(|place| place.is_file())
}

pub async fn shlinks_own_client_has_a_session(host: Host) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shlink");
    let has_client = folder.join("node_modules/@shlinkio/shlink-js-sdk").is_dir();
    let (Some(node), true) = (node(), has_client) else {
        let why = "Shlink's client is not tried: it takes node, and `npm ci` in tests/shlink.";
        assert!(env::var_os(WANTED).is_none(), "{why}");
        eprintln!("{why}");
        return;
    };
    let gateway = Gateway::start(host, "").await;
    let mut command = Command::new(node);
    command
        .arg(folder.join("session.mjs"))
        .env("BASE", format!("http://{}", gateway.address()))
        .env("KEY", ADMIN_KEY)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = command.output().await.expect("node starts");
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ended.status.success(), "{}", said.concat());
    assert!(said[0].contains("the session is over"), "{}", said.concat());
}

pub async fn shlinks_calls_are_open_to_scripts_of_any_page(host: Host) {
    let gateway = Gateway::shared(host).await;
    let asked = gateway
        .call(Method::OPTIONS, "/rest/v3/short-urls")
        .header("origin", "https://app.shlink.io")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-api-key");
    let preflight = asked.outside_contract().send().await.expect(204);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        "content-type,x-api-key"
    );
    assert!(preflight.header("access-control-allow-methods").contains("PATCH"));
    let code = unique("shlink");
    let made = gateway
        .post("/rest/v3/short-urls")
        .header("x-api-key", ADMIN_KEY)
        .header("origin", "https://app.shlink.io")
        .json(&json!({ "longUrl": "https://example.com/", "customSlug": code }));
    let made = made.outside_contract().send().await.expect(200);
    assert_eq!(made.header("access-control-allow-origin"), "*");
    assert_eq!(made.json()["shortCode"], json!(code));
    // Without a key, and elsewhere with such a header, nobody gets in.
    let without = gateway
        .get("/rest/v3/tags")
        .outside_contract()
        .send()
        .await
        .expect(401);
    assert_eq!(without.header("access-control-allow-origin"), "*");
    let kind = "https://shlink.io/api/error/missing-authentication";
    assert_eq!(without.json()["type"], json!(kind));
    let elsewhere = gateway.get("/api/links").header("x-api-key", ADMIN_KEY);
    elsewhere.send().await.problem(401, "unauthorized");
    // The key counts as the caller also where limits ask.
    let twice = gateway
        .get("/rest/v3/tags")
        .header("x-api-key", ADMIN_KEY)
        .header("x-api-key", "another");
    let twice = twice.outside_contract().send().await;
    assert!(twice.status == 400, "{}", twice.shown());
}
