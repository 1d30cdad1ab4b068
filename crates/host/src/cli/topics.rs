//! `tollgate topics`: what waits for the origin, and what comes.

use super::client::{Client, Target, run, segment};
use super::exit::Failure;
use super::output::Output;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

/// Messages of a page: 64 KiB each at most.
const PAGE: u64 = 100;
/// Seconds that the gateway waits for the next message.
const WAIT: u64 = 30;
/// Topics of a page: the most that the gateway gives.
const TOPICS: u64 = 500;

/// `tollgate topics …`
#[derive(Args)]
pub struct TopicsOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: TopicsCommand,
}

/// What to do with topics. It takes the scope `topics`.
#[derive(Subcommand)]
pub enum TopicsCommand {
    /// Print the topics, how much they hold, and how far their subscriptions and groups are behind.
    List {
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
    /// Print the newest messages of a topic, and those to come.
    Tail(TailOptions),
    /// Delete a topic with its messages.
    Delete {
        /// The topic.
        topic: String,
        /// Its subscriptions and groups go with it.
        #[arg(long)]
        force: bool,
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
}

/// `tollgate topics tail …`
#[derive(Args)]
pub struct TailOptions {
    /// The topic.
    pub topic: String,
    /// Go on with what comes, also after the gateway was restarted.
    #[arg(long, short)]
    pub follow: bool,
    /// Begin with the message after this sequence (0: the oldest) instead of the newest.
    #[arg(long, value_name = "SEQUENCE")]
    pub after: Option<u64>,
    /// How many of the newest to begin with.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub lines: u64,
    /// The gateway.
    #[command(flatten)]
    pub target: Target,
}

/// Runs a command about topics.
///
/// # Errors
/// See [`Failure`].
pub fn topics(options: &TopicsOptions, output: Output) -> Result<(), Failure> {
    match &options.command {
        TopicsCommand::List { target } => run(list(&Client::new(target)?, output)),
        TopicsCommand::Delete { topic, force, target } => run(delete(&Client::new(target)?, topic, *force)),
        TopicsCommand::Tail(options) => run(tail(&Client::new(&options.target)?, options, output)),
    }
}

async fn list(client: &Client, mut output: Output) -> Result<(), Failure> {
    let row = |topic: &Value| {
        let lags = |of: &Value| -> String {
            let each = of.as_array().into_iter().flatten();
            let each = each.map(|one| format!("{}:{}", word(&one["name"]), one["lag"]));
            each.collect::<Vec<_>>().join(" ")
        };
        vec![
            word(&topic["name"]),
            topic["depth"].to_string(),
            topic["first"].to_string(),
            topic["last"].to_string(),
            word(&topic["newestTime"]),
            lags(&topic["subscriptions"]),
            lags(&topic["groups"]),
        ]
    };
    let mut rows = Vec::new();
    let path = format!("/api/topics?limit={TOPICS}");
    let pages = client.pages(&path, "topics", |topics| {
        if output.is_json() {
            return topics.iter().try_for_each(|topic| output.value(topic));
        }
        rows.extend(topics.iter().map(row));
        Ok(())
    });
    pages.await?;
    match output.is_json() {
        true => Ok(()),
        false => output.table(
            &["TOPIC", "DEPTH", "FIRST", "LAST", "NEWEST", "LAG", "GROUPS"],
            &rows,
        ),
    }
}

async fn delete(client: &Client, topic: &str, force: bool) -> Result<(), Failure> {
    let path = format!("/api/topics/{}?force={force}", segment(topic));
    client.call(Method::DELETE, &path, None).await.map(drop)
}

async fn tail(client: &Client, options: &TailOptions, mut output: Output) -> Result<(), Failure> {
    let topic = segment(&options.topic);
    let mut after = match options.after {
        Some(after) => after,
        None => {
            let path = format!("/api/topics/{topic}");
            let last = client.call(Method::GET, &path, None).await?["last"].as_u64();
            last.unwrap_or(0).saturating_sub(options.lines)
        }
    };
    let mut wait = 0;
    loop {
        let path = format!("/api/topics/{topic}/messages?after={after}&limit={PAGE}&wait={wait}");
        let page = client.follow(&path, wait > 0).await?;
        let messages = page["messages"].as_array().map_or(&[][..], Vec::as_slice);
        for message in messages {
            match output.is_json() {
                true => output.value(message)?,
                false => output.line(&in_words(message))?,
            }
        }
        after = page["nextAfter"].as_u64().unwrap_or(after);
        if (messages.len() as u64) < PAGE {
            match options.follow {
                true => wait = WAIT,
                false => return Ok(()),
            }
        }
    }
}

fn in_words(message: &Value) -> String {
    let data = match &message["data"] {
        Value::Null => format!("{} (base64)", word(&message["dataBase64"])),
        Value::String(text) => text.clone(),
        data => data.to_string(),
    };
    format!(
        "{} {} {} {} {data}",
        message["sequence"],
        word(&message["time"]),
        word(&message["type"]),
        word(&message["key"]),
    )
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
