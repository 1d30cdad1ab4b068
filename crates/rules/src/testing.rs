//! For the tests of the rules: a gateway over the store in memory, requests to it, and what its answers say. Tests of
//! one subject add calls of their own to [`Gateway`], beside their cases.

use std::cell::Cell;

use futures::FutureExt as _;
use serde_json::Value;
use tollgate_api::components::Component;
use tollgate_api::http::{Header, Request, Response};
use tollgate_store::memory::{InMemoryBuckets, InMemoryStore, START};
use tollgate_store::ports::Store;

use crate::settings::Settings;
use crate::world::World;
use crate::{admin, campaigns, forward, keys, links};

pub(crate) const ADMIN: &str = "an-admin-key-for-tests";
/// Milliseconds.
pub(crate) const SECOND: u64 = 1_000;

/// A store, its settings and a source of different bytes.
pub(crate) struct Gateway {
    pub(crate) store: InMemoryStore,
    pub(crate) buckets: InMemoryBuckets,
    pub(crate) settings: Settings,
    /// How many values of fresh randomness were given.
    pub(crate) count: Cell<u128>,
}

impl Gateway {
    /// With the settings of the sample.
    pub(crate) fn new() -> Self {
        Self::with_settings(Settings::default())
    }

    pub(crate) fn with_settings(settings: Settings) -> Self {
        let store = InMemoryStore::new();
        ready(keys::install_admin(&store, ADMIN, START)).unwrap();
        Self {
            store,
            buckets: InMemoryBuckets::default(),
            settings,
            count: Cell::new(0),
        }
    }

    pub(crate) fn fresh(&self) -> [u8; 16] {
        self.count.set(self.count.get() + 1);
        self.count.get().to_be_bytes()
    }

    /// What the component of its path answers, on any store.
    pub(crate) async fn answer<S: Store>(&self, store: &S, request: &Request) -> Response {
        let fresh = || self.fresh();
        let world = World {
            store,
            settings: &self.settings,
            now: self.store.now(),
            fresh: &fresh,
        };
        match self.settings.component(&request.path) {
            Component::Shortener => links::handle(&world, request).await,
            Component::Coupon => campaigns::handle(&world, request).await,
            Component::Forward => forward::handle(&world, request).await,
            Component::Admin => admin::handle(&world, &self.buckets, request).await,
        }
    }

    pub(crate) fn send(&self, request: &Request) -> Response {
        ready(self.answer(&self.store, request))
    }

    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Payload,
    ) -> Response {
        self.send(&request(method, path, headers, body))
    }

    /// With a key or token.
    pub(crate) fn with(&self, token: &str, method: &str, path: &str, body: impl Payload) -> Response {
        let bearer = format!("Bearer {token}");
        self.call(method, path, &[("authorization", &bearer)], body)
    }

    pub(crate) fn admin(&self, method: &str, path: &str, body: impl Payload) -> Response {
        self.with(ADMIN, method, path, body)
    }
}

/// The store in memory never waits, so neither does a handler. (Unlike `block_on`, this nests.)
#[track_caller]
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits")
}

/// What can be a body.
pub(crate) trait Payload {
    fn bytes(&self) -> Vec<u8>;
}

/// A document; null is none.
impl Payload for &Value {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Value::Null => Vec::new(),
            document => document.to_string().into_bytes(),
        }
    }
}

impl Payload for &str {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Payload for &[u8] {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl<const N: usize> Payload for &[u8; N] {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Payload) -> Request {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (path, None),
    };
    let header = |(name, value): &(&str, &str)| Header::new((*name).to_owned(), *value);
    Request {
        method: tollgate_api::http::method(method),
        path: path.into(),
        query,
        headers: headers.iter().map(header).collect(),
        body: body.bytes(),
        peer: "192.0.2.1".into(),
    }
}

pub(crate) fn text(response: &Response) -> String {
    String::from_utf8(response.body.clone()).unwrap()
}

/// The document of an answer.
#[track_caller]
pub(crate) fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

/// The pointer of a 400.
#[track_caller]
pub(crate) fn pointer(response: &Response) -> String {
    assert_eq!(response.status, 400, "{}", text(response));
    let document = body(response);
    document["errors"][0]["pointer"].as_str().unwrap().to_owned()
}

/// The last part of a problem's type.
#[track_caller]
pub(crate) fn slug(response: &Response) -> String {
    let document = body(response);
    let kind = document["type"].as_str().unwrap();
    kind.trim_start_matches("urn:tollgate:problem:").to_owned()
}
