//! The settings that a command runs with: flag, then environment, then file. What `check` finds sound is what `serve`
//! runs: both read them here.

use super::exit::Failure;
use super::output::Output;
use crate::countries::Countries;
use crate::server::listen;
use crate::tls;
use crate::wasm::handler;
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tollgate_rules::config::{ComponentSettings, TraceSettings};
use tollgate_rules::keys;
use tollgate_rules::own_address::Listen;
use tollgate_rules::settings::Settings;
use tollgate_store::settings::{PostgresSettings, StoreSettings};

/// The file that is read when no flag names one, if it is there.
pub const DEFAULT_FILE: &str = "tollgate.toml";
/// The database's file in the directory that a flag or the environment names.
const DATABASE: &str = "tollgate.db";
/// The directory of a gateway that has no database and is told no other.
const DEFAULT_DATA: &str = "data";
/// Where the admin key may be. Not an argument's: a flag for a file of it comes before it.
const ADMIN_KEY: &str = "TOLLGATE_ADMIN_KEY";
/// The variable with the database's URL; it comes before `store.url`.
const STORE_URL: &str = "TOLLGATE_STORE_URL";
/// The variable with the URL of the limits' Redis; it comes before `limits_store.url`.
const LIMITS_URL: &str = "TOLLGATE_LIMITS_URL";

/// Where the secret of users' tokens may be.
const JWT_SECRET: &str = "TOLLGATE_JWT_SECRET";

/// Where the file and the store are.
#[derive(Args, Clone)]
pub struct Place {
    /// The configuration [default: ./tollgate.toml if it is there, else the built-in defaults].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory for the database and compiled code [default: that of `store.path`, ./data].
    #[arg(long, env = "TOLLGATE_DATA", value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub data: Option<PathBuf>,
    /// Address (or name) and port [default: `server.listen`, 127.0.0.1:3000].
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
}

/// Where the settings come from.
#[derive(Args, Clone)]
pub struct Sources {
    /// Where the file and the store are.
    #[command(flatten)]
    pub place: Place,
    /// A file with the admin key; it comes before TOLLGATE_ADMIN_KEY. If it is not there, no other key is given and this is
    /// the first run, the new key is written to it.
    #[arg(long, value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// The admin key itself.
    #[arg(long, value_name = "KEY", hide = true)]
    pub admin_key: Option<String>,
}

/// The settings in force, all of them checked.
pub struct InForce {
    /// The file's, with those of flags and environment in their places.
    pub settings: Settings,
    /// Where the configuration came from.
    pub source: String,
    /// The file that it came from, if it did from one, and what was in it.
    pub file: Option<PathBuf>,
    /// See `file`.
    pub text: Option<String>,
    /// Where compiled code and ordered certificates are kept, beside the database if there is one; absolute.
    pub data: PathBuf,
    /// Where to listen: the first that can be had.
    pub listen: Vec<SocketAddr>,
    /// The same for `server.admin_listen`; empty if it is not set.
    pub admin_listen: Vec<SocketAddr>,
    /// The same for `server.tls.redirect_http`.
    pub redirect_http: Vec<SocketAddr>,
    /// The same for `server.rls_listen`.
    pub rls_listen: Vec<SocketAddr>,
    /// The admin key that was given.
    pub admin_key: Option<String>,
    /// Where visitors are, if a file says so.
    pub countries: Option<Arc<Countries>>,
}

/// Reads and checks all settings. Neither opens the store nor listens; may wait for a name server.
///
/// # Errors
/// The first setting that cannot be used, and where it is.
pub fn in_force(sources: &Sources) -> Result<InForce> {
    let Placed {
        settings,
        source,
        file,
        text,
        data,
    } = placed(&sources.place)?;
    let settings = with_keys_of_users(settings)?;
    Ok(InForce {
        listen: listen::resolve(settings.listen(), "server.listen")?,
        admin_listen: resolve(settings.listeners.admin.as_ref(), "server.admin_listen")?,
        redirect_http: resolve(settings.listeners.redirect.as_ref(), "server.tls.redirect_http")?,
        rls_listen: resolve(settings.listeners.rls.as_ref(), "server.rls_listen")?,
        data: std::path::absolute(&data).with_context(|| format!("{} cannot be used", data.display()))?,
        admin_key: admin_key(sources)?,
        countries: Countries::of(&settings.config)?,
        settings,
        source,
        file,
        text,
    })
}

/// With what users' tokens are checked with: the keys of a file, and the secret of the environment.
fn with_keys_of_users(settings: Settings) -> Result<Settings> {
    let Some(mut jwt) = settings.config.users.jwt.clone() else {
        return Ok(settings);
    };
    if let Some(secret) = variable(JWT_SECRET)? {
        jwt.secret = Some(secret.trim().to_owned().into());
    }
    if let Some(file) = jwt.file() {
        let text = fs::read_to_string(file);
        jwt.keys = Some(text.with_context(|| format!("users.jwt.jwks: cannot read {file}"))?);
    }
    if let Some(lacks) = jwt.lacks() {
        bail!(lacks);
    }
    let mut config = settings.config;
    config.users.jwt = Some(jwt);
    Ok(Settings::compile(config)?)
}

fn resolve(listen: Option<&Listen>, setting: &str) -> Result<Vec<SocketAddr>> {
    listen.map_or_else(|| Ok(Vec::new()), |listen| listen::resolve(listen, setting))
}

/// The settings, with those of flags and environment in their places.
pub(super) struct Placed {
    /// Checked.
    pub settings: Settings,
    /// Where the configuration came from.
    pub source: String,
    /// See [`InForce::file`].
    pub file: Option<PathBuf>,
    /// See [`InForce::file`].
    pub text: Option<String>,
    /// The directory of the database and of compiled code.
    pub data: PathBuf,
}

/// Reads and checks the settings.
///
/// # Errors
/// The first setting that cannot be used, and where it is.
pub(super) fn placed(place: &Place) -> Result<Placed> {
    let file = place.config.clone().or_else(default_file);
    let text = file.as_deref().map(read).transpose()?;
    let (Settings { mut config, .. }, source) = parse(file.as_deref(), text.as_deref())?;
    // An empty variable counts as none, as most programs have it.
    if let Some(listen) = place.listen.as_ref().filter(|listen| !listen.is_empty()) {
        config.server.listen.clone_from(listen);
    }
    if let Some(url) = std::env::var(STORE_URL).ok().filter(|url| !url.is_empty()) {
        config.store = database(&config.store, url);
    }
    if let Some(url) = std::env::var(LIMITS_URL).ok().filter(|url| !url.is_empty()) {
        config.limits_store.url = Some(url.into());
    }
    collector(&mut config.traces, |name| std::env::var(name).ok());
    let data = place.data.as_ref().filter(|data| !data.as_os_str().is_empty());
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
        (StoreSettings::Memory { .. } | StoreSettings::Postgres(_), data) => {
            data.cloned().unwrap_or_else(|| DEFAULT_DATA.into())
        }
    };
    Ok(Placed {
        settings: Settings::compile(config)?,
        source,
        file,
        text,
        data,
    })
}

/// A store over this database, with the other settings of the file's if that is one too.
fn database(of_file: &StoreSettings, url: String) -> StoreSettings {
    let new = PostgresSettings::new(url);
    StoreSettings::Postgres(match of_file {
        StoreSettings::Postgres(settings) => PostgresSettings {
            url: new.url,
            ..settings.clone()
        },
        StoreSettings::Sqlite { .. } | StoreSettings::Memory { .. } => new,
    })
}

/// What the variables of OpenTelemetry say, which come before the file. The library reads OTEL_EXPORTER_OTLP_HEADERS itself.
/// An empty one counts as none, as its specification has it.
fn collector(traces: &mut TraceSettings, variables: impl Fn(&str) -> Option<String>) {
    let variable = |name: &str| variables(name).filter(|text| !text.is_empty());
    if let Some(endpoint) = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        (traces.endpoint, traces.is_whole) = (Some(endpoint), true);
    } else if let Some(endpoint) = variable("OTEL_EXPORTER_OTLP_ENDPOINT") {
        (traces.endpoint, traces.is_whole) = (Some(endpoint), false);
    }
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        traces.service_name = name;
    }
    if variable("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        traces.endpoint = None;
    }
}

/// The file that is read where none is named.
fn default_file() -> Option<PathBuf> {
    let file = Path::new(DEFAULT_FILE);
    file.exists().then(|| file.to_owned())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The file's settings, compiled, and where they came from.
fn parse(file: Option<&Path>, text: Option<&str>) -> Result<(Settings, String)> {
    let (Some(file), Some(text)) = (file, text) else {
        return Ok((Settings::default(), "the built-in defaults".to_owned()));
    };
    let name = file.display().to_string();
    let settings = Settings::parse(text, &name)?;
    settings.ensure_served(text, &name)?;
    Ok((settings, name))
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
    Ok(variable(ADMIN_KEY)?.map(|text| (ADMIN_KEY.to_owned(), text)))
}

/// A secret of the environment. An empty variable counts as none.
fn variable(name: &str) -> Result<Option<String>> {
    let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // The error must not show it.
    let text = text.into_string().map_err(|_| anyhow!("{name} is not UTF-8"))?;
    Ok(Some(text))
}

/// Reads all settings, and checks them as far as that goes without serving: what `check` finds sound is served, and what it refuses
/// is refused by a running gateway that reads it again. Returns what it says of certificates too, a line each. `running`:
/// components that are known to be sound.
///
/// # Errors
/// What cannot be used, in one sentence.
pub fn checked(sources: &Sources, running: Option<&[ComponentSettings]>) -> Result<(InForce, Vec<String>)> {
    let in_force = in_force(sources)?;
    if running != Some(&in_force.settings.config.components) {
        handler::check(&in_force.settings)?;
    }
    let certificates = tls::check(&in_force.settings.config.server, &in_force.data)?;
    Ok((in_force, certificates))
}

/// `tollgate check`
///
/// # Errors
/// What `serve` would refuse; or stdout cannot be written.
pub fn check(sources: &Sources, mut output: Output) -> Result<(), Failure> {
    let (InForce { settings, source, .. }, certificates) = checked(sources, None)?;
    let config = settings.in_force();
    if output.is_json() {
        return output.value(&config.masked());
    }
    let certificates: String = certificates.iter().map(|line| format!("# {line}\n")).collect();
    output.text(&format!(
        "# in force, from {source}\n{certificates}{}\n",
        config.to_toml()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The endpoint and the name of the service that come of these variables, beside a file that names both.
    fn read(variables: &[(&str, &str)]) -> (Option<String>, String) {
        let mut traces = TraceSettings {
            endpoint: Some("http://file.example".to_owned()),
            service_name: "of-the-file".to_owned(),
            ..TraceSettings::default()
        };
        collector(&mut traces, |name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        assert_eq!(
            traces.is_whole,
            traces.endpoint.as_deref() == Some("http://traces.example")
        );
        (traces.endpoint, traces.service_name)
    }

    #[test]
    fn variables_of_opentelemetry_come_before_the_file() {
        const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all.example");
        const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces.example");
        const OFF: &str = "OTEL_SDK_DISABLED";
        let (file, service) = ("http://file.example", "of-the-file");
        for (variables, endpoint, name) in [
            (&[][..], Some(file), service),
            (&[ALL], Some(ALL.1), service),
            (&[TRACES], Some(TRACES.1), service),
            // That of one signal comes before that of all.
            (&[ALL, TRACES], Some(TRACES.1), service),
            (&[ALL, (TRACES.0, "")], Some(ALL.1), service),
            (&[(ALL.0, ""), (OFF, "")], Some(file), service),
            (&[("OTEL_SERVICE_NAME", "shop")], Some(file), "shop"),
            (&[("OTEL_SERVICE_NAME", "")], Some(file), service),
            (&[(OFF, "true"), ALL], None, service),
            (&[(OFF, "TRUE")], None, service),
            // Only `true` turns it off.
            (&[(OFF, "1")], Some(file), service),
            (&[(OFF, "false")], Some(file), service),
        ] {
            let expected = (endpoint.map(str::to_owned), name.to_owned());
            assert_eq!(read(variables), expected, "{variables:?}");
        }
    }
}
