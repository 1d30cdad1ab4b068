//! `tollgate`: the gateway. The command line, and the order in which things start and stop.

use clap::Parser as _;
use std::process::ExitCode;
use tollgate_host::{cli, logging, serve};

/// Requests allocate small things by the dozen, on one thread each: this allocator costs half of the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    logging::start();
    let done = match arguments.command {
        cli::Command::Serve(options) => serve::run(*options),
        cli::Command::Check(options) => cli::check(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
