//! Tollgate, black box, over every host that is present. A case is written once, in the module of its subject, and
//! listed here; `host::…` runs it on the `tollgate` binary, `spin::…` under `spin up`.
//!
//! `cargo xtask test` builds what the cases need. By hand: `cargo test --release -p tollgate-tests -- links`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

mod harness;

mod links;

harness::cases! {
    links { created_link_redirects }
}
