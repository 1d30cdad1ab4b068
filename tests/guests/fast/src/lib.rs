//! A fast path that does what no component should, where the query of a request is `now`; it admits every other.
#![cfg(target_family = "wasm")]
#![allow(
    clippy::panic,
    clippy::infinite_loop,
    unconditional_recursion,
    reason = "that is what it is for"
)]

#[allow(missing_docs, clippy::all, unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "fast-path-door" });
    use super::Misbehaving;
    export!(Misbehaving);
}

#[path = "../../src/misbehaviour.rs"]
mod misbehaviour;

use bindings::exports::tollgate::edge::fast_path::{Guest, Reply, Request, Response, Step};
use misbehaviour::{manner, misbehave};

struct Misbehaving;

impl Guest for Misbehaving {
    fn start(request: Request, _now: u64, _body_follows: bool) -> Step {
        if request.query.as_deref() != Some("now") {
            return Step::Admitted(Vec::new());
        }
        misbehave(manner(&request.path));
        Step::Done(Response {
            status: 200,
            headers: Vec::new(),
            body: b"fast".to_vec(),
        })
    }

    fn resume(_task: u32, _reply: Reply) -> Step {
        Step::Busy
    }

    fn cancel(_task: u32) {}
}
