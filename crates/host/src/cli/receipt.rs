//! `tollgate receipt`: receipts of claims, checked without a gateway.

use super::exit::Failure;
use super::output::Output;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::Read as _;
use std::path::PathBuf;
use tollgate_rules::receipts::{MAX_RECEIPT, check};

/// The most bytes of a file of keys.
const MAX_KEYS: u64 = 1 << 20;

/// `tollgate receipt …`
#[derive(Args)]
pub struct ReceiptOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: ReceiptCommand,
}

/// What to do with receipts.
#[derive(Subcommand)]
pub enum ReceiptCommand {
    /// Check receipts offline, against public keys (Ed25519). Ends with 1 if one is not good.
    Verify {
        /// The public keys: a JWK set, as a gateway gives it at /.well-known/jwks.json.
        #[arg(long, value_name = "FILE")]
        keys: PathBuf,
        /// The receipts; without any, they are read from stdin, one a line.
        receipts: Vec<String>,
    },
}

/// Runs a command about receipts.
///
/// # Errors
/// See [`Failure`].
pub fn receipt(options: &ReceiptOptions, output: Output) -> Result<(), Failure> {
    let ReceiptCommand::Verify { keys, receipts } = &options.command;
    let mut jwks = String::new();
    std::fs::File::open(keys)
        .and_then(|file| file.take(MAX_KEYS).read_to_string(&mut jwks))
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", keys.display())))?;
    match receipts.is_empty() {
        false => verify(&jwks, receipts.iter().cloned().map(Ok), output),
        true => verify(&jwks, std::io::stdin().lines(), output),
    }
}

fn verify(
    jwks: &str,
    receipts: impl Iterator<Item = std::io::Result<String>>,
    mut output: Output,
) -> Result<(), Failure> {
    let (mut all, mut bad) = (0_u64, 0_u64);
    for receipt in receipts {
        let receipt = receipt.context("cannot read stdin")?;
        let receipt = receipt.trim();
        if receipt.is_empty() {
            continue;
        }
        all += 1;
        let checked = check(receipt, jwks);
        bad += u64::from(checked.is_err());
        match (checked, output.is_json()) {
            (Ok(facts), true) => output.value(&json!({ "valid": true, "receipt": facts }))?,
            (Err(why), true) => output.value(&json!({ "valid": false, "why": why.to_string() }))?,
            (Ok(facts), false) => output.line(&format!(
                "good: claim {} of {}, user {}, sequence {}, units {}",
                facts.jti, facts.campaign, facts.sub, facts.sequence, facts.units
            ))?,
            (Err(why), false) => {
                let shown: String = receipt.chars().take(32).collect();
                output.line(&format!("NOT GOOD: {shown}…: {why}"))?;
            }
        }
    }
    match (all, bad) {
        (0, _) => Err(Failure::Usage(format!(
            "there is no receipt: at most {MAX_RECEIPT} characters with two dots, one a line"
        ))),
        (_, 0) => Ok(()),
        (all, bad) => Err(Failure::failed(format!("{bad} of {all} receipts are not good"))),
    }
}
