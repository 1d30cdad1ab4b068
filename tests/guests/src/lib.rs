//! A gate component that does what no component should: the last segment of a request's path says what. It stands in for
//! the shortener in the tests of the host.
//!
//! With the query `now` it does so in the call that may not wait, else in the one that may.
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

use std::cell::Cell;
use std::hint::black_box;

use bindings::exports::tollgate::edge::gate::{Guest, Request, Response};
use bindings::tollgate::edge::store;

/// Bytes that are allocated and written at a time.
const CHUNK: usize = 1 << 20;
/// The longest that a port lets a call wait, milliseconds.
const LONGEST_WAIT_MS: u32 = 30_000;

struct Misbehaving;

thread_local! {
    /// Calls that this instance has answered.
    static ANSWERED: Cell<u64> = const { Cell::new(0) };
}

impl Guest for Misbehaving {
    async fn handle(request: Request) -> Response {
        match manner(&request) {
            "waits" => wait_for_ever().await,
            "yields" => yield_for_ever().await,
            other => misbehave(other),
        }
        answer()
    }

    fn handle_now(request: Request) -> Option<Response> {
        if request.query.as_deref() != Some("now") {
            return None;
        }
        misbehave(manner(&request));
        Some(answer())
    }
}

/// The last segment of the path.
fn manner(request: &Request) -> &str {
    request.path.rsplit('/').next().unwrap_or_default()
}

/// Does what can be done without waiting. Comes back from nothing but what it does not know.
fn misbehave(manner: &str) {
    match manner {
        "loops" => loop {
            black_box(());
        },
        "recurses" => drop(recurse(1)),
        "allocates" => allocate(),
        "traps" => core::arch::wasm32::unreachable(),
        "panics" => panic!("as asked for"),
        "exits" => std::process::exit(3),
        _ => {}
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

fn recurse(depth: u64) -> [u64; 32] {
    let mut frame = black_box([depth; 32]);
    frame[1] = recurse(depth + 1)[0];
    black_box(frame)
}

fn allocate() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(black_box(vec![1; CHUNK]));
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
