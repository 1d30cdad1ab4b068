//! The rules behind their doors, on the store in memory, with something there to be found and to be broken.

use std::cell::{Cell, RefCell};
use std::sync::LazyLock;

use futures::executor::block_on;
use serde_json::{Value, json};
use tollgate_api::calls::Scope;
use tollgate_api::components::Component;
use tollgate_api::http::{Header, Request, Response};
use tollgate_rules::keys;
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_rules::{admin, campaigns, forward, links};
use tollgate_store::commit::{Append, Commit, Entry, Item, Message, Outcome, StoreError, Topic, literal};
use tollgate_store::memory::{InMemoryBuckets, InMemoryStore};
use tollgate_store::plan;
use tollgate_store::ports::{Outbound, Store};

use crate::text::Input;

/// What no stranger may see.
pub(crate) const CANARY: &str = "cAnArY";
/// The key of the operator.
pub(crate) const ADMIN: &str = "an-admin-key-of-the-fuzz-targets";
/// A secret that only the configuration holds.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The most calls of the store that one request makes here, where there is little to be listed.
const MAX_CALLS: u32 = 400;

const FILE: &str = r#"
[[challenges]]
name = "bots"
path = "/api/campaigns/held/claims"
methods = ["PUT"]
kind = "altcha"

[[challenges]]
name = "people"
path = "/api/campaigns/held/claims"
methods = ["DELETE"]
kind = "siteverify"
provider = "turnstile"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
site_key = "0x4"

[[rooms]]
name = "sale"
path = "/sale/..."
admit_per_second = 1

[server]
public_url = "https://go.example"
trusted_proxies = ["10.0.0.0/8"]

[[domains]]
host = "sale.example"
not_found_url = "https://shop.example/sorry"

[[forward]]
path = "/signup"
topic = "signup"

[[forward]]
path = "/hooks/:source/..."
methods = ["POST", "PUT"]
topic = "hooks"

[[topics.signup.subscriptions]]
name = "origin"
url = "https://origin.example/cAnArY"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

[topics.hooks]
retention = "1h"
"#;

pub(crate) static SETTINGS: LazyLock<Settings> =
    LazyLock::new(|| Settings::parse(FILE, "tollgate.toml").unwrap());

/// Where it is noted that somebody asked for a code that no link has: the only thing that a refusal writes.
const LOST: &str = "seen/lost/";

/// The store in memory; counts what it is asked and what it changes, and knows a call that breaks the port.
pub(crate) struct Watched {
    pub(crate) inner: InMemoryStore,
    pub(crate) calls: Cell<u32>,
    pub(crate) changes: Cell<u32>,
    /// What was committed, while that is written down.
    log: RefCell<Option<Vec<Commit>>>,
}

impl Watched {
    fn called<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.calls.set(self.calls.get() + 1);
        if let Err(StoreError::Invalid(why)) = &answer {
            panic!("a rule broke the port: {why}");
        }
        answer
    }
}

/// Nobody is asked.
impl Outbound for Watched {}

impl Store for Watched {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        if let Some(log) = &mut *self.log.borrow_mut() {
            log.push(commit.clone());
        }
        // One of conditions alone is a question.
        let asks = commit.mutations.is_empty() && commit.appends.is_empty() && commit.idempotence.is_none();
        let outcome = self.called(self.inner.commit(commit).await);
        if !asks && matches!(outcome, Ok(Outcome::Committed(_))) {
            self.changes.set(self.changes.get() + 1);
        }
        outcome
    }

    fn defer(&self, commit: Commit) {
        plan::measure_deferred(&commit).expect("what is deferred keeps the rules of the port");
        if commit.partition != LOST {
            self.changes.set(self.changes.get() + 1);
        }
        self.inner.defer(commit);
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.called(self.inner.get(partition, keys).await)
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.called(self.inner.scan(prefix, after, limit).await)
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.called(self.inner.read(topic, after, limit, wait).await)
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.called(self.inner.topics(after, limit).await)
    }
}

/// A gateway with a link, a campaign, a claim, a draw, messages and keys in it.
pub(crate) struct Gateway {
    pub(crate) store: Watched,
    buckets: InMemoryBuckets,
    keys: RefCell<Vec<(&'static str, String)>>,
    count: Cell<u64>,
}

/// What stands in every gateway at first, made once by requests.
struct Furniture {
    commits: Vec<Commit>,
    keys: Vec<(&'static str, String)>,
    count: u64,
}

static FURNITURE: LazyLock<Furniture> = LazyLock::new(|| {
    let gateway = Gateway::empty();
    *gateway.store.log.borrow_mut() = Some(Vec::new());
    gateway.furnish();
    Furniture {
        commits: gateway.store.log.take().unwrap_or_default(),
        keys: gateway.keys.take(),
        count: gateway.count.get(),
    }
});

impl Gateway {
    pub(crate) fn new() -> Self {
        let gateway = Self::empty();
        for commit in &FURNITURE.commits {
            block_on(gateway.store.commit(commit.clone())).unwrap();
        }
        gateway.keys.borrow_mut().clone_from(&FURNITURE.keys);
        gateway.count.set(FURNITURE.count);
        gateway
    }

    fn empty() -> Self {
        Self {
            buckets: InMemoryBuckets::default(),
            store: Watched {
                inner: InMemoryStore::new(),
                calls: Cell::new(0),
                changes: Cell::new(0),
                log: RefCell::new(None),
            },
            keys: RefCell::default(),
            count: Cell::new(0),
        }
    }

    fn furnish(&self) {
        let now = self.store.inner.now();
        self.install_admin();
        let scoped = [
            ("links", Scope::Links),
            ("campaigns", Scope::Campaigns),
            ("topics", Scope::Topics),
        ];
        self.keys.borrow_mut().push(("admin", ADMIN.to_owned()));
        for (name, scope) in scoped {
            let (text, commit) =
                keys::mint(&format!("{CANARY} {name}"), &[scope], None, now, &|| self.fresh());
            block_on(self.store.commit(commit)).unwrap();
            self.keys.borrow_mut().push((name, text));
        }
        let link = json!({"url": "https://example.com/landing?a=b#c", "code": "abc", "externalId": CANARY,
            "tags": ["one"], "forwardQuery": true});
        self.made("links", "POST", "/api/links", &link);
        let limited = json!({"url": "https://example.com/once", "code": "once", "maxVisits": 1,
            "fallbackUrl": "https://example.com/gone"});
        self.made("links", "POST", "/api/links", &limited);
        self.made(
            "campaigns",
            "POST",
            "/api/campaigns",
            &json!({"id": "spring", "quantity": 2}),
        );
        let mut claim = self.request("POST", "/api/campaigns/spring/claims", Vec::new());
        claim.headers.push(Header::new("x-user-id", CANARY));
        assert_eq!(self.answer(&claim).status, 201);
        let held = json!({"id": "held", "quantity": 2, "holdSeconds": 60});
        self.made("campaigns", "POST", "/api/campaigns", &held);
        let mut claim = self.request("POST", "/api/campaigns/held/claims", Vec::new());
        claim.headers.push(Header::new("x-user-id", CANARY));
        assert_eq!(self.answer(&claim).status, 201);
        let draw = json!({"id": "easter", "pick": 2, "pool": ["ant", "bee", "cat"], "closesAt": "9000-01-01T00:00:00Z",
            "prizes": [{"matches": 2, "name": "all", "quantity": 1}]});
        self.made("campaigns", "POST", "/api/draws", &draw);
        let mut entry = self.request("POST", "/api/draws/easter/entries", Vec::new());
        entry.headers.push(Header::new("x-user-id", CANARY));
        assert_eq!(self.answer(&entry).status, 201);
        // A room's record is made with the first look.
        let ticket = self.request("POST", "/api/rooms/sale/tickets", Vec::new());
        assert_eq!(self.answer(&ticket).status, 201);
        let group = json!({"maxAttempts": 1, "ordered": false});
        self.made("topics", "PUT", "/api/topics/signup/groups/shop", &group);
        let hook = json!({"url": "https://origin.example/", "secret": SECRET});
        self.made("topics", "PUT", "/api/topics/signup/subscriptions/extra", &hook);
        let append = Append {
            topic: "signup".into(),
            id: "message-1".into(),
            key: CANARY.into(),
            kind: "http.request".into(),
            content_type: "text/plain".into(),
            attributes: Vec::new(),
            payload: literal(CANARY),
        };
        let commit = Commit {
            appends: vec![append],
            ..Commit::default()
        };
        block_on(self.store.commit(commit)).unwrap();
    }

    /// As every start with a configured key does.
    pub(crate) fn install_admin(&self) {
        block_on(keys::install_admin(&self.store, ADMIN, self.store.inner.now())).unwrap();
    }

    fn made(&self, key: &str, method: &str, path: &str, body: &Value) {
        let mut request = self.request(method, path, serde_json::to_vec(body).unwrap());
        self.authorize(&mut request, key);
        let response = self.answer(&request);
        assert!(
            response.status < 300,
            "{path}: {}",
            String::from_utf8_lossy(&response.body)
        );
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: Vec<u8>) -> Request {
        let (path, query) = path
            .split_once('?')
            .map_or((path, None), |(p, q)| (p, Some(q.to_owned())));
        Request {
            method: tollgate_api::http::method(method),
            path: path.into(),
            query,
            headers: Vec::new(),
            body,
            peer: "192.0.2.1".into(),
        }
    }

    /// Sends the key of this name with the request.
    pub(crate) fn authorize(&self, request: &mut Request, name: &str) {
        let keys = self.keys.borrow();
        if let Some((_, text)) = keys.iter().find(|(known, _)| *known == name) {
            let header = Header::new("authorization", format!("Bearer {text}"));
            request.headers.insert(0, header);
        }
    }

    /// Everything that may open a door here.
    pub(crate) fn credentials(&self) -> Vec<String> {
        self.keys.borrow().iter().map(|(_, text)| text.clone()).collect()
    }

    /// Different on every call, the same in every run.
    fn fresh(&self) -> [u8; 16] {
        self.count.set(self.count.get() + 1);
        let spread = self.count.get().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&spread.to_be_bytes());
        bytes[8..].copy_from_slice(
            &spread
                .rotate_left(32)
                .wrapping_mul(0xD6E8_FEB8_6659_FD93)
                .to_be_bytes(),
        );
        bytes
    }

    /// As a door answers it: by the component that its path belongs to.
    pub(crate) fn answer(&self, request: &Request) -> Response {
        self.answer_by(SETTINGS.component(&request.path), request)
    }

    fn answer_by(&self, component: Component, request: &Request) -> Response {
        let fresh = || self.fresh();
        let world = World {
            store: &self.store,
            settings: &SETTINGS,
            now: self.store.inner.now(),
            fresh: &fresh,
        };
        block_on(async {
            match component {
                Component::Shortener => links::handle(&world, request).await,
                Component::Coupon => campaigns::handle(&world, request).await,
                Component::Forward => forward::handle(&world, request).await,
                Component::Admin => admin::handle(&world, &self.buckets, request).await,
            }
        })
    }

    /// The request of an input, with the key it asks for, after the time it asks for.
    pub(crate) fn prepare(&self, input: &Input) -> Request {
        if let Some(seconds) = input.notes("later").find_map(|text| text.parse::<u32>().ok()) {
            self.store
                .inner
                .set_now(self.store.inner.now() + u64::from(seconds) * 1_000);
        }
        let mut request = input.request.clone();
        for name in input.notes("as").take(1) {
            self.authorize(&mut request, name);
        }
        request
    }

    /// Answers, and asserts what every answer must keep; gives the number of changes it made.
    pub(crate) fn checked(&self, request: &Request) -> (Response, u32) {
        self.store.calls.set(0);
        self.store.changes.set(0);
        let response = self.answer(request);
        let changes = self.store.changes.get();
        let shown = || {
            format!(
                "{} {} -> {} {}",
                request.method,
                request.path,
                response.status,
                String::from_utf8_lossy(&response.body)
            )
        };
        assert!(
            self.store.calls.get() <= MAX_CALLS,
            "{} calls of the store: {}",
            self.store.calls.get(),
            shown()
        );
        // Shlink's own clients look for it, and are told that there is none.
        let is_no_hub = response.status == 501 && request.path.contains("mercure-info");
        assert!((200..500).contains(&response.status) || is_no_hub, "{}", shown());
        for header in &response.headers {
            assert_eq!(header.name, header.name.to_ascii_lowercase());
            assert!(
                http::HeaderName::from_bytes(header.name.as_bytes()).is_ok(),
                "{}",
                header.name
            );
            let printable = header.value.iter().all(|byte| (0x20..=0x7e).contains(byte));
            assert!(
                printable,
                "{}: {:?}",
                header.name,
                String::from_utf8_lossy(&header.value)
            );
        }
        if response.status >= 400 {
            assert_eq!(changes, 0, "refused, and changed something: {}", shown());
            is_refusal(request, &response);
        } else if response.header("content-type") == Some("application/json") {
            let body: Result<Value, _> = serde_json::from_slice(&response.body);
            assert!(body.is_ok(), "no JSON: {}", shown());
        }
        // Who reads statistics counts what was noted of visits first; nothing that anybody is told changes by it.
        let counts = ["/stats", "/visits"]
            .iter()
            .any(|end| request.path.ends_with(end));
        if matches!(&*request.method, "GET" | "HEAD") && request.path.starts_with("/api/") && !counts {
            assert_eq!(changes, 0, "a safe method changed something: {}", shown());
        }
        if request.method == "HEAD" {
            assert_eq!(changes, 0, "HEAD changed something: {}", shown());
        }
        (response, changes)
    }
}

/// A problem document, or what the API of another shortener has in its place.
fn is_refusal(request: &Request, response: &Response) {
    match response.header("content-type") {
        Some("application/json") if request.path.starts_with("/api/dub/") => {
            let body: Value = serde_json::from_slice(&response.body).expect("a refusal is JSON");
            for member in ["code", "message"] {
                assert!(
                    body["error"][member]
                        .as_str()
                        .is_some_and(|text| !text.is_empty()),
                    "{body}"
                );
            }
        }
        Some("application/x-amz-json-1.0") if request.path.starts_with("/sqs") => {
            let body: Value = serde_json::from_slice(&response.body).expect("a refusal is JSON");
            for member in ["__type", "message"] {
                assert!(
                    body[member].as_str().is_some_and(|text| !text.is_empty()),
                    "{body}"
                );
            }
            let code = response
                .header("x-amzn-query-error")
                .expect("a refusal has a code");
            assert!(code.ends_with(";Sender") || code.ends_with(";Receiver"), "{code}");
        }
        Some(form) if request.path == "/yourls-api.php" && form != "application/problem+json" => {
            assert!(!response.body.is_empty(), "a refusal says why");
        }
        _ => is_problem(response),
    }
}

/// RFC 9457, and our own rules about it.
fn is_problem(response: &Response) {
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!(
        response.header("content-type"),
        Some("application/problem+json"),
        "{text}"
    );
    let body: Value = serde_json::from_slice(&response.body).expect("a problem is JSON");
    for member in ["type", "title", "detail"] {
        assert!(
            body[member].as_str().is_some_and(|t| !t.is_empty()),
            "{member}: {text}"
        );
    }
    assert_eq!(body["status"], response.status, "{text}");
    match response.status {
        400 if body["type"] == "urn:tollgate:problem:invalid-request" => {
            let pointer = body["errors"][0]["pointer"].as_str().unwrap_or("");
            let named = ["#", "header:", "query:", "path:"]
                .iter()
                .any(|p| pointer.starts_with(p));
            assert!(named, "names no field: {text}");
        }
        401 if body["type"] == "urn:tollgate:problem:unauthorized" => {
            assert!(response.header("www-authenticate").is_some(), "{text}");
        }
        405 => assert!(response.header("allow").is_some(), "{text}"),
        429 | 503 => assert!(response.header("retry-after").is_some(), "{text}"),
        _ => {}
    }
    assert!(
        response.body.len() < 16 << 10,
        "a problem echoes too much: {} bytes",
        response.body.len()
    );
}
