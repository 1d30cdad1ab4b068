//! A configuration that takes the place of another while the gateway runs: what of it can, what has to wait for a restart, and
//! what has changed.

use super::Settings;
use crate::config::{Config, Fault, Server, Tls, Users};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The longest value that is told, in characters.
const MAX_SHOWN: usize = 120;
/// The most changes that are told one by one.
const MAX_TOLD: usize = 32;
/// What tells the tables of a list apart, the best first.
const NAMES: [&str; 2] = ["name", "path"];

/// A configuration that may take the place of the one in force.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The settings that would be in force: what needs a restart is as it was.
    pub settings: Settings,
    /// What differs from those in force.
    pub changes: Changes,
    /// What the file wants and only a restart brings.
    pub restart: Changes,
}

/// What differs between two configurations, setting by setting. Displays in one line, without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<Change>);

/// One setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    setting: String,
    /// As JSON; `None` where there is none, or it is a secret.
    before: Option<String>,
    after: Option<String>,
    is_secret: bool,
}

impl Changes {
    /// What differs.
    pub fn between(before: &Config, after: &Config) -> Self {
        let json = |config: &Config| serde_json::to_value(config).unwrap_or_default();
        let mut changes = Vec::new();
        let (real, shown) = (
            [json(before), json(after)],
            [json(&before.masked()), json(&after.masked())],
        );
        compare(
            String::new(),
            [Some(&real[0]), Some(&real[1])],
            [Some(&shown[0]), Some(&shown[1])],
            &mut changes,
        );
        Self(changes)
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The settings that differ, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|change| &*change.setting)
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, change) in self.0.iter().take(MAX_TOLD).enumerate() {
            let semicolon = if index > 0 { "; " } else { "" };
            write!(f, "{semicolon}{change}")?;
        }
        match self.0.len().saturating_sub(MAX_TOLD) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = &self.setting;
        match (&self.before, &self.after) {
            _ if self.is_secret => write!(f, "{setting}: changed (a secret)"),
            (Some(before), Some(after)) => write!(f, "{setting}: {before} → {after}"),
            (None, Some(after)) => write!(f, "{setting}: added, {after}"),
            (_, None) => write!(f, "{setting}: removed"),
        }
    }
}

impl Settings {
    /// What becomes of these settings, which are in force, where the file says `wanted`. `started`: what it said when the gateway
    /// started, from which these came; ports that the system chose stand in these alone.
    ///
    /// # Errors
    /// What is wanted does not go together with what needs a restart and stays.
    pub fn reload(&self, started: &Config, wanted: &Config) -> Result<Reload, Fault> {
        let mut without_restart = wanted.clone();
        keep_what_needs_a_restart(started, &mut without_restart);
        let restart = Changes::between(&without_restart, wanted);
        let mut config = wanted.clone();
        keep_what_needs_a_restart(&self.config, &mut config);
        let settings = Self::compile(config)?;
        Ok(Reload {
            changes: Changes::between(&self.config, &settings.config),
            settings,
            restart,
        })
    }
}

/// Copies the settings that are read at the start alone. Everything else may change while the gateway runs; a new setting has to
/// be put on one side or the other here.
fn keep_what_needs_a_restart(from: &Config, to: &mut Config) {
    let Config {
        server,
        clients,
        users,
        receipts: _,
        store,
        limits_store,
        links: _,
        domains: _,
        relay,
        metrics: _,
        access_log: _,
        log: _,
        reload: _,
        events,
        traces,
        limits: _,
        quotas: _,
        concurrency: _,
        access: _,
        rooms: _,
        challenges: _,
        forward: _,
        components,
        origins: _,
        proxy: _,
        alerts: _,
        topics: _,
    } = from;
    keep_server(server, &mut to.server);
    to.clients.max_buckets = clients.max_buckets;
    keep_fetched_keys(users, &mut to.users);
    to.store.clone_from(store);
    to.limits_store.clone_from(limits_store);
    to.relay.clone_from(relay);
    to.events.clone_from(events);
    to.traces.clone_from(traces);
    to.components.clone_from(components);
}

/// Keys that were fetched are kept for as long as they are to be fetched from there.
fn keep_fetched_keys(from: &Users, to: &mut Users) {
    if let (Some(from), Some(to)) = (&from.jwt, &mut to.jwt)
        && to.url().is_some()
        && from.jwks == to.jwks
    {
        to.keys.clone_from(&from.keys);
    }
}

fn keep_server(from: &Server, to: &mut Server) {
    let Server {
        listen,
        public_url,
        own_addresses,
        trusted_proxies: _,
        cors_origins: _,
        max_connections,
        max_connections_per_address: _,
        max_body: _,
        request_timeout: _,
        workers,
        proxy_protocol,
        admin_listen,
        rls_listen,
        tls,
        admin_tls,
    } = from;
    to.listen.clone_from(listen);
    to.own_addresses.clone_from(own_addresses);
    to.max_connections = *max_connections;
    // Its scheme goes with TLS.
    if tls.is_some() != to.tls.is_some() {
        to.public_url.clone_from(public_url);
    }
    to.workers = *workers;
    to.proxy_protocol = *proxy_protocol;
    to.admin_listen.clone_from(admin_listen);
    to.rls_listen.clone_from(rls_listen);
    match (tls, &mut to.tls) {
        (Some(from), Some(to)) => {
            // Certificates may change; whether there are any may not.
            let Tls {
                cert: _,
                key: _,
                handshake_timeout: _,
                redirect_http,
                hsts: _,
                acme: _,
                more: _,
            } = from;
            to.redirect_http.clone_from(redirect_http);
        }
        (from, to) => to.clone_from(from),
    }
    if admin_tls.is_none() || to.admin_tls.is_none() {
        to.admin_tls.clone_from(admin_tls);
    }
}

/// Adds what differs at and below a place. `shown`: the same values, with secrets masked.
fn compare(path: String, real: [Option<&Value>; 2], shown: [Option<&Value>; 2], changes: &mut Vec<Change>) {
    if real[0] == real[1] {
        return;
    }
    match real {
        [Some(Value::Object(before)), Some(Value::Object(after))] => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let at = |value: Option<&'_ Value>| value.and_then(|value| value.get(key)).cloned();
                let dot = if path.is_empty() { "" } else { "." };
                descend(format!("{path}{dot}{key}"), real.map(at), shown.map(at), changes);
            }
        }
        [Some(Value::Array(before)), Some(Value::Array(after))] => match [named(before), named(after)] {
            [Some(real_before), Some(real_after)] => {
                let list = |value: Option<&Value>| value.and_then(Value::as_array).and_then(|all| named(all));
                let [shown_before, shown_after] = shown.map(|value| list(value).unwrap_or_default());
                let names: BTreeSet<&String> = real_before.keys().chain(real_after.keys()).collect();
                for name in names {
                    descend(
                        format!("{path}[{name}]"),
                        [real_before.get(name).cloned(), real_after.get(name).cloned()],
                        [shown_before.get(name).cloned(), shown_after.get(name).cloned()],
                        changes,
                    );
                }
                let order = |all: &[Value]| all.iter().filter_map(name_of).collect::<Vec<_>>().join(", ");
                let is_same_set = real_before.keys().eq(real_after.keys());
                if is_same_set && order(before) != order(after) {
                    changes.push(Change {
                        setting: format!("{path} (order)"),
                        before: Some(short(&order(before))),
                        after: Some(short(&order(after))),
                        is_secret: false,
                    });
                }
            }
            _ => changes.push(change(path, shown)),
        },
        _ => changes.push(change(path, shown)),
    }
}

fn descend(path: String, real: [Option<Value>; 2], shown: [Option<Value>; 2], changes: &mut Vec<Change>) {
    compare(
        path,
        real.each_ref().map(Option::as_ref),
        shown.each_ref().map(Option::as_ref),
        changes,
    );
}

fn change(setting: String, [before, after]: [Option<&Value>; 2]) -> Change {
    let text = |value: Option<&Value>| {
        let value = value.filter(|value| !value.is_null())?;
        Some(short(&value.to_string()))
    };
    Change {
        setting,
        // It differs, and does not where secrets are masked.
        is_secret: before == after,
        before: text(before),
        after: text(after),
    }
}

/// The tables of a list by what tells them apart; `None` where nothing does.
fn named(list: &[Value]) -> Option<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for value in list {
        if all.insert(name_of(value)?.to_owned(), value.clone()).is_some() {
            return None;
        }
    }
    Some(all)
}

fn name_of(value: &Value) -> Option<&str> {
    NAMES.iter().find_map(|name| value.get(name)?.as_str())
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "[[limits]]\nname = \"a\"\ncapacity = 5\nrefill = 1\n[[limits]]\nname = \"b\"\ncapacity = 5\nrefill = 1\n";

    fn settings(text: &str) -> Settings {
        Settings::parse(text, "t").unwrap()
    }

    fn reload(before: &str, after: &str) -> Reload {
        let before = settings(before);
        before.reload(&before.config, &settings(after).config).unwrap()
    }

    #[test]
    fn what_differs_is_told_setting_by_setting() {
        let (first, second) = LIMITS.split_at(LIMITS.len() / 2);
        for (before, after, told) in [
            (LIMITS, LIMITS, ""),
            (
                LIMITS,
                &*LIMITS.replacen("capacity = 5", "capacity = 6", 1),
                "limits[a].capacity: 5 → 6",
            ),
            (LIMITS, first, "limits[b]: removed"),
            (LIMITS, &*[second, first].concat(), "limits (order): a, b → b, a"),
            (
                "[[forward]]\npath = \"/a\"\ntopic = \"t\"\n",
                "[[forward]]\npath = \"/a\"\ntopic = \"u\"\nmethods = [\"PUT\"]\n",
                "forward[/a].methods: [\"POST\"] → [\"PUT\"]; forward[/a].topic: \"t\" → \"u\"",
            ),
            (
                "",
                "[links]\nredirect = 301\nroot_url = \"https://example.com/\"\n",
                "links.redirect: 302 → 301; links.root_url: added, \"https://example.com/\"",
            ),
        ] {
            let reload = reload(before, after);
            assert_eq!(reload.changes.to_string(), told);
            assert_eq!(
                (reload.changes.is_empty(), reload.restart.is_empty()),
                (told.is_empty(), true)
            );
        }
        let added = reload(first, LIMITS).changes.to_string();
        assert!(added.starts_with("limits[b]: added, {\"capacity\":5,"), "{added}");
    }

    #[test]
    fn a_secret_that_changed_is_not_shown() {
        let text = |secret: &str| {
            format!(
                "[[topics.t.subscriptions]]\nname = \"o\"\nurl = \"https://example.com/\"\nsecret = \"{secret}\"\n\
                 [[alerts]]\nname = \"x\"\nwhen = \"breaker_open\"\nurl = \"https://example.com/{secret}\"\n"
            )
        };
        let (old, new) = (
            "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
            "whsec_MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
        );
        let told = reload(&text(old), &text(new)).changes.to_string();
        assert_eq!(
            told,
            "alerts[x].url: changed (a secret); topics.t.subscriptions[o].secret: changed (a secret)"
        );
        let added = reload("", &text(new)).changes.to_string();
        assert!(!added.contains(new) && added.contains("********"), "{added}");
    }

    #[test]
    fn what_needs_a_restart_stays_and_is_told() {
        let before = settings(LIMITS);
        let wanted = "[server]\nlisten = \"127.0.0.1:4000\"\nmax_body = \"1KiB\"\nrequest_timeout = \"1s\"\nworkers = 3\n[clients]\nmax_buckets = 5\nheader = \"x-me\"\n";
        let wanted = settings(wanted);
        let mut running = before.config.clone();
        running.server.listen = "127.0.0.1:54321".into();
        let running = Settings::compile(running).unwrap();
        let reload = running.reload(&before.config, &wanted.config).unwrap();
        assert_eq!(
            reload.restart.names().collect::<Vec<_>>(),
            ["clients.max_buckets", "server.listen", "server.workers"]
        );
        let config = &reload.settings.config;
        assert_eq!(config.server.listen, "127.0.0.1:54321");
        assert_eq!(
            (config.server.workers, config.clients.max_buckets),
            (0, 1_000_000)
        );
        assert_eq!(
            (config.server.max_body.0, &*config.clients.header),
            (1 << 10, "x-me")
        );
        // It follows the port that is open.
        assert_eq!(reload.settings.public_url, "http://localhost:54321");
        let again = running.reload(&before.config, &before.config).unwrap();
        assert!(again.changes.is_empty() && again.restart.is_empty());
    }

    #[test]
    fn what_does_not_go_with_what_stays_is_refused() {
        let before = settings("[events]\ntopic = \"own\"\n");
        let wanted = settings("[events]\ntopic = \"other\"\n[[forward]]\npath = \"/a\"\ntopic = \"own\"\n");
        let fault = before.reload(&before.config, &wanted.config).unwrap_err();
        assert!(fault.to_string().starts_with("events.topic: "), "{fault}");
    }

    #[test]
    fn tls_is_not_switched_on_or_off_and_its_certificates_change() {
        const TLS: &str = "[server]\npublic_url = \"https://go.example\"\n[server.tls]\ncert = \"a.pem\"\nkey = \"b.pem\"\n";
        let more = format!("{TLS}[[server.tls.more]]\ncert = \"c\"\nkey = \"d\"\n");
        let reload_more = reload(TLS, &more);
        assert!(reload_more.restart.is_empty());
        assert!(
            reload_more
                .changes
                .to_string()
                .starts_with("server.tls.more: added")
        );
        let off = reload(TLS, "");
        assert_eq!(
            off.restart.names().collect::<Vec<_>>(),
            ["server.public_url", "server.tls"]
        );
        assert!(off.settings.config.server.tls.is_some());
        let elsewhere = reload(TLS, &TLS.replace("go.example", "other.example"));
        assert!(elsewhere.restart.is_empty());
        assert_eq!(elsewhere.settings.public_url, "https://other.example");
        let ordered = TLS.replace(
            "cert = \"a.pem\"\nkey = \"b.pem\"",
            "handshake_timeout = \"1s\"\nacme = { domains = [\"go.example\"] }",
        );
        assert!(reload(TLS, &ordered).restart.is_empty());
    }
}
