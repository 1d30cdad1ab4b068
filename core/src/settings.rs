//! The settings in force: a configuration that keeps every rule, and what is made of it once, so that no request parses a
//! pattern, a network or a URL again. What `check` accepts is what `serve` runs, since both are [`Settings::compile`].

use crate::calls;
use crate::components::Component;
use crate::config::{Config, ConfigError, Fault, Forward};
use crate::identity::Proxies;
use crate::own_address::{Listen, OwnAddresses};
use crate::pattern::Pattern;
use crate::policies::Policies;

mod checks;
mod rules;
#[cfg(test)]
mod tests;
mod topics;

pub use topics::{OWN_TARGET, check_subscription};

/// A checked configuration and its compiled parts. To change a setting, change a [`Config`] and compile that.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the file says, or the defaults.
    pub config: Config,
    /// `server.trusted_proxies`.
    pub proxies: Proxies,
    /// `server.listen`, `public_url` and `own_addresses`.
    pub own: OwnAddresses,
    /// `[[limits]]`.
    pub policies: Policies,
    /// Of `[[forward]]`, in its order.
    patterns: Vec<Pattern>,
}

impl Settings {
    /// Checks a configuration and makes of it what rules ask for.
    ///
    /// # Errors
    /// The first rule that it breaks, and the setting.
    pub fn compile(mut config: Config) -> Result<Self, Fault> {
        let compiled = rules::compile(&config)?;
        let url = &mut config.server.public_url;
        url.truncate(url.trim_end_matches('/').len());
        Ok(Self {
            proxies: compiled.proxies,
            own: compiled.own,
            policies: compiled.policies,
            patterns: compiled.patterns,
            config,
        })
    }

    /// Reads and compiles the text of a `tollgate.toml`. `file_name` is what errors call it.
    ///
    /// # Errors
    /// The first fault, with file, line and key: a syntax error, an unknown key, a wrong type, or a value out of its bounds.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let config = Config::read(text, file_name)?;
        Self::compile(config).map_err(|fault| fault.located(text, file_name))
    }

    /// `server.listen`.
    pub fn listen(&self) -> &Listen {
        self.own.listen()
    }

    /// The `[[forward]]` routes, each with its pattern.
    pub fn forwards(&self) -> impl Iterator<Item = (&Pattern, &Forward)> {
        self.patterns.iter().zip(&self.config.forward)
    }

    /// The component that answers `path`.
    pub fn component(&self, path: &str) -> Component {
        calls::component(path, &self.patterns)
    }
}

impl Default for Settings {
    /// Those of the sample file.
    fn default() -> Self {
        Self::compile(Config::default()).expect("a test compiles the sample")
    }
}
