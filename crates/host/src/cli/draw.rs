//! `tollgate draw`: checking a draw without asking anybody.

use super::exit::Failure;
use super::output::{Output, printable};
use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tollgate_rules::draws::{self, Report};

/// The largest document that is read: a proof of 100 entries is smaller.
const MAX_BYTES: u64 = 4 << 20;

/// `tollgate draw …`
#[derive(Args)]
pub struct DrawOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: DrawCommand,
}

/// What to do with a draw.
#[derive(Subcommand)]
pub enum DrawCommand {
    /// Check a draw by the document of `GET /api/draws/{id}/entries/{user}/proof`, offline.
    Verify {
        /// The document's file; `-` for standard input.
        file: PathBuf,
        /// The commitment that was told before the first entry.
        #[arg(long, value_name = "HEX")]
        commitment: Option<String>,
    },
}

/// Runs a command about draws.
///
/// # Errors
/// It cannot be read, or something does not hold.
pub fn draw(options: &DrawOptions, mut output: Output) -> Result<(), Failure> {
    let DrawCommand::Verify { file, commitment } = &options.command;
    let document = read(file).map_err(|error| Failure::Usage(format!("{error:#}")))?;
    let report = draws::verify(&document, commitment.as_deref()).map_err(|error| anyhow!("{error}"))?;
    if output.is_json() {
        output.value(&report)?;
    } else {
        show(&report, &mut output)?;
    }
    match report.holds() {
        true => Ok(()),
        false => Err(anyhow!("the draw {} is not as it says", printable(&report.draw)).into()),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, anyhow::Error> {
    let mut bytes = Vec::new();
    let source: Box<dyn std::io::Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => {
            Box::new(std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?)
        }
    };
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(anyhow!("{} is larger than any proof", file.display())),
        false => Ok(bytes),
    }
}

fn show(report: &Report, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!("draw {}", report.draw))?;
    for check in &report.checks {
        let verdict = if check.holds { "holds" } else { "FAILS" };
        output.line(&format!("  {verdict}  {}", check.what))?;
    }
    for note in &report.notes {
        output.line(&format!("  note   {}", note))?;
    }
    Ok(())
}
