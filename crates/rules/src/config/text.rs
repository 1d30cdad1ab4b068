//! From text to a configuration, and back.

use super::Config;
use super::error::{ConfigError, Fault, Path, line_of};
use tollgate_api::json::{Strict, reworded};
use tollgate_api::secret::SecretText;
use tollgate_store::settings::StoreSettings;

/// The configuration without a file.
pub(crate) const SAMPLE: &str = include_str!("../../../../tollgate.toml");

const TOML: &str = "tables, lists, strings, numbers and flags are all TOML has";

/// Stands for a secret where the configuration is shown.
pub(crate) const MASK: &str = "********";

impl Default for Config {
    /// The configuration of the sample file.
    fn default() -> Self {
        Self::read(SAMPLE, "tollgate.toml").expect("the sample is part of this crate, and a test parses it")
    }
}

impl Config {
    /// Reads the text of a `tollgate.toml`. `file_name` is what errors call it. Whether values keep their bounds is for
    /// [`crate::settings`] to say.
    ///
    /// # Errors
    /// The first fault, with file, line and key: a syntax error, an unknown key, or a wrong type.
    pub fn read(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError {
            file: file_name.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            key: String::new(),
            message: one_line(error.message()),
        };
        let document = toml::Deserializer::parse(text).map_err(syntax)?;
        serde_path_to_error::deserialize(Strict(document)).map_err(|error| {
            let mut path = Path::from(error.path());
            let inner = error.into_inner();
            if let Some(missing) = missing_field(inner.message()) {
                path = path.key(missing);
            }
            let located = Fault::new(path, one_line(&reworded(inner.message()))).located(text, file_name);
            // An unknown key has a span of its own; a path leads only to what was understood.
            let line = inner
                .span()
                .map_or(located.line, |span| line_of(text, span.start));
            ConfigError { line, ..located }
        })
    }

    /// The configuration that components may see: without the secrets of its subscriptions and the
    /// environment of its components.
    pub fn without_secrets(&self) -> Self {
        let mut config = self.clone();
        for subscription in config
            .topics
            .values_mut()
            .flat_map(|topic| &mut topic.subscriptions)
        {
            (subscription.secret, subscription.previous_secret) = (None, None);
            (subscription.previous_secret_until, subscription.password) = (None, None);
            subscription.fallback_password = None;
            mask(subscription.headers.values_mut());
        }
        if let StoreSettings::Postgres(settings) = &mut config.store {
            settings.url = settings.masked_url(MASK).into();
        }
        config.limits_store.url = config.limits_store.masked_url(MASK).map(Into::into);
        for route in &mut config.forward {
            (route.verify, route.secret, route.previous_secret) = (None, None, None);
        }
        if let Some(jwt) = &mut config.users.jwt {
            jwt.secret = None;
        }
        mask(config.challenges.iter_mut().filter_map(|one| one.secret.as_mut()));
        for component in &mut config.components {
            component.environment.clear();
        }
        for route in &mut config.proxy {
            route.headers.clear();
        }
        // Nobody but the host needs them, and they are secrets nearly all over.
        config.alerts.clear();
        config.traces = super::TraceSettings::default();
        if let Some(acme) = config.server.acme_mut() {
            acme.external_account = None;
        }
        config
    }

    /// What the rules see where they run as components: as [`Config::without_secrets`], but with what the requests of `[[forward]]`,
    /// users' tokens and those of challenges are verified with. As TOML, not masked: to be shown to nobody.
    pub fn for_components(&self) -> String {
        let mut config = self.without_secrets();
        config.forward.clone_from(&self.forward);
        config.users.clone_from(&self.users);
        config.challenges.clone_from(&self.challenges);
        toml::to_string(&config).expect(TOML)
    }

    /// What may be shown: every secret is masked.
    pub fn masked(&self) -> Self {
        let mut shown = self.clone();
        for subscription in shown
            .topics
            .values_mut()
            .flat_map(|topic| &mut topic.subscriptions)
        {
            mask(
                subscription
                    .secret
                    .iter_mut()
                    .chain(&mut subscription.previous_secret)
                    .chain(&mut subscription.password)
                    .chain(&mut subscription.fallback_password),
            );
            mask(subscription.headers.values_mut());
        }
        let environments = shown
            .components
            .iter_mut()
            .map(|component| &mut component.environment);
        mask(environments.flat_map(|environment| environment.values_mut()));
        mask(
            shown
                .proxy
                .iter_mut()
                .flat_map(|route| route.headers.values_mut()),
        );
        for alert in &mut shown.alerts {
            alert.url = MASK.to_owned().into();
            alert.secret = alert.secret.as_ref().map(|_| MASK.to_owned().into());
        }
        let routes = shown.forward.iter_mut();
        mask(routes.flat_map(|route| route.secret.iter_mut().chain(&mut route.previous_secret)));
        let challenges = shown.challenges.iter_mut();
        mask(challenges.filter_map(|one| one.secret.as_mut()));
        mask(shown.users.jwt.iter_mut().filter_map(|jwt| jwt.secret.as_mut()));
        mask(shown.traces.headers.values_mut());
        if let StoreSettings::Postgres(settings) = &mut shown.store {
            settings.url = settings.masked_url(MASK).into();
        }
        shown.limits_store.url = shown.limits_store.masked_url(MASK).map(Into::into);
        let account = shown
            .server
            .acme_mut()
            .and_then(|acme| acme.external_account.as_mut());
        if let Some(account) = account {
            account.key = MASK.to_owned().into();
        }
        shown
    }

    /// As TOML, secrets masked. Without secrets ([`Config::without_secrets`]) it reads back as the same value.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.masked()).expect(TOML)
    }
}

fn mask<'a>(secrets: impl Iterator<Item = &'a mut SecretText>) {
    secrets.for_each(|secret| *secret = MASK.to_owned().into());
}

/// serde's name of a missing field, so that the error's key is the field itself.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
