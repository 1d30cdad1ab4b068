//! `seed-links DATABASE COUNT`: makes the links `/0000000`, `/0000001`, … in a database that no gateway has open.
//!
//! The rule itself makes the first. The others are copies of its record with targets of their own, many to a
//! commit, which the API does not offer yet.

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use futures::executor::block_on;
use std::env;
use std::path::PathBuf;
use tollgate_api::http::{Header, Request};
use tollgate_engines::{Engine as _, Options, SqliteStore};
use tollgate_rules::links;
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_store::commit::{Commit, MAX_STEPS, Mutation, Outcome, literal};

/// Commits under way at once: enough to fill the groups.
const UNDER_WAY: usize = 256;
/// The most links; their codes have seven digits.
const MAX_LINKS: u64 = 10_000_000;
/// The code of the first link.
const FIRST: &str = "0000000";

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let usage = "usage: seed-links DATABASE COUNT";
    let path = PathBuf::from(arguments.next().context(usage)?);
    let count = arguments
        .next()
        .and_then(|count| count.into_string().ok())
        .context(usage)?;
    let count: u64 = count.parse().context(usage)?;
    if count == 0 || count > MAX_LINKS {
        bail!("COUNT must be from 1 to {MAX_LINKS}");
    }
    let store = SqliteStore::open(Options::new(path))?;
    block_on(seed(&store, count))?;
    store.close();
    Ok(())
}

async fn seed(store: &SqliteStore, count: u64) -> Result<()> {
    let template = first(store).await?;
    let steps = MAX_STEPS as u64;
    let commits = (1..count)
        .step_by(MAX_STEPS)
        .map(|from| copies(&template, from..count.min(from + steps)));
    let mut done = futures::stream::iter(commits)
        .map(|commit| store.commit(commit))
        .buffer_unordered(UNDER_WAY);
    while let Some(outcome) = done.next().await {
        if !matches!(outcome?, Outcome::Committed(_)) {
            bail!("the store refused links");
        }
    }
    Ok(())
}

/// Makes the first link by the rule, and gives what was stored of it.
async fn first(store: &SqliteStore) -> Result<String> {
    let settings = Settings::default();
    let world = World {
        store,
        settings: &settings,
        now: store.now(),
        fresh: &|| [7; 16],
    };
    let answer = links::handle(&world, &creation()).await;
    if answer.status != 201 {
        bail!(
            "the first link was refused: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    let key = format!("link/{FIRST}");
    let entry = store.get(&key, std::slice::from_ref(&key)).await?.pop().flatten();
    Ok(String::from_utf8(
        entry.context("the first link is not there")?.value,
    )?)
}

fn creation() -> Request {
    let body = format!(r#"{{"url":"https://example.com/products/{FIRST}","code":"{FIRST}"}}"#);
    Request {
        method: "POST".into(),
        path: "/api/links".into(),
        query: None,
        headers: vec![
            Header::new("content-type", "application/json"),
            Header::new("x-client-id", "bench"),
        ],
        body: body.into_bytes(),
        peer: "127.0.0.1".into(),
    }
}

fn copies(template: &str, numbers: std::ops::Range<u64>) -> Commit {
    let set = |number: u64| {
        let code = format!("{number:07}");
        Mutation::Set {
            value: literal(template.replace(FIRST, &code)),
            key: format!("link/{code}"),
            expires: None,
        }
    };
    Commit {
        partition: "bench".into(),
        mutations: numbers.map(set).collect(),
        ..Commit::default()
    }
}
