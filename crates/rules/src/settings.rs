//! The settings in force: a valid configuration, with its patterns, networks and URLs parsed once, so that no
//! request parses them again. What `check` accepts is what `serve` runs, since both are
//! [`Settings::compile`].

use crate::access::AccessList;
use crate::alerts::Condition;
use crate::challenges::{self, Challenge};
use crate::concurrency::Concurrency;
use crate::config::{Alert, ComponentSettings, Config, ConfigError, Fault, Forward, Path};
use crate::cors::Cors;
use crate::forward::Verifier;
use crate::identity::Proxies;
use crate::jwt::Jwt;
use crate::own_address::{Listen, OwnAddresses};
use crate::policies::{self, Policies};
use crate::quotas::Quota;
use crate::receipts::Receipts;
use crate::rooms::{self, Rooms};
use crate::run_time::RunTime;
use tollgate_api::calls;
use tollgate_api::components::Component;
use tollgate_api::pattern::Pattern;
use tollgate_delivery::subscription::SinkKind;

mod acme;
mod alerts;
pub(crate) mod checks;
mod components;
mod forward;
mod limits;
mod listeners;
mod logs;
mod origins;
mod outbound;
mod reload;
mod rules;
mod sinks;
#[cfg(test)]
mod tests;
mod topics;
mod users;

pub use components::ComponentRoute;
pub use listeners::Listeners;
pub use origins::ProxyRoute;
pub use outbound::OutboundHost;
pub use reload::{Changes, Reload};
pub(crate) use topics::ATTEMPTS_BOUNDS;
pub use topics::{OWN_TARGET, check_subscription};

/// A checked configuration and its compiled parts. To change a setting, change a [`Config`] and compile that.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the file says, or the defaults.
    pub config: Config,
    /// `server.trusted_proxies`.
    pub proxies: Proxies,
    /// `server.cors_origins`.
    pub cors: Cors,
    /// `server.public_url` without a trailing slash; where the file has none, `http://localhost` and the port of `server.listen`.
    pub public_url: String,
    /// `server.listen`, `public_url` and `own_addresses`.
    pub own: OwnAddresses,
    /// The listeners beside it.
    pub listeners: Listeners,
    /// `[[limits]]`.
    pub policies: Policies,
    /// `[users.jwt]`
    pub jwt: Option<Jwt>,
    /// The keys of receipts as they were read last.
    pub(crate) receipts: Receipts,
    /// `[[quotas]]`.
    pub(crate) quotas: Vec<Quota>,
    /// `[[concurrency]]`.
    pub(crate) concurrency: Vec<Concurrency>,
    /// `[[access]]`.
    pub(crate) access: Vec<AccessList>,
    /// `[[rooms]]`.
    pub(crate) rooms: Rooms,
    /// `[[challenges]]`.
    pub(crate) challenges: Vec<Challenge>,
    /// What is set over the API.
    pub run_time: RunTime,
    /// Spin runs these rules: see [`Settings::unserved`].
    pub on_spin: bool,
    /// Of `[[forward]]`, in its order.
    patterns: Vec<Pattern>,
    /// Of the same, where a route has one.
    verifiers: Vec<Option<Verifier>>,
    /// Of `[[components]]`, in its order.
    components: Vec<ComponentRoute>,
    /// Of `[[proxy]]`, in its order.
    proxy: Vec<ProxyRoute>,
    /// Of `[[alerts]]`, in its order.
    conditions: Vec<Condition>,
}

impl Settings {
    /// Checks a configuration and compiles its patterns, networks and URLs.
    ///
    /// # Errors
    /// The first rule that it breaks, and the setting.
    pub fn compile(mut config: Config) -> Result<Self, Fault> {
        let compiled = rules::compile(&config)?;
        let [root, not_found, gone] = compiled.fallbacks;
        config.links.root_url = root;
        config.links.not_found_url = not_found;
        config.links.gone_url = gone;
        config.domains = compiled.domains;
        if let Some(endpoint) = &mut config.traces.endpoint
            && !config.traces.is_whole
        {
            logs::complete(endpoint);
        }
        Ok(Self {
            proxies: compiled.proxies,
            cors: compiled.cors,
            public_url: compiled.public_url,
            own: compiled.own,
            listeners: compiled.listeners,
            policies: compiled.policies,
            jwt: compiled.jwt,
            receipts: Receipts::default(),
            quotas: compiled.quotas,
            concurrency: compiled.concurrency,
            access: compiled.access,
            rooms: compiled.rooms,
            challenges: compiled.challenges,
            run_time: RunTime::default(),
            on_spin: false,
            patterns: compiled.patterns,
            verifiers: compiled.verifiers,
            components: compiled.components,
            proxy: compiled.proxy,
            conditions: compiled.conditions,
            config,
        })
    }

    /// What is in force, with what follows from other settings written out.
    pub fn in_force(&self) -> Config {
        let mut config = self.config.clone();
        config.server.public_url = Some(self.public_url.clone());
        config
    }

    /// Why subscriptions of this type are not served by whoever runs these rules: `None` if they are.
    pub fn unserved(&self, kind: SinkKind) -> Option<&'static str> {
        sinks::unserved(kind, self.on_spin)
    }

    /// Whether all subscriptions of the file with this text are served here. `file_name` is what errors call it.
    ///
    /// # Errors
    /// The first that is not, with file, line and key.
    pub fn ensure_served(&self, text: &str, file_name: &str) -> Result<(), ConfigError> {
        for (topic, settings) in &self.config.topics {
            for (index, one) in settings.subscriptions.iter().enumerate() {
                if let Some(why) = self.unserved(one.kind) {
                    let path = Path::default().key("topics").key(topic).key("subscriptions");
                    let fault = Fault::new(path.index(index).key("type"), why);
                    return Err(fault.located(text, file_name));
                }
            }
        }
        Ok(())
    }

    /// Reads and compiles the text of a `tollgate.toml`. `file_name` is what errors call it.
    ///
    /// # Errors
    /// The first fault, with file, line and key: a syntax error, an unknown key, a wrong type, or a value out of its bounds.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let config = Config::read(text, file_name)?;
        Self::compile(config).map_err(|fault| fault.located(text, file_name))
    }

    /// The headers that limits, quotas and concurrency limits count by; lower case.
    pub fn counted_headers(&self) -> impl Iterator<Item = &str> {
        let quotas = self.quotas.iter().flat_map(|quota| quota.by().headers());
        let concurrency = self.concurrency.iter().flat_map(|one| one.by().headers());
        self.policies.headers().chain(quotas).chain(concurrency)
    }

    /// The same, and what rooms, challenges and the signatures of routes look at where there are any.
    pub fn further_headers(&self) -> impl Iterator<Item = &str> {
        let rooms = self.has_rooms().then_some(rooms::SEEN).into_iter().flatten();
        let are_asked = !self.challenges.is_empty();
        let challenges = are_asked.then_some(challenges::SEEN).into_iter().flatten();
        let verifiers = self.verifiers.iter().flatten();
        let signatures = verifiers.flat_map(Verifier::headers).map(|name| -> &str { name });
        self.counted_headers()
            .chain(rooms)
            .chain(challenges)
            .chain(signatures)
    }

    /// The number of requests that each limit and quota has decided on since the last call, by [`policies::Decision`]: four numbers for
    /// each of `[[limits]]`, then of `[[quotas]]`, in their order. Empty if there were none.
    pub fn decisions(&self) -> Vec<u64> {
        policies::decisions(|| self.policies.iter().chain(self.quotas.iter().map(Quota::by)))
    }

    /// Whether a quota counts by what a request is answered: then the limiter may leave a reservation ([`crate::quotas::HELD`]).
    pub fn counts_outcomes(&self) -> bool {
        self.quotas.iter().any(Quota::is_by_outcome)
    }

    /// `server.listen`.
    pub fn listen(&self) -> &Listen {
        self.own.listen()
    }

    /// The `[[forward]]` routes, each with its pattern.
    pub fn forwards(&self) -> impl Iterator<Item = (&Pattern, &Forward)> {
        self.patterns.iter().zip(&self.config.forward)
    }

    /// What tells whether a request of this `[[forward]]` route is genuine, if its settings ask for that.
    pub(crate) fn verifier(&self, index: usize) -> Option<&Verifier> {
        self.verifiers.get(index)?.as_ref()
    }

    /// Which pages may call this path.
    pub fn cors_of(&self, path: &str) -> &Cors {
        match path.starts_with(crate::links::shlink::PREFIX) {
            true => &crate::cors::ANYBODY,
            false => &self.cors,
        }
    }

    /// The component that answers `path`.
    pub fn component(&self, path: &str) -> Component {
        let components = self.components.iter().map(|one| &one.path);
        calls::component(
            path,
            &self.patterns,
            components.chain(self.proxy.iter().map(|one| &one.path)),
        )
    }

    /// The `[[components]]`, each with its compiled route.
    pub fn components(&self) -> impl Iterator<Item = (&ComponentRoute, &ComponentSettings)> {
        self.components.iter().zip(&self.config.components)
    }

    /// The `[[alerts]]`, each with its condition.
    pub fn alerts(&self) -> impl Iterator<Item = (&Condition, &Alert)> {
        self.conditions.iter().zip(&self.config.alerts)
    }

    /// Which of the `[[components]]` answers `path`, if one does: the one whose pattern is the most specific.
    pub fn hosted(&self, path: &str) -> Option<usize> {
        let all = self.components.iter().enumerate();
        all.filter(|(_, component)| component.path.matches(path))
            .max_by(|(_, a), (_, b)| a.path.cmp(&b.path))
            .map(|(index, _)| index)
    }
}

impl Default for Settings {
    /// The settings of the sample file.
    fn default() -> Self {
        Self::compile(Config::default()).expect("a test compiles the sample")
    }
}
