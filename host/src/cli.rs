//! The command line. Settings: flag, then environment, then file.

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use tollgate_core::config::Config;

/// The file that is read when no flag names one, if it is there.
const DEFAULT_FILE: &str = "tollgate.toml";

/// `tollgate …`
#[derive(Parser)]
#[command(
    name = "tollgate",
    version,
    about = "An edge gateway: short links, rate limits, coupon claims, and a durable queue in front of your origin."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the gateway.
    Serve(Box<ServeOptions>),
    /// Validate the configuration and print what is in force.
    Check(ConfigOptions),
}

/// Where the configuration is.
#[derive(Args)]
pub struct ConfigOptions {
    /// The configuration [default: ./tollgate.toml if it is there, else the built-in defaults].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `tollgate serve …`
#[derive(Args)]
pub struct ServeOptions {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigOptions,
    /// The directory for the database and compiled code [default: that of `store.path`, ./data].
    #[arg(long, env = "TOLLGATE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address and port [default: `server.listen`, 127.0.0.1:3000].
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// A file with the admin key. If it is not there and this is the first run, the new key is written to it.
    #[arg(long, value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// The admin key itself.
    #[arg(
        long,
        env = "TOLLGATE_ADMIN_KEY",
        value_name = "KEY",
        hide = true,
        hide_env_values = true
    )]
    pub admin_key: Option<String>,
    /// A directory of components to run instead of the built-in ones.
    #[arg(long, value_name = "DIR")]
    pub components: Option<PathBuf>,
}

/// Reads and validates the configuration; says where it came from.
pub fn load(options: &ConfigOptions) -> Result<(Config, String)> {
    let path = match &options.config {
        Some(path) => path.clone(),
        None if Path::new(DEFAULT_FILE).exists() => DEFAULT_FILE.into(),
        None => return Ok((Config::default(), "the built-in defaults".to_owned())),
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.display().to_string();
    Ok((Config::parse(&text, &name)?, name))
}

/// `tollgate check`
#[allow(
    clippy::print_stdout,
    reason = "the configuration in force is this command's output"
)]
pub fn check(options: &ConfigOptions) -> Result<()> {
    let (config, source) = load(options)?;
    println!("# in force, from {source}");
    println!("{}", config.to_toml());
    Ok(())
}
