//! `tollgate completions` and `tollgate man`: made from the very definition that the command line is read by.

use super::Arguments;
use super::exit::Failure;
use super::output::Output;
use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::path::PathBuf;

/// `tollgate completions …`
#[derive(Args)]
pub struct CompletionsOptions {
    /// For which shell.
    pub shell: Shell,
}

/// `tollgate man …`
#[derive(Args)]
pub struct ManOptions {
    /// A directory for one page each of the program and its commands [default: the program's page, on stdout].
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// Prints a script that completes the command line.
///
/// # Errors
/// Stdout cannot be written.
pub fn completions(options: &CompletionsOptions, mut output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), "tollgate", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}

/// Prints the manual page, or writes all of them.
///
/// # Errors
/// Stdout, or the directory, cannot be written.
pub fn man(options: &ManOptions, mut output: Output) -> Result<(), Failure> {
    let command = Arguments::command();
    match &options.directory {
        Some(directory) => {
            let made = std::fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(command, directory));
            made.with_context(|| format!("cannot write to {}", directory.display()))?;
            Ok(())
        }
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(command).render(&mut page);
            rendered.map_err(anyhow::Error::from)?;
            output.text(&String::from_utf8_lossy(&page))
        }
    }
}
