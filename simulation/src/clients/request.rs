//! What clients want, as requests.

use serde_json::Value;
use tollgate_api::http::{Header, Request};

use super::{DRAW, TICKETS};
use crate::server::INSTALL;
use crate::world::{ADMIN, ROOM};

/// The body of a claim of two units.
pub const TWO: &str = r#"{"units":2,"metadata":{"n":-1}}"#;

/// What a client wants.
#[derive(Clone, Debug)]
pub enum Wish {
    Claim {
        campaign: &'static str,
        user: String,
        key: Option<String>,
        body: &'static str,
    },
    /// `verb`: confirm, release or revoke. By the user, or else by an operator.
    Settle {
        campaign: &'static str,
        user: String,
        claim: String,
        verb: &'static str,
        key: Option<String>,
        by_user: bool,
    },
    /// `method`: takes a place in the line of the tickets, looks, or gives it up.
    Line {
        method: &'static str,
        user: String,
    },
    Enter {
        user: String,
        key: Option<String>,
    },
    /// A ticket of the waiting room.
    Draw {
        client: String,
    },
    /// Where it stands.
    Look {
        client: String,
        ticket: String,
    },
    SignUp {
        client: u64,
        key: Option<String>,
        body: String,
    },
    /// A message that is to come in so many seconds.
    Later {
        client: u64,
        key: Option<String>,
        body: String,
        seconds: u64,
    },
    Visit(&'static str),
    /// The same, by a client of that number.
    VisitBy(&'static str, u64),
    Admin {
        method: &'static str,
        path: String,
        body: Value,
    },
    Install,
}

impl Wish {
    pub fn admin(method: &'static str, path: impl Into<String>, body: Value) -> Self {
        let path = path.into();
        Self::Admin { method, path, body }
    }

    pub fn request(&self) -> Request {
        let mut headers = Vec::new();
        let (method, path, body) = match self {
            Self::Claim {
                campaign,
                user,
                key,
                body,
            } => {
                headers.push(Header::new("x-user-id", user));
                headers.push(Header::new("x-client-id", user));
                headers.extend(
                    key.as_ref()
                        .map(|key| Header::new("idempotency-key", format!("\"{key}\""))),
                );
                (
                    "POST",
                    format!("/api/campaigns/{campaign}/claims"),
                    (*body).to_owned(),
                )
            }
            Self::Settle {
                campaign,
                user,
                claim,
                verb,
                key,
                by_user,
            } => {
                match by_user {
                    true => headers.push(Header::new("x-user-id", user)),
                    false => headers.push(Header::new("authorization", format!("Bearer {ADMIN}"))),
                }
                headers.push(Header::new("x-client-id", user));
                headers.extend(
                    key.as_ref()
                        .map(|key| Header::new("idempotency-key", format!("\"{key}\""))),
                );
                let path = format!("/api/campaigns/{campaign}/claims/{claim}/{verb}");
                ("POST", path, String::new())
            }
            Self::Line { method, user } => {
                headers.push(Header::new("x-user-id", user));
                headers.push(Header::new("x-client-id", user));
                (
                    *method,
                    format!("/api/campaigns/{TICKETS}/waitlist"),
                    String::new(),
                )
            }
            Self::Enter { user, key } => {
                headers.push(Header::new("x-user-id", user));
                headers.push(Header::new("x-client-id", user));
                headers.extend(
                    key.as_ref()
                        .map(|key| Header::new("idempotency-key", format!("\"{key}\""))),
                );
                ("POST", format!("/api/draws/{DRAW}/entries"), String::new())
            }
            Self::Draw { client } => {
                headers.push(Header::new("x-client-id", client));
                ("POST", format!("/api/rooms/{ROOM}/tickets"), String::new())
            }
            Self::Look { client, ticket } => {
                headers.push(Header::new("x-client-id", client));
                (
                    "GET",
                    format!("/api/rooms/{ROOM}/tickets/{ticket}"),
                    String::new(),
                )
            }
            Self::SignUp { client, key, body } => {
                headers.push(Header::new("x-client-id", format!("client-{client}")));
                headers.push(Header::new("content-type", "text/plain"));
                headers.extend(
                    key.as_ref()
                        .map(|key| Header::new("idempotency-key", format!("\"{key}\""))),
                );
                ("POST", "/signup".to_owned(), body.clone())
            }
            Self::Later {
                client,
                key,
                body,
                seconds,
            } => {
                headers.push(Header::new("x-client-id", format!("client-{client}")));
                headers.push(Header::new("x-partition-key", "later"));
                headers.push(Header::new("x-delay", seconds.to_string()));
                headers.extend(
                    key.as_ref()
                        .map(|key| Header::new("idempotency-key", format!("\"{key}\""))),
                );
                ("POST", "/api/topics/orders/messages".to_owned(), body.clone())
            }
            Self::Visit(code) => ("GET", format!("/{code}"), String::new()),
            Self::VisitBy(code, client) => {
                headers.push(Header::new("x-client-id", format!("visitor-{client}")));
                ("GET", format!("/{code}"), String::new())
            }
            Self::Admin { method, path, body } => {
                headers.push(Header::new("authorization", format!("Bearer {ADMIN}")));
                let body = if body.is_null() {
                    String::new()
                } else {
                    body.to_string()
                };
                (*method, path.clone(), body)
            }
            Self::Install => ("POST", INSTALL.to_owned(), String::new()),
        };
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (path, None),
        };
        Request {
            method: tollgate_api::http::method(method),
            path,
            query,
            headers,
            body: body.into_bytes(),
            peer: "192.0.2.1".to_owned(),
        }
    }
}
