//! `tollgate migrate`: an embedded store, moved into a Postgres that gateways share.

use super::exit::Failure;
use super::output::{self, Output};
use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;
use tollgate_engines::PostgresOptions;
use tollgate_engines::postgres::migrate::{Moved, migrate as move_all};

const BAR: &str = "{msg:12} {wide_bar} {pos}/{len} {per_sec} {eta}";

/// `tollgate migrate …`
#[derive(Args)]
pub struct MigrateOptions {
    /// The embedded store's file. Its gateway must have ended.
    #[arg(long, value_name = "FILE", default_value = "data/tollgate.db")]
    pub from: PathBuf,
    /// The database, as `[store] url` names it. On the command line others on the machine see it.
    #[arg(long, value_name = "URL", env = "TOLLGATE_STORE_URL", hide_env_values = true)]
    pub to: String,
    /// As `[store] lanes` will say; fixed from now on.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub lanes: u32,
}

/// Moves everything, reads it back, compares, and only then commits.
///
/// # Errors
/// A store cannot be used, or the database is not empty: nothing was changed.
pub fn migrate(options: &MigrateOptions, mut output: Output) -> Result<(), Failure> {
    let began = Instant::now();
    let mut to = PostgresOptions::new(&*options.to);
    to.lanes = options.lanes;
    let bar = output::progress(Some(0), BAR);
    let moved = move_all(&options.from, &to, &mut |table, done, all| {
        bar.set_message(table.to_owned());
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let Moved {
        entries,
        topics,
        messages,
        idempotence,
        revision,
    } = moved.map_err(|error| Failure::Failed(anyhow!(error)))?;
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if output.is_json() {
        return output.value(&json!({
            "from": options.from, "milliseconds": millis, "revision": revision, "entries": entries, "topics": topics,
            "messages": messages, "idempotencyKeys": idempotence,
        }));
    }
    output.line(&format!(
        "moved in {millis} ms, read back and compared: {entries} entries, {messages} messages in {topics} topics, \
         {idempotence} idempotency keys, revision {revision}"
    ))?;
    output.line(&format!(
        "Start gateways with this database. {} is no longer theirs: keep it as a backup.",
        options.from.display()
    ))
}
