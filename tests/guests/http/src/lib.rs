//! A component that exports `wasi:http/handler` and does what no component should, or tells what it was given. The last
//! segment of a request's path says what.
#![cfg(target_family = "wasm")]
#![allow(
    missing_docs,
    clippy::panic,
    clippy::infinite_loop,
    unconditional_recursion,
    reason = "that is what it is for"
)]

#[allow(missing_docs, clippy::all, unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "guest", generate_all });
}

#[path = "../../src/misbehaviour.rs"]
mod misbehaviour;

use bindings::tollgate::edge::store::{self, Append, Mutation, Part, Set, Transaction};
use bytes::Bytes;
use futures::SinkExt as _;
use http_body_util::BodyExt as _;
use misbehaviour::{manner, misbehave};
use serde_json::json;
use spin_sdk::http::body::stream;
use spin_sdk::http::{BoxBody, FullBody, Request, Response, box_body};
use spin_sdk::http_service;
use spin_sdk::wasip3::spawn;
use std::time::Duration;

/// Longer than any request may take.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// How long it pauses between two pieces of a body.
const PAUSE: Duration = Duration::from_millis(50);

#[http_service]
async fn serve(request: Request) -> Result<Response<BoxBody>, spin_sdk::http::Error> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    match manner(&path) {
        "waits" => {
            spin_sdk::time::sleep(FOR_EVER).await;
            Ok(text("it is time"))
        }
        "fails" => Err("as asked for".into()),
        "echoes" => Ok(Response::new(box_body(request.into_body()))),
        "swallows" => {
            let read = request.into_body().collect().await;
            let length = read.map(|body| body.to_bytes().len().to_string());
            Ok(text(&length.unwrap_or_else(|error| format!("{error:?}"))))
        }
        "trickles" => {
            let (mut pieces, body) = stream::<Bytes>();
            spawn(async move {
                while pieces.send(Bytes::from("words\n")).await.is_ok() {
                    spin_sdk::time::sleep(PAUSE).await;
                }
            });
            Ok(Response::new(box_body(body)))
        }
        "calls" => match spin_sdk::http::get(&query).await {
            Ok(answer) => Ok(text(answer.status().as_str())),
            Err(error) => Ok(text(&format!("{error:?}"))),
        },
        "tells" => {
            let headers: Vec<_> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
                .collect();
            let told = json!({
                "method": request.method().as_str(),
                "uri": request.uri().to_string(),
                "headers": headers,
                "environment": std::env::vars().collect::<Vec<_>>(),
                "files": std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string()).is_ok(),
                "socket": std::net::TcpStream::connect(query).is_ok(),
            });
            Ok(text(&told.to_string()))
        }
        "stores" => Ok(text(&stores(&query).await)),
        other => {
            misbehave(other);
            Ok(text("fine"))
        }
    }
}

fn text(text: &str) -> Response<BoxBody> {
    Response::new(box_body(FullBody::new(Bytes::from(text.to_owned()))))
}

/// Writes under a name, and tells all that it can see then.
async fn stores(name: &str) -> String {
    let value = || vec![Part::Bytes(b"x".to_vec())];
    let commit = Transaction {
        partition: "p".into(),
        idempotence: None,
        conditions: Vec::new(),
        mutations: vec![Mutation::Set(Set {
            key: name.to_owned(),
            value: value(),
            expires: None,
        })],
        appends: vec![Append {
            topic: name.to_owned(),
            id: name.to_owned(),
            key: String::new(),
            type_: "test".into(),
            content_type: "text/plain".into(),
            attributes: Vec::new(),
            payload: value(),
        }],
    };
    let done = store::commit(commit).await.is_ok();
    let keys = store::scan(String::new(), None, 100).await.unwrap_or_default();
    let keys: Vec<_> = keys.into_iter().map(|item| item.key).collect();
    let topics = store::topics(None, 100).await.unwrap_or_default();
    let topics: Vec<_> = topics.into_iter().map(|topic| topic.name).collect();
    let read = store::read(name.to_owned(), 0, 10, 0).await.unwrap_or_default();
    let read: Vec<_> = read.into_iter().map(|message| message.topic).collect();
    let got = store::get("p".into(), vec!["link/hello".into()])
        .await
        .unwrap_or_default();
    json!({ "done": done, "keys": keys, "topics": topics, "read": read, "link": got[0].is_some() })
        .to_string()
}
