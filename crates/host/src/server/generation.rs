//! The configuration in force, which may change while the gateway runs. A request holds the generation that it began with, to its
//! end, wherever it is answered: so none is judged by half of one configuration and half of another.

use crate::access_log::AccessLog;
use crate::countries::Countries;
use crate::proxy::Origins;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tollgate_rules::settings::Settings;

/// One configuration, from when it comes into force until the last request that began under it has ended.
pub struct Generation {
    number: u64,
    /// The settings.
    pub settings: Settings,
    /// Their text for the rules, with what these verify by: to be shown to nobody.
    pub text: Arc<str>,
    /// What is set over the API: the text of its record ([`tollgate_rules::run_time`]), empty for none.
    pub run_time: Arc<[u8]>,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// The `[[origins]]`, if anything leads to them.
    pub origins: Option<Arc<Origins>>,
    /// Where visitors are, if there is a file that says so.
    pub countries: Option<Arc<Countries>>,
}

impl Generation {
    /// The first.
    pub fn first(
        settings: Settings,
        access_log: Option<AccessLog>,
        countries: Option<Arc<Countries>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            number: 0,
            text: text(&settings),
            run_time: Arc::default(),
            origins: Origins::of(&settings, None),
            settings,
            access_log,
            countries,
        })
    }

    /// The one that comes after this.
    pub fn next(
        &self,
        mut settings: Settings,
        access_log: Option<AccessLog>,
        countries: Option<Arc<Countries>>,
    ) -> Arc<Self> {
        settings.policies.go_on_from(&self.settings.policies);
        settings.keep_run_time(&self.settings);
        Arc::new(Self {
            number: self.number + 1,
            text: text(&settings),
            run_time: Arc::clone(&self.run_time),
            origins: Origins::of(&settings, self.origins.as_deref()),
            settings,
            access_log,
            countries,
        })
    }

    /// The one that comes after this, with something else set over the API.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn with_run_time(&self, record: &[u8]) -> Result<Arc<Self>, String> {
        let mut settings = self.settings.clone();
        settings.set_run_time(record)?;
        Ok(Arc::new(Self {
            number: self.number + 1,
            text: Arc::clone(&self.text),
            run_time: record.into(),
            settings,
            access_log: self.access_log.clone(),
            origins: self.origins.clone(),
            countries: self.countries.clone(),
        }))
    }

    /// The one that comes after this, with other keys of users' tokens; `None` where it has these, or is to have them from elsewhere.
    ///
    /// # Errors
    /// It is no key set.
    pub fn with_key_set(&self, url: &str, text: &str) -> Result<Option<Arc<Self>>, String> {
        let mut config = self.settings.config.clone();
        let Some(jwt) = config.users.jwt.as_mut().filter(|jwt| jwt.url() == Some(url)) else {
            return Ok(None);
        };
        if jwt.keys.as_deref() == Some(text) {
            return Ok(None);
        }
        jwt.keys = Some(text.to_owned());
        let settings = Settings::compile(config).map_err(|fault| fault.to_string())?;
        Ok(Some(self.next(
            settings,
            self.access_log.clone(),
            self.countries.clone(),
        )))
    }

    /// Tells it from all others of this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// `server.request_timeout`
    pub fn request_timeout(&self) -> Duration {
        Duration::from_nanos(self.settings.config.server.request_timeout.0)
    }
}

fn text(settings: &Settings) -> Arc<str> {
    settings.in_force().for_components().into()
}

/// The generation in force, for whoever is not answering a request. Cheap to clone.
#[derive(Clone)]
pub struct Current(Arc<watch::Sender<Arc<Generation>>>);

impl Current {
    /// This one is in force.
    pub fn new(first: Arc<Generation>) -> Self {
        Self(Arc::new(watch::Sender::new(first)))
    }

    /// The one in force now.
    pub fn get(&self) -> Arc<Generation> {
        Arc::clone(&self.0.borrow())
    }

    /// From now on it is this one.
    pub(super) fn set(&self, generation: Arc<Generation>) {
        self.0.send_replace(generation);
    }
}
