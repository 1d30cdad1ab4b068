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

use bindings::exports::tollgate::edge::fast_path::{Guest, Reply, Response, Step};
use misbehaviour::{manner, misbehave};

struct Misbehaving;

impl Guest for Misbehaving {
    fn start(head: Vec<u8>, _now: u64, _body_follows: bool) -> Step {
        let mut rest = head.as_slice();
        let mut field = || {
            let (length, after) = rest.split_first_chunk()?;
            let (field, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            std::str::from_utf8(field).ok()
        };
        let (Some(_method), Some(path), Some("?now")) = (field(), field(), field()) else {
            return Step::Admitted(Vec::new());
        };
        misbehave(manner(path));
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

    fn flush() {}
}
