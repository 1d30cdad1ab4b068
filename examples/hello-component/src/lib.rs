//! Greets the person that the path names, and counts how often, in the gateway's store.
#![cfg(target_family = "wasm")]

use bindings::tollgate::edge::store::{self, Add, Mutation, Outcome, Transaction};
use spin_sdk::http::{IntoResponse, Request, StatusCode};
use spin_sdk::http_service;

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "guest", generate_all });
}

#[http_service]
async fn hello(request: Request) -> impl IntoResponse {
    let name = request
        .uri()
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "hello".to_owned());
    // One atomic step: no other request sees, or makes, the same number.
    let count = Add {
        key: format!("greeted/{name}"),
        delta: 1,
        min: None,
        max: None,
    };
    let counted = store::commit(Transaction {
        partition: name.clone(),
        idempotence: None,
        conditions: Vec::new(),
        mutations: vec![Mutation::Add(count)],
        appends: Vec::new(),
    });
    match counted.await {
        Ok(Outcome::Committed(done)) => (
            StatusCode::OK,
            format!("{greeting}, {name}! ({})\n", done.sums[0]),
        ),
        other => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not counted: {other:?}\n"),
        ),
    }
}
