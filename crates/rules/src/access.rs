//! Access lists: who is turned away before any bucket, and who is not charged. From the file (`[[access]]`) and the API
//! (`/api/access/{name}`), compiled once. Where there is none, a request is asked nothing.
//!
//! A list to deny comes before one to exempt. Health checks are never denied. Nor are calls of `/api/access` that send a credential, so that nobody is
//! locked out by a list for good: those still need a key with the scope, and are charged.

#[cfg(feature = "schema")]
pub(crate) mod describe;
mod handlers;
#[cfg(test)]
mod tests;

pub(crate) use handlers::handle;

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{AccessAction, AccessSettings, MAX_ACCESS_ENTRIES, is_topic_name};
use crate::identity::{self, ClientId, MAX_ID_CHARS, network, subscriber};
use crate::limiter::identify;
use crate::world::World;
use tollgate_api::http::Request;
use tollgate_api::pattern::{Pattern, unreserved};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

/// What a call may not be locked out of.
const OWN: &str = "/api/access";

/// A list, compiled.
#[derive(Clone, Debug)]
pub struct AccessList {
    action: AccessAction,
    path: Pattern,
    networks: Vec<IpNet>,
    clients: HashSet<String>,
    users: HashSet<String>,
}

/// Where a list breaks a rule: the field, the place in it if it is a list, and the rule.
pub(crate) type Broken = (&'static str, Option<usize>, &'static str);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// No list has a say.
    Open,
    /// It is not charged.
    Exempt,
    /// It is turned away.
    Denied,
}

impl AccessList {
    /// Checks and compiles a list.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(crate) fn compile(list: &AccessSettings) -> Result<Self, Broken> {
        let ensure = |holds: bool, field, rule| if holds { Ok(()) } else { Err((field, None, rule)) };
        let name_rule = crate::config::TOPIC_NAME_RULE;
        ensure(is_topic_name(&list.name), "name", name_rule)?;
        let path = Pattern::parse(&unreserved(&list.path))
            .map_err(|_| ("path", None, "must be a route pattern, e.g. /api/..."))?;
        for (field, entries) in [
            ("cidrs", &list.cidrs),
            ("clients", &list.clients),
            ("users", &list.users),
        ] {
            ensure(
                entries.len() <= MAX_ACCESS_ENTRIES,
                field,
                "has more than 256 entries",
            )?;
        }
        let is_everybody = list.cidrs.is_empty() && list.clients.is_empty() && list.users.is_empty();
        let is_everywhere = path.matches("/") && path.matches("/api/links") && path.matches("/a");
        ensure(
            !is_everybody || !is_everywhere,
            "cidrs",
            "must not be empty where clients, users and path leave nothing out",
        )?;
        let mut networks = Vec::with_capacity(list.cidrs.len());
        for (index, entry) in list.cidrs.iter().enumerate() {
            let rule = "must be an address or a CIDR, e.g. 10.0.0.0/8";
            networks.push(network(entry).ok_or(("cidrs", Some(index), rule))?);
        }
        let mut clients = HashSet::with_capacity(list.clients.len());
        for (index, entry) in list.clients.iter().enumerate() {
            let rule = "must be key:<id>, id:<name> or ip:<address>";
            let fault = ("clients", Some(index), rule);
            clients.insert(
                canonical(entry)
                    .filter(|id| !id.starts_with("user:"))
                    .ok_or(fault)?,
            );
        }
        for (index, entry) in list.users.iter().enumerate() {
            let rule = "must be 1 to 128 visible ASCII characters";
            if !is_id(entry) {
                return Err(("users", Some(index), rule));
            }
        }
        Ok(Self {
            action: list.action,
            path,
            networks,
            clients,
            users: list.users.iter().cloned().collect(),
        })
    }

    /// Whether whoever asks is on it.
    fn has(&self, address: Option<IpAddr>, client: Option<&ClientId>, user: Option<&str>) -> bool {
        let is_everybody = self.networks.is_empty() && self.clients.is_empty() && self.users.is_empty();
        is_everybody
            || address.is_some_and(|address| self.networks.iter().any(|net| net.contains(&address)))
            || client.is_some_and(|client| self.clients.contains(client.as_str()))
            || user.is_some_and(|user| self.users.contains(user))
    }
}

fn is_id(text: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A client id, or `user:<id>`, as policies count it: an address in its canonical form, an IPv6 address as its /64. `None` if it is
/// none.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "key" | "id" | "user" if is_id(rest) => Some(text.to_owned()),
        "ip" if rest == "unknown" => Some(text.to_owned()),
        "ip" => {
            let address: IpAddr = rest.strip_suffix("/64").unwrap_or(rest).parse().ok()?;
            Some(match subscriber(address) {
                IpAddr::V4(address) => format!("ip:{address}"),
                IpAddr::V6(network) => format!("ip:{network}/64"),
            })
        }
        _ => None,
    }
}

/// What the lists say of a request; `path` as [`unreserved`] writes it.
pub(crate) async fn judge<S: Store>(world: &World<'_, S>, request: &Request, path: &str) -> Access {
    let settings = world.settings;
    let all = || settings.access.iter().chain(settings.run_time.access());
    if all().next().is_none() {
        return Access::Open;
    }
    let meant: Vec<&AccessList> = all().filter(|list| list.path.matches(path)).collect();
    if meant.is_empty() {
        return Access::Open;
    }
    let wants = |is_wanted: fn(&AccessList) -> bool| meant.iter().any(|list| is_wanted(list));
    let address = match wants(|list| !list.networks.is_empty()) {
        true => settings.proxies.resolve(request),
        false => None,
    };
    let client = identify(world, request, wants(|list| !list.clients.is_empty())).await;
    let user = match wants(|list| !list.users.is_empty()) {
        true => identity::user(settings, request, world.now),
        false => None,
    };
    let is_on = |action| {
        let mut lists = meant.iter().filter(|list| list.action == action);
        lists.any(|list| list.has(address, client.as_ref(), user.as_deref()))
    };
    let is_own = path == OWN || path.strip_prefix(OWN).is_some_and(|rest| rest.starts_with('/'));
    if is_on(AccessAction::Deny) && !(is_own && identity::is_key_sent(settings, request).unwrap_or(false)) {
        return Access::Denied;
    }
    match is_on(AccessAction::Exempt) {
        true => Access::Exempt,
        false => Access::Open,
    }
}

/// The answer to who is turned away. It does not say by which list.
pub(crate) fn denied() -> Problem {
    Problem::new(Kind::Forbidden, "Access is denied.")
}
