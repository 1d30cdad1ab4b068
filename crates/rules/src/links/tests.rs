//! Links against the store in memory: redirects and creation here, the rest by subject.

mod counting;
mod creating;
mod listing;
mod managing;
mod meddled;
mod races;
mod redirecting;
mod strangers;
mod sweeping;

use std::cell::Cell;

use futures::FutureExt as _;
use serde_json::{Value, json};

use super::handle;
use crate::keys;
use crate::settings::Settings;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::time;
use tollgate_store::memory::{MemoryStore, START};
use tollgate_store::ports::Store;

const ADMIN: &str = "an-admin-key-for-tests";
const SECOND: u64 = 1_000;
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A gateway: a store, its configuration and a source of different bytes.
struct Gateway {
    store: MemoryStore,
    settings: Settings,
    count: Cell<u128>,
}

impl Gateway {
    fn new() -> Self {
        let store = MemoryStore::new();
        ready(keys::install_admin(&store, ADMIN, START)).unwrap();
        Self {
            store,
            settings: Settings::default(),
            count: Cell::new(0),
        }
    }

    fn fresh(&self) -> [u8; 16] {
        self.count.set(self.count.get() + 1);
        self.count.get().to_be_bytes()
    }

    async fn answer<S: Store>(&self, store: &S, request: &Request) -> Response {
        let fresh = || self.fresh();
        let world = World {
            store,
            settings: &self.settings,
            now: self.store.now(),
            fresh: &fresh,
        };
        handle(&world, request).await
    }

    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        ready(self.answer(&self.store, &request(method, path, headers, body)))
    }

    /// With a key or token.
    fn with(&self, token: &str, method: &str, path: &str, body: &Value) -> Response {
        self.call(
            method,
            path,
            &[("authorization", &format!("Bearer {token}"))],
            body,
        )
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> Response {
        self.with(ADMIN, method, path, body)
    }

    /// A new key with the scope `links`.
    fn member(&self, scope: Scope) -> String {
        let (key, commit) = keys::mint("m", &[scope], None, START, &|| self.fresh());
        ready(self.store.commit(commit)).unwrap();
        key
    }

    /// Creates a link as the admin.
    #[track_caller]
    fn create(&self, body: &Value) -> Value {
        let response = self.admin("POST", "/api/links", body);
        assert_eq!(response.status, 201, "{}", text(&response));
        json_of(&response)
    }

    /// A link called `code` with further fields.
    #[track_caller]
    fn link(&self, code: &str, fields: Value) {
        let mut body = json!({"url": "https://example.com/landing", "code": code});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        self.create(&body);
    }

    fn read(&self, code: &str) -> Value {
        json_of(&self.admin("GET", &format!("/api/links/{code}"), &Value::Null))
    }

    fn visits(&self, code: &str) -> u64 {
        self.read(code)["visits"].as_u64().unwrap()
    }

    /// A person follows the link.
    fn visit(&self, path: &str) -> Response {
        self.call("GET", path, &[("user-agent", BROWSER)], &Value::Null)
    }

    fn pass(&self, ms: u64) {
        self.store.set_now(self.store.now() + ms);
    }
}

/// The store in memory never waits, so neither does a handler. (Unlike `block_on`, this nests.)
#[track_caller]
fn ready<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits")
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Request {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (path, None),
    };
    Request {
        method: tollgate_api::http::method(method),
        path: path.into(),
        query,
        headers: headers
            .iter()
            .map(|(name, value)| Header::new((*name).to_owned(), *value))
            .collect(),
        body: if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        },
        peer: "192.0.2.1".into(),
    }
}

fn at(ms_from_start: u64) -> String {
    time::format(START + ms_from_start)
}

fn text(response: &Response) -> String {
    String::from_utf8(response.body.clone()).unwrap()
}

#[track_caller]
fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

/// The pointers of a 400.
#[track_caller]
fn pointer(response: &Response) -> String {
    assert_eq!(response.status, 400, "{}", text(response));
    json_of(response)["errors"][0]["pointer"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn kind(response: &Response) -> String {
    json_of(response)["type"]
        .as_str()
        .unwrap()
        .trim_start_matches("urn:tollgate:problem:")
        .to_owned()
}
