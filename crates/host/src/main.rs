//! `tollgate`: the gateway. Runs the command line, and reports errors.

use clap::Parser as _;
use std::process::ExitCode;
use tollgate_host::cli::{self, output};
use tollgate_host::{logging, memory, serve};
use tracing::Level;

/// Requests allocate small things by the dozen, on one thread each: this allocator costs half of the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::begin_small();
    let arguments = cli::Arguments::parse();
    match arguments.command {
        cli::Command::Serve(options) => run_gateway(*options),
        command => output::report(cli::run(command, arguments.json), arguments.json),
    }
}

fn run_gateway(options: cli::ServeOptions) -> ExitCode {
    let done = logging::start()
        .map_err(anyhow::Error::from)
        .and_then(|()| serve::run(options));
    if let Err(error) = &done {
        let error = format!("{error:#}");
        let line = [("error", error.as_str().into())];
        logging::say(
            &format!("tollgate: {error}"),
            Level::ERROR,
            "the gateway has ended",
            &line,
        );
    }
    logging::finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
