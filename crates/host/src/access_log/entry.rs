//! What the access log tells of one request, gathered while it is answered. Each is written once, whoever answers: a rule, the
//! host, a component, or nobody, since the caller has gone.

use super::line::{Line, RequestLine};
use super::{AccessLog, Luck};
use crate::clock::{millis, since};
use crate::metrics::count::{GONE, Requests};
use crate::server::Shared;
use crate::server::generation::Generation;
use crate::server::service::{Answer, Caller};
use futures::FutureExt as _;
use http::header::{AUTHORIZATION, FORWARDED, HeaderMap, HeaderName, HeaderValue, REFERER, USER_AGENT};
use hyper::body::Body;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tollgate_api::http::{Header, Request};
use tollgate_rules::cors::Field;
use tollgate_rules::identity;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request that gets a line, unless its answer is of a kind that seldom does.
pub struct Entry {
    shared: Arc<Shared>,
    generation: Arc<Generation>,
    luck: Luck,
    caller: Rc<Caller>,
    came: SystemTime,
    method: http::Method,
    uri: http::Uri,
    version: http::Version,
    request_id: HeaderValue,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    /// The headers by which the limiter knows its client. They hold a credential, perhaps, and are not written.
    identity: Vec<Header>,
    trace_id: Option<String>,
}

impl Entry {
    /// Of a request that has come, if it may get a line.
    pub fn begin<B>(
        (shared, generation): (&Arc<Shared>, &Arc<Generation>),
        request: &hyper::Request<B>,
        caller: &Rc<Caller>,
        request_id: &HeaderValue,
        came: SystemTime,
    ) -> Option<Box<Self>> {
        let luck = generation.access_log.as_ref()?.draw()?;
        let headers = request.headers();
        let mut entry = Box::new(Self {
            shared: Arc::clone(shared),
            generation: Arc::clone(generation),
            luck,
            caller: Rc::clone(caller),
            came,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            request_id: request_id.clone(),
            referer: headers.get(REFERER).cloned(),
            user_agent: headers.get(USER_AGENT).cloned(),
            identity: Vec::new(),
            trace_id: None,
        });
        entry.identify(headers);
        Some(entry)
    }

    /// Takes the headers that tell who asks.
    pub fn identify(&mut self, headers: &HeaderMap) {
        self.identity.clear();
        let configured = self.generation.settings.config.clients.header.as_str();
        for name in [
            AUTHORIZATION.as_str(),
            FORWARDED.as_str(),
            X_FORWARDED_FOR.as_str(),
            configured,
        ] {
            for value in headers.get_all(name) {
                self.identity.push(Header {
                    name: tollgate_api::http::seen_header(name),
                    value: value.as_bytes().to_vec(),
                });
            }
        }
    }

    /// It is traced, under this id.
    pub fn traced(&mut self, trace_id: String) {
        self.trace_id = Some(trace_id);
    }

    /// Writes the line of an answer that is whole; one that comes in pieces writes it at its end.
    pub fn answered(self: Box<Self>, answer: Answer) -> Answer {
        let status = answer.status().as_u16();
        if !self.chosen(status) {
            return answer;
        }
        match answer.body().size_hint().exact() {
            Some(bytes) if answer.body().is_whole() => {
                let is_head = self.method == http::Method::HEAD;
                self.write(status, if is_head { 0 } else { bytes });
                answer
            }
            _ => answer.map(|body| {
                body.told_at_its_end(Ending {
                    entry: self,
                    status,
                    bytes: 0,
                })
            }),
        }
    }

    /// Writes the line of a request whose caller did not wait for the answer.
    pub fn gone(&self) {
        if self.chosen(GONE) {
            self.write(GONE, 0);
        }
    }

    fn log(&self) -> Option<&AccessLog> {
        self.generation.access_log.as_ref()
    }

    fn chosen(&self, status: u16) -> bool {
        self.log().is_some_and(|log| log.chooses(self.luck, status))
    }

    fn write(&self, status: u16, bytes: u64) {
        let asker = Request {
            method: "".into(),
            path: String::new(),
            query: None,
            headers: self.identity.clone(),
            body: Vec::new(),
            peer: self.caller.name.clone(),
        };
        let settings = &self.generation.settings;
        // The limiter has just read the key, so it is in memory. If it is not, nobody waits for it.
        let client = identity::client(
            &self.shared.engines.store,
            &settings.config,
            &settings.proxies,
            &asker,
            millis(self.came),
        );
        let client = client.now_or_never().and_then(Result::ok);
        let Some(log) = self.log() else { return };
        log.write(&Line {
            time: self.came,
            duration: since(self.came),
            address: settings.proxies.resolve(&asker).unwrap_or(self.caller.address),
            client: client.as_ref().map(identity::ClientId::as_str),
            request: Some(RequestLine {
                method: self.method.as_str(),
                path: self.uri.path(),
                version: self.version,
            }),
            status,
            bytes,
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            request_id: self.request_id.to_str().unwrap_or_default(),
            trace_id: self.trace_id.as_deref(),
        });
    }
}

/// An answer that comes in pieces: its line is written when it ends, however it does.
pub struct Ending {
    entry: Box<Entry>,
    status: u16,
    bytes: u64,
}

impl Ending {
    /// A piece of the body goes out.
    pub fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.entry.write(self.status, self.bytes);
    }
}

/// Who sends what the parser refuses, on one connection.
pub struct Unparsed {
    generation: Arc<Generation>,
    counters: Arc<Requests>,
    address: IpAddr,
}

impl Unparsed {
    /// Of a connection from this address.
    pub fn new(generation: &Arc<Generation>, counters: &Arc<Requests>, address: IpAddr) -> Self {
        Self {
            generation: Arc::clone(generation),
            counters: Arc::clone(counters),
            address,
        }
    }

    /// The fields of its answer for pages of other origins.
    pub fn cors(&self) -> Vec<Field> {
        self.generation.settings.cors.of_unread()
    }

    /// Counts such a refusal, and writes its line if there is an access log.
    pub fn refused(&self, status: u16, request_id: &str, bytes: usize) {
        self.counters.unparsed(status);
        let Some(log) = &self.generation.access_log else {
            return;
        };
        if !log.draw().is_some_and(|luck| log.chooses(luck, status)) {
            return;
        }
        log.write(&Line {
            time: SystemTime::now(),
            duration: Duration::ZERO,
            address: self.address,
            client: None,
            request: None,
            status,
            bytes: bytes as u64,
            referer: None,
            user_agent: None,
            request_id,
            trace_id: None,
        });
    }
}
