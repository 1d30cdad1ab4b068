//! `tollgate campaigns`: how they are, and how the stock falls.

use super::client::{Client, Target, run, segment};
use super::exit::Failure;
use super::output::{Output, printable};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::Write as _;
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

/// Runs a command about campaigns.
///
/// # Errors
/// See [`Failure`].
pub fn campaigns(options: &CampaignsOptions, output: Output) -> Result<(), Failure> {
    match &options.command {
        CampaignsCommand::List { target } => run(list(&Client::new(target)?, output)),
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
