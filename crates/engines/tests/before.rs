//! The file of an earlier version, opened by the engine of today: all that is in it is whole, and goes on from where it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::cell::Cell;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_api::http::{Header, Request, Response};
use tollgate_engines::{Options, SqliteStore};
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_rules::{campaigns, forward, links};

const KEY: &str = "Bearer fixture-admin-key-0123456789abcdef";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// A minute after they were made, whenever they are opened.
const NOW: u64 = 1_795_998_539_712;
const SETTINGS: &str = "[server]\npublic_url = \"https://go.example\"\n[[forward]]\npath = \"/signup\"\nmethods = [\"POST\"]\n\
    topic = \"signup\"\n[topics.signup]\n[topics.coupon]\n";

struct Gateway {
    store: Arc<SqliteStore>,
    settings: Settings,
    runtime: tokio::runtime::Runtime,
    fresh: Cell<u128>,
    made: Value,
    _directory: TempDir,
}

fn unpacked(name: &str, to: &Path) {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/before")
        .join(name);
    let mut whole = Vec::new();
    GzDecoder::new(std::fs::File::open(packed).unwrap())
        .read_to_end(&mut whole)
        .unwrap();
    std::fs::write(to, whole).unwrap();
}

impl Gateway {
    fn open(name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("tollgate.db");
        unpacked(&format!("{name}.db.gz"), &path);
        if name == "killed" {
            unpacked("killed.db-wal.gz", &directory.path().join("tollgate.db-wal"));
        }
        let store = SqliteStore::open(Options {
            clock: Arc::new(|| NOW),
            ..Options::new(path)
        });
        Self {
            store: store.unwrap(),
            settings: Settings::parse(SETTINGS, "test").unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap(),
            fresh: Cell::new(1),
            made: serde_json::from_slice(include_bytes!("before/made.json")).unwrap(),
            _directory: directory,
        }
    }

    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        let headers = headers
            .iter()
            .map(|(name, value)| Header::new((*name).to_owned(), *value));
        let request = Request {
            method: method.to_owned().into(),
            path: path.to_owned(),
            query,
            headers: headers.collect(),
            body: if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            },
            peer: "192.0.2.1".to_owned(),
        };
        let fresh = || {
            self.fresh.set(self.fresh.get() + 1);
            self.fresh.get().to_be_bytes()
        };
        let world = World {
            store: &*self.store,
            settings: &self.settings,
            now: NOW,
            fresh: &fresh,
        };
        self.runtime.block_on(async {
            match path {
                _ if path.starts_with("/api/campaigns") => campaigns::handle(&world, &request).await,
                _ if path.starts_with("/api/topics")
                    || path.starts_with("/api/messages")
                    || path == "/signup" =>
                {
                    forward::handle(&world, &request).await
                }
                _ => links::handle(&world, &request).await,
            }
        })
    }

    #[track_caller]
    fn admin(&self, method: &str, path: &str, body: Value, status: u16) -> Value {
        let answer = self.call(method, path, &[("authorization", KEY)], &body);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn visit(&self, code: &str) -> (u16, String) {
        let answer = self.call(
            "GET",
            &format!("/{code}"),
            &[("user-agent", BROWSER)],
            &Value::Null,
        );
        (
            answer.status,
            answer.header("location").unwrap_or_default().to_owned(),
        )
    }

    fn links_are_whole(&self) {
        let spring = self.admin("GET", "/api/links/spring", Value::Null, 200);
        for (name, value) in [
            ("url", json!("https://example.com/spring?a=b")),
            ("title", json!("Spring sale")),
            ("tags", json!(["sale", "2026"])),
            ("externalId", json!("ext-1")),
            ("visits", json!(7)),
            ("domain", Value::Null),
            ("shortUrl", json!("https://go.example/spring")),
            ("createdAt", json!("2026-11-30T00:27:59.244Z")),
            ("lastVisitedAt", json!("2026-11-30T00:27:59.392Z")),
        ] {
            assert_eq!(spring[name], value, "{name}");
        }
        assert_eq!(
            self.visit("spring"),
            (302, "https://example.com/spring?a=b".into())
        );
        assert_eq!(self.visit("late").0, 307);
        // Two of three visits were made.
        assert_eq!(self.visit("few"), (302, "https://example.com/few".into()));
        assert_eq!(self.visit("few"), (302, "https://example.com/over".into()));
        assert_eq!(self.admin("GET", "/api/links/few", Value::Null, 200)["visits"], 3);
        let listed = self.admin("GET", "/api/links", Value::Null, 200);
        assert_eq!(listed["links"].as_array().unwrap().len(), 5);
        let member = format!("Bearer {}", self.made["memberKey"].as_str().unwrap());
        let own = self.call("GET", "/api/links", &[("authorization", &member)], &Value::Null);
        let own: Value = serde_json::from_slice(&own.body).unwrap();
        assert_eq!(
            (own["links"].as_array().unwrap().len(), &own["links"][0]["code"]),
            (1, &json!("members"))
        );
        let theirs = self.call(
            "GET",
            "/api/links/spring",
            &[("authorization", &member)],
            &Value::Null,
        );
        assert_eq!(theirs.status, 403);
        let anonymous = &self.made["anonymous"];
        let path = format!("/api/links/{}", anonymous["code"].as_str().unwrap());
        let token = format!("Bearer {}", anonymous["manageToken"].as_str().unwrap());
        let changed = self.call(
            "PATCH",
            &path,
            &[("authorization", &token)],
            &json!({ "title": "Mine" }),
        );
        assert_eq!(changed.status, 200);
        let again = json!({ "url": "https://example.com/spring?a=b", "ifExists": "return" });
        assert_eq!(self.admin("POST", "/api/links", again, 200)["code"], "spring");
        let taken = json!({ "url": "https://example.com/", "code": "late" });
        self.admin("POST", "/api/links", taken, 409);
    }

    fn campaigns_are_whole(&self) {
        let spring = self.admin("GET", "/api/campaigns/spring", Value::Null, 200);
        assert_eq!(
            (&spring["admitted"], &spring["remaining"]),
            (&json!(3), &json!(2))
        );
        let claim = |user: &str, key: &str| {
            let headers = [
                ("x-user-id", user),
                ("x-client-id", user),
                ("idempotency-key", key),
            ];
            let answer = self.call("POST", "/api/campaigns/spring/claims", &headers, &Value::Null);
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            (
                answer.status,
                body,
                answer.header("idempotency-replayed").is_some(),
            )
        };
        for known in self.made["claims"].as_array().unwrap() {
            let user = known["user"].as_str().unwrap();
            let (status, body, replayed) = claim(user, &format!("\"first-{user}\""));
            assert_eq!((status, replayed), (201, true), "{body}");
            let (status, refused, _) = claim(user, "\"second\"");
            assert_eq!(status, 409, "{refused}");
            for claim in [&body["claim"], &refused["claim"]] {
                for name in ["id", "user", "sequence", "code"] {
                    assert_eq!(claim[name], known[name], "{name}");
                }
            }
        }
        for (user, sequence) in [("dan", 4), ("eve", 5)] {
            let (status, body, _) = claim(user, "\"first\"");
            assert_eq!(
                (status, &body["claim"]["sequence"]),
                (201, &json!(sequence)),
                "{body}"
            );
        }
        assert_eq!(claim("fay", "\"first\"").0, 410);
        let multi = self.admin("GET", "/api/campaigns/multi", Value::Null, 200);
        assert_eq!((&multi["admitted"], &multi["perUser"]), (&json!(2), &json!(3)));
        let told = self.admin("GET", "/api/topics/coupon", Value::Null, 200);
        assert_eq!(
            (&told["last"], &told["depth"]),
            (&json!(7), &json!(7)),
            "one for each claim"
        );
    }

    fn queue_is_whole(&self) {
        let page = self.admin("GET", "/api/topics/signup/messages", Value::Null, 200);
        let ids = self.made["messages"].as_array().unwrap();
        let messages = page["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 4);
        for (index, message) in messages.iter().enumerate() {
            assert_eq!(
                (&message["sequence"], &message["id"]),
                (&json!(index + 1), &ids[index])
            );
            assert_eq!(
                (&message["data"]["n"], &message["type"]),
                (&json!(index), &json!("http.request"))
            );
        }
        let record = format!("/api/messages/{}", ids[0].as_str().unwrap());
        assert_eq!(
            self.call("GET", &record, &[("x-client-id", "ann")], &Value::Null)
                .status,
            200
        );
        assert_eq!(
            self.call("GET", &record, &[("x-client-id", "bob")], &Value::Null)
                .status,
            403
        );
        let posted = self.call("POST", "/signup", &[("x-client-id", "ann")], &json!({ "n": 4 }));
        let posted: Value = serde_json::from_slice(&posted.body).unwrap();
        assert_eq!(posted["sequence"], 5);
        let topic = self.admin("GET", "/api/topics/signup", Value::Null, 200);
        assert!(
            topic["bytes"].as_u64().is_some_and(|bytes| bytes > 5 * 512),
            "{topic}"
        );
        let crm = self.admin("GET", "/api/topics/signup/subscriptions/crm", Value::Null, 200);
        for (name, value) in [
            ("url", json!("https://origin.example/hooks")),
            ("paused", json!(true)),
            ("pauseReason", json!("requested")),
            ("lag", json!(5)),
            ("ordered", json!(true)),
            ("source", json!("api")),
        ] {
            assert_eq!(crm[name], value, "{name}");
        }
        assert_eq!(crm["ratePerSecond"].as_f64(), Some(5.0));
        let dead = "/api/topics/orders/subscriptions/dead";
        let letters = self.admin("GET", &format!("{dead}/dead-letters"), Value::Null, 200);
        let letter = &letters["deadLetters"][0];
        assert_eq!((&letter["id"], &letter["attempts"]), (&ids[4], &json!(1)));
        assert_eq!(letter["message"]["data"], json!({ "order": 1 }));
        let redriven = self.admin(
            "POST",
            &format!("{dead}/dead-letters/redrive"),
            json!({ "all": true }),
            200,
        );
        assert_eq!(redriven["redriven"], 1);
        self.admin("DELETE", "/api/topics/orders?force=true", Value::Null, 204);
        self.admin("GET", dead, Value::Null, 404);
    }
}

#[test]
fn what_an_earlier_version_closed_is_whole() {
    let gateway = Gateway::open("closed");
    gateway.links_are_whole();
    gateway.campaigns_are_whole();
    gateway.queue_is_whole();
}

#[test]
fn what_an_earlier_version_left_when_it_was_killed_is_whole() {
    let gateway = Gateway::open("killed");
    gateway.links_are_whole();
    gateway.campaigns_are_whole();
    gateway.queue_is_whole();
}
