//! The access log: one line for each request, whoever answers it; no secret, and nothing that a stranger writes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Gateway, Host, binary, built_components, eventually};

/// Tokens, passwords and keys that are sent where people put them, and that no line may hold.
const SECRETS: [&str; 5] = [
    "in-the-query",
    "in-the-cookie",
    "in-the-bearer",
    "in-the-referer",
    ADMIN_KEY,
];

fn log(directory: &std::path::Path, more: &str) -> (PathBuf, String) {
    let path = directory.join("access.log");
    let settings = format!("[access_log]\npath = \"{}\"\n{more}\n", path.display());
    (path, settings)
}

fn lines(path: &PathBuf) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line:\n{text}");
    text.lines().map(str::to_owned).collect()
}

/// The lines, once there are so many; no more come.
async fn exactly(path: &PathBuf, count: usize) -> Vec<String> {
    let what = format!("{count} lines in {}", path.display());
    eventually(&what, async || (lines(path).len() >= count).then_some(())).await;
    let all = lines(path);
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The only line about this request.
fn of<'a>(lines: &'a [Value], id: &str) -> &'a Value {
    let mut found = lines.iter().filter(|line| line["request_id"] == id);
    let line = found
        .next()
        .unwrap_or_else(|| panic!("no line of {id}: {lines:#?}"));
    assert!(found.next().is_none(), "two lines of {id}");
    line
}

pub async fn each_request_has_one_line_whoever_answers_it(host: Host) {
    let scratch = tempfile::tempdir().expect("there is room");
    let (path, settings) = log(scratch.path(), "format = \"json\"\nsample_refusals = 1.0");
    let hello = built_components().join("hello-component.wasm");
    let hello = format!(
        "[[components]]\nname = \"hello\"\npath = \"/hello/...\"\nsource = \"{}\"\n",
        hello.display()
    );
    let gateway = Gateway::start(host, &format!("{settings}{hello}")).await;
    gateway.link("logged").await;
    let asked = async |id: &str, call: crate::harness::Call| call.header("x-request-id", id).send().await;
    let hostile = "a\" 200 \\ \u{e9}\t\u{9b}2J";
    let redirect = gateway
        .get("/logged?token=in-the-query")
        .client("ann")
        .header("cookie", "session=in-the-cookie")
        .header(
            "referer",
            "https://me:in-the-referer@a.example/page?key=in-the-referer",
        )
        .header("user-agent", hostile);
    asked("redirect", redirect).await.expect(302);
    let page = asked("native", gateway.get("/").header("accept", "text/html"))
        .await
        .expect(200);
    asked("head", gateway.head("/logged")).await.expect(302);
    let list = asked("rest", gateway.get("/api/links").key(ADMIN_KEY))
        .await
        .expect(200);
    asked("stranger", gateway.get("/api/links").key("in-the-bearer"))
        .await
        .expect(401);
    let greeting = asked("component", gateway.get("/hello/ann")).await.expect(200);
    asked("queued", gateway.post("/signup").body("x"))
        .await
        .expect(202);
    for _ in 0..5 {
        gateway.get("/api/bounded/burst/x").client("eve").send().await;
    }
    asked("refused", gateway.get("/api/bounded/burst/x").client("eve"))
        .await
        .expect(429);
    let parsers = gateway.raw("GET /a b c HTTP/1.1\r\n\r\n").await.expect(400);
    let bounds = gateway
        .raw("GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
        .await
        .expect(400);

    // One that made the link, five that emptied the bucket.
    let text = exactly(&path, 16).await.join("\n");
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in a line:\n{text}");
    }
    let told: Vec<Value> = text.lines().map(object).collect();
    let line = of(&told, "redirect");
    assert_eq!(
        (&line["method"], &line["path"], &line["status"]),
        (&json!("GET"), &json!("/logged"), &json!(302))
    );
    assert_eq!(
        (&line["client"], &line["address"]),
        (&json!("id:ann"), &json!("127.0.0.1"))
    );
    assert_eq!(
        (&line["bytes"], &line["protocol"]),
        (&json!(0), &json!("HTTP/1.1"))
    );
    assert_eq!(
        (&line["user_agent"], &line["referer"]),
        (&json!(hostile), &json!("https://a.example/page"))
    );
    let time = line["duration_ms"].as_f64().expect("a number");
    assert!(time > 0.0 && time < 10_000.0, "{line}");
    for (id, status, client, bytes) in [
        ("native", 200, "ip:127.0.0.1", page.body.len()),
        ("head", 302, "ip:127.0.0.1", 0),
        ("rest", 200, "key:configured", list.body.len()),
        ("component", 200, "ip:127.0.0.1", greeting.body.len()),
    ] {
        let line = of(&told, id);
        assert_eq!(
            (&line["status"], &line["bytes"]),
            (&json!(status), &json!(bytes)),
            "{line}"
        );
        assert_eq!(line["client"], client, "{line}");
    }
    for (id, status) in [("stranger", 401), ("queued", 202), ("refused", 429)] {
        assert_eq!(of(&told, id)["status"], status);
    }
    let line = of(&told, parsers.header("x-request-id"));
    assert_eq!(
        (&line["status"], &line["path"]),
        (&json!(400), &Value::Null),
        "{line}"
    );
    assert_eq!(line["bytes"], parsers.body.len());
    assert_eq!(of(&told, bounds.header("x-request-id"))["status"], 400);
}

pub async fn hostile_paths_and_agents_stay_in_their_field(host: Host) {
    let scratch = tempfile::tempdir().expect("there is room");
    let (path, settings) = log(scratch.path(), "format = \"combined\"");
    let gateway = Gateway::start(host, &settings).await;
    // What hyper takes for a path, and what must not end a line of the log.
    let head = b"GET /a\"%0a127.0.0.1\xc2\x9b[2J?q=1 HTTP/1.1\r\nhost: a\r\nx-client-id: x\"][\r\n\
        user-agent: \"\t] \xff\x9b\\ GET /fake HTTP/1.1\" 200\r\nconnection: close\r\n\r\n";
    let answer = gateway.raw(&head[..]).await;
    let line = exactly(&path, 1).await.remove(0);
    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
    let fields: Vec<&str> = line.split('"').collect();
    assert_eq!(fields.len(), 9, "four quoted fields: {line}");
    if answer.status == 404 {
        assert_eq!(fields[1], "GET /a\\x22%0a127.0.0.1\\xC2\\x9B[2J HTTP/1.1");
        assert_eq!(
            fields[5],
            "\\x22\\x09] \\xFF\\x9B\\x5C GET /fake HTTP/1.1\\x22 200"
        );
        assert!(line.starts_with("127.0.0.1 - id:x\\x22\\x5D\\x5B ["), "{line}");
    } else {
        assert_eq!((answer.status, fields[1]), (400, "-"), "{line}");
    }
    // The rest is as Apache's and nginx's readers take it.
    gateway
        .get("/none")
        .header("user-agent", "curl/8")
        .header("x-request-id", "mine")
        .send()
        .await
        .expect(404);
    let line = exactly(&path, 2).await.remove(1);
    let (head, tail) = line.split_once("] ").expect("a time");
    assert!(
        head.starts_with("127.0.0.1 - - [") && head.ends_with(" +0000"),
        "{line}"
    );
    assert!(tail.starts_with("\"GET /none HTTP/1.1\" 404 "), "{line}");
    assert!(
        tail.contains(" \"-\" \"curl/8\" 0.0") && tail.ends_with(" \"mine\""),
        "{line}"
    );
}

pub async fn a_log_that_is_moved_away_is_made_anew(host: Host) {
    let scratch = tempfile::tempdir().expect("there is room");
    let (path, settings) = log(scratch.path(), "format = \"json\"");
    let gateway = Gateway::start(host, &settings).await;
    gateway.get("/before").send().await.expect(404);
    exactly(&path, 1).await;
    let moved = scratch.path().join("access.log.1");
    fs::rename(&path, &moved).expect("both are ours");
    // Also while nobody asks.
    eventually("the log is made anew", async || path.exists().then_some(())).await;
    gateway.get("/after").send().await.expect(404);
    assert_eq!(object(&exactly(&path, 1).await[0])["path"], "/after");
    assert_eq!(lines(&moved).len(), 1, "nothing goes to the old one");
    // What `copytruncate` does.
    fs::write(&path, "").expect("it is ours");
    gateway.get("/cut").send().await.expect(404);
    assert_eq!(object(&exactly(&path, 1).await[0])["path"], "/cut");
    // The last line is written before the end.
    gateway.get("/last").send().await.expect(404);
    assert!(gateway.stop().await.success());
    assert_eq!(object(&exactly(&path, 2).await[1])["path"], "/last");
}

pub async fn refusals_and_the_rest_have_shares_of_their_own(host: Host) {
    const REFUSALS: usize = 2_000;
    let scratch = tempfile::tempdir().expect("there is room");
    let (path, settings) = log(scratch.path(), "format = \"json\"\nsample_refusals = 0.1");
    let gateway = Gateway::start(host, &settings).await;
    let mut refused = 0;
    while refused < REFUSALS {
        let answer = gateway.get("/api/bounded/burst/x").client("eve").send().await;
        refused += usize::from(answer.status == 429);
    }
    gateway.get("/the-last").send().await.expect(404);
    eventually("the last line", async || {
        lines(&path)
            .last()
            .filter(|line| line.contains("/the-last"))
            .map(drop)
    })
    .await;
    let told: Vec<Value> = lines(&path).iter().map(|line| object(line)).collect();
    let (refusals, others): (Vec<_>, Vec<_>) = told.iter().partition(|line| line["status"] == 429);
    // Five of the bucket and the last; of the refusals a tenth, give or take seven standard deviations.
    assert_eq!(others.len(), 6, "{others:#?}");
    assert!(
        (106..=294).contains(&refusals.len()),
        "{} of {REFUSALS}",
        refusals.len()
    );
}

pub async fn a_log_that_cannot_be_written_holds_nothing_up(host: Host) {
    let scratch = tempfile::tempdir().expect("there is room");
    // A pipe that nobody reads would be waited for.
    let (pipe, settings) = log(scratch.path(), "format = \"json\"");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    let file = scratch.path().join("tollgate.toml");
    fs::write(&file, &settings).expect("it is ours");
    let refused = Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&file)
        .arg("--data")
        .arg(scratch.path().join("data"))
        .output()
        .expect("it runs");
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("access_log.path"), "{told}");

    // A disk without room.
    let gateway = Gateway::start(host, "[access_log]\nformat = \"json\"\npath = \"/dev/full\"\n").await;
    for _ in 0..20 {
        gateway.get("/none").send().await.expect(404);
    }
    eventually("each lost line is counted", async || {
        let scrape = gateway.scrape().await;
        let line = scrape
            .lines()
            .find(|line| line.starts_with("tollgate_access_log_lines_dropped_total "))?;
        let count: f64 = line.rsplit(' ').next()?.parse().ok()?;
        (count >= 20.0).then_some(())
    })
    .await;
    gateway.says("the access log cannot be written").await;
    let told = gateway
        .stderr()
        .matches("the access log cannot be written")
        .count();
    assert_eq!(told, 1, "it is told once");
}
