//! The command line. Settings: flag, then environment, then file. What `check` finds sound is what `serve` runs: both
//! read them here.

use crate::server::listen;
use crate::wasm::handler;
use anyhow::{Context as _, Result, anyhow, bail};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tollgate_rules::keys;
use tollgate_rules::settings::Settings;
use tollgate_store::settings::StoreSettings;

/// The file that is read when no flag names one, if it is there.
const DEFAULT_FILE: &str = "tollgate.toml";
/// The database's file in the directory that a flag or the environment names.
const DATABASE: &str = "tollgate.db";
/// The directory of a gateway that has no database and is told no other.
const DEFAULT_DATA: &str = "data";
/// Where the admin key may be. Not an argument's: a flag for a file of it comes before it.
const ADMIN_KEY: &str = "TOLLGATE_ADMIN_KEY";

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
    /// Validate the settings as `serve` would with the same flags and environment, and print what is in force.
    Check(Box<Sources>),
    /// Write this program with its components compiled for this machine, so that its first start there is as fast as any.
    Precompile(PrecompileOptions),
}

/// `tollgate precompile …`
#[derive(Args)]
pub struct PrecompileOptions {
    /// The program's file; may be this program's own.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// A directory that keeps compiled code for the next time.
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
}

/// Where the settings come from.
#[derive(Args)]
pub struct Sources {
    /// The configuration [default: ./tollgate.toml if it is there, else the built-in defaults].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory for the database and compiled code [default: that of `store.path`, ./data].
    #[arg(long, env = "TOLLGATE_DATA", value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub data: Option<PathBuf>,
    /// Address (or name) and port [default: `server.listen`, 127.0.0.1:3000].
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// A file with the admin key; it comes before TOLLGATE_ADMIN_KEY. If it is not there, no other key is given and this is
    /// the first run, the new key is written to it.
    #[arg(long, value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// The admin key itself.
    #[arg(long, value_name = "KEY", hide = true)]
    pub admin_key: Option<String>,
}

/// `tollgate serve …`
#[derive(Args)]
pub struct ServeOptions {
    /// Where the settings come from.
    #[command(flatten)]
    pub sources: Sources,
    /// A directory of components to run instead of the built-in ones.
    #[arg(long, value_name = "DIR")]
    pub components: Option<PathBuf>,
}

/// The settings in force, all of them checked.
pub struct InForce {
    /// The file's, with those of flags and environment in their places.
    pub settings: Settings,
    /// Where the configuration came from.
    pub source: String,
    /// Where compiled code is kept, beside the database if there is one; absolute.
    pub data: PathBuf,
    /// Where to listen: the first that can be had.
    pub listen: Vec<SocketAddr>,
    /// The admin key that was given.
    pub admin_key: Option<String>,
}

/// Reads and checks all settings. Neither opens the store nor listens; may wait for a name server.
///
/// # Errors
/// The first setting that cannot be used, and where it is.
pub fn in_force(sources: &Sources) -> Result<InForce> {
    let (Settings { mut config, .. }, source) = load(sources.config.as_deref())?;
    // An empty variable counts as none, as most programs have it.
    if let Some(listen) = sources.listen.as_ref().filter(|listen| !listen.is_empty()) {
        config.server.listen.clone_from(listen);
    }
    let data = sources.data.as_ref().filter(|data| !data.as_os_str().is_empty());
    let data = match (&mut config.store, data) {
        (StoreSettings::Sqlite { path, .. }, Some(data)) => {
            *path = data.join(DATABASE).display().to_string();
            data.clone()
        }
        (StoreSettings::Sqlite { path, .. }, None) => std::path::absolute(&*path)
            .with_context(|| format!("store.path: {path} cannot be used"))?
            .parent()
            .unwrap_or(Path::new("/"))
            .to_path_buf(),
        (StoreSettings::Memory { .. }, data) => data.cloned().unwrap_or_else(|| DEFAULT_DATA.into()),
    };
    let settings = Settings::compile(config)?;
    Ok(InForce {
        listen: listen::resolve(settings.listen())?,
        data: std::path::absolute(&data).with_context(|| format!("{} cannot be used", data.display()))?,
        admin_key: admin_key(sources)?,
        settings,
        source,
    })
}

fn load(file: Option<&Path>) -> Result<(Settings, String)> {
    let path = match file {
        Some(path) => path,
        None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
        None => return Ok((Settings::default(), "the built-in defaults".to_owned())),
    };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.display().to_string();
    Ok((Settings::parse(&text, &name)?, name))
}

/// The admin key that was given, and sound: by flag, by the file that a flag names, or by the environment.
fn admin_key(sources: &Sources) -> Result<Option<String>> {
    let from_flag = sources
        .admin_key
        .as_ref()
        .map(|key| ("--admin-key".to_owned(), key.clone()));
    let given = match from_flag {
        Some(given) => Some(given),
        None => match from_file(sources.admin_key_file.as_deref())? {
            Some(given) => Some(given),
            None => from_environment()?,
        },
    };
    let Some((source, text)) = given else {
        return Ok(None);
    };
    let key = text.trim();
    if key.is_empty() {
        bail!("{source} is empty: it should hold the admin key");
    }
    keys::admin_commit(key, 0).map_err(|error| anyhow!("{source}: {error}"))?;
    Ok(Some(key.to_owned()))
}

fn from_file(path: Option<&Path>) -> Result<Option<(String, String)>> {
    let Some(path) = path else { return Ok(None) };
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn from_environment() -> Result<Option<(String, String)>> {
    let Some(text) = std::env::var_os(ADMIN_KEY).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // The error must not show it.
    let text = text
        .into_string()
        .map_err(|_| anyhow!("{ADMIN_KEY} is not UTF-8"))?;
    Ok(Some((ADMIN_KEY.to_owned(), text)))
}

/// `tollgate check`
///
/// # Errors
/// What `serve` would refuse; or stdout cannot be written.
pub fn check(sources: &Sources) -> Result<()> {
    let InForce { settings, source, .. } = in_force(sources)?;
    handler::check(&settings)?;
    let text = format!("# in force, from {source}\n{}\n", settings.config.to_toml());
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // The reader has seen enough (`tollgate check | head`).
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot print the settings"),
    }
}
