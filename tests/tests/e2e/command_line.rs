//! The commands beside `serve` and `check`, as a person or a script runs them.

mod backups;
mod links;

pub use backups::*;
pub use links::*;

use std::process::{Output, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{ADMIN_KEY, Gateway, Host, binary, unique};
use crate::proxy::Scripted;

/// `tollgate …`, without the environment of whoever runs the tests.
pub(crate) fn tollgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).kill_on_drop(true).stdin(Stdio::null());
    for name in [
        "TOLLGATE_ADMIN_KEY",
        "TOLLGATE_LISTEN",
        "TOLLGATE_DATA",
        "TOLLGATE_URL",
        "TOLLGATE_KEY",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// `tollgate …` for this gateway, with its admin key.
pub(crate) fn of(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = tollgate(arguments);
    command
        .env("TOLLGATE_URL", format!("http://{}", gateway.address()))
        .env("TOLLGATE_KEY", ADMIN_KEY);
    command
}

/// What a command came to.
pub(crate) struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The lines on stdout as JSON.
    pub fn json(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// The same command, which must have ended so.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

pub(crate) async fn run(mut command: Command) -> Ended {
    command.output().await.expect("it runs").into()
}

pub async fn health_tells_whether_the_gateway_answers(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let url = format!("http://{}", gateway.address());
    run(tollgate(&["health", "--url", &url])).await.expect(0);
    // As a container's check runs it, beside the gateway's own settings.
    let mut beside = tollgate(&["health", "--listen", &gateway.address(), "--json"]);
    beside.current_dir(gateway.directory());
    assert_eq!(run(beside).await.expect(0).json()[0]["ready"], true);
    gateway.stop().await;
    let ended = run(tollgate(&["health", "--url", &url])).await.expect(1);
    assert!(ended.err.contains(&url), "{}", ended.err);
}

pub async fn scripts_and_pages_are_printed_and_a_closed_pipe_is_no_fault(_: Host) {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(tollgate(&["completions", shell])).await.expect(0).out;
        assert!(
            script.contains("backup") && script.contains("tollgate"),
            "{shell}"
        );
    }
    let page = run(tollgate(&["man"])).await.expect(0).out;
    assert!(page.contains(".TH") && page.contains("Exit codes"), "{page}");
    for arguments in [&["man"][..], &["completions", "bash"], &["check"], &["--help"]] {
        let mut command = tollgate(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        drop(child.stdout.take());
        let ended = Ended::from(child.wait_with_output().await.expect("it ends"));
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
    }
}

pub async fn exit_codes_say_what_went_wrong_and_no_key_is_shown(host: Host) {
    let gateway = Gateway::shared(host).await;
    let url = format!("http://{}", gateway.address());
    run(tollgate(&["no-such-command"])).await.expect(2);
    run(tollgate(&["keys", "list", "--url", "nonsense"]))
        .await
        .expect(2);
    run(tollgate(&["keys", "list", "--url", "http://127.0.0.1:1"]))
        .await
        .expect(3);
    let nobody = run(tollgate(&["keys", "list", "--url", &url])).await.expect(4);
    assert!(nobody.err.contains("TOLLGATE_KEY"), "{}", nobody.err);
    let secret = "tg_a-wrong-key-that-is-nobodys";
    let mut wrong = tollgate(&["keys", "list", "--url", &url, "--json"]);
    wrong.env("TOLLGATE_KEY", secret);
    let wrong = run(wrong).await.expect(4);
    let told: Value = serde_json::from_str(&wrong.err).expect("errors are JSON, too");
    assert_eq!(
        (&told["exitCode"], &told["problem"]["status"]),
        (&json!(4), &json!(401))
    );
    let mut unsound = tollgate(&["keys", "list", "--url", &url]);
    unsound.env("TOLLGATE_KEY", "tg_line\nbreak-in-it");
    let unsound = run(unsound).await.expect(2);
    let mut help = tollgate(&["keys", "list", "--help"]);
    help.env("TOLLGATE_KEY", secret);
    let help = run(help).await.expect(0);
    for ended in [wrong, unsound, help] {
        let all = ended.out + &ended.err;
        assert!(!all.contains("nobodys") && !all.contains("break-in-it"), "{all}");
    }
    // A file that is named and cannot be used is no receipt that is not good, and no draw that does not hold.
    let directory = gateway.directory().join(unique("directory"));
    std::fs::create_dir(&directory).expect("it is ours");
    let nowhere = directory.join("nowhere").display().to_string();
    for arguments in [
        &["receipt", "verify", "--keys", &nowhere, "a.b.c"][..],
        &["draw", "verify", &nowhere],
        &["links", "import", &nowhere],
        &["links", "import", &directory.display().to_string()],
        &["restore", &nowhere, "--data", &nowhere],
    ] {
        run(tollgate(arguments)).await.expect(2);
    }
    // Somebody else's page is no answer of a gateway, and no empty list.
    for (kind, body) in [("text/html", "<html>"), ("application/json", "{\"links\":null}")] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let other = Scripted::says(answer).await;
        let exported = run(tollgate(&["links", "export", "--url", &other.url()])).await;
        assert_eq!(exported.expect(3).out, "", "{body}");
    }
    // A file comes before the environment.
    let file = gateway.directory().join(unique("key"));
    std::fs::write(&file, format!("{ADMIN_KEY}\n")).expect("it is ours");
    let mut from_file = tollgate(&["keys", "list", "--url", &url, "--key-file"]);
    from_file.arg(&file).env("TOLLGATE_KEY", secret);
    run(from_file).await.expect(0);
}

pub async fn what_is_in_force_is_shown_as_json_without_secrets(_: Host) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    let settings = directory.path().join("tollgate.toml");
    let secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
    let subscription = format!(
        "[[topics.t.subscriptions]]\nname = \"origin\"\nurl = \"https://example.com/\"\nsecret = \"{secret}\"\n"
    );
    std::fs::write(&settings, subscription).expect("it is ours");
    let mut check = tollgate(&["check", "--json", "--config"]);
    check.arg(&settings);
    let shown = run(check).await.expect(0);
    assert!(!shown.out.contains("c2VjcmV0"), "{}", shown.out);
    let shown = shown.json().remove(0);
    assert_eq!(shown["topics"]["t"]["subscriptions"][0]["name"], "origin");
}

pub async fn keys_are_made_rotated_and_revoked(host: Host) {
    let gateway = Gateway::shared(host).await;
    let name = unique("from the command line");
    let create = [
        "keys", "create", "--name", &name, "--scope", "links", "--scope", "topics",
    ];
    let made = run(of(&gateway, &create)).await.expect(0);
    // The key alone, for `KEY=$(tollgate keys create …)`.
    let key = made.out.trim().to_owned();
    assert!(
        !key.contains(char::is_whitespace) && !made.err.contains(&key),
        "{key}"
    );
    let status = async |key: &str| gateway.get("/api/topics").key(key).send().await.status;
    assert_eq!(status(&key).await, 200);
    let find = async || {
        let all = run(of(&gateway, &["keys", "list", "--json"]))
            .await
            .expect(0)
            .json();
        let ours: Vec<Value> = all
            .into_iter()
            .filter(|key| key["name"] == name.as_str())
            .collect();
        assert_eq!(ours.len(), 1);
        ours[0].clone()
    };
    let first = find().await;
    assert_eq!(first["scopes"], json!(["links", "topics"]));
    let id = first["id"].as_str().expect("a key has an id");
    let rotated = run(of(&gateway, &["keys", "rotate", id])).await.expect(0).out;
    assert_eq!((status(&key).await, status(rotated.trim()).await), (401, 200));
    assert_eq!(find().await, first, "what a key is stays");
    let again = ["keys", "rotate", id, "--grace", "60"];
    let latest = run(of(&gateway, &again)).await.expect(0).out;
    assert_eq!(
        (status(rotated.trim()).await, status(latest.trim()).await),
        (200, 200)
    );
    run(of(&gateway, &["keys", "revoke", id])).await.expect(0);
    assert_eq!(
        (status(rotated.trim()).await, status(latest.trim()).await),
        (401, 401)
    );
    run(of(&gateway, &["keys", "rotate", id])).await.expect(4);
    run(of(&gateway, &["keys", "revoke", id])).await.expect(4);
}

pub async fn holds_and_groups_are_listed(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(3, json!({ "holdSeconds": 600 })).await;
    let path = format!("/api/campaigns/{campaign}/claims");
    let claim = async |user: &str| {
        let made = gateway.post(&path).user(user).send().await.expect(201).json();
        made["claim"]["id"].as_str().expect("an id").to_owned()
    };
    for (user, verb) in [("ann", Some("confirm")), ("ben", Some("release")), ("cat", None)] {
        let id = claim(user).await;
        if let Some(verb) = verb {
            let path = format!("{path}/{id}/{verb}");
            gateway.post(&path).user(user).send().await.expect(200);
        }
    }
    let table = run(of(&gateway, &["campaigns", "list"])).await.expect(0).out;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let heads = words(table.lines().next().unwrap_or_default());
    let row = words(
        table
            .lines()
            .find(|line| line.starts_with(&campaign))
            .expect("it is listed"),
    );
    for (head, value) in [
        ("QUANTITY", "3"),
        ("ADMITTED", "2"),
        ("HELD", "1"),
        ("CONFIRMED", "1"),
        ("RELEASED", "1"),
        ("REMAINING", "1"),
    ] {
        let column = heads.iter().position(|one| one == head);
        assert_eq!(column.map(|column| &*row[column]), Some(value), "{head}\n{table}");
    }
    let topic = unique("fetched").to_lowercase();
    let post = gateway
        .post(&format!("/api/topics/{topic}/messages"))
        .key(ADMIN_KEY);
    post.json(&json!({})).send().await.expect(202);
    let group = gateway
        .put(&format!("/api/topics/{topic}/groups/shop"))
        .key(ADMIN_KEY);
    group.send().await.expect(201);
    let table = run(of(&gateway, &["topics", "list"])).await.expect(0).out;
    let row = table.lines().find(|line| line.starts_with(&topic));
    assert!(row.is_some_and(|row| row.ends_with(" shop:1")), "{table}");
}

pub async fn topics_are_tailed_and_go_on_where_a_reader_was(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("tail").to_lowercase();
    let post = async |number: u32| {
        let path = format!("/api/topics/{topic}/messages");
        let call = gateway.call(Method::POST, &path).key(ADMIN_KEY);
        call.json(&json!({ "number": number, "words": "\u{1b}[2J" }))
            .send()
            .await
            .expect(202);
    };
    for number in 1..=3 {
        post(number).await;
    }
    let tail = ["topics", "tail", &topic, "--json", "-n", "2"];
    let newest = run(of(&gateway, &tail)).await.expect(0).json();
    let sequences: Vec<_> = newest.iter().map(|message| message["sequence"].clone()).collect();
    assert_eq!(sequences, [2, 3]);
    let text = run(of(&gateway, &["topics", "tail", &topic])).await.expect(0).out;
    assert!(text.lines().count() == 3 && !text.contains('\u{1b}'), "{text}");
    // A follower gets what comes.
    let mut follow = of(
        &gateway,
        &["topics", "tail", &topic, "--json", "--after", "2", "--follow"],
    );
    let mut child = follow.stdout(Stdio::piped()).spawn().expect("it runs");
    let stdout = child.stdout.take().expect("it is piped");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
    for number in 3..=4 {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
        let line = line.expect("in time").expect("it is text").expect("it goes on");
        let message: Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(message["sequence"], number);
        if number == 3 {
            post(4).await;
        }
    }
    child.kill().await.expect("it runs");
    let listed = run(of(&gateway, &["topics", "list", "--json"]))
        .await
        .expect(0)
        .json();
    let ours = listed
        .iter()
        .find(|one| one["name"] == topic.as_str())
        .expect("it is listed");
    assert_eq!(ours["depth"], 4);
}

pub async fn campaigns_are_watched_until_they_are_sold_out(host: Host) {
    let gateway = Gateway::shared(host).await;
    let id = gateway.campaign(2, json!({})).await;
    let watch = ["campaigns", "watch", &id, "--json", "--until-sold-out"];
    let mut command = of(&gateway, &watch);
    let watching = tokio::spawn(async move { command.output().await.map(Ended::from) });
    for user in ["ada", "grace"] {
        let path = format!("/api/campaigns/{id}/claims");
        gateway
            .post(&path)
            .header("x-user-id", user)
            .send()
            .await
            .expect(201);
    }
    let watched = tokio::time::timeout(Duration::from_secs(20), watching).await;
    let watched = watched
        .expect("in time")
        .expect("no panic")
        .expect("it runs")
        .expect(0)
        .json();
    let last = watched.last().expect("it has said something");
    assert_eq!(
        (&last["state"], &last["admitted"]),
        (&json!("soldOut"), &json!(2))
    );
    let listed = run(of(&gateway, &["campaigns", "list"])).await.expect(0).out;
    assert!(listed.contains(&id) && listed.contains("soldOut"), "{listed}");
}
