//! Files that change by themselves, and what else is in them than what judges requests.

use std::os::unix::fs::symlink;

use super::*;
use crate::harness::tls::{Authority, connect};
use crate::harness::{Origin, SECRET};

/// Looked at often.
const OFTEN: &str = "[reload]\nevery = \"200ms\"\n";

async fn told(gateway: &Gateway, words: &str, times: usize) {
    eventually(words, async || {
        (gateway.stderr().matches(words).count() == times).then_some(())
    })
    .await;
}

/// A link that is made now redirects with this status.
async fn leads(gateway: &Gateway, code: &str, status: u16) {
    gateway.link(code).await;
    gateway.get(&format!("/{code}")).send().await.expect(status);
}

fn redirect(status: u16) -> String {
    format!("{OFTEN}[links]\nredirect = {status}\n")
}

pub async fn a_changed_file_is_read_and_a_bad_one_told_once(host: Host) {
    let gateway = Gateway::start(host, &redirect(302)).await;
    let file = File::of(&gateway, &redirect(302));
    file.write(&redirect(301));
    told(&gateway, CHANGED, 1).await;
    leads(&gateway, "changed", 301).await;
    file.write(&redirect(300));
    told(&gateway, REFUSED, 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    told(&gateway, REFUSED, 1).await;
    leads(&gateway, "refused", 301).await;
    // Touched is not changed.
    file.write(&redirect(301));
    told(&gateway, "nothing has changed", 1).await;
    file.write(&redirect(301));
    tokio::time::sleep(Duration::from_secs(2)).await;
    told(&gateway, "nothing has changed", 1).await;
}

/// As a kubelet does it: the file is a link to `..data/tollgate.toml`, and `..data` a link to a directory, which is swapped.
pub async fn a_swapped_symbolic_link_is_followed(host: Host) {
    let gateway = Gateway::start(host, &redirect(302)).await;
    let file = File::of(&gateway, &redirect(302));
    let directory = gateway.directory();
    for (version, status) in [("..1", 302), ("..2", 307)] {
        fs::create_dir(directory.join(version)).expect("it is ours");
        fs::write(
            directory.join(version).join("tollgate.toml"),
            file.with(&redirect(status)),
        )
        .expect("so is this");
    }
    let swap = |to: &str, name: &str| {
        let draft = directory.join("draft");
        symlink(to, &draft).expect("it is ours");
        fs::rename(&draft, directory.join(name)).expect("so is this");
    };
    swap("..1", "..data");
    swap("..data/tollgate.toml", "tollgate.toml");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        !gateway.stderr().contains("configuration was"),
        "{}",
        gateway.stderr()
    );
    swap("..2", "..data");
    told(&gateway, CHANGED, 1).await;
    leads(&gateway, "swapped", 307).await;
}

pub async fn keys_subscriptions_and_logs_follow_their_files(host: Host) {
    let keys = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    let key_file = keys.path().join("admin.key");
    fs::write(&key_file, ADMIN_KEY).expect("it is ours");
    let serve = Serve {
        admin_key_file: Some(key_file.clone()),
        log: String::new(),
        ..Serve::with_key(ADMIN_KEY)
    };
    let gateway = Gateway::start_as(host, serve, OFTEN).await;
    let file = File::of(&gateway, OFTEN);
    let origin = Origin::start().await;
    let access = gateway.directory().join("access.log");
    let subscribed = format!(
        "{OFTEN}[log]\nlevel = \"debug\"\n[access_log]\nformat = \"json\"\npath = \"{}\"\n\
         [metrics]\naccess = \"anyone\"\n\
         [[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\nallow_private_addresses = true\n",
        access.display(),
        origin.url("/hook")
    );
    let sign_up = async || {
        gateway
            .post("/signup")
            .client("c")
            .json(&json!({}))
            .send()
            .await
            .expect(202)
    };
    sign_up().await;
    gateway.get("/metrics").send().await.expect(401);
    file.write(&subscribed);
    told(&gateway, CHANGED, 1).await;
    gateway.get("/metrics").send().await.expect(200);
    eventually("what had waited is delivered", async || {
        (origin.taken().len() == 1).then_some(())
    })
    .await;
    eventually("the access log", async || {
        fs::read_to_string(&access)
            .is_ok_and(|text| text.contains("\"/metrics\""))
            .then_some(())
    })
    .await;
    gateway.says("\"DEBUG\"").await;
    assert!(!gateway.stderr().contains(SECRET), "secrets are not told");
    file.write(OFTEN);
    told(&gateway, CHANGED, 2).await;
    sign_up().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(origin.taken().len(), 1, "it is subscribed no more");
    gateway.get("/metrics").send().await.expect(401);
    fs::write(&key_file, "another-key-of-the-operator").expect("it is ours");
    told(&gateway, "the admin key was changed", 1).await;
    gateway.get("/api/keys").key(ADMIN_KEY).send().await.expect(401);
    let key = gateway.get("/api/keys").key("another-key-of-the-operator");
    key.send().await.expect(200);
    assert!(!gateway.stderr().contains("another-key"), "secrets are not told");
}

pub async fn certificates_may_be_added(host: Host) {
    let authority = Authority::new();
    let first = authority.settings("public", &["go.test"]);
    let settings = format!("{ON_SIGHUP}[server]\npublic_url = \"https://go.test\"\n[server.tls]\n{first}\n");
    let gateway = Gateway::start(host, &settings).await;
    let (address, client) = (gateway.address(), authority.client(&[], None));
    assert!(connect(&client, &address, "more.test").await.is_err());
    let file = File::of(&gateway, &settings);
    let more = authority.settings("more", &["more.test"]);
    file.reload(&format!("{settings}[[server.tls.more]]\n{more}\n"), CHANGED)
        .await;
    for name in ["go.test", "more.test"] {
        connect(&client, &address, name).await.expect(name);
    }
    let off = settings.replace("[server.tls]", "[server.admin_tls]");
    file.reload(&off, REFUSED).await;
    file.reload(
        "[server]\npublic_url = \"http://go.test\"\n",
        "change with a restart",
    )
    .await;
    connect(&client, &address, "go.test")
        .await
        .expect("it speaks TLS still");
}
