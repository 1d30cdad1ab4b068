//! `tollgate campaigns`: how they are, how the stock falls, and codes of the operator's own.

use super::client::{Client, Target, run, segment};
use super::exit::Failure;
use super::output::{self, Output, printable};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Campaigns of a page.
const PAGE: u32 = 100;

/// `tollgate campaigns …`
#[derive(Args)]
pub struct CampaignsOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: CampaignsCommand,
}

/// What to do with campaigns.
#[derive(Subcommand)]
pub enum CampaignsCommand {
    /// Print all campaigns (scope `campaigns`).
    List {
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
    /// Import codes that claims carry, a line each (scope `campaigns`).
    Codes {
        /// The campaign's id.
        id: String,
        /// The file; - is stdin.
        file: PathBuf,
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
    /// Follow a campaign until it has ended: a live line on a terminal, else a line for each change.
    Watch {
        /// Its id.
        id: String,
        /// Seconds between two looks.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        every: u64,
        /// End once it is sold out, too.
        #[arg(long)]
        until_sold_out: bool,
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
}

/// Codes of one call, and the most bytes of them: a body has room for 1 MiB.
const CODES: usize = 10_000;
const CODE_BYTES: usize = 900 << 10;
const BAR: &str = "{wide_bar} {percent}% {msg} {eta}";
const SPINNER: &str = "{spinner} {msg}";

/// Runs a command about campaigns.
///
/// # Errors
/// See [`Failure`].
pub fn campaigns(options: &CampaignsOptions, output: Output) -> Result<(), Failure> {
    match &options.command {
        CampaignsCommand::List { target } => run(list(&Client::new(target)?, output)),
        CampaignsCommand::Codes { id, file, target } => run(import(&Client::new(target)?, id, file, output)),
        CampaignsCommand::Watch {
            id,
            every,
            until_sold_out,
            target,
        } => {
            let client = Client::new(target)?;
            run(watch(
                &client,
                id,
                Duration::from_secs(*every),
                *until_sold_out,
                output,
            ))
        }
    }
}

/// The columns of the table of campaigns: their heads, and the fields.
const COLUMNS: [(&str, &str); 10] = [
    ("ID", "id"),
    ("STATE", "state"),
    ("QUANTITY", "quantity"),
    ("ADMITTED", "admitted"),
    ("HELD", "held"),
    ("CONFIRMED", "confirmed"),
    ("RELEASED", "released"),
    ("REMAINING", "remaining"),
    ("STARTS", "startsAt"),
    ("ENDS", "endsAt"),
];

async fn list(client: &Client, mut output: Output) -> Result<(), Failure> {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = Vec::new();
    let path = format!("/api/campaigns?limit={PAGE}");
    let pages = client.pages(&path, "campaigns", |campaigns| {
        if output.is_json() {
            return campaigns.iter().try_for_each(|campaign| output.value(campaign));
        }
        rows.extend(
            campaigns
                .iter()
                .map(|campaign| COLUMNS.map(|(_, name)| text(&campaign[name])).to_vec()),
        );
        Ok(())
    });
    pages.await?;
    match output.is_json() {
        true => Ok(()),
        false => output.table(&COLUMNS.map(|(head, _)| head), &rows),
    }
}

/// Imports the codes of a file, as many calls as it takes, one after the other.
async fn import(client: &Client, id: &str, file: &Path, mut output: Output) -> Result<(), Failure> {
    let unreadable = |error| Failure::Usage(format!("cannot read {}: {error}", file.display()));
    let (lines, bytes): (Box<dyn BufRead>, _) = match file.as_os_str() == "-" {
        true => (Box::new(BufReader::new(std::io::stdin())), None),
        false => {
            let opened = File::open(file).map_err(unreadable)?;
            let bytes = opened.metadata().map_err(unreadable)?.len();
            (
                Box::new(BufReader::new(opened)),
                Some(bytes).filter(|bytes| *bytes > 0),
            )
        }
    };
    let bar = output::progress(bytes, if bytes.is_some() { BAR } else { SPINNER });
    let path = format!("/api/campaigns/{}/codes", segment(id));
    let mut sum = Sum::default();
    let (mut codes, mut room) = (Vec::new(), CODE_BYTES);
    for line in lines.lines() {
        let line = line.map_err(unreadable)?;
        bar.inc(line.len() as u64 + 1);
        let code = line.trim();
        if code.is_empty() {
            continue;
        }
        // In quotes, with a comma; a code that needs escapes is refused anyway.
        let takes = 2 * code.len() + 3;
        if codes.len() == CODES || room < takes {
            sum.add(client, &path, std::mem::take(&mut codes)).await?;
            bar.set_message(format!("{} new", sum.imported));
            room = CODE_BYTES;
        }
        room = room.saturating_sub(takes);
        codes.push(Value::from(code));
    }
    if !codes.is_empty() {
        sum.add(client, &path, codes).await?;
    }
    bar.finish_and_clear();
    match output.is_json() {
        true => output.value(
            &json!({ "imported": sum.imported, "duplicates": sum.duplicates, "quantity": sum.quantity }),
        ),
        false => output.line(&format!(
            "{} codes imported, {} were there before; {id} has {}",
            sum.imported,
            sum.duplicates.len(),
            sum.quantity
        )),
    }
}

/// What calls have imported.
#[derive(Default)]
struct Sum {
    imported: u64,
    duplicates: Vec<Value>,
    quantity: u64,
}

impl Sum {
    async fn add(&mut self, client: &Client, path: &str, codes: Vec<Value>) -> Result<(), Failure> {
        let mut answer = client
            .call(Method::POST, path, Some(json!({ "codes": codes })))
            .await?;
        self.imported += answer["imported"].as_u64().unwrap_or(0);
        self.quantity = answer["quantity"].as_u64().unwrap_or(self.quantity);
        let duplicates = answer["duplicates"].as_array_mut().map(std::mem::take);
        self.duplicates.extend(duplicates.unwrap_or_default());
        Ok(())
    }
}

async fn watch(
    client: &Client,
    id: &str,
    every: Duration,
    until_sold_out: bool,
    mut output: Output,
) -> Result<(), Failure> {
    let path = format!("/api/campaigns/{}", segment(id));
    let mut before = Value::Null;
    loop {
        let now = client.follow(&path, !before.is_null()).await?;
        let is_over = match now["state"].as_str() {
            Some("ended" | "closed") => true,
            Some("soldOut") => until_sold_out,
            _ => false,
        };
        show(&now, &before, every, &mut output)?;
        if is_over {
            return match output.is_live() {
                true => output.text("\n"),
                false => Ok(()),
            };
        }
        before = now;
        tokio::time::sleep(every).await;
    }
}

fn show(now: &Value, before: &Value, every: Duration, output: &mut Output) -> Result<(), Failure> {
    if output.is_live() {
        // Over the line before, to the end of it.
        output.text(&format!("\r{}\u{1b}[K", printable(&in_words(now, before, every))))?;
        return std::io::stdout()
            .flush()
            .map_err(|error| Failure::Failed(error.into()));
    }
    if now == before {
        return Ok(());
    }
    match output.is_json() {
        true => output.value(now),
        false => output.line(&in_words(now, before, every)),
    }
}

fn in_words(now: &Value, before: &Value, every: Duration) -> String {
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap_or(0);
    let (admitted, quantity) = (number(now, "admitted"), number(now, "quantity"));
    let rate = match before.is_null() {
        true => 0,
        false => admitted.saturating_sub(number(before, "admitted")) / every.as_secs().max(1),
    };
    let holds = match number(now, "held") + number(now, "released") {
        0 => String::new(),
        _ => format!(
            " ({} held, {} confirmed, {} released)",
            number(now, "held"),
            number(now, "confirmed"),
            number(now, "released"),
        ),
    };
    format!(
        "{} {}: {admitted} of {quantity} admitted{holds}, {} remaining, {rate}/s",
        now["id"].as_str().unwrap_or_default(),
        now["state"].as_str().unwrap_or_default(),
        number(now, "remaining"),
    )
}
