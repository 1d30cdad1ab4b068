//! `cargo xtask demo`, as a newcomer runs it, but shorter.

use std::process::Stdio;

use tokio::process::Command;

use crate::command_line::Ended;
use crate::harness::{Host, binary, xtask};

pub async fn a_short_demo_sells_what_it_has_and_delivers_each_order(_: Host) {
    let Some(xtask) = xtask() else {
        return eprintln!("skipped: cargo xtask test sets TOLLGATE_XTASK, and nobody else did");
    };
    let mut command = Command::new(xtask);
    command
        .args(["demo", "--units", "60", "--people", "300", "--seconds", "2"])
        .args(["--countdown", "0", "--stay", "0", "--listen", "127.0.0.1:0"])
        .arg("--gateway")
        .arg(binary())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = Ended::from(command.output().await.expect("it runs")).expect(0);
    for words in [
        "/admin",
        "log in with ",
        "300 people asked",
        "admitted    60\n",
        "sold out    240; 60 pressed the button twice",
        "60 orders delivered, numbered 1 to 60",
    ] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
}
