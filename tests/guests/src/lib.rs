//! A component that does what no component should, in place of all rules. The last segment of a request's path says what. It
//! does so where the request arrives if the query is `now`; every other under `/api/` is admitted first.
#![cfg(target_family = "wasm")]
#![allow(
    clippy::panic,
    clippy::infinite_loop,
    unconditional_recursion,
    reason = "that is what it is for"
)]

#[allow(missing_docs, clippy::all, unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "rules-component" });
    use super::Misbehaving;
    export!(Misbehaving);
}

mod misbehaviour;

use bindings::exports::tollgate::edge::rules::{
    Call, Guest, Messages, Reply, Response, Stage, Step, Waiting,
};
use misbehaviour::{manner, misbehave};
use std::cell::Cell;

/// The number of every rule that waits: they do not differ.
const TASK: u32 = 1;
/// The longest that a read may wait, milliseconds.
const LONGEST_WAIT_MS: u32 = 30_000;

struct Misbehaving;

thread_local! {
    /// Calls that this instance has answered.
    static ANSWERED: Cell<u64> = const { Cell::new(0) };
}

impl Guest for Misbehaving {
    fn configure(_settings: String) -> Result<(), String> {
        Ok(())
    }

    fn set_run_time(_document: Vec<u8>) -> Result<(), String> {
        Ok(())
    }

    fn start(head: Vec<u8>, _now: u64, _body_follows: bool, stage: Stage) -> Step {
        let mut rest = head.as_slice();
        let mut field = || {
            let (length, after) = rest.split_first_chunk()?;
            let (field, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            std::str::from_utf8(field).ok()
        };
        let (Some(_method), Some(path), Some(query)) = (field(), field(), field()) else {
            return Step::Busy;
        };
        if stage == Stage::Arrived && path.starts_with("/api/") && query != "?now" {
            return Step::Admitted(Vec::new());
        }
        match manner(path) {
            "waits" => wait(),
            other => {
                misbehave(other);
                answer()
            }
        }
    }

    fn resume(_task: u32, _reply: Reply) -> Step {
        wait()
    }

    fn cancel(_task: u32) {}

    fn flush() -> Vec<u64> {
        Vec::new()
    }
}

/// Waits for a message that nobody sends, again and again.
fn wait() -> Step {
    let messages = Messages {
        topic: "nobody appends to it".to_owned(),
        after: 0,
        limit: 1,
        wait: LONGEST_WAIT_MS,
    };
    Step::Waits(Waiting {
        task: TASK,
        call: Call::Read(messages),
    })
}

/// How often this instance has answered, this answer included.
fn answer() -> Step {
    let answered = ANSWERED.get() + 1;
    ANSWERED.set(answered);
    Step::Done(Response {
        status: 200,
        headers: Vec::new(),
        body: answered.to_string().into_bytes(),
    })
}
