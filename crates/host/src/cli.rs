//! The command line: one file for each subject. `docs/command-line.md` says what each command does; a test holds it to
//! the commands here.

mod backup;
mod campaigns;
mod client;
mod draw;
pub mod exit;
mod health;
mod keys;
mod links;
mod manual;
mod migrate;
pub mod output;
mod own;
mod receipt;
mod settings;
mod topics;

use crate::wasm::compiled;
use clap::{Args, Parser, Subcommand};
use exit::Failure;
use output::Output;
use std::path::PathBuf;

pub(crate) use client::connector;
pub use settings::{DEFAULT_FILE, InForce, Sources, checked, in_force};

/// `tollgate …`
#[derive(Parser)]
#[command(
    name = "tollgate",
    version,
    about = "An edge gateway: short links, rate limits, coupon claims, and a durable queue in front of your origin.",
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 no gateway answers, 4 refused by the gateway."
)]
pub struct Arguments {
    /// Print results (and errors) as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the gateway.
    Serve(Box<ServeOptions>),
    /// Validate the settings as `serve` would with the same flags and environment, and print what is in force.
    Check(Box<Sources>),
    /// Ask whether the gateway is ready: 0 if it is, 1 if not.
    Health(Box<health::HealthOptions>),
    /// Copy the store into one file, also while the gateway runs.
    Backup(Box<backup::BackupOptions>),
    /// Put a backup in the place of the store.
    Restore(Box<backup::RestoreOptions>),
    /// Print the tables of a store on Postgres, in SQL.
    Schema,
    /// Move an embedded store into a Postgres.
    Migrate(migrate::MigrateOptions),
    /// Links, many at once.
    Links(links::LinksOptions),
    /// API keys.
    Keys(keys::KeysOptions),
    /// Topics and their messages.
    Topics(topics::TopicsOptions),
    /// Campaigns.
    Campaigns(campaigns::CampaignsOptions),
    /// Draws.
    Draw(draw::DrawOptions),
    /// Receipts of claims.
    Receipt(receipt::ReceiptOptions),
    /// Print a script that completes this command line.
    Completions(manual::CompletionsOptions),
    /// Print the manual page.
    Man(manual::ManOptions),
    /// Write this program with its components compiled for this machine, so that its first start there is as fast as any.
    Precompile(PrecompileOptions),
}

/// `tollgate precompile …`
#[derive(Args)]
pub struct PrecompileOptions {
    /// The program's file; may be this program's own.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// A directory that keeps compiled code for the next time.
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
}

/// `tollgate serve …`
#[derive(Args)]
pub struct ServeOptions {
    /// Where the settings come from.
    #[command(flatten)]
    pub sources: Sources,
    /// A directory of components to run instead of the built-in ones.
    #[arg(long, value_name = "DIR")]
    pub components: Option<PathBuf>,
}

/// Runs a command other than `serve`.
///
/// # Errors
/// It did not do what it was asked for.
pub fn run(command: Command, json: bool) -> Result<(), Failure> {
    let mut output = Output::new(json);
    match command {
        Command::Serve(options) => crate::serve::run(*options).map_err(Failure::from),
        Command::Check(sources) => settings::check(&sources, output),
        Command::Health(options) => health::health(&options, output),
        Command::Backup(options) => backup::back_up(&options, output),
        Command::Restore(options) => backup::restore(&options, output),
        Command::Schema => output.text(tollgate_engines::postgres::SCHEMA),
        Command::Migrate(options) => migrate::migrate(&options, output),
        Command::Links(options) => links::links(&options, output),
        Command::Keys(options) => keys::keys(&options, output),
        Command::Topics(options) => topics::topics(&options, output),
        Command::Campaigns(options) => campaigns::campaigns(&options, output),
        Command::Draw(options) => draw::draw(&options, output),
        Command::Receipt(options) => receipt::receipt(&options, output),
        Command::Completions(options) => manual::completions(&options, output),
        Command::Man(options) => manual::man(&options, output),
        Command::Precompile(options) => {
            compiled::precompile(&options.cache, &options.output).map_err(Failure::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn commands(command: &clap::Command, before: &str, all: &mut Vec<String>) {
        for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
            let name = format!("{before} {}", one.get_name());
            match one.has_subcommands() {
                true => commands(one, &name, all),
                false => all.push(name),
            }
        }
    }

    #[test]
    fn the_document_has_every_command_and_no_other() {
        let mut known = Vec::new();
        commands(&Arguments::command(), "tollgate", &mut known);
        let document = include_str!("../../../docs/command-line.md");
        let heads = document.lines().filter_map(|line| line.strip_prefix("### `"));
        let mut documented: Vec<String> = heads
            .filter_map(|head| head.split('`').next())
            .map(|usage| {
                let words = usage
                    .split(' ')
                    .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
                words.collect::<Vec<_>>().join(" ")
            })
            .collect();
        known.sort();
        documented.sort();
        assert_eq!(documented, known);
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }
}
