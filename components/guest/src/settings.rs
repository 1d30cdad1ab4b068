//! The component's configuration: the text of `tollgate.toml`, from the variable `TOLLGATE_CONFIG` or from the file
//! `/tollgate.toml` (mounted by Spin), else the built-in defaults.

use std::sync::OnceLock;
use tollgate_api::calls::StaleRoutes;
use tollgate_rules::settings::Settings;

/// The longest sentence about a configuration, in bytes.
const MAX_WHY: usize = 300;

/// The configuration that this instance runs on.
pub struct InForce {
    /// The settings.
    pub settings: Settings,
    /// The `[[forward]]` routes in them that Spin does not know.
    pub stale: StaleRoutes,
}

/// Read once per instance: the settings, or what is wrong with them.
pub fn load() -> Result<&'static InForce, &'static str> {
    static SETTINGS: OnceLock<Result<InForce, String>> = OnceLock::new();
    SETTINGS.get_or_init(read).as_ref().map_err(String::as_str)
}

fn read() -> Result<InForce, String> {
    let (text, name) = match std::env::var("TOLLGATE_CONFIG") {
        Ok(text) => (text, "TOLLGATE_CONFIG"),
        Err(_) => (mounted("/tollgate.toml")?.unwrap_or_default(), "tollgate.toml"),
    };
    let mut settings = match text.is_empty() {
        true => Settings::default(),
        false => Settings::parse(&text, name).map_err(|error| sentence(&error))?,
    };
    if let Some(jwt) = &settings.config.users.jwt {
        if jwt.jwks.is_some() {
            // An instance answers one request and keeps nothing: it would fetch the keys for each.
            return Err(format!(
                "{name}: users.jwt.jwks: Spin reads no key set: put it into users.jwt.keys"
            ));
        }
        if let Some(lacks) = jwt.lacks() {
            return Err(format!("{name}: {lacks}"));
        }
    }
    settings.on_spin = true;
    settings
        .ensure_served(&text, name)
        .map_err(|error| sentence(&error))?;
    let stale = match mounted("/forward-routes")? {
        Some(built) => StaleRoutes::new(settings.config.forward_paths(), &built),
        None => StaleRoutes::default(),
    };
    Ok(InForce { settings, stale })
}

/// A file that Spin mounts, if it does.
fn mounted(path: &str) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(format!("{path} is not UTF-8")),
        Err(_) => Ok(None),
    }
}

/// One line, bounded: what is wrong may quote the file.
fn sentence(error: &dyn std::fmt::Display) -> String {
    let line = error.to_string().replace(char::is_control, " ");
    let end = line.floor_char_boundary(MAX_WHY);
    line.get(..end).unwrap_or_default().to_owned()
}
