//! Many links, in and out.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{of, run};
use crate::harness::{ADMIN_KEY, Gateway, Host, unique};

fn file(gateway: &Gateway, text: &str) -> PathBuf {
    let file = gateway.directory().join(unique("links"));
    std::fs::write(&file, text).expect("it is ours");
    file
}

async fn import(gateway: &Gateway, text: &str, code: i32) -> (Value, String) {
    let file = file(gateway, text);
    let mut command = of(gateway, &["links", "import", "--json"]);
    command.arg(file);
    let ended = run(command).await.expect(code);
    (ended.json().remove(0), ended.err)
}

fn tally(told: &Value) -> [u64; 3] {
    ["created", "there", "refused"].map(|name| told[name].as_u64().expect("it is a number"))
}

pub async fn an_import_that_is_run_again_skips_what_is_there(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let mut lines = String::new();
    for number in 0..500 {
        let link = json!({ "code": format!("c-{number}"), "url": format!("https://example.com/{number}"),
            "tags": ["imported"], "maxVisits": 7 });
        writeln!(lines, "{link}").expect("it is a string");
    }
    assert_eq!(tally(&import(&gateway, &lines, 0).await.0), [500, 0, 0]);
    // One is changed meanwhile; it stays as it is.
    let change = gateway
        .patch("/api/links/c-3")
        .key(ADMIN_KEY)
        .json(&json!({"title": "mine", "maxVisits": 8}));
    change.send().await.expect(200);
    assert_eq!(tally(&import(&gateway, &lines, 0).await.0), [0, 500, 0]);
    let visit = gateway.get("/c-499").send().await.expect(302);
    assert_eq!(visit.header("location"), "https://example.com/499");
    // What was exported is imported elsewhere, as a table too.
    for format in ["ndjson", "csv"] {
        let exported = run(of(&gateway, &["links", "export", "--format", format]))
            .await
            .expect(0)
            .out;
        let other = Gateway::start(host, "").await;
        assert_eq!(
            tally(&import(&other, &exported, 0).await.0),
            [500, 0, 0],
            "{format}"
        );
        let link = other
            .get("/api/links/c-3")
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200)
            .json();
        assert_eq!(
            (&link["title"], &link["maxVisits"]),
            (&json!("mine"), &json!(8)),
            "{format}"
        );
        assert_eq!(link["tags"], json!(["imported"]), "{format}");
    }
}

pub async fn links_are_exported_and_imported_with_their_domains(host: Host) {
    let domains = "[[domains]]\nhost = \"sale.test\"\n[[domains]]\nhost = \"other.test\"\n";
    let gateway = Gateway::start(host, domains).await;
    let lines = ["null", "\"sale.test\"", "\"OTHER.test\"", "\"nowhere.test\""].map(|domain| {
        let code = if domain.contains("nowhere") { "elsewhere" } else { "spring" };
        let place = domain.trim_matches('"').to_lowercase();
        format!("{{\"code\":\"{code}\",\"url\":\"https://example.com/{place}\",\"domain\":{domain},\"archived\":{}}}\n", domain.contains("OTHER"))
    });
    let (told, err) = import(&gateway, &lines.concat(), 0).await;
    assert_eq!(tally(&told), [4, 0, 0], "{err}");
    assert!(
        err.contains("nowhere.test is no domain") && !err.contains("sale.test"),
        "{err}"
    );
    let (again, _) = import(&gateway, &lines.concat(), 0).await;
    assert_eq!(tally(&again), [0, 4, 0]);
    let led = async |gateway: &Gateway, host: &str, path: &str| {
        let visit = gateway.get(path).header("host", host).send().await;
        (
            visit.status,
            visit
                .headers
                .get("location")
                .and_then(|url| url.to_str().ok().map(str::to_owned)),
        )
    };
    let of_sale = run(of(&gateway, &["links", "export", "--domain", "sale.test"]))
        .await
        .expect(0);
    assert_eq!(of_sale.out.lines().count(), 1, "{}", of_sale.out);
    for format in ["ndjson", "csv"] {
        let exported = run(of(&gateway, &["links", "export", "--format", format]))
            .await
            .expect(0)
            .out;
        let other = Gateway::start(host, domains).await;
        assert_eq!(
            tally(&import(&other, &exported, 0).await.0),
            [4, 0, 0],
            "{format}"
        );
        for (host, path, place) in [
            ("short.test", "/spring", "null"),
            ("sale.test", "/spring", "sale.test"),
            ("short.test", "/elsewhere", "nowhere.test"),
        ] {
            assert_eq!(
                led(&other, host, path).await,
                (302, Some(format!("https://example.com/{place}"))),
                "{format}"
            );
        }
        assert_eq!(led(&other, "other.test", "/spring").await.0, 410, "{format}");
    }
}

pub async fn lines_that_make_no_link_are_told_with_their_reasons(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.link("taken").await;
    let text = "url,code,expiresAt,archived\n\
                https://example.com/a,good,,\n\
                https://example.com/b,taken,,\n\
                not a url,bad,,\n\
                https://example.com/c,old,2020-01-01T00:00:00Z,\n\
                https://example.com/d,shelved,,true\n\
                ,empty,,\n";
    let report = gateway.directory().join("report");
    let mut command = of(&gateway, &["links", "import", "--json", "--report"]);
    command.arg(&report).arg(file(&gateway, text));
    let ended = run(command).await.expect(1);
    assert_eq!(tally(&ended.json()[0]), [2, 0, 4]);
    let report = std::fs::read_to_string(report).expect("it is written");
    let mut lines: Vec<(u64, String)> = report
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("it is JSON"))
        .map(|line| {
            (
                line["line"].as_u64().unwrap_or(0),
                line["reason"].as_str().unwrap_or("").to_owned(),
            )
        })
        .collect();
    lines.sort();
    for ((line, reason), (expected, word)) in
        lines
            .iter()
            .zip([(3, "taken"), (4, "url"), (5, "expiresAt"), (7, "no URL")])
    {
        assert!(
            *line == expected && reason.contains(word),
            "{expected} {word}: {line} {reason}"
        );
        assert!(ended.err.contains(reason.as_str()), "{}", ended.err);
    }
    gateway.get("/shelved").send().await.expect(410);
    // A key that may not: once, and not for each line.
    let key = gateway.key(&["topics"]).await;
    let mut command = of(&gateway, &["links", "import"]);
    command.arg(file(&gateway, text)).env("TOLLGATE_KEY", key);
    run(command).await.expect(4);
}

pub async fn exports_of_other_programs_are_imported_with_their_codes(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let exports = [
        (
            "shlink",
            r#"{"shortUrls":{"data":[{"shortCode":"shlink","shortUrl":"https://s.test/shlink","longUrl":"https://example.com/shlink","dateCreated":"2016-05-02T17:49:53+02:00","tags":["a"],"meta":{"validSince":null,"validUntil":null,"maxVisits":5},"domain":null,"title":null,"crawlable":false,"forwardQuery":true}],"pagination":{"currentPage":1}}}"#,
        ),
        (
            "dub",
            "Short link,Destination URL,Clicks,Tags\nhttps://dub.sh/dub,https://example.com/dub,5,\"a, b\"\n",
        ),
        (
            "yourls",
            "keyword,url,title,timestamp,ip,clicks\nyourls,https://example.com/yourls,Y,2020-01-01 00:00:00,127.0.0.1,3\n",
        ),
        (
            "kutt",
            r#"{"limit":10,"skip":0,"total":1,"data":[{"address":"kutt","banned":false,"id":"x","link":"https://kutt.it/kutt","password":false,"target":"https://example.com/kutt","visit_count":1}]}"#,
        ),
        (
            "bitly",
            r#"{"links":[{"id":"bit.ly/bitly","link":"https://bit.ly/bitly","long_url":"https://example.com/bitly","title":"B","archived":false,"custom_bitlinks":[],"tags":[]}],"pagination":{"total":1}}"#,
        ),
    ];
    for (code, text) in exports {
        assert_eq!(tally(&import(&gateway, text, 0).await.0), [1, 0, 0], "{code}");
        let visit = gateway.get(&format!("/{code}")).send().await.expect(302);
        assert_eq!(visit.header("location"), format!("https://example.com/{code}"));
    }
}

pub async fn an_import_goes_as_fast_as_the_limiter_allows(host: Host) {
    let limit =
        "[[limits]]\nname = \"slow\"\npath = \"/api/links\"\ncapacity = 10\nrefill = 20\ninterval = \"1s\"\n";
    let gateway = Gateway::start(host, limit).await;
    let mut lines = String::new();
    for number in 0..60 {
        writeln!(
            lines,
            "{{\"url\":\"https://example.com/{number}\",\"code\":\"slow-{number}\"}}"
        )
        .expect("it is a string");
    }
    let (told, err) = import(&gateway, &lines, 0).await;
    assert_eq!(tally(&told), [60, 0, 0]);
    assert!(err.contains("slow"), "{err}");
}
