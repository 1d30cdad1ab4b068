//! `[limits_store]`: where limits are counted that gateways share.

use serde::{Deserialize, Serialize};
use tollgate_api::secret::SecretText;
use tollgate_api::units::Span;

/// `[limits_store]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsStore {
    /// A Redis; without it, the database of `[store]`, if gateways share that. See [`RedisAddress::parse`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretText>,
    /// How long a take of an exact limit may wait for its turn, and then for its answer.
    pub timeout: Span,
    /// What every key in Redis begins with.
    pub prefix: String,
    /// The most gateways at once; else as in `[store]`, or 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways: Option<u32>,
    /// How many per cent of a capacity all may have admitted without having told it; else as in `[store]`, or 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debt_percent: Option<u32>,
}

impl Default for LimitsStore {
    fn default() -> Self {
        Self {
            url: None,
            timeout: Span::from_millis(250),
            prefix: "tollgate".into(),
            gateways: None,
            debt_percent: None,
        }
    }
}

impl LimitsStore {
    /// The URL without its password; the mask alone where it cannot be read.
    pub fn masked_url(&self, mask: &str) -> Option<String> {
        let url = self.url.as_ref()?.expose();
        Some(match RedisAddress::parse(url) {
            Ok(address) => address.shown,
            Err(_) => mask.to_owned(),
        })
    }
}

/// What a URL says. Never shown with its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// One URL for each server that is named, as the client takes them.
    pub servers: Vec<String>,
    /// Which servers those are.
    pub kind: RedisKind,
    /// Without the password, for people.
    pub shown: String,
}

/// How the servers of an address belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    One,
    /// Some nodes of a cluster, which name the others.
    Cluster,
    /// Sentinels, which name the master of this name.
    Sentinel(String),
}

impl std::fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What a URL must look like.
const MUST: &str = "must be a URL such as redis://user:password@host:6379/0, rediss:// for TLS, with ?cluster or ?sentinel=NAME \
    where several servers are named (host1:6379,host2:6379)";

impl RedisAddress {
    /// Reads `redis://user:password@host:port/database`, `rediss://` for TLS; several hosts with `?cluster` or `?sentinel=NAME`.
    ///
    /// # Errors
    /// What is wrong with it, without its password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let must = || MUST.to_owned();
        let (scheme, rest) = url.split_once("://").ok_or_else(must)?;
        if !matches!(scheme, "redis" | "rediss") {
            return Err(must());
        }
        // A password may hold any character but `@`, also those that should be escaped.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts: Vec<&str> = hosts.split(',').collect();
        let is_number = database.is_empty() || database.parse::<u16>().is_ok();
        if !hosts.iter().all(|host| is_host(host)) || !is_number {
            return Err(must());
        }
        let kind = match query.map(|query| query.split_once('=').unwrap_or((query, ""))) {
            None | Some(("", "")) if hosts.len() == 1 => RedisKind::One,
            Some(("cluster", "")) if matches!(database, "" | "0") => RedisKind::Cluster,
            Some(("sentinel", name)) if !name.is_empty() => RedisKind::Sentinel(name.to_owned()),
            _ => return Err(must()),
        };
        let login_at = login.map(|login| format!("{login}@")).unwrap_or_default();
        let servers = hosts
            .iter()
            .map(|host| format!("{scheme}://{login_at}{host}/{database}"));
        let servers: Vec<String> = servers.collect();
        let user = login.map(|login| login.split(':').next().unwrap_or_default());
        let user = user
            .filter(|user| !user.is_empty())
            .map(|user| format!("{user}@"));
        let (user, hosts) = (user.unwrap_or_default(), hosts.join(","));
        let slash = if database.is_empty() { "" } else { "/" };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let shown = format!("{scheme}://{user}{hosts}{slash}{database}{query}");
        Ok(Self { servers, kind, shown })
    }
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    !name.is_empty() && name.bytes().all(is_name) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_a_password() {
        let one = RedisAddress::parse("rediss://me:hun:ter2@db.example:6380/3").unwrap();
        assert_eq!(one.shown, "rediss://me@db.example:6380/3");
        assert_eq!((one.kind, one.servers.len()), (RedisKind::One, 1));
        let cluster = RedisAddress::parse("redis://:hunter2@a:1,b:2?cluster").unwrap();
        assert_eq!(
            cluster.servers,
            ["redis://:hunter2@a:1/", "redis://:hunter2@b:2/"]
        );
        assert_eq!(
            (&*cluster.shown, cluster.kind),
            ("redis://a:1,b:2?cluster", RedisKind::Cluster)
        );
        let watched = RedisAddress::parse("redis://a:26379,b:26379/1?sentinel=mymaster").unwrap();
        assert_eq!(watched.kind, RedisKind::Sentinel("mymaster".into()));
        for wrong in [
            "redis://a:1,b:2",
            "http://a",
            "hunter2",
            "redis://:hunter2@a:99999",
            "redis://:hunter2@a/x",
            "redis://a?cluster=1",
            "redis://a/1?cluster",
            "redis://a?sentinel=",
            "redis://?cluster",
        ] {
            let fault = RedisAddress::parse(wrong).unwrap_err();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
