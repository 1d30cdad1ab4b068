//! A gate component that does what no component should: the last segment of a request's path says what. It stands in for
//! the shortener in the tests of the host; its sibling `fast` stands in for the fast path.
#![cfg(target_family = "wasm")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::infinite_loop,
    unconditional_recursion,
    reason = "that is what it is for"
)]

#[allow(missing_docs, clippy::all, unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package tollgate:misbehaving;
            world component {
                include tollgate:edge/guest@0.1.0;
                include tollgate:edge/gate-door@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
    });
    use super::Misbehaving;
    export!(Misbehaving);
}

mod misbehaviour;

use misbehaviour::{manner, misbehave};
use std::cell::Cell;

use bindings::exports::tollgate::edge::gate::{Guest, Request, Response};
use bindings::tollgate::edge::store;

/// The longest that a port lets a call wait, milliseconds.
const LONGEST_WAIT_MS: u32 = 30_000;

struct Misbehaving;

thread_local! {
    /// Calls that this instance has answered.
    static ANSWERED: Cell<u64> = const { Cell::new(0) };
}

impl Guest for Misbehaving {
    async fn handle(request: Request) -> Response {
        match manner(&request.path) {
            "waits" => wait_for_ever().await,
            "yields" => yield_for_ever().await,
            other => misbehave(other),
        }
        answer()
    }
}

/// Asks for a message that nobody sends, again and again.
async fn wait_for_ever() {
    loop {
        let _ = store::read("nobody appends to it".to_owned(), 0, 1, LONGEST_WAIT_MS).await;
    }
}

/// Lets others run all the time, and has never done anything.
async fn yield_for_ever() {
    loop {
        wit_bindgen::yield_async().await;
    }
}

/// How often this instance has answered, this answer included.
fn answer() -> Response {
    let answered = ANSWERED.get() + 1;
    ANSWERED.set(answered);
    Response {
        status: 200,
        headers: Vec::new(),
        body: answered.to_string().into_bytes(),
    }
}
