//! API keys: which calls each scope allows.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Gateway, Host, Serve, eventually, in_seconds, unique};

async fn keys(gateway: &Gateway) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/keys?limit=50{cursor}");
        let page = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
        all.extend(page["keys"].as_array().expect("a page has keys").iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

pub async fn key_is_shown_once_and_works_until_it_is_deleted(host: Host) {
    let gateway = Gateway::shared(host).await;
    let name = unique("a key");
    let body = json!({ "name": name, "scopes": ["links", "topics"] });
    let made = gateway
        .post("/api/keys")
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201);
    assert!(
        made.header("cache-control").contains("no-store"),
        "{}",
        made.shown()
    );
    let (key, id) = (
        made.json()["key"].as_str().unwrap().to_owned(),
        made.json()["id"].as_str().unwrap().to_owned(),
    );
    gateway.get("/api/links").key(&key).send().await.expect(200);
    let listed = keys(&gateway).await;
    assert!(!json!(listed).to_string().contains(&key), "a list shows no key");
    let own: Vec<_> = listed.iter().filter(|one| one["id"] == id.as_str()).collect();
    assert_eq!(own.len(), 1);
    assert_eq!(
        (&own[0]["name"], &own[0]["scopes"]),
        (&json!(name), &json!(["links", "topics"]))
    );
    assert_eq!(own[0].get("key"), None);
    let path = format!("/api/keys/{id}");
    gateway.delete(&path).key(ADMIN_KEY).send().await.expect(204);
    let gone = gateway.get("/api/links").key(&key).send().await;
    gone.problem(401, "unauthorized");
    gateway
        .delete(&path)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
    assert!(keys(&gateway).await.iter().all(|one| one["id"] != id.as_str()));
}

pub async fn a_rotated_key_keeps_its_links(host: Host) {
    let gateway = Gateway::shared(host).await;
    let made = gateway.made_key(&["links"]).await;
    let (first, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let code = unique("kept");
    let link = json!({ "url": "https://example.com/", "code": code });
    gateway
        .post("/api/links")
        .key(first)
        .json(&link)
        .send()
        .await
        .expect(201);
    let path = format!("/api/keys/{id}/rotate");
    let grace = json!({ "graceSeconds": 600 });
    let rotated = gateway
        .post(&path)
        .key(ADMIN_KEY)
        .json(&grace)
        .send()
        .await
        .expect(200)
        .json();
    let second = rotated["key"].as_str().unwrap();
    for key in [first, second] {
        gateway
            .get(&format!("/api/links/{code}"))
            .key(key)
            .send()
            .await
            .expect(200);
    }
    let third = gateway.post(&path).key(ADMIN_KEY).send().await.expect(200).json();
    for (key, status) in [(first, 401), (second, 401), (third["key"].as_str().unwrap(), 200)] {
        gateway
            .get(&format!("/api/links/{code}"))
            .key(key)
            .send()
            .await
            .expect(status);
    }
    let long = json!({ "graceSeconds": -1 });
    let refused = gateway.post(&path).key(ADMIN_KEY).json(&long).send().await;
    refused.problem(400, "invalid-request");
}

pub async fn missing_and_wrong_credentials_are_told_apart_from_missing_scopes(host: Host) {
    let gateway = Gateway::shared(host).await;
    let links = gateway.key(&["links"]).await;
    let campaigns = gateway.key(&["campaigns"]).await;
    for path in [
        "/api/links",
        "/api/campaigns",
        "/api/keys",
        "/api/limits",
        "/api/topics",
    ] {
        let none = gateway.get(path).send().await;
        none.problem(401, "unauthorized");
        assert!(
            none.header("www-authenticate").starts_with("Bearer"),
            "{}",
            none.shown()
        );
    }
    let altered = format!("{}x", &links[..links.len() - 1]);
    for wrong in [
        "x",
        "tg_",
        "tg_a_b",
        altered.as_str(),
        &"k".repeat(300),
        "an-admin-key-for-the-test",
    ] {
        let answer = gateway.get("/api/keys").key(wrong).send().await;
        answer.problem(401, "unauthorized");
        answer.header("www-authenticate");
    }
    let basic = gateway
        .get("/api/keys")
        .header("authorization", "Basic YTpi")
        .send()
        .await;
    basic.problem(401, "unauthorized");
    for path in ["/api/campaigns", "/api/keys", "/api/limits", "/api/topics"] {
        gateway
            .get(path)
            .key(&links)
            .send()
            .await
            .problem(403, "forbidden");
    }
    gateway
        .get("/api/links")
        .key(&campaigns)
        .send()
        .await
        .problem(403, "forbidden");
    gateway
        .get("/api/campaigns")
        .key(&campaigns)
        .send()
        .await
        .expect(200);
    let body = json!({ "name": "n", "scopes": ["admin"] });
    gateway
        .post("/api/keys")
        .key(&links)
        .json(&body)
        .send()
        .await
        .problem(403, "forbidden");
}

pub async fn expired_key_opens_nothing(host: Host) {
    let gateway = Gateway::shared(host).await;
    let body = json!({ "name": "short-lived", "scopes": ["links"], "expiresAt": in_seconds(4) });
    let made = gateway
        .post("/api/keys")
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201)
        .json();
    let key = made["key"].as_str().expect("a new key is shown").to_owned();
    let expired = eventually("the key expires", async || {
        Some(gateway.get("/api/links").key(&key).send().await).filter(|answer| answer.status != 200)
    });
    expired.await.problem(401, "unauthorized");
    assert!(keys(&gateway).await.iter().all(|one| one["id"] != made["id"]));
}

/// The keys that a first run prints, each in a line of the log of its own; no other line holds one.
fn printed(stderr: &str) -> Vec<String> {
    let keys: Vec<String> = stderr
        .lines()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            line["admin_key"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(stderr.matches("tg_").count(), keys.len(), "{stderr}");
    keys
}

pub async fn first_run_prints_an_admin_key_once(host: Host) {
    let gateway = Gateway::start_as(host, Serve::without_key(), "").await;
    let key = eventually("the key is printed", async || {
        printed(&gateway.stderr()).into_iter().next()
    })
    .await;
    assert_eq!(printed(&gateway.stderr()).len(), 1, "{}", gateway.stderr());
    gateway.get("/api/keys").key(&key).send().await.expect(200);
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    gateway.get("/api/keys").key(&key).send().await.expect(200);
    assert!(printed(&gateway.stderr()).is_empty(), "{}", gateway.stderr());
}

pub async fn first_run_writes_the_admin_key_to_a_file(host: Host) {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    let file = directory.path().join("admin.key");
    let serve = Serve {
        admin_key_file: Some(file.clone()),
        ..Serve::without_key()
    };
    let gateway = Gateway::start_as(host, serve, "").await;
    let key = std::fs::read_to_string(&file)
        .expect("the key is in the file")
        .trim()
        .to_owned();
    let mode = std::fs::metadata(&file)
        .expect("the file is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "only its owner may read it");
    assert!(printed(&gateway.stderr()).is_empty(), "{}", gateway.stderr());
    gateway.get("/api/keys").key(&key).send().await.expect(200);
    // The operator writes another one: from the next start on, it is that.
    assert!(gateway.stop().await.success());
    std::fs::write(&file, "chosen-by-the-operator-0\n").expect("the file is ours");
    gateway.restart().await;
    gateway
        .get("/api/keys")
        .key("chosen-by-the-operator-0")
        .send()
        .await
        .expect(200);
}

pub async fn first_run_that_cannot_write_the_admin_key_leaves_it_to_the_next(host: Host) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    let file = directory.path().join("secrets/admin.key");
    let data = directory.path().join("data");
    let serve = || Serve {
        admin_key_file: Some(file.clone()),
        data: Some(data.clone()),
        ..Serve::without_key()
    };
    // There is no such directory yet.
    std::fs::write(directory.path().join("tollgate.toml"), "").expect("the directory is ours");
    let mut program = serve().start(directory.path());
    let status = program.exit(Duration::from_secs(20)).await;
    assert!(
        status.is_some_and(|status| !status.success()),
        "{}",
        program.stderr()
    );
    assert!(program.stderr().contains("admin.key"), "{}", program.stderr());
    std::fs::create_dir(directory.path().join("secrets")).expect("the directory is ours");
    let gateway = Gateway::start_as(host, serve(), "").await;
    let key = std::fs::read_to_string(&file).expect("the key is in the file");
    gateway.get("/api/keys").key(key.trim()).send().await.expect(200);
}
