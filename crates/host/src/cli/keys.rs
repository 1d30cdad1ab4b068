//! `tollgate keys`: API keys. A new key is printed once, alone on stdout.

use super::client::{Client, Target, run, segment};
use super::exit::Failure;
use super::output::{Output, tell};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// Keys of a page: the most that the gateway gives.
const PAGE: u32 = 500;

/// `tollgate keys …`
#[derive(Args)]
pub struct KeysOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What to do with keys. All of it takes the scope `admin`.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// Print the keys that are valid, without their secrets.
    List {
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
    /// Make a key, and print it: it is shown this once.
    Create {
        /// What it is for.
        #[arg(long)]
        name: String,
        /// What it may do; may be repeated.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<String>,
        /// When it ends (RFC 3339); never, unless given.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
    /// End a key, at once.
    Revoke {
        /// Its id.
        id: String,
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
    /// Give a key a new secret, and print it: it is shown this once. Its id stays, and so does what it owns.
    Rotate {
        /// Its id.
        id: String,
        /// How long the secret before may still be used, in seconds, at most 30 days.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        grace: u64,
        /// The gateway.
        #[command(flatten)]
        target: Target,
    },
}

/// Runs a command about keys.
///
/// # Errors
/// See [`Failure`].
pub fn keys(options: &KeysOptions, mut output: Output) -> Result<(), Failure> {
    match &options.command {
        KeysCommand::List { target } => run(list(&Client::new(target)?, output)),
        KeysCommand::Create {
            name,
            scopes,
            expires_at,
            target,
        } => {
            let body = json!({ "name": name, "scopes": scopes, "expiresAt": expires_at });
            let client = Client::new(target)?;
            let made = run(client.call(Method::POST, "/api/keys", Some(body)))?;
            show(&made, &mut output)
        }
        KeysCommand::Revoke { id, target } => {
            run(revoke(&Client::new(target)?, id))?;
            match output.is_json() {
                true => output.value(&json!({ "revoked": id })),
                false => output.line(&format!("revoked {id}")),
            }
        }
        KeysCommand::Rotate { id, grace, target } => {
            let (client, path) = (Client::new(target)?, format!("/api/keys/{}/rotate", segment(id)));
            let body = json!({ "graceSeconds": grace });
            let made = run(client.call(Method::POST, &path, Some(body)))?;
            show(&made, &mut output)
        }
    }
}

async fn list(client: &Client, mut output: Output) -> Result<(), Failure> {
    let mut keys = Vec::new();
    let path = format!("/api/keys?limit={PAGE}");
    let pages = client.pages(&path, "keys", |page| {
        keys.extend(page);
        Ok(())
    });
    pages.await?;
    if output.is_json() {
        return keys.iter().try_for_each(|key| output.value(key));
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |key: &Value| {
        let scopes = key["scopes"].as_array().into_iter().flatten();
        let scopes: Vec<&str> = scopes.filter_map(Value::as_str).collect();
        vec![
            text(&key["id"]),
            text(&key["name"]),
            scopes.join(","),
            text(&key["createdAt"]),
            text(&key["expiresAt"]),
        ]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    output.table(&["ID", "NAME", "SCOPES", "CREATED", "EXPIRES"], &rows)
}

async fn revoke(client: &Client, id: &str) -> Result<(), Failure> {
    let path = format!("/api/keys/{}", segment(id));
    client.call(Method::DELETE, &path, None).await.map(drop)
}

/// The new key itself on stdout, so that a script can keep it; what it is on stderr.
fn show(made: &Value, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.value(made);
    }
    output.line(made["key"].as_str().unwrap_or_default())?;
    tell(&format!(
        "made the key {}: it is not shown again",
        made["id"].as_str().unwrap_or_default()
    ));
    Ok(())
}
