//! `tollgate links`: many links at once, in and out.

mod export;
mod import;
mod pace;
mod reader;
mod row;

use super::client::{Client, run};
use super::exit::Failure;
use super::output::Output;
use clap::{Args, Subcommand};

pub use export::ExportOptions;
pub use import::ImportOptions;

/// `tollgate links …`
#[derive(Args)]
pub struct LinksOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: LinksCommand,
}

/// What to do with links.
#[derive(Subcommand)]
pub enum LinksCommand {
    /// Create the links of a file: NDJSON, CSV, or what Shlink, Dub, YOURLS, Kutt or Bitly export. What is there is skipped.
    Import(Box<ImportOptions>),
    /// Print all links that the key may see.
    Export(Box<ExportOptions>),
}

/// Runs a command about links.
///
/// # Errors
/// See [`Failure`].
pub fn links(options: &LinksOptions, output: Output) -> Result<(), Failure> {
    match &options.command {
        LinksCommand::Import(options) => import::import(options, output),
        LinksCommand::Export(options) => run(export::export(options, &Client::new(&options.target)?, output)),
    }
}
