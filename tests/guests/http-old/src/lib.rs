//! A component that speaks `wasi:http` 0.2, and ends or loops where the path says so.
#![cfg(target_family = "wasm")]
#![allow(clippy::infinite_loop, reason = "that is what it is for")]

use std::cell::Cell;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Old;

wasip2::http::proxy::export!(Old);

thread_local! {
    /// Requests that this instance has answered.
    static ANSWERED: Cell<u64> = const { Cell::new(0) };
}

impl Guest for Old {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.rsplit('/').next() {
            Some("loops") => loop {
                std::hint::black_box(());
            },
            Some("traps") => core::arch::wasm32::unreachable(),
            // Its answer is lost.
            Some("forgets") => return,
            _ => {}
        }
        ANSWERED.set(ANSWERED.get() + 1);
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            let text = format!("{path} {}", ANSWERED.get());
            let _ = stream.blocking_write_and_flush(text.as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
